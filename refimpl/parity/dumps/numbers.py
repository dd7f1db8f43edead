"""One tensor of a dump as files hold it: its bits and what they are, bfloat16 among them.

NumPy has no bfloat16. In a :class:`Dump` such a tensor is float32, which is exact, and its name
stands in ``about["bfloat16"]``; here it is its bits, so that it goes out as it came in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy

from refimpl.checkpoints.safetensors_file import widen_bfloat16
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.dump import Dump

# Names of safetensors -> what NumPy reads the bits as: numbers of the low byte first.
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
NAMES = {text: name for name, text in DTYPES.items() if name != "BF16"}

KINDS = ("input", "tap", "output")

# Arguments of a call that no tap is called by: in a foreign dump they are inputs without a prefix.
ARGUMENTS = (
    "input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "langs", "lang_ids",
    "lengths",
)  # fmt: skip


def shown(name: str) -> str:
    """Return a name from a file as it stands in a message: in quotes, and not endless.

    >>> shown("layer.0"), len(shown("x" * 10_000))
    ("'layer.0'", 123)
    """
    return repr(name) if len(name) <= 120 else repr(name[:118]) + "..."


class Numbers(NamedTuple):
    """A tensor's bits, little-endian."""

    dtype: str  # as safetensors names it: "F32", "BF16", "I64"
    bits: numpy.ndarray  # of a bfloat16 as uint16

    @property
    def array(self) -> numpy.ndarray:
        """The numbers, those of a bfloat16 as float32."""
        return widen_bfloat16(self.bits) if self.dtype == "BF16" else self.bits


def shaped(raw: numpy.ndarray, dtype: str, shape: tuple[int, ...], where: object) -> Numbers:
    """Return bytes as the numbers that they are; ``CheckpointError`` unless they are as many."""
    form = numpy.dtype(DTYPES[dtype])
    expected = math.prod(shape) * form.itemsize
    if raw.size != expected:
        raise CheckpointError(
            f"{where}: expected {expected} bytes for {dtype} of shape {shape}, found {raw.size}"
        )
    try:
        if not raw.size:
            return Numbers(dtype, numpy.empty(shape, form))
        return Numbers(dtype, numpy.frombuffer(raw, form).reshape(shape))
    except ValueError as error:  # axes of no elements may be longer than NumPy's
        raise CheckpointError(f"{where}: shape {shape}: {error}") from None


def numbers_of(name: str, array: numpy.ndarray) -> Numbers:
    """Return an array's bits; ``TypeError`` for what is no real number, integer or boolean."""
    text = array.dtype.newbyteorder("<").str
    if text not in NAMES:
        raise TypeError(f"{name}: expected one of {', '.join(NAMES.values())}, got {array.dtype}")
    return Numbers(NAMES[text], array.astype(text, copy=False))


def narrow_bfloat16(name: str, array: numpy.ndarray) -> Numbers:
    """Return the bits of float32 numbers that are bfloat16; ``ValueError`` where one is not."""
    if array.dtype != numpy.float32:
        raise ValueError(f"{name}: expected bfloat16 numbers as float32, got {array.dtype}")
    bits = numpy.ascontiguousarray(array, "<f4").reshape(array.shape).view("<u4")
    if (bits & 0xFFFF).any():
        raise ValueError(f"{name}: about says bfloat16, and not all of its numbers are")
    return Numbers("BF16", numpy.asarray(bits >> 16, "<u2"))


def all_numbers(dump: Dump) -> Iterator[tuple[str, str, Numbers]]:
    """Give kind, name and numbers of every tensor: inputs, taps in order, outputs.

    Raises ``TypeError`` and ``ValueError``, naming the tensor, for what files cannot hold.
    """
    narrow = set(dump.about.get("bfloat16", ()))
    for kind, arrays in zip(KINDS, (dump.inputs, dump.taps, dump.outputs), strict=True):
        for name, array in arrays.items():
            full = f"{kind}.{name}"
            if any("\ud800" <= sign <= "\udfff" for sign in name):
                raise ValueError(f"{full!r}: expected a name that is text, got half a character")
            make = narrow_bfloat16 if full in narrow else numbers_of
            yield kind, name, make(full, numpy.asarray(array))


def dump_of(
    found: Iterable[tuple[str, str, Numbers]], about: Mapping[str, Any], where: object = "dump"
) -> Dump:
    """Return the dump of the tensors (kind, name, numbers), in their order.

    Raises ``CheckpointError``, naming ``where``, for two of one kind and name.
    """
    parts: dict[str, dict[str, numpy.ndarray]] = {kind: {} for kind in KINDS}
    narrow = []
    for kind, name, numbers in found:
        if name in parts[kind]:
            raise CheckpointError(f"{where}: two tensors are the {kind} {shown(name)}")
        parts[kind][name] = numbers.array
        if numbers.dtype == "BF16":
            narrow.append(f"{kind}.{name}")
    about = {key: value for key, value in about.items() if key != "bfloat16"}
    about |= {"bfloat16": narrow} if narrow else {}
    return Dump(parts["tap"], parts["output"], parts["input"], about)


def sort_names(found: Mapping[str, Numbers]) -> Iterator[tuple[str, str, Numbers]]:
    """Give kind, name and numbers of tensors under foreign names.

    ``input.NAME``, ``tap.NAME`` and ``output.NAME`` lose their prefix, the arguments of a call
    are inputs, and all else is a tap under its own name.
    """
    for full, numbers in found.items():
        kind, _, name = full.partition(".")
        if kind in KINDS and name:
            yield kind, name, numbers
        else:
            yield ("input" if full in ARGUMENTS else "tap"), full, numbers
