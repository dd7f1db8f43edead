"""ONNX tensors: ``TensorProto`` in ``.pb`` files, and the folders ``test_data_set_N`` of them.

Written and read here without the onnx package: a TensorProto is a dozen fields. In a test data set
``input_K.pb`` and ``output_K.pb`` hold the K-th input and output of the graph; we write the taps
beside them as ``tap_K.pb``, which test runners pass over.

Source: ``onnx/onnx.proto``, message TensorProto; ``docs/OnnxBackendTest.md`` of onnx.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy

from refimpl.errors import CheckpointError
from refimpl.parity.dumps.numbers import ARGUMENTS, DTYPES, Numbers, shown
from refimpl.parity.dumps.numpy_files import MOST_AXES, map_file
from refimpl.tokenizers.xlm_roberta.protobuf import LENGTH, field, fields, write_varint

# TensorProto.DataType -> safetensors' name.
TYPES = {
    1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16",
    11: "F64", 12: "U32", 13: "U64", 16: "BF16",
}  # fmt: skip
OTHER_TYPES = {
    8: "strings", 14: "complex64", 15: "complex128", 17: "float8e4m3fn", 18: "float8e4m3fnuz",
    19: "float8e5m2", 20: "float8e5m2fnuz", 21: "uint4", 22: "int4", 23: "float4e2m1",
}  # fmt: skip

# The fields that hold numbers: those of a fixed size as they are, the others as varints.
DIMS, DATA_TYPE, NAME, RAW, EXTERNAL, LOCATION = 1, 2, 8, 9, 13, 14
FIXED = {4: ("F32",), 10: ("F64",)}
VARINTS = {
    5: ("I32", "I16", "I8", "U16", "U8", "BOOL", "F16", "BF16"),
    7: ("I64",),
    11: ("U32", "U64"),
}
MOST_FIELDS = 2**20  # numbers may stand in a field each, where they were not packed
ENDINGS = (".pb", ".tensorproto")


def read_tensor_file(path: Path) -> tuple[str, Numbers]:
    """Return name and numbers of the TensorProto in a file; ``CheckpointError`` if it is none."""
    return parse_tensor(map_file(path).tobytes(), path)


def read_tensor_folder(folder: Path) -> Iterator[tuple[str, str, Numbers]]:
    """Give kind, name and numbers of the tensors in a folder: inputs, then the rest by number.

    ``input_K.pb`` are inputs, ``output_K.pb`` outputs and all others taps. One without a name is
    called by its file. Raises ``CheckpointError``.
    """
    paths = [path for path in folder.iterdir() if path.suffix in ENDINGS]
    for path in sorted(paths, key=_file_order):
        name, numbers = read_tensor_file(path)
        kind = path.stem.rpartition("_")[0]
        kind = kind if kind in ("input", "output") else "tap"
        if kind == "tap" and name in ARGUMENTS:
            kind = "input"
        yield kind, name or path.stem, numbers


def _file_order(path: Path) -> tuple[int, list[tuple[int, str]]]:
    """Inputs, others, outputs; numbers in names as numbers."""
    place = {"input": 0, "output": 2}.get(path.stem.rpartition("_")[0], 1)
    parts = re.split(r"(\d+)", path.stem)
    return place, [(int(p), "") if p.isdecimal() and len(p) < 19 else (0, p) for p in parts]


def parse_tensor(message: bytes, where: object) -> tuple[str, Numbers]:
    """Return name and numbers of a TensorProto.

    Raises ``CheckpointError``, naming ``where``, for one that is broken, keeps its numbers in
    another file, or holds what are no numbers of ours.
    """
    found: dict[int, list[int | bytes]] = {}
    try:
        for i, (number, value) in enumerate(fields(message)):
            if i > MOST_FIELDS:
                raise ValueError(f"more than {MOST_FIELDS} fields")
            found.setdefault(number, []).append(value)
        name = b"".join(_as_bytes(found.get(NAME, [])[-1:])).decode("utf-8")
        dims = _integers(found.get(DIMS, []))
        kind = int(_integers(found.get(DATA_TYPE, []))[-1:].sum())
        if EXTERNAL in found or _integers(found.get(LOCATION, [])).any():
            raise CheckpointError(
                f"{where}: {shown(name)}: its numbers are in another file: not read"
            )
        if kind not in TYPES:
            what = OTHER_TYPES.get(kind, f"type {kind}")
            raise CheckpointError(f"{where}: {shown(name)}: expected real numbers, found {what}")
        return name, _numbers(TYPES[kind], _shape(dims), found)
    except (ValueError, OverflowError) as error:
        raise CheckpointError(f"{where}: expected a TensorProto: {error}") from None


def _shape(dims: numpy.ndarray) -> tuple[int, ...]:
    if dims.size > MOST_AXES or (dims < 0).any():
        raise ValueError(f"dims: expected up to {MOST_AXES} sizes from 0 on")
    return tuple(dims.tolist())


def _numbers(dtype: str, shape: tuple[int, ...], found: dict[int, list[int | bytes]]) -> Numbers:
    """Return the numbers from whichever field holds them."""
    form = numpy.dtype(DTYPES[dtype])
    used = [n for n in (RAW, *FIXED, *VARINTS) if any(x != b"" for x in found.get(n, []))]
    if len(used) > 1:
        raise ValueError(f"numbers in the fields {used}, expected one field")
    source = used[0] if used else RAW
    if source != RAW and dtype not in {**FIXED, **VARINTS}[source]:
        raise ValueError(f"{dtype} in the field {source}")
    if source in VARINTS:
        flat = _narrowed(_integers(found[source]), form, dtype)
    else:
        raw = b"".join(_as_bytes(found.get(source, [])))
        if len(raw) != math.prod(shape) * form.itemsize:
            raise ValueError(f"{len(raw)} bytes for {dtype} of shape {shape}")
        flat = numpy.frombuffer(raw, form)
    if flat.size != math.prod(shape):
        raise ValueError(f"{flat.size} numbers for shape {shape}")
    return Numbers(dtype, flat.reshape(shape))


def _narrowed(wide: numpy.ndarray, form: numpy.dtype, dtype: str) -> numpy.ndarray:
    """Return integers in their own type; those of float16 are its bits."""
    if dtype == "U64":
        return wide.view("<u8")
    own = numpy.dtype("<u2") if form.kind == "f" else form
    low, high = (0, 1) if own.kind == "b" else (numpy.iinfo(own).min, numpy.iinfo(own).max)
    if wide.size and (wide.min() < low or wide.max() > high):
        raise ValueError(f"an integer beyond {dtype}")
    return wide.astype(own).view(form)


def _as_bytes(values: list[int | bytes]) -> list[bytes]:
    if any(isinstance(value, int) for value in values):
        raise ValueError("a varint where bytes were expected")
    return [value for value in values if isinstance(value, bytes)]


def _integers(values: list[int | bytes]) -> numpy.ndarray:
    """Return the int64 numbers of a repeated field: one to a field, or many packed into one."""
    parts = [
        unpack_varints(value) if isinstance(value, bytes) else unpack_varints(write_varint(value))
        for value in values
    ]
    return numpy.concatenate(parts) if parts else numpy.empty(0, "<i8")


def unpack_varints(packed: bytes) -> numpy.ndarray:
    """Return the int64 numbers that are written as varints one after another.

    >>> unpack_varints(bytes([1, 0x81, 0x02, 0])).tolist()
    [1, 257, 0]

    Raises ``ValueError`` where the last is cut short, or one has more than 64 bits.
    """
    digits = numpy.frombuffer(packed, numpy.uint8)
    ends = numpy.flatnonzero(digits < 0x80)
    if digits.size and (not ends.size or ends[-1] != digits.size - 1):
        raise ValueError("a number that is cut short")
    starts = numpy.concatenate([[0], ends[:-1] + 1]) if ends.size else ends
    lengths = ends - starts + 1
    if (lengths > 10).any() or (digits[ends[lengths == 10]] > 1).any():
        raise ValueError("a number of more than 64 bits")
    values = numpy.zeros(ends.size, numpy.uint64)
    for i in range(10):
        chosen = lengths > i
        digit = digits[starts[chosen] + i].astype(numpy.uint64) & numpy.uint64(0x7F)
        values[chosen] |= digit << numpy.uint64(7 * i)
    return values.view("<i8")


def tensor_bytes(name: str, numbers: Numbers) -> bytes:
    """Return a TensorProto, its numbers in the field for raw bytes."""
    kind = next(number for number, dtype in TYPES.items() if dtype == numbers.dtype)
    dims = b"".join(field(DIMS, size) for size in numbers.bits.shape)
    head = dims + field(DATA_TYPE, kind) + field(NAME, name.encode())
    raw = numbers.bits.tobytes()
    return head + write_varint(RAW << 3 | LENGTH) + write_varint(len(raw)) + raw
