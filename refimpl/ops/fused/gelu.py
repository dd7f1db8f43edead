"""The GELU of float32 from a table of straight lines: five steps, where the plain one takes 35.

The upper bits of a float32 (sign, exponent, some of its fraction) number a cell: 1024 of them
between a power of two and the next. In so short a cell the GELU is a straight line, to less than
half of the last bit of x. So there is nothing to compute but which line, and ``slope x + offset``.
"""

from __future__ import annotations

from functools import cache

import numpy

from refimpl.ops.fused import blocks
from refimpl.ops.fused.threads import share
from refimpl.replacing import plain

Array = numpy.ndarray

LOW = 23 - 10  # bits of a float32 that do not count for its cell
FAR = 16.0  # from here on the GELU is x, and on the other side 0

# Elements that one thread takes in less time than two, one of which has to be woken, and that the
# matrix library's threads, still awake after a product, leave no core to.
ALONE = 524288
PIECE = 65536  # what it takes at once: steps of half a megabyte

_by_plain_blocks = blocks.elementwise("gelu_erf")


def gelu_erf(x: Array) -> Array:
    """(...) -> (...)

    :func:`refimpl.ops.gelu_erf`, in float32 to within 2 ulp of x; in other dtypes its bits.
    """
    if not blocks.covers(x) or x.dtype != numpy.float32:
        return _by_plain_blocks(x)
    y = numpy.empty(x.shape, x.dtype)
    given, to, table = x.reshape(-1), y.reshape(-1), lines()

    def block(part: slice) -> None:
        _gelu(given[part], table, to[part])

    if x.size > ALONE:
        share(block, blocks.cut(x.size, blocks.BLOCK))
    else:
        for part in blocks.cut(x.size, PIECE):
            block(part)
    return y


def _gelu(x: Array, table: Array, to: Array) -> None:
    cells, found = blocks.scratch((2 * x.size,), numpy.dtype(numpy.intp)).reshape(2, -1)
    numpy.right_shift(x.view(numpy.uint32), LOW, out=cells)
    line = found.view(numpy.float32).reshape(-1, 2)
    numpy.take(table, cells, axis=0, out=line, mode="clip")  # any mode but "raise": it would copy
    numpy.multiply(line[:, 0], x, out=to)
    to += line[:, 1]


@cache
def lines() -> Array:
    """Return slope and offset of every cell's line: those of positive x, then those of negative.

    A line has the slope of the cell's chord and meets it in the middle. The offset is taken after
    the slope is rounded, so that it makes up for that.
    """
    near = int(numpy.float32(FAR).view(numpy.uint32)) >> LOW
    edges = (numpy.arange(near + 1, dtype=numpy.uint32) << LOW).view(numpy.float32)
    table = numpy.empty((2, 1 << 31 - LOW, 2), numpy.float32)
    for side, x, far in zip(table, (edges, -edges), (1.0, 0.0), strict=True):
        x = x.astype(numpy.float64)
        y = plain("gelu_erf")(x)
        side[:] = far, 0.0
        side[:near, 0] = numpy.diff(y) / numpy.diff(x)
        side[:near, 1] = _between(y) - side[:near, 0] * _between(x)
    return table.reshape(-1, 2)


def _between(x: Array) -> Array:
    """(N + 1) -> (N)"""
    middle: Array = (x[1:] + x[:-1]) / 2
    return middle
