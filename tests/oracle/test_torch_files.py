"""What PyTorch writes, refimpl reads: bit for bit, in every format, of every kind of tensor."""

import warnings
from collections import OrderedDict

import numpy
import pytest

from refimpl.checkpoints.folder import TORCH_INDEX, TORCH_SINGLE, open_tensors
from refimpl.checkpoints.pytorch.file import Global, Record, Tensor, TorchFile, read_torch_file
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from tests.checkpoints import hostile
from tests.compare import assert_same

pytestmark = pytest.mark.oracle

DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "uint16": "U16",
    "uint32": "U32", "uint64": "U64",
}  # fmt: skip
WRITINGS = [(new, protocol) for new in (True, False) for protocol in (2, 3, 4, 5)]
TINY = {
    "vocab_size": 29, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 20, "max_position_embeddings": 20, "type_vocab_size": 1, "pad_token_id": 1,
}  # fmt: skip


@pytest.fixture(params=WRITINGS, ids=lambda w: f"{'zip' if w[0] else 'legacy'}-{w[1]}")
def saved(request, tmp_path):
    """A function that saves a value in one of the formats, and returns the path."""
    import torch

    new, protocol = request.param

    def save(value):
        path = tmp_path / TORCH_SINGLE
        torch.save(value, path, _use_new_zipfile_serialization=new, pickle_protocol=protocol)
        return path

    return save


def random_tensor(dtype, shape=(5, 7), seed=0):
    """Random bits of a dtype: every float is met, NaN and infinity too."""
    import torch

    kind = getattr(torch, dtype)
    bits = numpy.random.default_rng(seed).integers(0, 256, (*shape, kind.itemsize), "u1")
    bits = bits & 1 if dtype == "bool" else bits
    return torch.from_numpy(bits).view(kind)[..., 0]


def bits_of(tensor):
    """A tensor's numbers as NumPy has them; those of bfloat16 as the bits."""
    import torch

    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def assert_holds(file, state):
    """The file has the names, dtypes, shapes and bits of a state dict."""
    assert list(file) == list(state)
    for name, tensor in state.items():
        assert file.dtype(name) == DTYPES[str(tensor.dtype).removeprefix("torch.")]
        assert file.shape(name) == tuple(tensor.shape)
        stored, expected = file.stored(name), bits_of(tensor)
        assert (stored.shape, stored.dtype) == (expected.shape, expected.dtype)
        assert stored.tobytes() == expected.tobytes()
        wide = tensor.float() if file.dtype(name) == "BF16" else tensor
        assert file[name].tobytes() == wide.detach().numpy().tobytes()


# --- tensors --------------------------------------------------------------------------------------


def test_every_dtype(saved):
    state = OrderedDict((dtype, random_tensor(dtype)) for dtype in DTYPES)
    assert_holds(TorchFile(saved(state)), state)


def test_every_layout(saved):
    import torch

    x = random_tensor("float32", (6, 8))
    state = {
        "whole": x, "turned": x.T, "row": x[2], "column": x[:, 3], "number": x[1, 1],
        "block": x[1:4, 2:6], "every other": x[::2, ::3], "repeated": x[0].expand(4, 8),
        "nothing": x[:0], "empty": torch.empty(0, 3), "windows": x.reshape(-1).unfold(0, 5, 2),
        "axes": x.reshape(2, 3, 2, 4).permute(3, 1, 0, 2), "new axes": x[None, :, None],
        "scalar": torch.tensor(7),
    }  # fmt: skip
    file = TorchFile(saved(state))
    assert_holds(file, state)
    shared = [name for name in state if name not in ("empty", "scalar")]
    assert len({read_torch_file(file.path)[name].storage_key for name in shared}) == 1


def test_tied_tensors(saved):
    x, y = random_tensor("float32"), random_tensor("float32", seed=1)
    state = {"a": x, "b": y, "c": x, "d": x.view(7, 5), "e": x.clone()}
    file = TorchFile(saved(state))
    assert_holds(file, state)
    assert [file.first_name(name) for name in file] == ["a", "b", "a", "d", "e"]


def test_parameters_buffers_and_attributes(saved):
    import torch

    plain, more, tagged = (torch.nn.Parameter(random_tensor("float32", seed=i)) for i in range(3))
    more.note = "kept by a training library"
    tensor = random_tensor("float32", seed=3)
    tensor.note = {"also": 1}
    tagged.requires_grad = False
    state = {"plain": plain, "more": more, "tagged": tagged, "tensor": tensor,
             "buffer": torch.nn.Buffer(random_tensor("float32", seed=4))}  # fmt: skip
    assert_holds(TorchFile(saved(state)), state)


def test_a_module_s_state_dict(saved):
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5))
    state = module.state_dict()
    assert state._metadata
    assert_holds(TorchFile(saved(state)), state)


def test_no_checksums(tmp_path):
    import torch

    state = {"x": random_tensor("float32")}
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / TORCH_SINGLE)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_holds(TorchFile(tmp_path / TORCH_SINGLE), state)


