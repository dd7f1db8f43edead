"""Dumps that the originals write are read bit for bit, and ours are read by the originals."""

import io
import json
import subprocess
import sys

import numpy
import pytest

from refimpl.errors import CheckpointError
from refimpl.parity.dumps import Dump, export_dump, read_dump

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.oracle

DRAW = numpy.random.default_rng(11)
WIDE = DRAW.standard_normal((3, 4)).astype("f4")
ARRAYS = {
    "double": DRAW.standard_normal((2, 3, 2)),
    "single": WIDE,
    "half": WIDE.astype("f2"),
    "odd": numpy.asarray([numpy.nan, numpy.inf, -numpy.inf, -0.0, 1e-45], "f4"),
    "none": numpy.zeros((0, 3), "f4"),
    "one": numpy.asarray(0.1),
    "truth": numpy.asarray([[True], [False]]),
    **{f"i{n}": numpy.asarray([-(2 ** (8 * n - 1)), 7], f"i{n}") for n in (1, 2, 4, 8)},
    **{f"u{n}": numpy.asarray([2 ** (8 * n) - 1, 7], f"u{n}") for n in (1, 2, 4, 8)},
}
NARROW = (WIDE.view("u4") >> 16 << 16).view("f4")  # bfloat16 numbers
DUMP = Dump(
    {**ARRAYS, "narrow": NARROW},
    {"logits": WIDE, "single": WIDE + 1},
    {"input_ids": numpy.asarray([[0, 5, 2]])},
    {"made_by": "a test", "bfloat16": ["tap.narrow"]},
)


def assert_same(found, expected):
    """The same names in the same order, and the same bits."""
    assert list(found) == list(expected)
    for name, x in expected.items():
        assert (found[name].dtype, found[name].shape) == (x.dtype, x.shape), name
        assert found[name].tobytes() == x.tobytes(), name


# --- NumPy, PyTorch -------------------------------------------------------------------------------


def test_numpy_reads_our_npz_and_npy(tmp_path):
    export_dump(DUMP, tmp_path / "x.npz", "npz")
    export_dump(DUMP, tmp_path / "npy", "npy")
    with numpy.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        manifest = json.loads(bytes(archive["manifest.json"]))
        assert_same({name: archive[f"tap.{name}"] for name in ARRAYS}, ARRAYS)
        bits = archive["tap.narrow"]
    files = {name: numpy.load(tmp_path / "npy" / "tap" / f"{name}.npy") for name in ARRAYS}
    assert_same(files, ARRAYS)
    assert manifest["about"] == {"made_by": "a test"}
    of = {x["name"]: x["dtype"] for x in manifest["tensors"] if x["kind"] == "tap"}
    assert of["narrow"] == "BF16"
    assert ((bits.astype("u4") << 16).view("f4") == NARROW).all()


@pytest.mark.parametrize("old", [False, True])
def test_torch_save(old, tmp_path):
    arrays = {n: x for n, x in ARRAYS.items() if n not in ("u2", "u4", "u8")} if old else ARRAYS
    layers = [{"taps": {n: torch.from_numpy(x.copy())}} for n, x in arrays.items()]
    value = {"input_ids": torch.tensor([[0, 5, 2]]), "layers": layers, "eps": 1e-5}
    value["turned"] = (torch.from_numpy(WIDE).T, torch.from_numpy(NARROW).bfloat16())
    torch.save(value, tmp_path / "x.pt", _use_new_zipfile_serialization=not old)
    dump = read_dump(tmp_path / "x.pt")
    expected = {f"layers.{i}.taps.{name}": x for i, (name, x) in enumerate(arrays.items())}
    assert_same(dump.inputs, {"input_ids": numpy.asarray([[0, 5, 2]])})
    assert_same(dump.taps, {**expected, "turned.0": WIDE.T, "turned.1": NARROW})
    assert dump.about["bfloat16"] == ["tap.turned.1"]


