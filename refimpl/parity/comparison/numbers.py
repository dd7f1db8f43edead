"""In which numbers a candidate computed, as its dump shows: by dtype, and by the bits in use."""

from __future__ import annotations

from collections import Counter

import numpy

from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors import ARITHMETICS

# Widest first, with the bits of the significand.
SIGNIFICANDS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
_LARGEST_FLOAT16 = 65504.0


def arithmetic_of(dump: Dump) -> str:
    """The arithmetic that most of a dump's floats show; of two, the narrower.

    What the dump says of itself counts first. Numbers of 16 bits in arrays of float32, as formats
    without them hold them, are known by the bits that they leave unused. Raises ``ValueError``
    where there are no floats.
    """
    said = dump.about.get("dtype")
    if isinstance(said, str) and said in ARITHMETICS:
        return said
    found = Counter(number_format(dump, name) for name in dump.values)
    del found[""]
    if not found:
        raise ValueError("candidate: expected at least one tap or output of floats, got none")
    most = max(found.values())
    return max((x for x in found if found[x] == most), key=list(SIGNIFICANDS).index)


def number_format(dump: Dump, name: str) -> str:
    """The format whose numbers a tap or output holds; "" where it holds no floats."""
    x = dump.values[name]
    if x.dtype.kind != "f":
        return ""
    said = dump.about.get("bfloat16", ())
    if any(f"{kind}.{name}" in said for kind in ("tap", "output")):
        return "bfloat16"
    if x.dtype == numpy.float16:
        return "float16"
    if x.dtype != numpy.float32:
        return "float64"
    return _unused_bits(x)


def _unused_bits(x: numpy.ndarray) -> str:
    """float32, or what narrower format holds all of these numbers.

    >>> _unused_bits(numpy.asarray([1.0, 1.0078125], "float32"))
    'bfloat16'
    >>> _unused_bits(numpy.asarray([1.0, 1.0009765625], "float32"))
    'float16'
    """
    bits = numpy.ascontiguousarray(x).view(numpy.uint32)
    if not (bits & 0xFFFF).any():
        return "bfloat16"
    if (bits & 0x1FFF).any() or (numpy.abs(x[numpy.isfinite(x)]) > _LARGEST_FLOAT16).any():
        return "float32"
    return "float16"


def too_narrow(dtype: numpy.dtype, arithmetic: str) -> bool:
    """Whether an array of ``dtype`` cannot hold what an arithmetic gives.

    >>> too_narrow(numpy.dtype("float16"), "tf32"), too_narrow(numpy.dtype("float64"), "tf32")
    (True, False)
    """
    if ARITHMETICS[arithmetic].results is not None:  # narrow itself: no container is narrower
        return False
    held = SIGNIFICANDS["float64" if dtype.itemsize > 8 else dtype.name]
    return held < SIGNIFICANDS[ARITHMETICS[arithmetic].dtype]