@pytest.mark.parametrize("name", ["archive.pt", "another name.bin", "ünï.th"])
def test_the_folder_in_the_archive_is_called_as_the_file(tmp_path, name):
    import torch

    state = {"x": random_tensor("float32")}
    torch.save(state, tmp_path / name)
    assert_holds(TorchFile(tmp_path / name), state)


def test_values_beside_tensors(saved):
    import torch

    value = {
        "epoch": 3, "best": -1.5, "done": False, "none": None, "big": 2**70, "bytes": b"\0\xff",
        "set": {1, "a"}, "pair": ("de", 3), "deep": [[{"x": (1,)}]], "empty": [(), {}, [], b"", ""],
        "words": {0: "ä", 1: "\N{SNOWMAN}"}, ("de", "en"): 1,
    }  # fmt: skip
    more = {"dtype": torch.bfloat16, "size": torch.Size((2, 3)), "device": torch.device("cuda:1")}
    made = read_torch_file(saved(value | more | {"x": torch.ones(2)}))
    assert isinstance(made.pop("x"), Tensor)
    assert made.pop("dtype") == Global("torch.bfloat16")
    assert made.pop("size") == (2, 3)
    assert made.pop("device") == Record("torch.device", ("cuda", 1))
    assert made == value


def test_an_optimizer(saved):
    import torch

    module = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    expected = optimizer.state_dict()
    made = read_torch_file(saved(expected))
    assert made["param_groups"] == expected["param_groups"]
    for i, moments in expected["state"].items():
        for name, tensor in moments.items():
            assert_same(made["state"][i][name].read(), tensor.numpy())


# --- what is refused ------------------------------------------------------------------------------


def refused(path, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        read_torch_file(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_tensors_of_other_kinds(saved):
    import torch

    refused(saved({"x": torch.eye(3).to_sparse()}), "_rebuild_sparse_tensor")
    refused(saved({"x": torch.zeros(2, dtype=torch.complex64)}), "ComplexFloatStorage")
    refused(saved({"x": torch.ones(2, dtype=torch.complex64).conj().imag}), "ComplexFloat|negative")
    refused(saved({"x": torch.ones(2, device="meta")}), "_rebuild_meta_tensor_no_storage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
        refused(saved({"x": quantized}), "_rebuild_qtensor|QInt8")


def test_a_whole_model(saved):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = saved(torch.nn.Linear(2, 2))
    refused(path, "refused 'torch.nn.modules.linear.Linear'")


def test_a_torchscript_program(tmp_path):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "a TorchScript program")


# --- checkpoints of transformers ------------------------------------------------------------------


@pytest.mark.parametrize("size", ["10GB", "5KB"], ids=["one file", "shards"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification"])
def test_save_pretrained(tmp_path, size, dtype, head):
    import torch
    import transformers

    torch.manual_seed(3)
    model_class = getattr(transformers, f"XLMRoberta{head}")
    model = model_class(transformers.XLMRobertaConfig(**TINY)).to(getattr(torch, dtype)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for folder, safe in (("torch", False), ("safe", True)):
        model.save_pretrained(tmp_path / folder, safe_serialization=safe, max_shard_size=size)
    assert (tmp_path / "torch" / TORCH_INDEX).exists() == (size == "5KB")
    assert not list((tmp_path / "torch").glob("*.safetensors"))
    tensors, state = open_tensors(tmp_path / "torch"), model.state_dict()
    for name in tensors:
        assert tensors.stored(name).tobytes() == bits_of(state[name]).tobytes()
    ids = numpy.asarray([[0, 17, 5, 28, 2], [0, 9, 2, 1, 1]])
    runs = [load(tmp_path / folder)(input_ids=ids).logits for folder in ("torch", "safe")]
    assert_same(*runs)


# --- a second witness of the corruptions ----------------------------------------------------------


def torch_load(path):
    """What PyTorch reads, or None: it refuses, or dies of it."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, weights_only=True)
        return {name: bits_of(tensor) for name, tensor in state.items()}
    except Exception:  # of any kind
        return None


SINGLE = [form for form in hostile.FORMATS if [*form.wrap(form.parts)] == [TORCH_SINGLE]]


@pytest.mark.parametrize("form", SINGLE, ids=lambda form: form.name)
def test_what_is_read_of_a_broken_file_is_what_pytorch_reads(tmp_path, form):
    path, agreed = tmp_path / TORCH_SINGLE, 0
    hostile.write(form.wrap(form.parts), tmp_path)
    truth = form.read(tmp_path)
    for seed in range(1000):
        path.write_bytes(hostile.corrupted(form, seed).files[TORCH_SINGLE])
        try:
            file = TorchFile(path)
            ours = {name: file.stored(name) for name in file}
        except CheckpointError:
            continue
        theirs = torch_load(path)
        if theirs is None:
            continue
        if hostile.differing(ours, theirs) == 0:
            agreed += 1
        else:  # of an entry that an attribute calls a folder PyTorch gives unwritten memory
            assert hostile.differing(ours, truth) == 0, hostile.corrupted(form, seed).how
    assert agreed > 10
