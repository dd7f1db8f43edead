"""Files of torch.save, made byte by byte: what they hold comes out, broken ones are refused."""

import io
import struct
import tarfile
import zipfile

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.checkpoints.pytorch import file as torch_file
from refimpl.checkpoints.pytorch.file import Global, Record, TorchFile, read_torch_file
from refimpl.errors import CheckpointError
from tests.checkpoints.torch_bytes import (
    Opcodes,
    Store,
    call,
    legacy_file,
    name,
    ordered,
    persistent,
    pickled,
    store_of,
    tensor,
    value,
    zip_file,
)
from tests.compare import assert_same

FORMATS = ("zip", "legacy")

# dtype of the format -> (kind of storage, what NumPy reads it as, two numbers, their bytes)
DTYPES = {
    "F64": ("DoubleStorage", "float64", [1.5, -2.0], struct.pack("<2d", 1.5, -2.0)),
    "F32": ("FloatStorage", "float32", [1.5, -2.0], struct.pack("<2f", 1.5, -2.0)),
    "F16": ("HalfStorage", "float16", [1.5, -2.0], struct.pack("<2e", 1.5, -2.0)),
    "BF16": ("BFloat16Storage", "float32", [1.5, -2.0], b"\xc0\x3f\x00\xc0"),
    "I64": ("LongStorage", "int64", [1, -2], struct.pack("<2q", 1, -2)),
    "I32": ("IntStorage", "int32", [1, -2], struct.pack("<2i", 1, -2)),
    "I16": ("ShortStorage", "int16", [1, -2], struct.pack("<2h", 1, -2)),
    "I8": ("CharStorage", "int8", [1, -2], struct.pack("<2b", 1, -2)),
    "U8": ("ByteStorage", "uint8", [1, 128], b"\x01\x80"),
    "BOOL": ("BoolStorage", "bool", [True, False], b"\x01\x00"),
}
WORDS = numpy.arange(24, dtype="f4").reshape(4, 6) / 7


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("torch") / "pytorch_model.bin"


def content(form, tree, stores, **options):
    """A file of either format. ``tree`` may be a function of whether it is the legacy one."""
    tree = tree(form == "legacy") if callable(tree) else tree
    return {"zip": zip_file, "legacy": legacy_file}[form](pickled(tree), stores, **options)


def read(path, data, records=()):
    path.write_bytes(data)
    return read_torch_file(path, records)


def refuse(path, data, match=None):
    """Assert that a file is refused, in an error that names it and says ``match``."""
    with pytest.raises(CheckpointError, match=match) as caught:
        read(path, data)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 500


def one(path, *view, store=None, form="zip", **options):
    """Write a file with one tensor: a view of ``store`` (of WORDS), and read it."""
    store = store or store_of(WORDS)
    tree = lambda legacy: {"x": tensor(store, *view, legacy=legacy, **options)}  # noqa: E731
    return read(path, content(form, tree, [store]))["x"]


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(path, form, dtype):
    kind, expected, values, data = DTYPES[dtype]
    x = one(path, 0, (2,), (1,), store=Store("0", kind, 2, data), form=form)
    assert (x.dtype, x.shape) == (dtype, (2,))
    assert_same(x.read(), numpy.asarray(values, expected))
    assert x.raw_bits().tobytes() == data
    assert x.raw_bits().dtype == ("uint16" if dtype == "BF16" else expected)


@pytest.mark.parametrize("dtype", ["U16", "U32", "U64", "F32", "BF16"])
def test_dtypes_that_have_no_storage_class(path, dtype):
    dtypes = {"U16": "uint16", "U32": "uint32", "U64": "uint64", "F32": "float32"}
    bits = numpy.arange(1, 7, dtype=dtypes.get(dtype, "u2"))
    store = Store("0", "torch.storage.UntypedStorage", bits.nbytes, bits.tobytes())
    more = (False, ordered(), name("torch", dtypes.get(dtype, "bfloat16")))
    x = one(path, 2, (2, 2), (2, 1), store=store, function="_rebuild_tensor_v3", more=more)
    assert x.dtype == dtype
    assert_same(x.raw_bits(), bits[2:].reshape(2, 2))


