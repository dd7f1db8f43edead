"""The two comparators: exact for ids and booleans, by relative error for floats. There is no third.

The error of an array of floats is max|actual - expected| / max|expected|: how far the worst
element is off, measured by the largest element of the array. An elementwise ratio would make noise
of the elements that cancel to almost nothing.

How large it may be in float64 is one number, ``NORM``. In narrower numbers rounding differs too
much from value to value for that: there it is measured (:mod:`refimpl.parity.floors`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy

# Of float64, for every value: nine thousand roundings (2^-53) of the largest element. refimpl and
# the originals part by up to 6e-14 (xmod/edges): in float64 rounding need not be measured.
NORM = 1e-12

OK, DIFF, NAN, SHAPE, DTYPE, MISSING = "OK", "DIFF", "NAN", "SHAPE", "DTYPE", "MISSING"


class Comparison(NamedTuple):
    """The verdict on one tap or output."""

    name: str
    status: str  # OK, or what is wrong: DIFF, NAN, SHAPE, DTYPE, MISSING
    error: float = 0.0
    tolerance: float = 0.0  # the largest error that would be no mistake, if one element has it
    note: str = ""  # what was expected and what came, where numbers do not say it
    units: float | None = None  # in narrow numbers: the error in floors, by which it is judged
    multiplier: float = 0.0  # so many floors are still rounding

    @property
    def ok(self) -> bool:
        """Whether the two agree."""
        return self.status == OK

    @property
    def share(self) -> float:
        """The error as a share of what is allowed, which is 0 where values are only looked up."""
        if self.units is not None:
            return self.units / self.multiplier
        if self.tolerance:
            return self.error / self.tolerance
        return math.inf if self.error else 0.0


def compare_exact(name: str, actual: numpy.ndarray, expected: numpy.ndarray) -> Comparison:
    """Compare ids, lengths or booleans: equal in kind, shape and every element. Refuses floats.

    Raises ``TypeError`` where the truth is of floats.
    """
    if expected.dtype.kind not in "biu":
        raise TypeError(f"{name}: expected integers or booleans, got {expected.dtype}")
    if actual.dtype.kind != expected.dtype.kind:
        return Comparison(name, DTYPE, note=f"expected {expected.dtype}, got {actual.dtype}")
    if actual.shape != expected.shape:
        return Comparison(name, SHAPE, note=f"expected {expected.shape}, got {actual.shape}")
    wrong = numpy.argwhere(actual != expected)
    if not len(wrong):
        return Comparison(name, OK)
    at = tuple(int(i) for i in wrong[0])
    note = f"{len(wrong)} of {expected.size} differ, first at {at}: "
    return Comparison(name, DIFF, note=f"{note}expected {expected[at]}, got {actual[at]}")


def compare_floats(
    name: str, actual: numpy.ndarray, expected: numpy.ndarray, tolerance: float, dtype: str
) -> Comparison:
    """Compare floats of ``dtype`` with a float64 truth: dtype, shape, finiteness, then values.

    Refuses integers: an id that is off by one may well be within a tolerance.
    Raises ``TypeError`` where the truth is of them.
    """
    if expected.dtype.kind != "f":
        raise TypeError(f"{name}: expected floats, got {expected.dtype}")
    if actual.dtype != dtype:
        return Comparison(name, DTYPE, note=f"expected {dtype}, got {actual.dtype}")
    if actual.shape != expected.shape:
        return Comparison(name, SHAPE, note=f"expected {expected.shape}, got {actual.shape}")
    finite = numpy.isfinite(expected)
    if (numpy.isfinite(actual) != finite).any():
        note = f"{(~numpy.isfinite(actual)).sum()} of {actual.size} are not finite"
        return Comparison(name, NAN, note=note)
    error = relative_error(actual[finite], expected[finite])
    return Comparison(name, OK if error <= tolerance else DIFF, error, tolerance)


def relative_error(actual: numpy.ndarray, expected: numpy.ndarray) -> float:
    """max|actual - expected| / max|expected|; where all expected are 0, max|actual|."""
    if not expected.size:
        return 0.0
    off = float(numpy.abs(actual.astype(numpy.float64) - expected).max())
    return off / (float(numpy.abs(expected).max()) or 1.0)
