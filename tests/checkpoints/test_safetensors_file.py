"""Files written byte by byte: what they hold comes out, and broken ones are refused by name."""

import json
import struct

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.checkpoints.safetensors_file import SafetensorsFile, widen_bfloat16
from refimpl.errors import CheckpointError
from tests.compare import assert_same

# dtype of the format -> (what NumPy reads it as, two numbers, their bytes as the format has them)
DTYPES = {
    "F64": ("float64", [1.5, -2.0], struct.pack("<2d", 1.5, -2.0)),
    "F32": ("float32", [1.5, -2.0], struct.pack("<2f", 1.5, -2.0)),
    "F16": ("float16", [1.5, -2.0], struct.pack("<2e", 1.5, -2.0)),
    "BF16": ("float32", [1.5, -2.0], b"\xc0\x3f\x00\xc0"),  # the upper halves of the float32s
    "I64": ("int64", [1, -2], struct.pack("<2q", 1, -2)),
    "I32": ("int32", [1, -2], struct.pack("<2i", 1, -2)),
    "I16": ("int16", [1, -2], struct.pack("<2h", 1, -2)),
    "I8": ("int8", [1, -2], struct.pack("<2b", 1, -2)),
    "U64": ("uint64", [1, 2**63], struct.pack("<2Q", 1, 2**63)),
    "U32": ("uint32", [1, 2**31], struct.pack("<2I", 1, 2**31)),
    "U16": ("uint16", [1, 2**15], struct.pack("<2H", 1, 2**15)),
    "U8": ("uint8", [1, 128], b"\x01\x80"),
    "BOOL": ("bool", [True, False], b"\x01\x00"),
}


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def file_bytes(header, data=b""):
    """Return a safetensors file: the header's length, the header (a dict, or bytes), the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


SMALL = file_bytes(
    {
        "__metadata__": {"format": "np"},
        "ids": entry("I64", [2], 0, 16),
        "scale": entry("F32", [], 16, 20),
        "none": entry("F32", [0, 3], 20, 20),
        "mask": entry("BOOL", [1, 3], 20, 23),
    },
    struct.pack("<2qf3?", 7, -7, 0.5, True, False, True),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("safetensors") / "some.safetensors"


def read(path, content):
    """Write ``content``, open it and return every tensor by name."""
    path.write_bytes(content)
    return dict(SafetensorsFile(path))


def refuse(path, content, match=""):
    """Assert that ``content`` is refused, in an error that names the file and says ``match``."""
    with pytest.raises(CheckpointError, match=match) as caught:
        read(path, content)
    assert str(caught.value).startswith(f"{path}: ")


# --- what a file holds ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(path, dtype):
    expected, values, data = DTYPES[dtype]
    pair = read(path, file_bytes({"x": entry(dtype, [2], 0, len(data))}, data))["x"]
    assert_same(pair, numpy.asarray(values, expected))

    one = data[: len(data) // 2]
    scalar = read(path, file_bytes({"x": entry(dtype, [], 0, len(one))}, one))["x"]
    assert isinstance(scalar, numpy.ndarray)
    assert_same(scalar, numpy.asarray(values[0], expected))

    empty = read(path, file_bytes({"x": entry(dtype, [3, 0], 0, 0)}))["x"]
    assert_same(empty, numpy.zeros((3, 0), expected))


def test_every_bfloat16_is_the_float32_that_starts_with_its_bits():
    bits = numpy.arange(2**16, dtype=numpy.uint16)
    wide = widen_bfloat16(bits)
    halves = wide.view(numpy.uint16).reshape(-1, 2)  # little-endian: lower half first
    assert wide.dtype == numpy.float32
    assert_same(halves[:, 1], bits)
    assert not halves[:, 0].any()


def test_several_tensors_in_the_order_of_their_bytes(path):
    tensors = read(path, SMALL)
    assert list(tensors) == ["ids", "scale", "none", "mask"]
    assert_same(tensors["ids"], numpy.asarray([7, -7]))
    assert_same(tensors["scale"], numpy.asarray(0.5, "float32"))
    assert_same(tensors["none"], numpy.zeros((0, 3), "float32"))
    assert_same(tensors["mask"], numpy.asarray([[True, False, True]]))


def test_is_a_mapping(path):
    path.write_bytes(SMALL)
    file = SafetensorsFile(path)
    assert len(file) == 4
    assert "ids" in file
    assert "__metadata__" not in file
    assert file.shape("mask") == (1, 3)
    with pytest.raises(KeyError, match="absent"):
        file["absent"]


def test_a_file_without_tensors_is_empty(path):
    assert read(path, file_bytes({})) == {}


def test_offsets_need_not_be_aligned(path):
    data = b"\x09" + struct.pack("<d", 0.1)
    header = {"byte": entry("U8", [1], 0, 1), "real": entry("F64", [1], 1, 9)}
    for padding in range(8):  # moves all the data
        text = json.dumps(header).encode() + b" " * padding
        assert_same(read(path, file_bytes(text, data))["real"], numpy.asarray([0.1]))


def test_arrays_are_read_only_views_of_the_mapped_file(path):
    path.write_bytes(SMALL)
    file = SafetensorsFile(path)
    ids = file["ids"]
    assert not ids.flags.writeable
    assert not ids.flags.owndata
    assert numpy.shares_memory(ids, file["ids"])
    with path.open("r+b") as opened:  # what is written to the file is seen: nothing was copied
        opened.seek(path.stat().st_size - 23)
        opened.write(struct.pack("<q", 8))
    assert ids[0] == 8


def test_a_file_larger_than_memory_opens_and_one_tensor_is_read(tmp_path):
    path, size = tmp_path / "sparse.safetensors", 2**36
    header = {"huge": entry("F32", [2**17, 2**17], 0, size), "b": entry("F32", [1], size, size + 4)}
    start = file_bytes(header)
    with path.open("wb") as file:
        file.write(start)
        file.seek(len(start) + size)
        file.write(struct.pack("<f", 2.5))
    assert path.stat().st_blocks * 512 < 2**20, "the file system made it a real file"
    opened = SafetensorsFile(path)
    assert_same(opened["b"], numpy.asarray([2.5], "float32"))
    assert opened["huge"].shape == (2**17, 2**17)  # a view, too
    assert opened["huge"][-1, -1] == 0


# --- what is no such file -------------------------------------------------------------------------


def test_missing(path):
    with pytest.raises(CheckpointError, match=r"absent: no such file$"):
        SafetensorsFile(path.with_name("absent"))


def test_a_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a safetensors file: .*directory"):
        SafetensorsFile(tmp_path)


def test_truncated_anywhere(path):
    for length in range(len(SMALL)):
        refuse(path, SMALL[:length], "expected a safetensors file")


def test_longer_than_it_says(path):
    refuse(path, SMALL + b"\0", "not fully covered")


@pytest.mark.parametrize("length", [2**24, 2**60, 2**63, 2**64 - 1])
def test_header_longer_than_the_file(path, length):
    refuse(path, struct.pack("<Q", length) + SMALL[8:], "expected a safetensors file")


def test_a_header_that_is_too_large(path):
    header = b"{}" + b" " * 8 * 2**20
    refuse(path, file_bytes(header), "up to 8388608 bytes of header, found 8388610$")
    assert read(path, file_bytes(header[:-2])) == {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_as_it_is_stored(path, dtype):
    expected, _, data = DTYPES[dtype]
    path.write_bytes(file_bytes({"x": entry(dtype, [2], 0, len(data))}, data))
    file = SafetensorsFile(path)
    assert file.dtype("x") == dtype
    assert file.stored("x").tobytes() == data
    assert file.stored("x").dtype == ("uint16" if dtype == "BF16" else expected)
    assert not file.stored("x").flags.writeable


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b"17", b"\xff\xfe{}", b"not json", b"[" * 10_000, b'{"a":' * 10_000]
    + [json.dumps(x).encode() for x in ({"a": 1}, {"a": {}}, {"a": entry("F32", [-1], 0, 0)})],
    ids=lambda header: repr(header[:12]),
)
def test_header_that_is_none(path, header):
    refuse(path, file_bytes(header), "expected a safetensors file")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((0, 4), (2, 6)),  # overlap
        ((0, 4), (0, 4)),  # the same place
        ((0, 4), (5, 9)),  # a hole
        ((1, 5), (5, 9)),  # a hole at the start
        ((4, 0), (4, 8)),  # backwards
        ((0, 4), (4, 2**63)),
        ((0, 4), (4, 7)),  # not the shape's size
    ],
)
def test_places_that_do_not_fit_together(path, first, second):
    header = {"a": entry("F32", [1], *first), "b": entry("F32", [1], *second)}
    refuse(path, file_bytes(header, bytes(9)), "expected a safetensors file")


@pytest.mark.parametrize("shape", [[2**40, 2**40], [2**62, 4], [2**64]])
def test_shapes_that_overflow(path, shape):
    refuse(path, file_bytes({"a": entry("U8", shape, 0, 0)}), "expected a safetensors file")


@pytest.mark.parametrize(
    ("shape", "data"), [([2**63, 0], b""), ([2**62, 0, 2**62], b""), ([1] * 65, b"a")]
)
def test_shapes_that_the_format_allows_and_numpy_does_not(path, shape, data):
    content = file_bytes({"odd": entry("U8", shape, 0, len(data))}, data)
    refuse(path, content, f": odd: shape \\({shape[0]}, ")


@pytest.mark.parametrize(
    ("dtype", "size"), [("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1), ("C64", 8)]
)
def test_dtypes_that_are_not_read(path, dtype, size):
    content = file_bytes({"small": entry(dtype, [1], 0, size)}, bytes(size))
    refuse(path, content, f"small: expected a dtype of F64, .*, BOOL, got {dtype}$")


def test_dtypes_that_do_not_exist(path):
    refuse(path, file_bytes({"a": entry("F99", [1], 0, 1)}, b"a"), "F99")


def test_a_path_that_no_file_can_have(path):
    with pytest.raises(CheckpointError, match="expected a safetensors file: embedded null"):
        SafetensorsFile(path.with_name("a\0b"))


# --- broken at random -----------------------------------------------------------------------------


def read_or_refuse(path, content):
    """Whatever the bytes are: tensors come out, or one error that names the file."""
    try:
        read(path, content)
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 (either is right)


@settings(max_examples=300)
@given(content=st.binary(max_size=60))
def test_random_bytes(path, content):
    read_or_refuse(path, content)
    read_or_refuse(path, file_bytes(content))


@settings(max_examples=1000)
@given(st.dictionaries(st.integers(0, len(SMALL) - 1), st.integers(0, 255), min_size=1, max_size=4))
def test_random_byte_flips(path, flips):
    content = bytearray(SMALL)
    for place, byte in flips.items():
        content[place] = byte
    read_or_refuse(path, bytes(content))


numbers = st.sampled_from([0, 1, 2, 3, 4, 8, 65, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, 2**64])


@settings(max_examples=500)
@given(dtype=st.sampled_from(list(DTYPES)), shape=st.lists(numbers, max_size=4), end=numbers)
def test_random_shapes(path, dtype, shape, end):
    read_or_refuse(path, file_bytes({"x": entry(dtype, shape, 0, end)}, bytes(min(end, 64))))