@pytest.mark.parametrize("order", ["big", "little", None])
@pytest.mark.parametrize("dtype", ["<f4", "<u2"])
def test_byte_order(path, order, dtype):
    numbers = numpy.asarray([1.5, -2.0, 0.1], "f4")
    bits = numbers if dtype == "<f4" else (numbers.view("u4") >> 16).astype("u2")
    stored = bits.astype(bits.dtype.newbyteorder(">" if order == "big" else "<"))
    kind = "FloatStorage" if dtype == "<f4" else "BFloat16Storage"
    store = Store("0", kind, 3, stored.tobytes())
    data = zip_file(pickled({"x": tensor(store, 1, (2,), (1,))}), [store], order=order)
    x = read(path, data)["x"]
    assert_same(x.raw_bits(), bits[1:])
    assert x.read().dtype.isnative
    assert not x.raw_bits().flags.writeable


def test_an_unknown_byte_order(path):
    for order in ("middle", " ", "little" * 9):
        refuse(path, zip_file(pickled({}), [], order=order), "byteorder: expected little or big")


# --- views ----------------------------------------------------------------------------------------

VIEWS = {
    "whole": (0, (4, 6), (6, 1)),
    "transposed": (0, (6, 4), (1, 6)),
    "a row": (12, (6,), (1,)),
    "a column": (2, (4,), (6,)),
    "every other": (1, (2, 3), (12, 2)),
    "a number": (7, (), ()),
    "one of one": (7, (1, 1), (6, 1)),
    "a stride without meaning": (0, (1, 6), (2**80, 1)),
    "repeated": (3, (5, 2), (0, 1)),
    "overlapping": (0, (5, 3), (1, 1)),
    "nothing": (0, (0, 3), (3, 1)),
    "nothing of a row": (24, (4, 0), (6, 1)),
    "four axes": (0, (2, 2, 2, 3), (12, 6, 3, 1)),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("view", VIEWS)
def test_views(path, form, view):
    offset, shape, strides = VIEWS[view]
    x = one(path, offset, shape, strides, form=form).read()
    places = numpy.full(shape, offset)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        steps = numpy.asarray([i * stride for i in range(size)])
        places = places + steps.reshape(-1, *[1] * (len(shape) - axis - 1))
    assert_same(x, WORDS.reshape(-1)[places.astype(int)])
    assert not x.flags.writeable


@pytest.mark.parametrize("form", FORMATS)
def test_reading_copies_nothing(path, form):
    x = one(path, 0, (6, 4), (1, 6), form=form).read()
    while not isinstance(x, numpy.memmap):
        assert not x.flags.owndata
        x = x.base


def test_tensors_that_share_a_storage(path):
    store = store_of(WORDS)
    views = {"whole": (0, (4, 6), (6, 1)), "rows": (6, (2, 6), (6, 1)), "tied": (0, (4, 6), (6, 1))}
    state = ordered({key: tensor(store, *view) for key, view in views.items()})
    path.write_bytes(zip_file(pickled(state), [store]))
    file = TorchFile(path)
    assert_same(file["rows"], WORDS[1:3])
    assert numpy.shares_memory(file["rows"], file["whole"])
    assert [file.first_name(key) for key in file] == ["whole", "rows", "whole"]
    x = read_torch_file(path)
    assert x["whole"].identity == x["tied"].identity != x["rows"].identity
    assert x["whole"].storage_key == x["rows"].storage_key == "0"


@pytest.mark.parametrize("view", [
    (0, (5, 6), (6, 1)), (1, (4, 6), (6, 1)), (24, (), ()), (0, (2, 2), (20, 4)),
    (2**62, (1,), (1,)),
    (0, (2,), (2**62,)), (2**63, (1,), (1,)), (0, (2**63,), (0,)), (0, (2**40, 2**40), (0, 0)),
    (0, (0, 2**62, 2**62), (1, 1, 1)), (2**100, (2,), (1,)), (23, (2,), (1,)),
])  # fmt: skip
def test_views_outside_the_storage(path, view):
    with pytest.raises(CheckpointError, match=r"tensor: (expected .* bytes in storage|more bytes)"):
        one(path, *view)


@pytest.mark.parametrize("view", [
    (-1, (2,), (1,)), (0, (-2,), (1,)), (0, (2,), (-1,)), (0, (2.0,), (1,)), (0, (True,), (1,)),
    (None, (2,), (1,)), (0, ("2",), (1,)), (0, [2], (1,)), (0, 2, 1), (0, (2,), None),
    (0, (2,), (1, 1)), (0, (), (1,)), (0, (1,) * 65, (1,) * 65), (True, (2,), (1,)),
    (0, (2,), ({},)),
])  # fmt: skip
def test_views_of_numbers_that_are_none(path, view):
    with pytest.raises(CheckpointError, match=r"tensor: (shape|strides|offset|expected . strides)"):
        one(path, *view)


numbers = st.sampled_from([0, 0, 1, 1, 2, 3, 4, 6, 7, 12, 24, 25, 2**31, 2**62, 2**63, 2**100])


@settings(max_examples=500)
@given(data=st.data(), axes=st.integers(0, 4), offset=numbers)
def test_random_views(path, data, axes, offset):
    shape, strides = (tuple(data.draw(numbers) for _ in range(axes)) for _ in "xx")
    try:
        x = one(path, offset, shape, strides)
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 (either is right)
        return
    assert x.read().shape == shape
    assert numpy.isin(x.read(), WORDS).all()


# --- the functions of PyTorch that files name -----------------------------------------------------


def test_the_first_function(path):
    x = one(path, 0, (4, 6), (6, 1), function="_rebuild_tensor", more=())
    assert_same(x.read(), WORDS)


def test_metadata_that_say_nothing(path):
    for metadata in (None, {}):
        x = one(path, 0, (4, 6), (6, 1), more=(False, ordered(), metadata))
        assert_same(x.read(), WORDS)


def test_numbers_that_are_to_be_negated(path):
    with pytest.raises(CheckpointError, match="negative or conjugate"):
        one(path, 0, (2,), (1,), more=(False, ordered(), {"neg": True}))


def test_parameters_and_tensors_with_attributes(path):
    store, rebuild = store_of(WORDS), name("torch._utils", "_rebuild_tensor_v2")
    x = tensor(store, 0, (4, 6), (6, 1))
    args = (persistent(store), 0, (4, 6), (6, 1), False, ordered())
    kind = name("torch", "Tensor")
    tree = {
        "a": call(name("torch._utils", "_rebuild_parameter"), x, True, ordered()),
        "b": call(name("torch._utils", "_rebuild_parameter_with_state"), x, True, ordered(), {}),
        "c": call(name("torch._tensor", "_rebuild_from_type_v2"), rebuild, kind, args, {"y": 1}),
    }
    for x in read(path, zip_file(pickled(tree), [store])).values():
        assert_same(x.read(), WORDS)


GOOD = tensor(store_of(WORDS), 0, (4, 6), (6, 1))
STORAGE = persistent(store_of(WORDS))
OUR_NAME = name("torch._utils", "_rebuild_tensor_v2")
WRONG = {
    "a parameter of no tensor": ("torch._utils", "_rebuild_parameter", ({}, True, {})),
    "a parameter of a storage": ("torch._utils", "_rebuild_parameter", (STORAGE, True, {})),
    "a parameter of two": ("torch._utils", "_rebuild_parameter", (GOOD, True)),
    "a tensor of nothing": ("torch._utils", "_rebuild_tensor_v2", ()),
    "a tensor of a tensor": (
        "torch._utils", "_rebuild_tensor_v2", (GOOD, 0, (4, 6), (6, 1), False, {})
    ),
    "a tensor of a name": (
        "torch._utils", "_rebuild_tensor_v2",
        (name("torch", "FloatStorage"), 0, (4, 6), (6, 1), False, {}),
    ),
    "a tensor of too many": (
        "torch._utils", "_rebuild_tensor_v2", (STORAGE, 0, (), (), False, {}, None, None)
    ),
    "a first tensor of six": ("torch._utils", "_rebuild_tensor", (STORAGE, 0, (), (), False, {})),
    "a third tensor of no dtype": (
        "torch._utils", "_rebuild_tensor_v3", (STORAGE, 0, (), (), False, {}, "torch.float32")
    ),
    "a third tensor of a storage class": (
        "torch._utils", "_rebuild_tensor_v3",
        (STORAGE, 0, (), (), False, {}, name("torch", "FloatStorage")),
    ),
    "a third tensor of no storage": (
        "torch._utils", "_rebuild_tensor_v3", ({}, 0, (), (), False, {}, name("torch", "float32"))
    ),
    "another function": (
        "torch._tensor", "_rebuild_from_type_v2",
        (name("torch", "Size"), name("torch", "Tensor"), ((1,),), {}),
    ),
    "itself": (
        "torch._tensor", "_rebuild_from_type_v2",
        (name("torch._tensor", "_rebuild_from_type_v2"), name("torch", "Tensor"), (), {}),
    ),
    "another class": (
        "torch._tensor", "_rebuild_from_type_v2", (OUR_NAME, name("torch", "Size"), (), {})
    ),
    "a list of arguments": (
        "torch._tensor", "_rebuild_from_type_v2", (OUR_NAME, name("torch", "Tensor"), [], {})
    ),
    "a size of words": ("torch", "Size", (("a",),)),
    "a size of two": ("torch", "Size", ((1,), (2,))),
    "a storage class": ("torch", "FloatStorage", (3,)),
    "a dtype": ("torch", "float32", ()),
    "a tensor class": ("torch", "Tensor", ()),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_functions_with_wrong_arguments(path, case):
    module, attribute, args = WRONG[case]
    tree = {"x": call(name(module, attribute), *args)}
    refuse(path, zip_file(pickled(tree), [store_of(WORDS)]), "pickle, byte [0-9]+: ")


@pytest.mark.parametrize(
    "storage",
    ["ComplexFloatStorage", "QInt8Storage", "torch.cuda.FloatStorage", "torch.TypedStorage"],
)
def test_storages_that_are_not_read(path, storage):
    full = storage if "." in storage else f"torch.{storage}"
    with pytest.raises(CheckpointError, match=f"refused '{full}'"):
        one(path, 0, (2,), (1,), store=Store("0", storage, 2, bytes(16)))


@pytest.mark.parametrize("args", [
    "0", ("storage",), ("module", name("torch", "FloatStorage"), "0", "cpu", 24),
    ("storage", "torch.FloatStorage", "0", "cpu", 24),
    ("storage", name("torch", "Size"), "0", "cpu", 24),
    ("storage", name("torch", "FloatStorage"), 0, "cpu", 24),
    ("storage", name("torch", "FloatStorage"), "0", "cpu", -24),
    ("storage", name("torch", "FloatStorage"), "0", "cpu", True),
    ("storage", name("torch", "FloatStorage"), "0", "cpu", 24.0),
    ("storage", name("torch", "FloatStorage"), "0", "cpu", 24, 1),
])  # fmt: skip
def test_ids_that_are_no_storage(path, args):
    tree = {"x": tensor(Opcodes(value(args) + b"Q"), 0, (), ())}
    refuse(path, zip_file(pickled(tree), [store_of(WORDS)]), "expected the id of a|storage: ")


# --- what a file holds beside tensors -------------------------------------------------------------


def test_a_checkpoint_of_a_training_run(path):
    store = store_of(WORDS)
    args = Opcodes(name("argparse", "Namespace") + b")\x81" + value({"layers": 12}) + b"b")
    tree = {
        "args": args,
        "model": ordered({"w": tensor(store, 0, (4, 6), (6, 1))}),
        "best": [1.5, None, True, -3, (1, "a")],
        "dtype": name("torch", "float16"),
        "device": call(name("torch", "device"), "cuda", 0),
        "size": call(name("torch", "Size"), (4, 6)),
    }
    data = zip_file(pickled(tree), [store])
    refuse(path, data, "refused 'argparse.Namespace'")
    made = read(path, data, records=["argparse.Namespace"])
    assert_same(made.pop("model")["w"].read(), WORDS)
    assert made == {
        "args": Record("argparse.Namespace", (), {"layers": 12}),
        "best": [1.5, None, True, -3, (1, "a")],
        "dtype": Global("torch.float16"),
        "device": Record("torch.device", ("cuda", 0)),
        "size": (4, 6),
    }


def test_a_state_dict(path):
    store = store_of(WORDS)
    bits = Store("1", "BFloat16Storage", 2, b"\xc0\x3f\x00\xc0")
    state = ordered({"b": tensor(bits, 0, (2,), (1,)), "a": tensor(store, 0, (6, 4), (1, 6))})
    state = Opcodes(state + value({"_metadata": ordered({"": {"version": 1}})}) + b"b")
    path.write_bytes(zip_file(pickled(state), [store, bits]))
    file = TorchFile(path)
    assert list(file) == ["b", "a"]
    assert len(file) == 2
    assert "c" not in file
    assert (file.shape("a"), file.dtype("a"), file.dtype("b")) == ((6, 4), "F32", "BF16")
    assert_same(file["a"], WORDS.T)
    assert_same(file["b"], numpy.asarray([1.5, -2.0], "f4"))
    assert_same(file.stored("b"), numpy.asarray([0x3FC0, 0xC000], "u2"))
    with pytest.raises(KeyError):
        file["c"]


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        ({"state_dict": {"w": GOOD}, "epoch": 3}, "found 'state_dict': a dict, 'epoch': 3$"),
        ({"model": ordered({"w": GOOD})}, "found 'model': a dict$"),
        ({"w": GOOD, "n": 3}, "found 'n': 3$"),
        ({3: GOOD}, "found other names$"),
        ({"w": STORAGE}, "found 'w': a TypedStorage$"),
        ({}, "expected names and tensors, found a dict$"),
        ([GOOD], "found a list$"),
        (GOOD, "found a Tensor$"),
        (3, "found 3$"),
    ],
)
def test_what_is_no_state_dict(path, tree, found):
    path.write_bytes(zip_file(pickled(tree), [store_of(WORDS)]))
    with pytest.raises(CheckpointError, match=found) as caught:
        TorchFile(path)
    assert str(caught.value).startswith(f"{path}: expected names and tensors")


