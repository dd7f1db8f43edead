"""What is measured: how far a value is off, and how far an honest run may be off.

Three statistics of one error array, because mistakes come in three shapes: all over the tensor, in
one cell of it (a token, a head's look at one query: the last axis), in one element.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy


class Errors(NamedTuple):
    """How far a value is off, in the units of the value itself."""

    rms: float  # root of the mean square over the whole tensor
    cell: float  # the largest root mean square over one cell, which is the last axis
    worst: float  # the largest element


_SMALLEST = 1e-100  # errors from here to its reciprocal can be squared and summed

Floor = Errors  # the same statistics of what honest runs are off by


def measure_errors(actual: numpy.ndarray, truth: numpy.ndarray) -> Errors:
    """Return the errors of a value; all infinite where one is finite and the other is not.

    Both have one shape. Where both are the same infinity, or both NaN, there is no error.
    """
    return sizes(differences(actual, truth))


def sizes(off: numpy.ndarray) -> Errors:
    """Return how large differences are: (..., N), numbers or infinity."""
    if not off.size:
        return Errors(0.0, 0.0, 0.0)
    worst = float(max(off.max(), -off.min()))
    if worst == 0.0 or not math.isfinite(worst):
        return Errors(worst, worst, worst)
    scale = 1.0 if _SMALLEST < worst < 1.0 / _SMALLEST else worst  # or a square would overflow
    x = numpy.atleast_1d(off if scale == 1.0 else off / scale)
    squares = numpy.vecdot(x, x)  # of each cell
    of_cell, of_all = squares.max() / x.shape[-1], squares.sum() / x.size
    return Errors(math.sqrt(of_all) * scale, math.sqrt(of_cell) * scale, worst)


def differences(actual: numpy.ndarray, truth: numpy.ndarray) -> numpy.ndarray:
    """Return actual - truth in float64, infinite where only one of the two is a finite number."""
    with numpy.errstate(invalid="ignore", over="ignore"):
        off = numpy.asarray(numpy.subtract(actual, truth, dtype=numpy.float64))
    if numpy.isfinite(off).all():
        return off
    actual, truth = (numpy.asarray(x, dtype=numpy.float64) for x in (actual, truth))
    finite = numpy.isfinite(actual) & numpy.isfinite(truth)
    same = (actual == truth) | (numpy.isnan(actual) & numpy.isnan(truth))
    return numpy.where(finite, off, numpy.where(same, 0.0, numpy.inf))


def largest(of: list[Errors]) -> Errors:
    """Return the largest of each statistic; zeros of none."""
    return Errors(*(max(values) for values in zip(*of, Errors(0.0, 0.0, 0.0), strict=True)))


@dataclass(frozen=True)
class Floors:
    """What honest runs of one model and one call are off by, tap by tap, and output by output.

    A floor is the largest error of ``runs`` honest runs: a further one is larger with a
    probability of 1 in ``runs`` + 1, which makes it the ``quantile``. What is off by more than
    ``multiplier`` floors is no rounding.
    """

    arithmetic: str
    runs: int
    multiplier: float
    free: Mapping[str, Floor]  # the whole call in that arithmetic: errors are handed on
    forced: Mapping[str, Floor]  # each operation by itself, given what the truth gives it

    @property
    def quantile(self) -> float:
        """The share of honest runs that a floor covers, as far as ``runs`` can tell."""
        return self.runs / (self.runs + 1)

    def units(self, name: str, errors: Errors, forced: bool = False) -> float:
        """Return an error in floors, by the statistic in which it is largest.

        Where every honest run is exact, an error of any size is infinite. Raises ``KeyError`` for a
        name that was not measured.
        """
        floor = (self.forced if forced else self.free)[name]
        return max(ratio(e, f) for e, f in zip(errors, floor, strict=True))

    def limit(self, name: str, forced: bool = False) -> Floor:
        """Return the largest errors that are still rounding."""
        floor = (self.forced if forced else self.free)[name]
        return Floor(*(self.multiplier * x for x in floor))

    def describe(self) -> str:
        """Say how a verdict is made, in one line."""
        return (
            f"{self.arithmetic}: beyond {self.multiplier:g} floors is no rounding; a floor is the "
            f"largest error of {self.runs} honest runs (quantile {self.quantile:.3f})"
        )


def ratio(error: float, floor: float) -> float:
    """Return error / floor; 0 / 0 is 0, and where honest runs overflow as well it is 1.

    >>> ratio(1.0, 4.0), ratio(0.0, 0.0), ratio(1e-9, 0.0), ratio(math.inf, math.inf)
    (0.25, 0.0, inf, 1.0)
    """
    if error == 0.0 or (math.isinf(error) and math.isinf(floor)):
        return min(error, 1.0)
    return error / floor if floor else math.inf
