"""The linear map: products of matrices side by side, the bias added to each while it is at hand."""

from __future__ import annotations

import numpy

from refimpl.ops.fused import threads
from refimpl.ops.fused.blocks import covers, cut
from refimpl.replacing import plain

Array = numpy.ndarray

FEW = 48  # rows of x: so few that W has more to cut
EACH = 128  # rows for each thread, at least, where threads of our own do parts of a product
ROWS = 512  # of a part, at most


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """(..., I), (O, I), (O) -> (..., O)

    :func:`refimpl.ops.linear`, its sums in an order that depends on the shapes and on the number of
    threads: a rounding for each of the I terms, and one for the bias. The product of float16 is
    computed in float32 and rounded, as NumPy's own, which is a hundred times slower.
    """
    if not covers(x, weight, bias) or weight.ndim != 2:
        y: Array = plain("linear")(x, weight, bias)
        return y
    if x.dtype == numpy.float16:
        product = linear(x.astype(numpy.float32), weight.astype(numpy.float32))
        rounded: Array = product.astype(numpy.float16)
        return rounded if bias is None else rounded + bias
    rows = x.reshape(-1, x.shape[-1])
    return _product(rows, weight, bias).reshape(*x.shape[:-1], weight.shape[0])


def _product(x: Array, weight: Array, bias: Array | None) -> Array:
    """(N, I), (O, I), (O) -> (N, O)

    The library's threads wait for their next product awake, ours asleep: a tenth of a millisecond
    goes by until one works. Where that counts for little, ours do better: the bias is added to a
    part while it is at hand, and nobody who waits takes a core from the next operation.
    """
    if len(x) <= FEW:
        return _few_rows(x, weight, bias)
    if len(x) <= EACH * threads.count() or threads.inside() or threads.blas() is None:
        return _whole(x, weight, bias)  # also where the library cannot be told to use one thread
    return _in_parts(x, weight, bias)


def _whole(x: Array, weight: Array, bias: Array | None) -> Array:
    """(N, I), (O, I), (O) -> (N, O)"""
    y: Array = numpy.matmul(x, weight.T)
    if bias is not None:
        y += bias
    return y


def _few_rows(x: Array, weight: Array, bias: Array | None) -> Array:
    """(N, I), (O, I), (O) -> (N, O)

    y = (W xᵀ)ᵀ: the matrix library cuts the rows of its first matrix among its threads, and W has
    more. Cutting x took a tenth longer, at 16 rows on two cores.
    """
    transposed: Array = numpy.matmul(weight, x.T).T
    return transposed.copy() if bias is None else numpy.add(transposed, bias, order="C")


def _in_parts(x: Array, weight: Array, bias: Array | None) -> Array:
    """(N, I), (O, I), (O) -> (N, O)"""
    y = numpy.empty((len(x), len(weight)), x.dtype)

    def product(part: slice) -> None:
        numpy.matmul(x[part], weight.T, out=y[part])
        if bias is not None:
            y[part] += bias

    of_each = -(-len(x) // threads.count())
    threads.share(product, cut(len(x), min(ROWS, of_each)))
    return y