def test_where_a_tensor_lies(path):
    store = store_of(WORDS)
    views = {"rows": (6, (2, 6), (6, 1)), "turned": (0, (6, 4), (1, 6))}
    tree = pickled({key: tensor(store, *view) for key, view in views.items()})
    path.write_bytes(zip_file(tree, [store]))
    place = TorchFile(path).place("rows")
    assert (place.path, place.shape, place.is_bfloat16) == (path, (2, 6), False)
    raw = path.read_bytes()[place.start :][:48]
    assert_same(numpy.frombuffer(raw, place.dtype).reshape(2, 6), WORDS[1:3])
    with pytest.raises(CheckpointError, match="turned: is stored transposed or packed"):
        TorchFile(path).place("turned")
    path.write_bytes(zip_file(tree, [store], packed=["data/0"]))
    with pytest.raises(CheckpointError, match="rows: is stored transposed or packed"):
        TorchFile(path).place("rows")


# --- packed ---------------------------------------------------------------------------------------


def test_packed_entries_are_unpacked(path):
    store = store_of(WORDS)
    tree = pickled({"x": tensor(store, 0, (6, 4), (1, 6))})
    x = read(path, zip_file(tree, [store], packed=["data.pkl", "byteorder", "data/0"]))["x"]
    assert_same(x.read(), WORDS.T)
    assert numpy.shares_memory(x.read(), x.read())  # it is unpacked once
    assert not x.read().flags.writeable


