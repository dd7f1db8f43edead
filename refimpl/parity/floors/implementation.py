"""One honest implementation: for each operation one of the ways to compute it, drawn by lot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy

from refimpl import ops
from refimpl.backend import Table
from refimpl.parity.floors.arithmetic import Arithmetic
from refimpl.parity.floors.by_lot import ByLot
from refimpl.parity.floors.honest import (
    ELEMENTWISE,
    LOSSES,
    NORMS,
    PRODUCTS,
    SOFTMAXES,
    Array,
    Elementwise,
    Function,
    Norm,
    Product,
    in_wide,
    rounded_once,
    softmax_as_written,
)
from refimpl.parity.floors.narrow import round_like, widen
from refimpl.parity.staged import Stages
from refimpl.replacing import plain

SCALES = ("after", "query", "both")  # where attention's scale is multiplied in


@dataclass(frozen=True)
class Implementation:
    """How one implementation computes: the same way everywhere, as real ones do."""

    arithmetic: Arithmetic
    product: Product
    bias_apart: bool  # a sum of its own, rounded before the bias comes
    norm: Norm
    softmax: Elementwise
    elementwise: Mapping[str, Elementwise]
    losses: Mapping[str, Function]
    scale: str  # one of SCALES
    fused: bool  # attention's steps are not rounded in between

    def operations(self) -> dict[str, Function]:
        """What to put in the place of the plain operations, attention apart."""
        return {
            "linear": self.linear,
            "layer_norm": self.layer_norm,
            "softmax": rounded_once(self.softmax),
            "softmax_float32": rounded_once(self.softmax),
            **{name: rounded_once(way) for name, way in self.elementwise.items()},
            **{name: rounded_once(way) for name, way in self.losses.items()},
        }

    def stages(self) -> Stages:
        """How it computes attention."""
        return Stages(self.scores, self.probs, self.context)

    def multiply(self, a: Array, b: Array) -> Array:
        """(..., N, I), (..., O, I) -> (..., N, O)"""
        a, b = widen(a), widen(b)
        round_factor = self.arithmetic.factors
        if round_factor is not None:
            a, b = round_factor(a), round_factor(b)
        return self.product(a, b)

    def linear(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        """(..., I), (O, I), (O) -> (..., O)"""
        rows = x.reshape(-1, x.shape[-1])
        blocks = weight.blocks() if isinstance(weight, Table) else (weight,)
        parts = []
        for block in blocks:
            parts.append(self.multiply(rows, block))
        y = parts[0] if len(parts) == 1 else numpy.concatenate(parts, axis=1)
        if bias is not None:
            y = round_like(y, block) + bias if self.bias_apart else y + widen(bias)
        y = round_like(y, block)
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """(..., D), (D), (D) -> (..., D)"""
        return round_like(self.norm(widen(x), widen(weight), widen(bias), eps), weight)

    def scores(
        self, query: Array, key: Array, position_scores: Array | None, scale: float
    ) -> Array:
        """(B, H, S, K), (B, H, T, K) -> (B, H, S, T)"""
        like = query
        if self.fused:
            query, key = widen(query), widen(key)
        if self.scale == "after" or position_scores is not None:
            products = self.multiply(query, key)
            products = products if self.fused else round_like(products, like)
            if position_scores is not None:
                products = products + position_scores
            return round_like(products * scale, like)
        if self.scale == "query":
            return round_like(self.multiply(query * scale, key), like)
        root = math.sqrt(scale)
        return round_like(self.multiply(query * root, key * root), like)

    def probs(self, scores: Array, mask: Array, softmax: Elementwise) -> Array:
        """(B, H, S, T), mask (B, 1, 1, T) -> (B, H, S, T)"""
        masked = ops.mask_scores(widen(scores), mask)
        return round_like(self.softmax(masked), scores)

    def context(self, weights: Array, value: Array) -> Array:
        """(B, H, S, T), (B, H, T, K) -> (B, H, S, K)"""
        return round_like(self.multiply(weights, numpy.matrix_transpose(value)), value)


def draw_implementation(arithmetic: Arithmetic, number: int) -> Implementation:
    """Return the ``number``-th of the honest implementations.

    0 is the plain one, 1 the one that rounds most, 2 rounds everything by lot: so few runs span
    much. In the others a third of the operations round by lot, and the rest is computed in a way
    drawn from the tables. The same number is always the same implementation.
    """
    lot, by_lot = numpy.random.default_rng(number), ByLot(number)

    def draw(ways: Any, rounded_by_lot: Any = None) -> Any:
        choices = list(ways.values() if isinstance(ways, Mapping) else ways)
        way = choices[{0: 0, 1: -1}.get(number, int(lot.integers(len(choices))))]
        lots = number == 2 or (number > 2 and lot.random() < 1 / 3)
        return rounded_by_lot if lots and rounded_by_lot is not None else way

    return Implementation(
        arithmetic,
        product=draw(PRODUCTS, by_lot.product),
        bias_apart=draw((False, True)),
        norm=draw(NORMS, by_lot.norm),
        softmax=draw(SOFTMAXES, by_lot.of(softmax_as_written)),
        elementwise={name: draw(ways, by_lot.of(ways[0])) for name, ways in ELEMENTWISE.items()},
        losses={name: draw((plain(name), in_wide(name))) for name in LOSSES},
        scale=draw(SCALES),
        fused=draw((False, True, False)),
    )
