"""The plain operations on blocks: pieces of an array that stay in a core's cache from step to step.

An operation of several steps goes over its array as often. Over a large one each step waits for the
memory; over a block after another it does not, and blocks are shared among the cores. What is
computed of a block is the plain operation, so the result has its bits.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy

from refimpl.ops.fused.threads import share
from refimpl.replacing import plain

Array = numpy.ndarray

# Elements of a block: 1 MB of float32. Smaller ones would be nearer to the core, but the threads
# would meet too often at Python's lock: two threads take the GELU of 128 rows of 3,072 in 0.9 ms
# with this size, in 1.3 ms with a quarter of it, and in 2.8 ms with an eighth.
BLOCK = 262144

REALS = frozenset(map(numpy.dtype, ("float16", "float32", "float64")))

_own = threading.local()


def cut(length: int, size: int) -> Iterator[slice]:
    """Cut a length into an even number of pieces, none longer than ``size``, all nearly equal.

    >>> [(x.start, x.stop) for x in cut(10, 4)]
    [(0, 3), (3, 5), (5, 8), (8, 10)]
    >>> [(x.start, x.stop) for x in cut(4, 4)]
    [(0, 4)]
    """
    count = 1 if length <= size else 2 * -(-length // (2 * size))  # even: two cores end together
    ends = [-(-length * i // count) for i in range(count + 1)]
    return (slice(a, b) for a, b in pairwise(ends))


def scratch(shape: tuple[int, ...], dtype: numpy.dtype[Any]) -> Array:
    """Return an array of undefined content, in memory that the thread keeps from call to call.

    It is the caller's until the thread asks again. The system hands out fresh memory in zeroed
    pages: they took 0.3 of the 0.5 ms of a GELU of 16 rows of 3,072.
    """
    size = math.prod(shape) * dtype.itemsize
    memory: Array | None = getattr(_own, "memory", None)
    if memory is None or memory.size < size:
        memory = _own.memory = numpy.empty(size, numpy.uint8)
    return memory[:size].view(dtype).reshape(shape)


def covers(*arrays: Any) -> bool:
    """Tell whether arrays are NumPy's, of real numbers of one dtype, and not empty.

    None stands for an array that there is not; the first is there.
    """
    dtype = arrays[0].dtype
    if dtype not in REALS:
        return False
    for x in arrays:
        if x is not None and not (isinstance(x, numpy.ndarray) and x.size and x.dtype == dtype):
            return False
    return True


def elementwise(name: str) -> Callable[[Array], Array]:
    """Return the twin of an operation that takes each element by itself. Same bits."""

    def run(x: Array) -> Array:
        """(...) -> (...)"""
        operation = plain(name)
        if not covers(x) or x.size <= BLOCK:
            alone: Array = operation(x)
            return alone
        given, y = x.reshape(-1), numpy.empty(x.shape, x.dtype)
        to = y.reshape(-1)

        def block(part: slice) -> None:
            to[part] = operation(given[part])

        share(block, cut(x.size, BLOCK))
        return y

    return run


def rowwise(name: str) -> Callable[[Array], Array]:
    """Return the twin of an operation that takes each row of the last axis by itself. Same bits."""

    def run(x: Array) -> Array:
        """(..., N) -> (..., N)"""
        operation = plain(name)
        if not covers(x) or x.size <= BLOCK:
            alone: Array = operation(x)
            return alone
        width = x.shape[-1]
        given, y = x.reshape(-1, width), numpy.empty(x.shape, x.dtype)
        to = y.reshape(-1, width)

        def block(part: slice) -> None:
            to[part] = operation(given[part])

        share(block, cut(len(given), max(1, BLOCK // width)))
        return y

    return run
