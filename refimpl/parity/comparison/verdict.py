"""What is said of each value that a candidate computed, and of all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from refimpl.parity.compare import DIFF, DTYPE, MISSING, NAN, OK, SHAPE
from refimpl.parity.dumps.dump import Dump

if TYPE_CHECKING:
    from refimpl.parity.floors import Floors

__all__ = [
    "DIFF",
    "DTYPE",
    "MISSING",
    "NAN",
    "OK",
    "ROUNDING",
    "SHAPE",
    "STATUSES",
    "ComparisonReport",
    "Verdict",
]

ROUNDING = "ROUNDING"
STATUSES = (OK, ROUNDING, DIFF, SHAPE, DTYPE, NAN, MISSING)
PARTS = (DIFF, SHAPE, DTYPE, NAN)  # the candidate is not the reference here

INPUT, TAP, OUTPUT = "input", "tap", "output"


@dataclass(frozen=True)
class Verdict:
    """What is said of one input, tap or output of the candidate.

    The numbers are None where there is nothing to measure: of another shape, of ids, of what is
    missing. Errors are against the float64 truth.
    """

    name: str
    kind: str  # INPUT, TAP or OUTPUT
    status: str  # one of STATUSES
    note: str = ""  # what was expected and what came, under which name and in which layout
    shape: tuple[int, ...] = ()
    max_abs: float | None = None  # the largest |given - truth|
    max_rel: float | None = None  # that over the largest |truth|
    rms: float | None = None
    cosine: float | None = None
    units: float | None = None  # the free-running error in floor units
    introduced: float | None = None  # the error that arises here, in floor units
    origin: str = ""  # "introduced", "inherited" or ""
    where: str = ""  # "padded positions only", "head 3 only", ...
    since: str = ""  # the last value in front of it that the candidate shows, where that is far
    in_units: Mapping[str, float] = field(default_factory=dict)  # "max_abs", "rms", "cell"

    @property
    def parts(self) -> bool:
        """Whether the candidate is not the reference here."""
        return self.status in PARTS

    @property
    def compared(self) -> bool:
        """Whether there was a value to judge."""
        return self.status != MISSING


@dataclass(frozen=True)
class ComparisonReport:
    """What became of one candidate."""

    reference: str
    candidate: str
    arithmetic: str  # one of floors.ARITHMETICS
    floors: Floors
    verdicts: tuple[Verdict, ...]  # inputs, taps in the order of the computation, outputs
    unknown: Mapping[str, tuple[str, ...]]  # names of the candidate: the nearest that we know
    truth: Dump  # in float64
    given: Dump  # the candidate's values, in our names and layouts
    forced: Dump | None = None  # what each operation makes of the candidate's values
    notes: tuple[str, ...] = ()  # what else a reader must know
    ignore_padding: bool = False  # what is computed at padding was not judged

    @property
    def first(self) -> Verdict | None:
        """The first value that parts from the reference by more than rounding."""
        return next((v for v in self.verdicts if v.parts), None)

    @property
    def compared(self) -> tuple[Verdict, ...]:
        """The verdicts on taps and outputs that the candidate has."""
        return tuple(v for v in self.verdicts if v.compared and v.kind != INPUT)

    @property
    def held(self) -> bool:
        """Whether there is something to compare, and nothing parts. A missing value is no fault."""
        return bool(self.compared) and self.first is None

    @property
    def exit_code(self) -> int:
        """0: it held. 1: it parts from the reference. 2: there was nothing to compare."""
        if self.first is not None:
            return 1
        return 0 if self.compared else 2

    def counts(self) -> dict[str, int]:
        """How many values have each status, those that occur."""
        found = [v.status for v in self.verdicts]
        return {status: found.count(status) for status in STATUSES if status in found}
