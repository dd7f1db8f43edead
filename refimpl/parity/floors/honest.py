"""Ways to compute the same operations: what correct implementations do differently.

Sums in another order, in parts, in wider numbers; a scale before or after a product; a bias before
or after a sum; a softmax in blocks; steps rounded one by one or together. Each way is the whole
operation, exact in exact arithmetic: a difference between two of them is rounding and nothing else.

In each table the plain way stands first and the one that rounds most last.

All take float32 (or float64) arrays; where these are :class:`~.narrow.Narrow`, results are rounded
to the narrow format once, at the end, as a kernel does that computes in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from refimpl import ops
from refimpl.parity.floors.narrow import round_like, widen
from refimpl.replacing import plain

Array = Any  # of NumPy
Product = Callable[[Array, Array], Array]  # (..., N, I), (..., O, I) -> (..., N, O)
Elementwise = Callable[[Array], Array]
Function = Callable[..., Array]

# --- products of matrices: the order of a sum -----------------------------------------------------


def as_written(a: Array, b: Array) -> Array:
    """(..., N, I), (..., O, I) -> (..., N, O): the matrix library's order."""
    return numpy.matmul(a, numpy.matrix_transpose(b))


def reordered(a: Array, b: Array) -> Array:
    """(..., N, I), (..., O, I) -> (..., N, O): terms in an order by lot."""
    order = numpy.random.default_rng(a.shape[-1]).permutation(a.shape[-1])
    return as_written(a[..., order], b[..., order])


