"""Judging what a port made of the cards: which operation is wrong, and in which case it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy

from refimpl.parity.cards.card import ARITHMETICS, Card, CardCase, read_cards, read_floors
from refimpl.parity.cards.measuring import card_errors
from refimpl.parity.compare import DIFF, DTYPE, MISSING, NAN, OK, SHAPE
from refimpl.parity.comparison.verdict import ROUNDING
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors import Floors

HELD = (OK, ROUNDING)
ABSENT = "ABSENT"  # of a card: the dump has none of its cases


@dataclass(frozen=True)
class CaseVerdict:
    """What is said of one case of a card."""

    name: str  # "layer_norm.eps_dominates"
    what: str
    status: str  # OK, ROUNDING, DIFF, SHAPE, DTYPE, NAN or MISSING
    arithmetic: str = ""  # the one it was judged in; "" for ids and booleans, and for MISSING
    units: float | None = None  # the error in floors
    note: str = ""

    @property
    def held(self) -> bool:
        """Whether the case is right."""
        return self.status in HELD


@dataclass(frozen=True)
class CardVerdict:
    """What is said of one operation."""

    name: str
    what: str
    cases: tuple[CaseVerdict, ...]  # those that the arithmetic can hold
    inherited: tuple[str, ...] = ()  # cards that it uses and that are wrong themselves

    @property
    def given(self) -> bool:
        """Whether the dump has any of its cases."""
        return any(case.status != MISSING for case in self.cases)

    @property
    def status(self) -> str:
        """That of the first case that is wrong; else the worst; ABSENT where there is no case."""
        if not self.given:
            return ABSENT
        wrong = self.first
        if wrong is not None:
            return wrong.status
        return ROUNDING if any(case.status == ROUNDING for case in self.cases) else OK

    @property
    def held(self) -> bool:
        """Whether all of its cases are right."""
        return all(case.held for case in self.cases)

    @property
    def first(self) -> CaseVerdict | None:
        """The first case that is wrong."""
        return next((case for case in self.cases if not case.held), None)


@dataclass(frozen=True)
class CardReport:
    """What became of all cards."""

    cards: tuple[CardVerdict, ...]
    floors: Mapping[str, Floors]
    unknown: tuple[str, ...] = ()  # names in the dump that no card has

    @property
    def judged(self) -> tuple[CardVerdict, ...]:
        """The cards of which the dump has something."""
        return tuple(card for card in self.cards if card.given)

    @property
    def wrong(self) -> tuple[CardVerdict, ...]:
        """The cards whose own operation is wrong: no operation that they use is."""
        return tuple(card for card in self.judged if not card.held and not card.inherited)

    @property
    def held(self) -> bool:
        """Whether there was something to judge, and all of it is right."""
        return bool(self.judged) and all(card.held for card in self.judged)

    @property
    def exit_code(self) -> int:
        """0: all held. 1: some did not. 2: there was nothing to judge."""
        if not self.judged:
            return 2
        return 0 if self.held else 1

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if not self.judged:
            return "the dump has no output of any card"
        if self.held:
            judged, known = len(self.judged), len(self.cards)
            return f"{'all ' if judged == known else f'{judged} of '}{known} cards held"
        names = ", ".join(card.name for card in self.wrong)
        rest = sum(not card.held for card in self.judged) - len(self.wrong)
        more = f"; {rest} more fail because they use {'it' if len(self.wrong) == 1 else 'them'}"
        return f"wrong: {names}{more if rest else ''}"


def judge(dump: Dump, arithmetic: str | None = None, path: str | Path | None = None) -> CardReport:
    """Judge the outputs in a dump, called ``<card>.<case>.output``, by the cards in ``path``.

    ``arithmetic`` is what the port computes in: float64, float32, float16 or bfloat16; None takes
    it from each tensor's dtype. A case that the arithmetic cannot hold is left out, a card of which
    there is nothing is ABSENT; of a card of which there is something, every case must be there.
    Raises ``ValueError`` for another arithmetic, ``CheckpointError`` for cards that are broken.
    """
    if arithmetic not in (None, *ARITHMETICS):
        raise ValueError(
            f"arithmetic: expected one of {', '.join(ARITHMETICS)}, got {arithmetic!r}"
        )
    cards, floors = read_cards(path), read_floors(path)
    given, narrow = dump.values, _bfloat16(dump)
    keys = {case.key for card in cards.values() for case in card.cases.values()}
    own = arithmetic or _usual({key: given[key] for key in given if key in keys}, narrow)
    verdicts: dict[str, CardVerdict] = {}
    for name, card in cards.items():
        judged = tuple(_judge_card(card, given, narrow, arithmetic, own, floors))
        verdicts[name] = CardVerdict(name, card.what, judged)
    blamed = tuple(_blame(verdict, cards, verdicts) for verdict in verdicts.values())
    return CardReport(blamed, floors, tuple(name for name in given if name not in keys))


def _bfloat16(dump: Dump) -> set[str]:
    """The names of tensors that were bfloat16 in the dump's file."""
    return {name.partition(".")[2] for name in dump.about.get("bfloat16", ())}