def test_the_outputs_of_a_model(tmp_path):
    outputs = tiny()(input_ids=IDS, attention_mask=MASK, output_hidden_states=True)
    torch.save(outputs, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"MaskedLMOutput.*save dict\(outputs\)"):
        read_dump(tmp_path / "x.pt")
    torch.save(dict(outputs), tmp_path / "x.pt")
    expected = {f"hidden_states.{i}": as_numpy(x) for i, x in enumerate(outputs.hidden_states)}
    assert_same(read_dump(tmp_path / "x.pt").taps, {"logits": as_numpy(outputs.logits), **expected})


def test_torch_and_safetensors_in_bfloat16(tmp_path):
    from safetensors.torch import load_file, save_file

    save_file({"x": torch.from_numpy(NARROW).bfloat16()}, tmp_path / "x.safetensors")
    dump = read_dump(tmp_path / "x.safetensors")
    assert_same(dump.taps, {"x": NARROW})
    export_dump(dump, tmp_path / "mine.safetensors", "safetensors")
    found = load_file(tmp_path / "mine.safetensors")["tap.x"]
    assert found.dtype == torch.bfloat16
    assert_same({"x": found.float().numpy()}, {"x": NARROW})


def test_safetensors_of_many_dtypes_are_read_by_their_own_library(tmp_path):
    from safetensors.numpy import load_file

    export_dump(Dump(ARRAYS), tmp_path / "mine.safetensors", "safetensors")
    found = load_file(tmp_path / "mine.safetensors")
    assert_same({name: found[f"tap.{name}"] for name in ARRAYS}, ARRAYS)