def test_a_packed_storage_that_is_broken(path):
    """Nothing of it is looked at when the file is opened."""
    store = Store("0", "ByteStorage", 1000, bytes(1000))
    data = zip_file(pickled({"x": tensor(store, 0, (1000,), (1,))}), [store], packed=["data/0"])
    start = data.index(b"archive/data/0") + len(b"archive/data/0")
    x = read(path, data[:start] + b"\xff" + data[start + 1 :])["x"]
    with pytest.raises(
        CheckpointError, match="zip: 'archive/data/0': cannot be unpacked"
    ) as caught:
        x.read()
    assert str(caught.value).startswith(f"{path}: ")


def test_a_small_file_of_large_storages(monkeypatch, path):
    store = Store("0", "ByteStorage", 10**5, bytes(10**5))
    tree = pickled({"x": tensor(store, 0, (10**5,), (1,))})
    data = zip_file(tree, [store], packed=["data/0"])
    assert len(data) < 2000
    assert read(path, data)["x"].shape == (10**5,)
    monkeypatch.setattr(torch_file, "ROOM", 10**5)
    refuse(path, data, f"{len(data)} bytes unpack to 100000: refused")
    assert read(path, zip_file(tree, [store]))["x"].shape == (10**5,)


def test_a_small_file_of_large_tensors(monkeypatch, path):
    """The same numbers over and over: no memory, until somebody converts them."""
    store = store_of(WORDS)
    tree = pickled({"x": tensor(store, 0, (10**4, 4, 6), (0, 6, 1))})
    data = zip_file(tree, [store])
    assert read(path, data)["x"].shape == (10**4, 4, 6)
    monkeypatch.setattr(torch_file, "ROOM", 10**5)
    refuse(path, data, "96 bytes are seen as tensors of 960000 bytes: refused")
    many = {str(i): tensor(store, 0, (4, 6), (6, 1)) for i in range(20)}  # tied: seen once
    assert len(read(path, zip_file(pickled(many), [store]))) == 20


