"""Arrays whose every sum and product is rounded to a narrow format, as a device rounds them.

NumPy has no bfloat16, and multiplies matrices of float16 slowly. Here the numbers of a narrow
format are kept as float32, and each result of arithmetic is rounded to the format at once: what is
a step of its own in the architecture's text is rounded as a step of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

Rounding = Callable[[Any], Any]


def to_bfloat16(x: Any) -> Any:
    """(...) -> (...): rounded as a cast to bfloat16 rounds; float64 goes through float32, as there.

    A bfloat16 is the upper half of a float32. Half of the lower one's range is added, a little
    less where the upper half is even, so that ties go to even; then the lower half is cut off.
    """
    bits = x.astype(numpy.float32, order="C").view(numpy.uint32)
    bits += numpy.uint32(0x7FFF) + ((bits >> 16) & 1)
    bits &= numpy.uint32(0xFFFF0000)
    y = bits.view(numpy.float32).astype(x.dtype, copy=False)
    finite = numpy.isfinite(x)
    return y if finite.all() else numpy.where(finite, y, x)


def to_float16(x: Any) -> Any:
    """(...) -> (...): rounded as a cast to float16 rounds; infinity beyond its range."""
    with numpy.errstate(over="ignore"):
        return x.astype(numpy.float16).astype(x.dtype)


class Narrow(numpy.ndarray):
    """float32 numbers that ``to`` leaves as they are; so are the results of their arithmetic.

    Within one operation (a product of matrices, a sum over an axis) the arithmetic is float32, as
    it is inside the kernels of such formats.
    """

    to: Rounding | None = None

    def __array_finalize__(self, obj: Any) -> None:
        self.to = getattr(obj, "to", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        narrow = next(x for x in inputs if isinstance(x, Narrow))
        options.pop("out", None)  # the result is a new array
        result = getattr(ufunc, method)(*(widen(x) for x in inputs), **options)
        if isinstance(result, numpy.ndarray | numpy.floating) and result.dtype.kind == "f":
            return round_like(result, narrow)
        return result


def narrow(x: numpy.ndarray, to: Rounding) -> Narrow:
    """(...) -> (...): float32 numbers rounded, and so from now on."""
    y = numpy.asarray(to(widen(x))).view(Narrow)
    y.to = to
    return y


def widen(x: Any) -> Any:
    """(...) -> (...): the same numbers as an ordinary float32 array."""
    return x.view(numpy.ndarray) if isinstance(x, Narrow) else x


def round_like(y: Any, x: Any) -> Any:
    """(...), (...) -> (...): ``y`` in the format of ``x``: rounded where that is narrow."""
    to = getattr(x, "to", None)
    return y if to is None else narrow(numpy.asarray(y, dtype=numpy.float32), to)
