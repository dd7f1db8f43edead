"""The linear map: products of matrices side by side, the bias added to each while it is at hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy

from refimpl.ops.fused.blocks import covers, cut
from refimpl.ops.fused.threads import blas, share
from refimpl.replacing import plain

Array = numpy.ndarray

FEW = 48  # rows of x for which handing parts to threads of our own takes too long
ROWS = 512  # of a part, where x has more: with fewer, too much time goes into packing the weights
COLUMNS = 384  # of a part, where x has no more rows: two products for a width of 768
EVERYTHING = slice(None)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """(..., I), (O, I), (O) -> (..., O)

    :func:`refimpl.ops.linear`, its sums in an order that depends on the shapes: a rounding for each
    of the I terms, and one for the bias. The product of float16 is computed in float32 and rounded,
    as NumPy's own, which is a hundred times slower.
    """
    if not covers(x, weight, bias) or weight.ndim != 2:
        y: Array = plain("linear")(x, weight, bias)
        return y
    if x.dtype == numpy.float16:
        product = linear(x.astype(numpy.float32), weight.astype(numpy.float32))
        rounded: Array = product.astype(numpy.float16)
        return rounded if bias is None else rounded + bias
    rows = x.reshape(-1, x.shape[-1])
    multiply = _few_rows if len(rows) <= FEW else _in_parts
    return multiply(rows, weight, bias).reshape(*x.shape[:-1], weight.shape[0])


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

    def product(part: tuple[slice, slice]) -> None:
        of_x, of_y = part
        numpy.matmul(x[of_x], weight[of_y].T, out=y[part])
        if bias is not None:
            y[part] += bias[of_y]

    # A library that cannot be told to use one thread for a product cuts it up itself.
    share(product, _parts(*y.shape) if blas() else [(EVERYTHING, EVERYTHING)])
    return y


def _parts(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Cut a result into parts: whole rows where there are many, else all rows of some columns."""
    if rows > ROWS:
        return ((part, EVERYTHING) for part in cut(rows, ROWS))
    return ((EVERYTHING, part) for part in cut(columns, max(COLUMNS, columns // 16)))
