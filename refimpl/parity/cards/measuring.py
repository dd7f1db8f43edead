"""How far off an honest implementation of each card may be, in each arithmetic: measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy

from refimpl.parity.cards.card import ARITHMETICS, Card, CardCase
from refimpl.parity.cards.reference import answer
from refimpl.parity.cards.ways import vary_operations, vary_product
from refimpl.parity.floors import (
    MULTIPLIER,
    Errors,
    Floors,
    Implementation,
    draw_implementation,
    find_arithmetic,
    measure_errors,
)
from refimpl.parity.floors.arithmetic import Arithmetic
from refimpl.parity.floors.floor import largest
from refimpl.parity.floors.narrow import narrow
from refimpl.parity.staged import attention_in
from refimpl.replacing import replace

RUNS = 64
# Bits of the significand; the smallest number that an implementation need keep.
FORMATS = {
    "float64": (53, 2.0**-1022),
    "float32": (24, 2.0**-126),
    "float16": (11, 2.0**-24),
    "bfloat16": (8, 2.0**-126),
}
Track = Callable[[Iterable[Card]], Iterable[Card]]

# Operations that only move or choose numbers: an honest implementation is exact.
EXACT = ("embedding", "split_heads", "merge_heads", "extend", "relu")


def measure_card_floors(
    cards: Mapping[str, Card], runs: int = RUNS, track: Track = iter
) -> dict[str, Floors]:
    """Measure the floors of all cases of ``cards``, by arithmetic.

    The cases of an arithmetic that cannot hold their inputs have no floor.
    """
    found: dict[str, dict[str, Errors]] = {arithmetic: {} for arithmetic in ARITHMETICS}
    for card in track(cards.values()):
        for case in card.cases.values():
            for arithmetic in case.arithmetics:
                found[arithmetic][case.name] = _floor(card, case, arithmetic, runs)
    return {name: Floors(name, runs, MULTIPLIER, free, {}) for name, free in found.items()}


def _floor(card: Card, case: CardCase, arithmetic: str, runs: int) -> Errors:
    how = find_arithmetic(arithmetic)
    if card.name in EXACT or case.output.dtype.kind != "f":
        return Errors(0.0, 0.0, 0.0)
    drawn = [draw_implementation(how, number) for number in range(runs)]
    results = [run_card(card, case, x, number) for number, x in enumerate(drawn)]
    errors = [card_errors(case, arithmetic, x) for x in results]
    return largest([_last_place(case, arithmetic), *errors])


def _last_place(case: CardCase, arithmetic: str) -> Errors:
    """A unit in the last place of the largest element: half of it for storing the result, half
    for a library's function. No honest run need be better.

    Nor need it keep numbers below the smallest normal one, which many devices make 0. float16 has
    so many of these that they count.
    """
    finite = case.output[numpy.isfinite(case.output)]
    bits, smallest = FORMATS[arithmetic]
    step = max(float(numpy.abs(finite).max(initial=0.0)) * 2.0 ** (1 - bits), smallest)
    return Errors(step, step, step) if finite.any() else Errors(0.0, 0.0, 0.0)


def card_errors(case: CardCase, arithmetic: str, actual: numpy.ndarray) -> Errors:
    """How far off an output is. Where the original is not finite in an arithmetic, one that is not
    either is no error, and one that is right is none.
    """
    actual = numpy.asarray(actual, numpy.float64)
    if arithmetic in case.overflows:
        excused = ~numpy.isfinite(case.overflows[arithmetic]) & ~numpy.isfinite(actual)
        actual = numpy.where(excused, case.output, actual)
    return measure_errors(actual, case.output)


def run_card(card: Card, case: CardCase, drawn: Implementation, number: int) -> numpy.ndarray:
    """What an honest implementation makes of a case; ``number`` draws what else can vary."""
    how = drawn.arithmetic
    with honest_card(drawn, number):
        y = answer(card, case, lambda x: _given(how, x))
    return numpy.asarray(y).astype(numpy.float64)


@contextmanager
def honest_card(drawn: Implementation, number: int) -> Iterator[None]:
    """Let all operations be computed as an honest implementation does, in the block."""
    drawn = vary_product(drawn, number)
    attend = attention_in(drawn.stages(), lambda role, x: x)
    operations = {**drawn.operations(), "scaled_dot_product_attention": attend}
    with numpy.errstate(all="ignore"), replace(**vary_operations(operations, drawn, number)):
        yield


def _given(how: Arithmetic, x: numpy.ndarray) -> numpy.ndarray:
    y = x.astype(how.dtype)
    return y if how.results is None else narrow(y, how.results)