def test_a_small_file_of_a_large_pickle(monkeypatch, path):
    data = zip_file(pickled({"x": "y" * 10**5}), [], packed=["data.pkl"])
    assert read(path, data) == {"x": "y" * 10**5}
    monkeypatch.setattr(torch_file, "LARGEST_PACKED_PICKLE", 10**5)
    refuse(path, data, r"data\.pkl: .* bytes unpack to 100.*: refused")
    assert read(path, zip_file(pickled({"x": "y" * 10**5}), [])) == {"x": "y" * 10**5}


# --- files of another kind ------------------------------------------------------------------------


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"pytorch_model.bin: no such file$"):
        TorchFile(tmp_path / "pytorch_model.bin")


def test_a_folder_and_a_name_that_no_file_can_have(tmp_path):
    for path in (tmp_path, tmp_path / "a\0b"):
        with pytest.raises(CheckpointError, match=r"expected a file of torch\.save: "):
            read_torch_file(path)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 600, b"version https://git-lfs", b"\x89HDF\r\n", b"P"]
)
def test_a_file_of_another_kind(path, data):
    refuse(path, data, "expected a file of torch.save")


def test_the_tar_format_is_refused_by_its_name(path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in ("storages", "tensors", "pickle"):
            tar.addfile(tarfile.TarInfo(entry), io.BytesIO(b""))
    refuse(path, file.getvalue(), "a tar archive, as torch.save wrote before PyTorch 0.1.10")


def test_a_torchscript_program(path):
    data = zip_file(pickled({}), [], more=[("constants.pkl", pickled(()))])
    refuse(path, data, "a TorchScript program")


def test_another_zip_archive(path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    refuse(path, file.getvalue(), "expected one entry FOLDER/data.pkl, found 0")


def test_another_pickle(path):
    refuse(path, pickled({"a": 1}), "expected a file of torch.save, found another pickle")


# --- the legacy format ----------------------------------------------------------------------------

STORES = [store_of(WORDS, "7"), store_of(WORDS[0], "94541866381440")]
TREE = pickled({"a": tensor(STORES[0], 0, (4, 6), (6, 1), True),
                "b": tensor(STORES[1], 0, (6,), (1,), True)})  # fmt: skip


def test_storages_in_the_order_of_their_keys(path):
    for keys in (["7", "94541866381440"], ["94541866381440", "7"]):
        stores = sorted(STORES, key=lambda store: keys.index(store.key))
        made = read(path, legacy_file(TREE, stores))
        assert_same(made["a"].read(), WORDS)
        assert_same(made["b"].read(), WORDS[0])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"magic": 3}, "found another pickle"),
        ({"magic": "x"}, "found another pickle"),
        ({"protocol": 1002}, "expected protocol 1001, got 1002"),
        ({"protocol": True}, "expected protocol 1001, got True"),
        ({"keys": ["7"]}, "the keys of the storages"),
        ({"keys": ["7", "7"]}, "the keys of the storages"),
        ({"keys": ["7", "94541866381440", "7"]}, "the keys of the storages"),
        ({"keys": ["7", "8"]}, "the keys of the storages"),
        ({"keys": {"7": 1}}, "the keys of the storages"),
        ({"keys": ["7", 8]}, "storage: expected a key, got 8"),
        ({"keys": ["7", ["8"]]}, "storage: expected a key, got a list"),
        ({"counts": [24, 7]}, "expected 24 bytes, found"),
        ({"counts": [24, 5]}, "expected 24 bytes, found 20"),
        ({"counts": [-24, 6]}, "expected 96 bytes, found"),
        ({"counts": [2**62, 6]}, "expected 96 bytes, found"),
    ],
)
def test_legacy_files_that_do_not_agree(path, options, match):
    refuse(path, legacy_file(TREE, STORES, **options), match)


