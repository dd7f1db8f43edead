"""Rounding by lot: each number that goes into an operation off by up to half a unit, at random.

The orders and forms of :mod:`.honest` give a small tensor only a few different results, and these
may all be exact by luck. Here every term of every sum has an error of its own, as it has in some
implementation: Monte Carlo arithmetic (Parker 1997). The operation itself is in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy

from refimpl.parity.floors.honest import Array, Elementwise, as_written, norm_as_written

UNITS = {"float32": 2.0**-24, "float64": 2.0**-53}  # the largest relative error of a rounding


@dataclass(frozen=True)
class ByLot:
    """Operations whose numbers are off by lot; the lots of one run are ``seed``'s."""

    seed: int
    _lot: numpy.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_lot", numpy.random.default_rng(self.seed))

    def off(self, x: Array) -> Array:
        """(...) -> (...): in float64, each number off by up to half a unit in its last place.

        What stands for minus infinity where a mask forbids to look is no result, and stays.
        """
        unit = UNITS[x.dtype.name]
        off = x * (1.0 + unit * self._lot.uniform(-1.0, 1.0, x.shape))
        return numpy.where(numpy.abs(x) < numpy.finfo(x.dtype).max / 4, off, x)

    def product(self, a: Array, b: Array) -> Array:
        """(..., N, I), (..., O, I) -> (..., N, O)"""
        return as_written(self.off(a), self.off(b)).astype(a.dtype)

    def norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """(..., D), (D), (D) -> (..., D)"""
        y = norm_as_written(self.off(x), self.off(weight), self.off(bias), eps)
        return y.astype(x.dtype)

    def of(self, function: Elementwise) -> Elementwise:
        """An operation of one array, whose numbers are off before and after it."""

        def run(x: Array) -> Array:
            y = function(self.off(x))
            return (y * (1.0 + UNITS[x.dtype.name] * self._lot.uniform(-1, 1, y.shape))).astype(
                x.dtype
            )

        return run
