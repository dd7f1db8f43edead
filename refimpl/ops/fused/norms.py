"""Layer norm in one array: its steps write over what the step before wrote."""

from __future__ import annotations

import numpy

from refimpl.ops.fused.blocks import covers, cut
from refimpl.ops.fused.threads import share
from refimpl.replacing import plain

Array = numpy.ndarray

BLOCK = 524288  # elements: twice those of blocks.BLOCK, for steps that are as many and shorter


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    """(..., D), (D), (D) -> (..., D)

    :func:`refimpl.ops.layer_norm` with sums in another order: those of dot products. The mean is
    taken out first, as there, so a large mean is no danger.
    """
    if not covers(x, weight, bias):
        y: Array = plain("layer_norm")(x, weight, bias, eps=eps)
        return y
    if x.dtype == numpy.float16:
        wide = (a.astype(numpy.float32) for a in (x, weight, bias))
        return layer_norm(*wide, eps=eps).astype(numpy.float16)
    width = x.shape[-1]
    rows, y = x.reshape(-1, width), numpy.empty(x.shape, x.dtype)
    to = y.reshape(-1, width)
    share(
        lambda part: _normalise(rows[part], weight, bias, eps, to[part]),
        cut(len(rows), max(1, BLOCK // width)),
    )
    return y


def _normalise(x: Array, weight: Array, bias: Array, eps: float, to: Array) -> None:
    width = x.shape[-1]
    # The sum of a row as a dot product: in a third of the time of numpy.add.reduce.
    mean = numpy.vecdot(x, numpy.ones(width, x.dtype))[:, None]
    mean /= width
    numpy.subtract(x, mean, out=to)
    variance = numpy.vecdot(to, to)[:, None]
    variance /= width
    variance += eps
    numpy.sqrt(variance, out=variance)
    to /= variance
    to *= weight
    to += bias
