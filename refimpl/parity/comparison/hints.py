"""What may lie behind a shape that is another, or rows that are: a word for the porter."""

from __future__ import annotations

import numpy

from refimpl.parity.comparison.axes import Call

_ROWS = 256  # of so many at most the order is looked for


def of_shape(given: tuple[int, ...], truth: tuple[int, ...], call: Call) -> str:
    """Say what a shape looks like beside the expected one; "" where nothing comes to mind.

    >>> of_shape((5, 12), (2, 5, 12), Call(0, None, None))
    'has it no batch axis?'
    """
    if len(given) == len(truth) - 1 and given == truth[1:]:
        return "has it no batch axis?"
    if call.padded is not None and given and given[0] == int((~call.padded).sum()):
        return "is padding left out? fill it in again"
    if sorted(given) == sorted(truth):
        return "are its axes in another order? a map can say so (--map)"
    if numpy.prod(given, dtype=float) == numpy.prod(truth, dtype=float):
        return "it has as many elements: is it another layout? a map can say so (--map)"
    if len(given) == len(truth) == 3 and given[::2] == truth[::2]:
        return f"was its text cut or padded to {given[1]} tokens?"
    if len(given) == len(truth) and given[1:] == truth[1:]:
        return f"has it {given[0]} rows of the batch?"
    return ""


def row_order(given: numpy.ndarray, truth: numpy.ndarray, allowed: float) -> str:
    """Say in which order the rows come, where that alone explains all errors; else "".

    >>> x = numpy.asarray([[1.0], [2.0], [3.0]])
    >>> row_order(x[[1, 2, 0]], x, 0.1)
    'its rows are 1, 2, 0 of the batch'
    """
    if given.ndim < 2 or not 2 <= len(given) <= _ROWS or not numpy.isfinite(given).all():
        return ""
    rows, expected = given.reshape(len(given), -1), truth.reshape(len(truth), -1)
    order = [int(numpy.abs(expected - row).max(axis=1).argmin()) for row in rows]
    if sorted(order) != list(range(len(rows))) or order == sorted(order):
        return ""
    if numpy.abs(expected[order] - rows).max() > allowed:
        return ""
    return f"its rows are {', '.join(map(str, order))} of the batch"
