"""Ways to compute single operations, beside those of models' floors: other sums, other kernels.

A card shows one operation on few numbers, where the order of one sum is a matter of luck. So the
ensemble of a card varies more than that of a model: every run has an order of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy

from refimpl.parity.floors import Implementation
from refimpl.parity.floors.honest import Product, in_wide, one_by_one, rounded_once
from refimpl.parity.floors.narrow import round_like, widen
from refimpl.replacing import plain

Array = Any  # of NumPy
Operations = Mapping[str, Callable[..., Any]]


def vary_product(drawn: Implementation, number: int) -> Implementation:
    """Give most implementations a sum of their own; 0 is the plain one."""
    lot = numpy.random.default_rng([number, 2])
    choice = lot.integers(4) if number else 0
    if choice == 0:
        return drawn
    if choice == 1:
        return replace(drawn, product=in_lanes(int(lot.choice([2, 4, 8, 16]))))
    return replace(drawn, product=shuffled(number))


def shuffled(number: int) -> Product:
    """Term upon term, in an order of its own."""

    def product(a: Array, b: Array) -> Array:
        order = numpy.random.default_rng([number, a.shape[-1]]).permutation(a.shape[-1])
        return one_by_one(a[..., order], b[..., order])

    return product


def in_lanes(count: int) -> Product:
    """Every ``count``-th term in a sum of its own, as vector units add; then the sums."""

    def product(a: Array, b: Array) -> Array:
        lanes = min(count, a.shape[-1])
        total = one_by_one(a[..., ::lanes], b[..., ::lanes])
        for i in range(1, lanes):
            total = total + one_by_one(a[..., i::lanes], b[..., i::lanes])
        return total

    return product


def vary_operations(operations: Operations, drawn: Implementation, number: int) -> Operations:
    """Replace some operations by other kernels of theirs, by lot; 0 is the plain implementation."""
    lot = numpy.random.default_rng([number, 1])
    # relu chooses numbers: alone it has nothing to round.
    made = {**operations, "erf": rounded_once(plain("erf")), "relu": plain("relu")}
    if number == 0:
        return made
    if lot.integers(2):
        made["erf"] = rounded_once(in_wide("erf"))
    if lot.integers(2):
        norm = (norm_by_reciprocal, norm_running)[lot.integers(2)]
        made["layer_norm"] = lambda x, weight, bias, *, eps: round_like(
            norm(widen(x), widen(weight), widen(bias), eps), weight
        )
    if lot.integers(3) == 0:
        made["softmax"] = made["softmax_float32"] = rounded_once(softmax_one_by_one)
    if lot.integers(4) == 0:
        made["gelu_erf"] = plain("gelu_erf")  # erf, then steps that are rounded one by one
    if lot.integers(2) and drawn.arithmetic.dtype == "float32":
        made["sinusoidal_positions"] = (sines_by_power, sines_by_exp)[lot.integers(2)]
    return made


def norm_by_reciprocal(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D): sums times 1/D, which is itself rounded."""
    share = x.dtype.type(1.0 / x.shape[-1])
    y = x - _sum(x) * share
    variance = _sum(y * y) * share
    return y / numpy.sqrt(variance + eps) * weight + bias


def _sum(x: Array) -> Array:
    """(..., N) -> (..., 1): one after another."""
    return numpy.cumsum(x, axis=-1)[..., -1:]


def norm_running(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D): mean and variance in one pass.

    Source: Welford 1962.
    """
    mean, squares = x[..., :1], numpy.zeros_like(x[..., :1])
    for i in range(1, x.shape[-1]):
        off = x[..., i : i + 1] - mean
        mean = mean + off / x.dtype.type(i + 1)
        squares = squares + off * (x[..., i : i + 1] - mean)
    scale = 1 / numpy.sqrt(squares / x.dtype.type(x.shape[-1]) + x.dtype.type(eps))
    return (x * scale - mean * scale) * weight + bias


def softmax_one_by_one(x: Array) -> Array:
    """(..., N) -> (..., N): exponentials added in their order, as a plain loop does."""
    e = numpy.exp(x - x.max(axis=-1, keepdims=True))
    return e / _sum(e)


def sines_by_power(positions: Array, *, width: int) -> Array:
    """ids (P) -> (P, D): angles in float32, divided by powers."""
    pair = (numpy.arange(width) // 2).astype(numpy.float32)
    powers = numpy.float32(10000.0) ** (2 * pair / width)
    return _sines(positions.astype(numpy.float32)[:, None] / powers)


def sines_by_exp(positions: Array, *, width: int) -> Array:
    """ids (P) -> (P, D): angles in float32, times exponentials."""
    pair = (numpy.arange(width) // 2).astype(numpy.float32)
    factors = numpy.exp(pair * numpy.float32(-2.0 * math.log(10000.0) / width))
    return _sines(positions.astype(numpy.float32)[:, None] * factors)


def _sines(angle: Array) -> Array:
    even = numpy.arange(angle.shape[1]) % 2 == 0
    return numpy.where(even, numpy.sin(angle), numpy.cos(angle))