def _usual(given: Mapping[str, numpy.ndarray], narrow: set[str]) -> str:
    """The arithmetic of most tensors: that of cases which are missing."""
    found = [_arithmetic_of(x, name in narrow) for name, x in given.items() if x.dtype.kind == "f"]
    return max(dict.fromkeys(found), key=found.count, default="float32")


def _arithmetic_of(x: numpy.ndarray, is_bfloat16: bool) -> str:
    return "bfloat16" if is_bfloat16 else str(x.dtype)


def _judge_card(
    card: Card,
    given: Mapping[str, numpy.ndarray],
    narrow: set[str],
    asked: str | None,
    usual: str,
    floors: Mapping[str, Floors],
) -> Iterator[CaseVerdict]:
    for case in card.cases.values():
        x = given.get(case.key)
        if x is None:
            if usual in case.arithmetics:
                yield CaseVerdict(case.name, case.what, MISSING, note="is not in the dump")
            continue
        x = numpy.asarray(x)
        if case.output.dtype.kind != "f":
            yield _judge_exact(case, x)
            continue
        arithmetic = asked or _arithmetic_of(x, case.key in narrow)
        if arithmetic in case.arithmetics or arithmetic not in ARITHMETICS:
            yield _judge_floats(case, x, arithmetic, floors)


def _judge_exact(case: CardCase, x: numpy.ndarray) -> CaseVerdict:
    """Ids and booleans, in whatever dtype a port keeps them: every element is the same."""
    if x.dtype.kind not in "biuf":
        return _verdict(case, DTYPE, note=f"expected {case.output.dtype}, got {x.dtype}")
    if x.shape != case.output.shape:
        return _verdict(case, SHAPE, note=_shapes(case, x))
    wrong = numpy.argwhere(x != case.output)
    if not len(wrong):
        return _verdict(case, OK)
    at = tuple(int(i) for i in wrong[0])
    return _verdict(
        case,
        DIFF,
        note=f"{len(wrong)} of {x.size} differ, first at {at}: expected {case.output[at]}, "
        f"got {x[at]}",
    )


def _judge_floats(
    case: CardCase, x: numpy.ndarray, arithmetic: str, floors: Mapping[str, Floors]
) -> CaseVerdict:
    if x.dtype.kind != "f" or arithmetic not in ARITHMETICS:
        expected = ", ".join(case.arithmetics)
        return _verdict(case, DTYPE, note=f"expected one of {expected}, got {x.dtype}")
    if x.shape != case.output.shape:
        return _verdict(case, SHAPE, arithmetic, note=_shapes(case, x))
    errors = card_errors(case, arithmetic, x)
    if not numpy.isfinite(errors.worst):
        return _verdict(case, NAN, arithmetic, note=_not_finite(case, x))
    of = floors[arithmetic]
    units = of.units(case.name, errors)
    status = OK if units <= 1.0 else ROUNDING if units <= of.multiplier else DIFF
    note = "" if status in HELD else f"off by up to {errors.worst:.2g}"
    return _verdict(case, status, arithmetic, units, note)


def _verdict(
    case: CardCase, status: str, arithmetic: str = "", units: float | None = None, note: str = ""
) -> CaseVerdict:
    return CaseVerdict(case.name, case.what, status, arithmetic, units, note)


def _shapes(case: CardCase, x: numpy.ndarray) -> str:
    return f"expected {case.output.shape}, got {x.shape}"


def _not_finite(case: CardCase, x: numpy.ndarray) -> str:
    """What is finite on one side only."""
    ours = numpy.isfinite(case.output)
    if ours.all():
        return f"{(~numpy.isfinite(x)).sum()} of {x.size} are not finite"
    return f"expected {(~ours).sum()} of {x.size} not to be finite, as in the original"


def _blame(
    verdict: CardVerdict, cards: Mapping[str, Card], verdicts: Mapping[str, CardVerdict]
) -> CardVerdict:
    """Name the operations under a failing card that fail by themselves."""
    if verdict.held or not verdict.given:
        return verdict
    below = [name for name in _below(cards, verdict.name) if _fails(verdicts[name])]
    roots = [name for name in below if not any(_fails(verdicts[x]) for x in _below(cards, name))]
    return CardVerdict(verdict.name, verdict.what, verdict.cases, tuple(roots))


def _fails(verdict: CardVerdict) -> bool:
    return verdict.given and not verdict.held


def _below(cards: Mapping[str, Card], name: str) -> list[str]:
    """All cards that a card uses, and those that these use."""
    found: dict[str, None] = {}
    for used in cards[name].uses if name in cards else ():
        if used in cards:
            found |= dict.fromkeys([used, *_below(cards, used)])
    return list(found)
