"""The score: every mistake of the catalogue, and the golden that notices it, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from refimpl.parity.faults import CATALOGUE, FAMILIES, Fault
from refimpl.parity.strength.equivalents import no_mistake
from refimpl.parity.strength.fixture import NOTHING, Fixture, Seen

CAUGHT, MISSED, EQUIVALENT = "caught", "missed", "equivalent"

# A fault that stands this many times its limit above rounding need not be looked for elsewhere.
PLAIN = 20.0


class Question(NamedTuple):
    """Would the goldens of a family notice a fault?"""

    fault: Fault
    fixtures: tuple[Fixture, ...]  # those of the family


class Finding(NamedTuple):
    """The answer."""

    fault: str
    family: str
    status: str  # CAUGHT, MISSED or EQUIVALENT
    units: float = 0.0  # how far it stands above rounding, in floors, where it is largest
    case: str = ""  # where that is: the golden, and its tap or output
    value: str = ""
    note: str = ""  # missed: what no golden has; equivalent: why it changes nothing


@dataclass(frozen=True)
class Score:
    """All answers for one arithmetic."""

    arithmetic: str
    multiplier: float  # what is caught stands above so many floors
    findings: tuple[Finding, ...]

    def of(self, status: str) -> list[Finding]:
        """The findings of a status."""
        return [finding for finding in self.findings if finding.status == status]

    @property
    def share(self) -> float:
        """The share of the mistakes, equivalents aside, that are caught; 1 where there are none."""
        caught, missed = len(self.of(CAUGHT)), len(self.of(MISSED))
        return caught / (caught + missed) if caught + missed else 1.0

    @property
    def weakest(self) -> Finding | None:
        """The caught mistake that stands least above rounding."""
        return min(self.of(CAUGHT), key=lambda finding: finding.units, default=None)

    @property
    def exit_code(self) -> int:
        """0: no mistake is missed. 1: some are."""
        return 1 if self.of(MISSED) else 0


def questions(fixtures: Iterable[Fixture]) -> list[Question]:
    """Return what is to be asked: every fault of every family that the fixtures are of."""
    fixtures = tuple(fixtures)
    families = [f for f in FAMILIES if any(one.family == f for one in fixtures)]
    return [
        Question(fault, tuple(one for one in fixtures if one.family == family))
        for family in families
        for fault in CATALOGUE.values()
        if family in fault.families
    ]


def score(asked: Sequence[Question], everywhere: bool = False) -> Iterator[Finding]:
    """Yield the answer to each question.

    A fault is looked for first in the goldens that caught most others, and no further once it
    stands plainly above rounding; with ``everywhere`` in all, so that its units are the largest of
    the set.
    """
    catches: Counter[str] = Counter()
    for question in asked:
        order = sorted(question.fixtures, key=lambda one: -catches[one.name])
        finding = _answer(question.fault, order, everywhere)
        catches[finding.case] += 1
        yield finding


def _answer(fault: Fault, fixtures: Sequence[Fixture], everywhere: bool) -> Finding:
    family, arithmetic = fixtures[0].family, fixtures[0].arithmetic.name
    if why := no_mistake(fault, arithmetic):
        return Finding(fault.name, family, EQUIVALENT, note=why)
    refusals = [one.refusal(fault) for one in fixtures]
    tried = [one for one, refusal in zip(fixtures, refusals, strict=True) if not refusal]
    best, where = NOTHING, ""
    for fixture in tried:
        seen = fixture.look(fault)
        if seen.units > best.units:
            best, where = seen, fixture.name
        if not everywhere and is_plain(best, fixture):
            break
    found = Finding(fault.name, family, CAUGHT, best.units, where, best.name)
    if tried and best.units > tried[0].floors.multiplier:
        return found
    if fault.equivalent:
        return found._replace(status=EQUIVALENT, note=fault.equivalent)
    return found._replace(status=MISSED, note="" if tried else refusals[0])


def is_plain(seen: Seen, fixture: Fixture) -> bool:
    """Whether a fault stands so far above rounding that no one need look further."""
    return seen.units > PLAIN * fixture.floors.multiplier
