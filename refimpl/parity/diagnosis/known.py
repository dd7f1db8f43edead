"""What the reference's linear maps and GELUs made of what they were given, kept.

A run with a fault in it computes the same as the reference up to the first thing that the fault
changes, and most of a run's time goes into these two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy

from refimpl.backend import Array
from refimpl.replacing import replace, running


class _Product(NamedTuple):
    weight: Array
    bias: Array | None
    x: Array
    y: Array


class Known:
    """Keeps what one run computes, and gives it back in others where they compute the same."""

    def __init__(self) -> None:
        self._products: dict[int, _Product] = {}  # by the weight, which is kept alive here
        self._activations: dict[int, tuple[Array, Array]] = {}  # by what they are given, likewise

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is computed in the block."""
        multiply, activate = running("linear"), running("gelu_erf")

        def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
            y: Array = multiply(x, weight, bias)
            self._products[id(weight)] = _Product(weight, bias, x, y)
            return y

        def activation(x: Array) -> Array:
            y: Array = activate(x)
            self._activations[id(x)] = x, y
            return y

        with replace(linear=linear, gelu_erf=activation):
            yield

    @contextmanager
    def used(self) -> Iterator[None]:
        """Give back what is known in the block; compute the rest."""
        multiply, activate = running("linear"), running("gelu_erf")

        def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
            known = self._products.get(id(weight))
            if known is not None and known.bias is bias and _same(known.x, x):
                return known.y
            y: Array = multiply(x, weight, bias)
            return y

        def activation(x: Array) -> Array:
            known = self._activations.get(id(x))
            y: Array = activate(x) if known is None else known[1]
            return y

        with replace(linear=linear, gelu_erf=activation):
            yield


def _same(one: Array, other: Array) -> bool:
    return one is other or bool(numpy.array_equal(one, other))
