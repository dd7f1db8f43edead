"""Layouts: the ways in which another program may hold the numbers of a tap.

A layout is a permutation of axes, of which some are split first and some are joined afterwards; it
is written as two patterns, ``b s (h k) -> (b h) s k``. Axes of length 1 say nothing and are left
out of the search, so a batch of one may be squeezed away or not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy

Shape = tuple[int, ...]
Groups = tuple[tuple[str, ...], ...]  # axes by their letters; those of a group are one axis
AXES = {1: "d", 2: "bd", 3: "bsd", 4: "bhqk"}  # what the axes of a tap are called, by their number


@dataclass(frozen=True)
class Layout:
    """How the axes of a tap lie in a foreign tensor."""

    sizes: tuple[tuple[str, int], ...]  # the length of each axis, in the tap's order, split
    own: Groups  # the tap's axes
    given: Groups  # the foreign tensor's

    def __str__(self) -> str:
        if self.own == self.given:
            return "as is"
        return f"{_pattern(self.own)} -> {_pattern(self.given)}"

    def view(self, array: numpy.ndarray) -> numpy.ndarray:
        """Return a foreign tensor with the axes of ``sizes``, where it can be without a copy."""
        sizes = dict(self.sizes)
        order = [letter for group in self.given for letter in group]
        split = array.reshape([sizes[letter] for letter in order])
        return split.transpose([order.index(letter) for letter in sizes])

    def take(self, array: numpy.ndarray) -> numpy.ndarray:
        """Return a foreign tensor as the tap's, axes of length 1 aside.

        >>> layout = next(layouts((2, 3, 4), (3, 8)))
        >>> str(layout), layout.take(numpy.arange(24).reshape(3, 8)).shape
        ('b s d -> s (b d)', (2, 3, 4))
        """
        return self.view(array).reshape(shape_of(self.own, dict(self.sizes)))

    def give(self, array: numpy.ndarray) -> numpy.ndarray:
        """Return a tap as the foreign tensor holds it: the inverse of :meth:`take`."""
        sizes = dict(self.sizes)
        order = [list(sizes).index(letter) for group in self.given for letter in group]
        split = array.reshape(list(sizes.values())).transpose(order)
        return split.reshape(shape_of(self.given, sizes))


def shape_of(groups: Groups, sizes: dict[str, int]) -> Shape:
    """Return the shape of a tensor whose axes are these groups."""
    return tuple(math.prod(sizes[letter] for letter in group) for group in groups)


def layouts(own: Shape, given: Shape, stacked: bool = False) -> Iterator[Layout]:
    """Yield the layouts in which a tap of shape ``own`` has the shape ``given``, plain ones first.

    The last axis of a tap with fewer than four may be split into heads. ``stacked`` is for several
    taps along a new first axis, as fused projections are.
    """
    yield from _layouts(own, tuple(n for n in given if n > 1), stacked)


@lru_cache(maxsize=4096)
def _layouts(own: Shape, given: Shape, stacked: bool) -> tuple[Layout, ...]:
    number = len(own) - stacked
    letters = "c" * stacked + AXES.get(number, "abcdefghij"[:number])
    whole = {letter: n for letter, n in zip(letters, own, strict=True) if n > 1}
    found = [
        Layout(tuple(whole.items()), tuple((x,) for x in whole), groups)
        for groups in _arrangements(whole, given)
    ]
    found.sort(key=_disorder)
    if number < 4 and letters and letters[-1] in whole:
        found += sorted(_with_heads(whole, letters[-1], given), key=_disorder)
    return tuple(found)


def _with_heads(whole: dict[str, int], last: str, given: Shape) -> Iterator[Layout]:
    """Yield the layouts in which the last axis is split in two that lie apart."""
    width = whole[last]
    others = {x: n for x, n in whole.items() if x != last}
    for heads in (n for n in range(2, width // 2 + 1) if width % n == 0):
        sizes = {**others, "h": heads, "k": width // heads}
        own = (*((x,) for x in others), ("h", "k"))
        for groups in _arrangements(sizes, given):
            if not any(pair == ("h", "k") for group in groups for pair in pairwise(group)):
                yield Layout(tuple(sizes.items()), own, groups)


def _arrangements(sizes: dict[str, int], shape: Shape) -> Iterator[Groups]:
    """Yield the ways to lay all axes, in any order, into axes of these lengths."""
    if not shape:
        if not sizes:
            yield ()
        return
    for group in _products(sizes, shape[0]):
        rest = {letter: n for letter, n in sizes.items() if letter not in group}
        for groups in _arrangements(rest, shape[1:]):
            yield (group, *groups)


def _products(sizes: dict[str, int], length: int) -> Iterator[tuple[str, ...]]:
    """Yield the ordered choices of axes whose joint length this is."""
    if length == 1:
        yield ()
        return
    for letter, n in sizes.items():
        if length % n == 0:
            rest = {x: m for x, m in sizes.items() if x != letter}
            for group in _products(rest, length // n):
                yield (letter, *group)


def _disorder(layout: Layout) -> int:
    """Return how many pairs of axes have changed places."""
    order = [letter for group in layout.given for letter in group]
    places = [order.index(letter) for letter, _ in layout.sizes]
    return sum(a > b for i, a in enumerate(places) for b in places[i + 1 :])


def _pattern(groups: Groups) -> str:
    words = (" ".join(group) for group in groups)
    return " ".join(
        f"({word})" if len(group) > 1 else word for word, group in zip(words, groups, strict=True)
    )
