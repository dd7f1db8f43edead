"""A safetensors file as a mapping of names to arrays that stay on disk until they are used.

The format: 8 bytes with the header's length, a JSON header (name -> dtype, shape, place), then the
tensors' bytes one after another. The safetensors library checks the header, its lengths and
places; here the bytes are mapped, so that opening a file of any size reads almost none of it.

Source: the format description in the safetensors README.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy

from refimpl.errors import CheckpointError

# Names of the format -> NumPy, which has no bfloat16: its bits come as integers and are widened.
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


# Bytes of a header, which has some hundred for each tensor. As objects they take twenty times more.
LARGEST_HEADER = 8 * 2**20


class Place(NamedTuple):
    """Where a tensor's numbers lie in a file, one after another, and how they are written."""

    path: Path
    dtype: numpy.dtype  # of a bfloat16 its bits, as integers
    is_bfloat16: bool
    shape: tuple[int, ...]
    start: int  # the first byte


class SafetensorsFile(Mapping[str, numpy.ndarray]):
    """The tensors of one file, by name; ``file[name]`` is a read-only view of the mapped bytes.

    ``metadata`` holds the words that the file says of itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places, self.metadata = _read_header(path)
        self._bytes = numpy.memmap(path, dtype=numpy.uint8, mode="r")

    def __getitem__(self, name: str) -> numpy.ndarray:
        array = self.stored(name)
        return widen_bfloat16(array) if self.dtype(name) == "BF16" else array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without touching its bytes."""
        return self._places[name][1]

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype as the format names it: "F32", "BF16", "I64"."""
        return self._places[name][0]

    def stored(self, name: str) -> numpy.ndarray:
        """Return a tensor as it is stored: of a bfloat16 the bits, as uint16.

        Raises ``CheckpointError`` for a tensor that does not fit its shape.
        """
        dtype, shape, start = self._places[name]
        count = math.prod(shape)
        raw = self._bytes[start : start + count * numpy.dtype(_DTYPES[dtype]).itemsize]
        try:
            return numpy.frombuffer(raw, dtype=_DTYPES[dtype], count=count).reshape(shape)
        except ValueError as error:  # the format allows more axes, and longer, than NumPy
            raise CheckpointError(f"{self.path}: {name}: shape {shape}: {error}") from None

    def first_name(self, name: str) -> str:
        """Return ``name``: in this format no two names are of the same bytes."""
        return name

    def place(self, name: str) -> Place:
        """Return where a tensor lies, for those who read files in another way."""
        dtype, shape, start = self._places[name]
        return Place(self.path, numpy.dtype(_DTYPES[dtype]), dtype == "BF16", shape, start)


def widen_bfloat16(bits: numpy.ndarray) -> numpy.ndarray:
    """Return the float32 numbers whose upper halves are ``bits``: exact, every bfloat16 is one."""
    wide = numpy.asarray(bits.astype(numpy.uint32) << 16)  # a shift makes a scalar of shape ()
    return wide.view(numpy.float32)


def _read_header(
    path: Path,
) -> tuple[dict[str, tuple[str, tuple[int, ...], int]], dict[str, str]]:
    """Return name -> (dtype, shape, first byte), in the order of the file's bytes; the metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            head = file.read(8)
        if len(head) == 8 and (length := struct.unpack("<Q", head)[0]) > LARGEST_HEADER:
            raise CheckpointError(
                f"{path}: expected a safetensors file: up to {LARGEST_HEADER} bytes of header, "
                f"found {length}"
            )
        with safe_open(path, framework="numpy") as opened:
            metadata = dict(opened.metadata() or {})
            slices = {name: opened.get_slice(name) for name in opened.offset_keys()}
            tensors = {n: (s.get_dtype(), tuple(s.get_shape())) for n, s in slices.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CheckpointError(f"{path}: expected a safetensors file: {error}") from None
    start = 8 + struct.unpack("<Q", head)[0]
    places = {}
    for name, (dtype, shape) in tensors.items():
        if dtype not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise CheckpointError(f"{path}: {name}: expected a dtype of {known}, got {dtype}")
        # The library has checked that the tensors follow one another without a gap.
        places[name] = (dtype, shape, start)
        start += math.prod(shape) * numpy.dtype(_DTYPES[dtype]).itemsize
    return places, metadata