def test_legacy_files_cut_anywhere(path):
    whole = legacy_file(TREE, STORES)
    read(path, whole)
    for length in range(len(whole)):
        refuse(path, whole[:length])


def test_legacy_files_with_something_behind(path):
    refuse(path, legacy_file(TREE, STORES) + b"\0", "1 bytes follow the last storage")


def test_a_storage_that_is_part_of_another(path):
    view = Opcodes(value(("storage", name("torch", "FloatStorage"), "7", "cpu", 24, ("8", 0, 2)))
                   + b"Q")  # fmt: skip
    tree = pickled({"a": tensor(view, 0, (2,), (1,))})
    refuse(path, legacy_file(tree, STORES[:1]), "storage '7': a part of another one is not read")


def test_a_storage_of_two_sizes(path):
    longer = Store("7", "FloatStorage", 25, b"")
    tree = pickled({"a": tensor(STORES[0], 0, (), (), True), "b": tensor(longer, 0, (), (), True)})
    refuse(path, legacy_file(tree, STORES[:1]), "storage '7': of two sizes")


def test_a_whole_module_is_no_state_dict(path):
    module = Opcodes(value(("module", name("torch", "Tensor"), "a.py", "source")) + b"Q")
    refuse(path, legacy_file(pickled(module), []), "expected the id of a storage")


def test_storages_where_none_can_be(path):
    head = legacy_file(pickled({}), [], magic=persistent(STORES[0], None))
    refuse(path, head, "refused 'torch.FloatStorage'|expected no storages")
    refuse(path, legacy_file(pickled({}), [], magic=Opcodes(b"NQ")), "expected no storages here")
