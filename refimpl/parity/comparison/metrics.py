"""How far an array is off, in the measures that people ask for. All in float64, NaN-safe."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy


class Metrics(NamedTuple):
    """How far an array is from the truth, over the elements that are finite in both."""

    max_abs: float
    max_rel: float  # max_abs over the largest |truth|; where all truth is 0, max_abs
    rms: float
    cosine: float  # of the angle between the two, laid out flat


def measure(given: numpy.ndarray, truth: numpy.ndarray) -> Metrics:
    """Measure ``given`` against ``truth``, two arrays of one shape.

    Elements that are not finite on one side or the other are left out: they have a status of
    their own. Of nothing at all the error is 0.

    >>> measure(numpy.asarray([3.0, 4.0]), numpy.asarray([3.0, 5.0])).max_rel
    0.2
    """
    given, truth = (x.astype(numpy.float64, copy=False) for x in (given, truth))
    with numpy.errstate(invalid="ignore", over="ignore"):
        error = given - truth
    if not numpy.isfinite(error).all():
        finite = numpy.isfinite(given) & numpy.isfinite(truth)
        given, truth, error = given[finite], truth[finite], error[finite]
    if not error.size:
        return Metrics(0.0, 0.0, 0.0, 1.0)
    worst, largest = largest_of(error), largest_of(truth)
    rms = root_mean_square(error)
    return Metrics(worst, worst / (largest or 1.0), rms, cosine(given, truth))


def largest_of(x: numpy.ndarray) -> float:
    """The largest absolute value; 0 of nothing."""
    return float(max(x.max(), -x.min())) if x.size else 0.0


def root_mean_square(x: numpy.ndarray) -> float:
    """The root of the mean of squares, without overflow.

    >>> root_mean_square(numpy.asarray([3e200, 4e200])) == 5e200 / 2**0.5
    True
    """
    largest = largest_of(x)
    if largest in (0.0, math.inf):
        return largest
    scaled = (x / largest).reshape(-1)
    return largest * float(numpy.sqrt(numpy.vdot(scaled, scaled) / x.size))


def cosine(a: numpy.ndarray, b: numpy.ndarray) -> float:
    """The cosine of the angle between two arrays; 1 where both are 0, 0 where one is.

    >>> cosine(numpy.asarray([3.0, 4.0]), numpy.asarray([4.0, 3.0]))
    0.96
    """
    sizes = [largest_of(x) for x in (a, b)]
    if not all(sizes):
        return 0.0 if any(sizes) else 1.0
    a, b = a / sizes[0], b / sizes[1]
    norms = float(numpy.sqrt(numpy.vdot(a, a)) * numpy.sqrt(numpy.vdot(b, b)))
    return max(-1.0, min(1.0, float(numpy.vdot(a, b)) / norms))


def top_agreement(given: numpy.ndarray, truth: numpy.ndarray, k: int) -> tuple[int, int]:
    """(..., V), (..., V): at how many of how many places the k largest are the same set.

    >>> top_agreement(numpy.asarray([[1.0, 2.0, 3.0]]), numpy.asarray([[2.0, 1.0, 3.0]]), 1)
    (1, 1)
    """
    tops = [_top(x.reshape(-1, x.shape[-1]), k) for x in (given, truth)]
    return int((tops[0] == tops[1]).all(axis=-1).sum()), len(tops[0])


def _top(rows: numpy.ndarray, k: int) -> numpy.ndarray:
    if k == 1:
        first: numpy.ndarray = rows.argmax(axis=-1, keepdims=True)
        return first
    best = numpy.argpartition(rows, rows.shape[-1] - k, axis=-1)[:, rows.shape[-1] - k :]
    return numpy.sort(best, axis=-1)