def test_jax_bfloat16_in_npz(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numpy.savez(tmp_path / "x.npz", x=NARROW.astype(ml_dtypes.bfloat16))
    assert_same(read_dump(tmp_path / "x.npz").taps, {"x": NARROW})


# --- ONNX -----------------------------------------------------------------------------------------


def test_onnx_tensors_of_onnx(tmp_path):
    for i, (name, x) in enumerate(ARRAYS.items()):
        proto = onnx.numpy_helper.from_array(x, name)
        (tmp_path / f"output_{i}.pb").write_bytes(proto.SerializeToString())
    assert_same(read_dump(tmp_path).outputs, ARRAYS)


TYPED = ("double", "single", "half", "truth", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")


@pytest.mark.parametrize("name", TYPED)
def test_onnx_tensors_in_typed_fields(name, tmp_path):
    x = ARRAYS[name]
    kind = onnx.helper.np_dtype_to_tensor_dtype(x.dtype)
    proto = onnx.helper.make_tensor(name, kind, x.shape, x.reshape(-1))
    assert not proto.HasField("raw_data")
    (tmp_path / "x.pb").write_bytes(proto.SerializeToString())
    assert_same(read_dump(tmp_path / "x.pb").taps, {name: x})


def test_onnx_bfloat16(tmp_path):
    kind = onnx.TensorProto.BFLOAT16
    typed = onnx.helper.make_tensor("x", kind, NARROW.shape, NARROW.reshape(-1))
    raw = onnx.helper.make_tensor(
        "x", kind, NARROW.shape, (NARROW.view("u4") >> 16).astype("u2").tobytes(), raw=True
    )
    for proto in (typed, raw):
        (tmp_path / "x.pb").write_bytes(proto.SerializeToString())
        assert_same(read_dump(tmp_path / "x.pb").taps, {"x": NARROW})


def test_onnx_external_data_is_refused(tmp_path):
    proto = onnx.numpy_helper.from_array(WIDE, "x")
    onnx.external_data_helper.set_external_data(proto, "weights.bin")
    (tmp_path / "x.pb").write_bytes(proto.SerializeToString())
    with pytest.raises(CheckpointError, match="'x': its numbers are in another file"):
        read_dump(tmp_path / "x.pb")


def test_onnx_reads_our_test_data_set(tmp_path):
    export_dump(DUMP, tmp_path / "test_data_set_0", "onnx")
    protos = {}
    for path in (tmp_path / "test_data_set_0").glob("*.pb"):
        protos[path.name] = onnx.TensorProto.FromString(path.read_bytes())
    read = {name: onnx.numpy_helper.to_array(proto) for name, proto in protos.items()}
    assert protos["input_0.pb"].name == "input_ids"
    assert protos["output_0.pb"].name == "logits"
    assert_same({"logits": read["output_0.pb"]}, {"logits": WIDE})
    assert_same({name: read[f"tap_{i}.pb"] for i, name in enumerate(ARRAYS)}, ARRAYS)
    narrow = read[f"tap_{len(ARRAYS)}.pb"]
    assert narrow.dtype.name == "bfloat16"
    assert (narrow.astype("f4") == NARROW).all()


# --- Polygraphy -----------------------------------------------------------------------------------


def test_polygraphy(tmp_path):
    """In a process of its own: it warns of packages that it would like to have."""
    pytest.importorskip("polygraphy")
    export_dump(DUMP, tmp_path / "ours", "polygraphy")
    numpy.savez(tmp_path / "arrays.npz", **ARRAYS)
    program = """
import sys, numpy, torch
from polygraphy.comparator import RunResults
from polygraphy.json import load_json, save_json
arrays = dict(numpy.load("arrays.npz"))
results = RunResults()
results.add([arrays], runner_name="ort")
results.add([arrays, {"x": torch.tensor([1.5, -2.25], dtype=torch.bfloat16)}], runner_name="torch")
results.save("theirs.json")
save_json([{"input_ids": numpy.asarray([[0, 5, 2]])}], "inputs.json")
loaded = RunResults.load("ours/outputs.json")
(name, (iteration,)), = loaded.items()
assert name == "a test", name
numpy.savez("loaded.npz", **{k: iteration[k] for k in iteration.dct})
numpy.save("ids.npy", load_json("ours/inputs.json")[0]["input_ids"])
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    assert_same(read_dump(f"{tmp_path}/theirs.json#0").taps, ARRAYS)
    assert read_dump(f"{tmp_path}/theirs.json#0").about["made_by"] == "ort"
    last = read_dump(f"{tmp_path}/theirs.json#1.1")
    assert_same(last.taps, {"x": numpy.asarray([1.5, -2.25], "f4")})
    assert_same(read_dump(tmp_path / "inputs.json").inputs, DUMP.inputs)
    with numpy.load(tmp_path / "loaded.npz") as loaded:
        assert_same({name: loaded[name] for name in ARRAYS}, ARRAYS)
        assert_same({"logits": loaded["logits"]}, {"logits": WIDE})
        assert_same({"single": loaded["output.single"]}, {"single": WIDE + 1})
    assert (numpy.load(tmp_path / "ids.npy") == DUMP.inputs["input_ids"]).all()


# --- the debugger of transformers -----------------------------------------------------------------


def tiny():
    torch.manual_seed(5)
    config = transformers.XLMRobertaConfig(
        vocab_size=23, hidden_size=12, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=20, max_position_embeddings=12, attn_implementation="eager",
    )  # fmt: skip
    return transformers.XLMRobertaForMaskedLM(config).eval()


IDS = torch.tensor([[0, 5, 6, 2], [0, 7, 2, 1]])
MASK = (IDS != 1).long()


def recorded(model, folder, *, use_repr, prune=False, **options):
    """Run the debugger; return what every module without children gave, by hooks; the outputs."""
    from transformers.model_debugging_utils import model_addition_debugger_context

    given = {}

    def keep(name):
        def hook(module, args, output):
            given.setdefault(name, output)

        return hook

    hooks = [m.register_forward_hook(keep(name)) for name, m in model.named_modules() if name]
    torch.set_printoptions(**options)
    try:
        with model_addition_debugger_context(
            model, debug_path=str(folder), do_prune_layers=prune, use_repr=use_repr
        ):
            outputs = model.forward(input_ids=IDS, attention_mask=MASK, output_hidden_states=True)
    finally:
        torch.set_printoptions(profile="default", sci_mode=False, linewidth=80)
        for hook in hooks:
            hook.remove()
    leaves = {name for name, m in model.named_modules() if not [*m.children()]}
    return {n: x for n, x in given.items() if n in leaves}, outputs


def as_numpy(tensor):
    return (
        tensor.detach().float().numpy()
        if tensor.dtype == torch.bfloat16
        else tensor.detach().numpy()
    )


def assert_holds_the_run(dump, given, left_out=()):
    """Every module's output is there under its name, or was left out with a reason."""
    found = {name: x for name, x in dump.taps.items() if ".inputs." not in name}
    names = [name for name in given if name not in left_out]
    assert sorted(found) == sorted(names)
    for name in names:
        assert found[name].tobytes() == as_numpy(given[name]).tobytes(), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_the_debugger_with_files(dtype, tmp_path):
    model = tiny().to(getattr(torch, dtype))
    given, outputs = recorded(model, tmp_path, use_repr=False)
    dump = read_dump(tmp_path)
    assert_holds_the_run(dump, given)
    assert "left_out" not in dump.about
    assert_same(dump.inputs, {"input_ids": IDS.numpy(), "attention_mask": MASK.numpy()})
    expected = {f"hidden_states.{i}": as_numpy(x) for i, x in enumerate(outputs.hidden_states)}
    assert_same(dump.outputs, {**expected, "logits": as_numpy(outputs.logits)})
    entry = dump.taps["roberta.encoder.layer.1.inputs.0"]
    assert entry.tobytes() == as_numpy(outputs.hidden_states[1]).tobytes()
    assert ("bfloat16" in dump.about) == (dtype == "bfloat16")


def test_the_debugger_leaves_layers_out(tmp_path):
    recorded(tiny(), tmp_path, use_repr=False, prune=True)
    taps = read_dump(tmp_path).taps
    assert [i for i in range(3) if f"roberta.encoder.layer.{i}.output.dense" in taps] == [0, 2]


def test_the_debugger_with_printed_numbers(tmp_path):
    """PyTorch prints five digits: enough for bfloat16 and for integers, too few for float32."""
    given, _ = recorded(tiny(), tmp_path / "single", use_repr=True)
    dump = read_dump(tmp_path / "single")
    assert_holds_the_run(dump, {})
    assert set(given) <= set(dump.about["left_out"])
    assert "fewer than the 9 digits" in dump.about["left_out"]["lm_head.decoder"]
    given, _ = recorded(tiny().bfloat16(), tmp_path / "narrow", use_repr=True)
    assert_holds_the_run(read_dump(tmp_path / "narrow"), given)


@pytest.mark.parametrize(("dtype", "digits"), [("float32", 8), ("float64", 16), ("float16", 4)])
def test_the_debugger_with_all_digits(dtype, digits, tmp_path):
    options = {"precision": digits, "threshold": 10**9}
    model = tiny().to(getattr(torch, dtype))
    given, _ = recorded(model, tmp_path, use_repr=True, **options)
    assert_holds_the_run(read_dump(tmp_path), given)


def test_the_debugger_abbreviates(tmp_path):
    model = tiny()
    given, _ = recorded(model, tmp_path, use_repr=True, threshold=90, precision=8)
    left_out = read_dump(tmp_path).about["left_out"]
    large = {name for name, x in given.items() if x.numel() > 90 and max(x.shape) > 6}
    assert large <= set(left_out)
    assert {left_out[name] for name in large} == {"it is printed abbreviated"}


def test_a_summary_has_no_values(tmp_path):
    recorded(tiny(), tmp_path, use_repr=False)
    (summary,) = tmp_path.glob("*SUMMARY.json")
    with pytest.raises(CheckpointError, match="holds mean, std, min and max, and no values"):
        read_dump(summary)


def test_the_bytes_of_torch_print_are_those_of_the_tensor(tmp_path):
    file = io.BytesIO()
    torch.save(torch.from_numpy(WIDE), file)
    (tmp_path / "single").write_bytes(file.getvalue())
    assert_same(read_dump(tmp_path / "single").taps, {"single": WIDE})
