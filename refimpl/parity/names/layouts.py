"""Layouts: how the axes of a tensor may lie in another implementation, and the way back to ours.

Ours are batch first: (B, S, D) for what a module gives, (B, H, S, T) for scores and probabilities.
A layout is a name; where it fits two shapes it gives a :class:`Plan`, which says what to do with
the axes. A plan moves numbers and computes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy

Shape = tuple[int, ...]


class Plan(NamedTuple):
    """From a tensor as given to one as expected: cut axes, order them, choose, join."""

    split: Shape
    order: tuple[int, ...]
    chosen: tuple[int, ...]  # an index for each of the first axes; () takes all
    joined: Shape

    def take(self, array: numpy.ndarray) -> numpy.ndarray:
        """Return the tensor as expected: a view where one is possible."""
        moved = array.reshape(self.split).transpose(self.order)
        taken: numpy.ndarray = moved[self.chosen].reshape(self.joined)
        return taken


Fit = Callable[[Shape, Shape, int], Plan | None]  # given, expected, heads (0: not known)


def _same(given: Shape, expected: Shape, heads: int) -> Plan | None:
    return _in_order(given, expected) if given == expected else None


def _in_order(given: Shape, expected: Shape) -> Plan:
    return Plan(given, tuple(range(len(given))), (), expected)


def _swapped(given: Shape, expected: Shape, one: int, other: int) -> Plan | None:
    if len(given) != len(expected) or len(given) < 2:
        return None
    order = list(range(len(given)))
    order[one], order[other] = order[other], order[one]
    fits = tuple(given[i] for i in order) == expected
    return Plan(given, tuple(order), (), expected) if fits else None


def _first_two_swapped(given: Shape, expected: Shape, heads: int) -> Plan | None:
    return _swapped(given, expected, 0, 1)


def _transposed(given: Shape, expected: Shape, heads: int) -> Plan | None:
    return _swapped(given, expected, -2, -1)


def _heads(given: Shape, expected: Shape, heads: int) -> Plan | None:
    if len(given) != 4 or len(expected) != 3:
        return None
    fits = (given[0], given[2], given[1] * given[3]) == expected and heads in (0, given[1])
    return Plan(given, (0, 2, 1, 3), (), expected) if fits else None


def _heads_last(given: Shape, expected: Shape, heads: int) -> Plan | None:
    if len(given) != 4 or len(expected) != 3:
        return None
    fits = (given[0], given[1], given[2] * given[3]) == expected and heads in (0, given[2])
    return _in_order(given, expected) if fits else None


def _heads_in_rows(given: Shape, expected: Shape, heads: int) -> Plan | None:
    if len(given) != 3 or len(expected) not in (3, 4):
        return None
    if len(expected) == 4:
        joined = (expected[0] * expected[1], *expected[2:])
        return _in_order(given, expected) if given == joined else None
    batch, count = expected[0], given[0] // expected[0] if expected[0] else 0
    if count < 2 or heads not in (0, count):
        return None
    fits = (given[0], given[1], given[2] * count) == (batch * count, *expected[1:])
    return Plan((batch, count, *given[1:]), (0, 2, 1, 3), (), expected) if fits else None


def _tokens_in_rows(given: Shape, expected: Shape, heads: int) -> Plan | None:
    fits = len(expected) == 3 and given == (expected[0] * expected[1], expected[2])
    return _in_order(given, expected) if fits else None


def _time_first_in_rows(given: Shape, expected: Shape, heads: int) -> Plan | None:
    if len(expected) != 3 or given != (expected[0] * expected[1], expected[2]):
        return None
    return Plan((expected[1], expected[0], expected[2]), (1, 0, 2), (), expected)


def _without_ones(given: Shape, expected: Shape, heads: int) -> Plan | None:
    bare = [n for n in given if n != 1] == [n for n in expected if n != 1]
    return _in_order(given, expected) if bare and given != expected else None


def _part(part: int, parts: int, *, time_first: bool = False) -> Fit:
    def fit(given: Shape, expected: Shape, heads: int) -> Plan | None:
        if len(expected) != 3 or len(given) != 3 or given[2] != parts * expected[2]:
            return None
        rows = (given[1], given[0]) if time_first else given[:2]
        order = (2, 1, 0, 3) if time_first else (2, 0, 1, 3)
        split = (*given[:2], parts, expected[2])
        return Plan(split, order, (part,), expected) if rows == expected[:2] else None

    return fit


def _part_of_each_head(part: int, parts: int) -> Fit:
    def fit(given: Shape, expected: Shape, heads: int) -> Plan | None:
        if len(expected) != 3 or given != (*expected[:2], parts * expected[2]):
            return None
        if heads == 0 or expected[2] % heads:
            return None
        split = (*expected[:2], heads, parts, expected[2] // heads)
        return Plan(split, (3, 0, 1, 2, 4), (part,), expected)

    return fit


_PARTS = [(i, n) for n in (2, 3) for i in range(n)]  # keys and values in one; queries as well

LAYOUTS: dict[str, Fit] = {
    "same": _same,
    "time first": _first_two_swapped,  # (S, B, D)
    "heads first": _first_two_swapped,  # (H, B, S, T)
    "transposed": _transposed,  # (B, H, T, S), (B, D, S)
    "heads": _heads,  # (B, H, S, K) for (B, S, D)
    "heads last": _heads_last,  # (B, S, H, K) for (B, S, D)
    "heads in rows": _heads_in_rows,  # (B*H, S, K) for (B, S, D), (B*H, S, T) for (B, H, S, T)
    "tokens in rows": _tokens_in_rows,  # (B*S, D)
    "time first, tokens in rows": _time_first_in_rows,  # (S*B, D)
    "without ones": _without_ones,  # axes of one left out, or more of them
    **{f"part {i + 1} of {n}": _part(i, n) for i, n in _PARTS},  # (B, S, n*D)
    **{f"part {i + 1} of {n}, time first": _part(i, n, time_first=True) for i, n in _PARTS},
    **{f"part {i + 1} of {n} of each head": _part_of_each_head(i, n) for i, n in _PARTS},
}

# Those that a shape alone may tell: where exactly one of them fits.
BY_SHAPE = (
    "heads",
    "heads last",
    "heads in rows",
    "time first",
    "transposed",
    "tokens in rows",
    "without ones",
)


def plan(layout: str, given: Shape, expected: Shape, heads: int = 0) -> Plan | None:
    """Return how a tensor of a layout and a shape becomes one of the expected shape, or None.

    ``heads`` is their number where it is known, else 0. Raises ``ValueError`` for a name that no
    layout has.

    >>> plan("heads", (2, 3, 5, 4), (2, 5, 12)).order
    (0, 2, 1, 3)
    >>> plan("heads", (2, 5, 12), (2, 5, 12)) is None
    True
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if math.prod(given) < math.prod(expected):
        return None
    return LAYOUTS[layout](given, expected, heads)


def layout_of_shape(given: Shape, expected: Shape, heads: int = 0) -> str | None:
    """Return the one layout that the two shapes leave possible, "same" first; None if not one.

    >>> layout_of_shape((2, 3, 5, 4), (2, 5, 12)), layout_of_shape((2, 5, 5, 12), (2, 5, 60))
    ('heads', None)
    """
    if given == expected:
        return "same"
    fitting = [name for name in BY_SHAPE if plan(name, given, expected, heads)]
    return fitting[0] if len(fitting) == 1 else None
