"""Which of two explanations a candidate's noise speaks for, where both are within it.

Two explanations part by a known pattern. How much of that pattern is in what the candidate is off
by (0: the first is right, 1: the second) can be told far below the noise of one number, since the
pattern has many: a matched filter. Honest runs of the first say how much of it noise alone brings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy

from refimpl.parity.diagnosis.case import Case, Proof
from refimpl.parity.diagnosis.honest import run_honestly

DOUBT = 0.12  # noise that brings more of the pattern than this tells nothing
NEAR = 0.4  # the share may be so far from 0 or 1

Values = Mapping[str, numpy.ndarray]


class Contest(NamedTuple):
    """The share of the pattern in the candidate, and in honest runs of the first."""

    share: float
    noise: float

    @property
    def tells(self) -> bool:
        """Whether noise is too small to hide which of the two it is."""
        return self.noise <= DOUBT

    @property
    def first(self) -> bool:
        """Whether it is the first."""
        return self.tells and abs(self.share) <= NEAR

    @property
    def second(self) -> bool:
        """Whether it is the second."""
        return self.tells and abs(self.share - 1.0) <= NEAR


def contest(case: Case, one: Proof, other: Proof) -> Contest:
    """Weigh two explanations of a candidate against each other."""
    pattern = _pattern(case, one, other)
    size = sum(float((x * x).sum()) for x in pattern.values())
    if size == 0.0:
        return Contest(0.0, math.inf)

    def share(values: Values) -> float:
        return sum(_share(values[n], one, n, case, x) for n, x in pattern.items()) / size

    honest = (
        run_honestly(case.how, number, case.computing, case.inputs, one.faults, case.feed)
        for number in case.runs
    )
    noise = math.sqrt(sum(share(values) ** 2 for values in honest) / len(case.runs))
    return Contest(share(case.subject.judged), noise)


def _pattern(case: Case, one: Proof, other: Proof) -> dict[str, numpy.ndarray]:
    """How the two part, each value in its noise; without those that have none."""
    found = {}
    for name in case.subject.judged:
        a, b = one.truth.get(name), other.truth.get(name)
        noise = _noise(one, name, case)
        if a is None or b is None or a.shape != b.shape or a.dtype.kind != "f" or noise == 0.0:
            continue
        with numpy.errstate(invalid="ignore"):
            difference = (b - a) / noise
        found[name] = numpy.where(numpy.isfinite(difference), difference, 0.0)
    return found


def _noise(one: Proof, name: str, case: Case) -> float:
    name = case.subject.also.get(name, name)
    return one.floors[name].rms if name in one.floors else 0.0


def _share(
    value: numpy.ndarray, one: Proof, name: str, case: Case, pattern: numpy.ndarray
) -> float:
    if value.shape != pattern.shape:
        return 0.0
    with numpy.errstate(invalid="ignore"):
        rest = (value - one.truth[name]) / _noise(one, name, case)
    return float((numpy.where(numpy.isfinite(rest), rest, 0.0) * pattern).sum())