def in_parts(parts: int) -> Product:
    """The sum cut in ``parts``, whose results are added: split-K."""

    def product(a: Array, b: Array) -> Array:
        size = -(-a.shape[-1] // parts)
        cuts = [slice(i, i + size) for i in range(0, max(a.shape[-1], 1), size or 1)]
        total = as_written(a[..., cuts[0]], b[..., cuts[0]])
        for cut in cuts[1:]:
            total = total + as_written(a[..., cut], b[..., cut])
        return total

    return product


def by_column(a: Array, b: Array) -> Array:
    """(..., N, I), (..., O, I) -> (..., N, O): each output by a product of its own."""
    return numpy.matrix_transpose(as_written(b, a))


def one_by_one(a: Array, b: Array) -> Array:
    """(..., N, I), (..., O, I) -> (..., N, O): term upon term, as a plain loop adds them.

    Long sums are cut in 64 parts, each added so: a loop over a million terms is nobody's product.
    """
    size = max(1, a.shape[-1] // 64)
    total = as_written(a[..., :0], b[..., :0])
    for i in range(0, a.shape[-1], size):
        cut = slice(i, i + size)
        total += as_written(a[..., cut], b[..., cut])
    return total


def wide(a: Array, b: Array) -> Array:
    """(..., N, I), (..., O, I) -> (..., N, O): summed in float64, rounded once."""
    total = as_written(a.astype(numpy.float64), b.astype(numpy.float64))
    return total.astype(a.dtype)


PRODUCTS: dict[str, Product] = {
    "as written": as_written,
    "reordered": reordered,
    "in 2 parts": in_parts(2),
    "in 5 parts": in_parts(5),
    "by column": by_column,
    "wide": wide,
    "one by one": one_by_one,
}

# --- layer norm -----------------------------------------------------------------------------------

Norm = Callable[[Array, Array, Array, float], Array]


def _moments(x: Array) -> tuple[Array, Array]:
    mean = x.mean(axis=-1, keepdims=True)
    return mean, ((x - mean) ** 2).mean(axis=-1, keepdims=True)


def norm_scaled(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D): one scale and one shift for a token, then weight and bias."""
    mean, variance = _moments(x)
    scale = 1.0 / numpy.sqrt(variance + eps)
    return (x * scale - mean * scale) * weight + bias


def norm_reciprocal(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D): times the reciprocal root, weight taken in first."""
    mean, variance = _moments(x)
    return (x - mean) * ((1.0 / numpy.sqrt(variance + eps)) * weight) + bias


def norm_wide(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D): in float64, rounded once."""
    mean, variance = _moments(x.astype(numpy.float64))
    y = (x - mean) / numpy.sqrt(variance + eps) * weight + bias
    return y.astype(x.dtype)


def norm_in_halves(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D): moments of two halves of the features, put together."""
    middle = x.shape[-1] // 2
    if middle == 0:
        return norm_reciprocal(x, weight, bias, eps)
    (mean1, var1), (mean2, var2) = _moments(x[..., :middle]), _moments(x[..., middle:])
    share = x.dtype.type(middle / x.shape[-1])
    mean = mean1 * share + mean2 * (1 - share)
    variance = var1 * share + var2 * (1 - share) + share * (1 - share) * (mean1 - mean2) ** 2
    return (x - mean) / numpy.sqrt(variance + eps) * weight + bias


def norm_as_written(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D)"""
    return plain("layer_norm")(x, weight, bias, eps=eps)


NORMS: dict[str, Norm] = {
    "as written": norm_as_written,
    "reciprocal": norm_reciprocal,
    "in halves": norm_in_halves,
    "wide": norm_wide,
    "scaled": norm_scaled,
}

# --- softmax --------------------------------------------------------------------------------------


def softmax_as_written(x: Array) -> Array:
    """(..., N) -> (..., N)"""
    return plain("softmax")(x)


def softmax_reciprocal(x: Array) -> Array:
    """(..., N) -> (..., N): times the reciprocal of the sum."""
    e = numpy.exp(x - x.max(axis=-1, keepdims=True))
    return e * (1.0 / e.sum(axis=-1, keepdims=True))


def softmax_base_2(x: Array) -> Array:
    """(..., N) -> (..., N): powers of two, as GPU kernels take them."""
    e = numpy.exp2((x - x.max(axis=-1, keepdims=True)) * x.dtype.type(math.log2(math.e)))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_in_blocks(x: Array) -> Array:
    """(..., N) -> (..., N): block upon block, the sum rescaled at each new maximum."""
    size = max(1, x.shape[-1] // 3)
    top = x[..., :1]
    total = numpy.zeros_like(top)
    for i in range(0, x.shape[-1], size):
        block = x[..., i : i + size]
        higher = numpy.maximum(top, block.max(axis=-1, keepdims=True))
        total = total * numpy.exp(top - higher)
        total = total + numpy.exp(block - higher).sum(axis=-1, keepdims=True)
        top = higher
    return numpy.exp(x - top) / total


def softmax_wide(x: Array) -> Array:
    """(..., N) -> (..., N): in float64, rounded once."""
    return softmax_as_written(x.astype(numpy.float64)).astype(x.dtype)


SOFTMAXES: dict[str, Elementwise] = {
    "as written": softmax_as_written,
    "reciprocal": softmax_reciprocal,
    "in blocks": softmax_in_blocks,
    "wide": softmax_wide,
    "base 2": softmax_base_2,
}

# --- log softmax, losses --------------------------------------------------------------------------


def log_softmax_in_one(x: Array) -> Array:
    """(..., N) -> (..., N): less the logarithm of the sum, taken together with the maximum."""
    top = x.max(axis=-1, keepdims=True)
    return x - (top + numpy.log(numpy.exp(x - top).sum(axis=-1, keepdims=True)))


LOSSES = ("negative_log_likelihood", "mean_squared_error", "binary_cross_entropy_with_logits")

# --- activations ----------------------------------------------------------------------------------


def gelu_in_halves(x: Array) -> Array:
    """(...) -> (...): x/2 + x/2 erf(x / √2)."""
    half = 0.5 * x
    return half + half * ops.erf(x / x.dtype.type(math.sqrt(2.0)))


def gelu_by_cdf(x: Array) -> Array:
    """(...) -> (...): x times Φ(x)."""
    return x * (0.5 * (1.0 + ops.erf(x * x.dtype.type(math.sqrt(0.5)))))


def gelu_of_a_lower_erf(x: Array) -> Array:
    """(...) -> (...): with an erf that is two units too near to zero, as libraries have it.

    Far below zero nearly all of 1 + erf cancels, and what erf is off by is left.
    """
    y = ops.erf(x * x.dtype.type(math.sqrt(0.5)))
    zero = y.dtype.type(0.0)
    return 0.5 * x * (1.0 + numpy.nextafter(numpy.nextafter(y, zero), zero))


def gelu_of_a_higher_erf(x: Array) -> Array:
    """(...) -> (...): with an erf that is two units too far from zero, but not beyond one."""
    y = ops.erf(x * x.dtype.type(math.sqrt(0.5)))
    one = numpy.copysign(y.dtype.type(1.0), y)
    return 0.5 * x * (1.0 + numpy.nextafter(numpy.nextafter(y, one), one))


def gelu_of_a_lower_tanh(x: Array) -> Array:
    """(...) -> (...): with a tanh that is two units too near to zero."""
    y = numpy.tanh(0.7978845608028654 * (x + 0.044715 * (x * x * x)))
    zero = y.dtype.type(0.0)
    return 0.5 * x * (1.0 + numpy.nextafter(numpy.nextafter(y, zero), zero))


def gelu_tanh_in_steps(x: Array) -> Array:
    """(...) -> (...): the formula of ``gelu_tanh``, each step a kernel of its own."""
    inner = 0.7978845608028654 * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + numpy.tanh(inner))


def tanh_by_exp(x: Array) -> Array:
    """(...) -> (...): 1 - 2 / (exp(2x) + 1) of |x|, with the sign of x."""
    return numpy.copysign(1.0 - 2.0 / (numpy.exp(2.0 * numpy.abs(x)) + 1.0), x)


def in_wide(name: str) -> Function:
    """An operation in float64, rounded once."""

    def run(x: Array, *others: Array, **options: Any) -> Array:
        wide = [y.astype(numpy.float64) if y.dtype.kind == "f" else y for y in (x, *others)]
        return plain(name)(*wide, **options).astype(x.dtype)

    return run


# operation of one array -> the ways to compute it
ELEMENTWISE: dict[str, tuple[Elementwise, ...]] = {
    "log_softmax": (plain("log_softmax"), in_wide("log_softmax"), log_softmax_in_one),
    "gelu_erf": (
        plain("gelu_erf"),
        in_wide("gelu_erf"),
        gelu_by_cdf,
        gelu_in_halves,
        gelu_of_a_higher_erf,
        gelu_of_a_lower_erf,
    ),
    "gelu_tanh": (
        plain("gelu_tanh"),
        in_wide("gelu_tanh"),
        gelu_tanh_in_steps,
        gelu_of_a_lower_tanh,
    ),
    "tanh": (plain("tanh"), in_wide("tanh"), tanh_by_exp),
    "silu": (plain("silu"), in_wide("silu")),
    "relu": (plain("relu"),),
}


def rounded_once(function: Function) -> Function:
    """Compute in float32 whatever the format, and round the result."""
    return lambda x, *others, **options: round_like(
        function(widen(x), *(widen(y) for y in others), **options), x
    )
