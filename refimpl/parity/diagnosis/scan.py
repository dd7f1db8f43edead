"""Looking through many faults at once: which bring the reference nearer to the candidate.

A scan finds what is worth a proof; nothing is named because of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy

from refimpl.backend import Array, to_numpy
from refimpl.parity.comparison.metrics import root_mean_square
from refimpl.parity.diagnosis.case import Case, Proof
from refimpl.parity.diagnosis.subject import Values, compute
from refimpl.parity.faults import Fault

LOOSE = 6.0  # so many root mean square errors of honest runs part two values, in a scan
FAR = 1e12  # stands for an error that is infinite

Faults = tuple[Fault, ...]
Track = Callable[[Sequence[Faults]], Iterable[Faults]]


class Trial(NamedTuple):
    """What became of the reference with some faults in it."""

    faults: Faults
    reached: int  # how many of the candidate's values agree before the first that does not
    score: float  # how unlikely the rest is as noise: each value's size times log of its square

    @property
    def rank(self) -> tuple[int, float]:
        """Nearest first."""
        return (-self.reached, self.score)


class _PartedError(Exception):
    """Ends a run that is not worth its end."""


@dataclass(frozen=True)
class Scan:
    """A case, and how far honest runs are off there."""

    case: Case
    nothing: Proof  # the candidate against the reference without faults

    @cached_property
    def noise(self) -> dict[str, float]:
        """Of each value the root mean square error of honest runs, relative to the value's own."""
        relative = {}
        for name, floor in self.nothing.floors.items():
            size = _rms(self.nothing.truth[name])
            relative[name] = floor.rms / size if size else 0.0
        also = self.case.subject.also.items()  # which have no floors of their own
        return relative | {tap: relative.get(name, 0.0) for tap, name in also}

    @cached_property
    def place(self) -> dict[str, int]:
        """When each of the candidate's values comes."""
        ours = (name for name in self.case.subject.right if name in self.given)
        return {name: i for i, name in enumerate(ours)}

    @cached_property
    def given(self) -> dict[str, numpy.ndarray]:
        """The candidate's values, its outputs also under the names of taps."""
        also = self.case.subject.also.items()
        return {**self.case.subject.given, **{tap: self.case.subject.given[n] for tap, n in also}}

    def off(self, name: str, x: numpy.ndarray) -> float:
        """How far the candidate's value is from ``x``, in honest root mean square errors."""
        given = self.given[name]
        if given.shape != x.shape:
            return FAR
        with numpy.errstate(all="ignore"):
            error = _rms(given.astype(numpy.float64) - x)
            size = max(_rms(given), _rms(x))
        finite = numpy.isfinite(given) == numpy.isfinite(x)
        if not finite.all():
            return FAR
        if error == 0.0:
            return 0.0
        noise = self.noise.get(name, 0.0) * size
        return min(error / noise, FAR) if noise else FAR

    def until_parted(self, faults: Faults) -> Trial:
        """Run until the first value parts, each operation fed with the candidate's values."""
        reached = len(self.place)

        def check(name: str, x: Array) -> None:
            nonlocal reached
            if name in self.place and (away := self.off(name, to_numpy(x))) > LOOSE:
                reached = self.place[name]
                raise _PartedError(away)

        try:
            values = compute(self.case.quick, self.case.inputs, faults, self.case.feed, check)
        except _PartedError as parted:
            return Trial(faults, reached, parted.args[0])
        except (ValueError, IndexError, KeyError, TypeError):  # two faults that do not fit together
            return Trial(faults, -1, math.inf)
        return self._whole(faults, values)

    def whole(self, faults: Faults) -> Trial:
        """Run to the end and look at all values."""
        try:
            values = compute(self.case.quick, self.case.inputs, faults, self.case.feed)
        except (ValueError, IndexError, KeyError, TypeError):
            return Trial(faults, -1, math.inf)
        return self._whole(faults, values)._replace(reached=0)

    def _whole(self, faults: Faults, values: Values) -> Trial:
        judged = self.case.subject.given
        away = {
            name: max((self.off(name, x) for x in self.case.subject.computed(name, values)),
                      default=FAR)
            for name in judged
        }  # fmt: skip
        parted = [self.place.get(name, 0) for name, x in away.items() if x > LOOSE]
        reached = min(parted) if parted else len(self.place)
        sizes = {name: self.case.subject.given[name].size for name in away}
        score = sum(sizes[name] * math.log(0.1 + x * x) for name, x in away.items())
        return Trial(faults, reached, score)

    def all(self, tried: Sequence[Faults], track: Track, *, whole: bool) -> list[Trial]:
        """Try all; nearest first, and of equals those that came first."""
        trial = self.whole if whole else self.until_parted
        return sorted((trial(faults) for faults in track(tried)), key=lambda t: t.rank)


def _rms(x: numpy.ndarray) -> float:
    finite = x[numpy.isfinite(x)] if x.dtype.kind == "f" else x
    return root_mean_square(finite.astype(numpy.float64))


def with_alternatives(faults: Iterable[Fault]) -> Iterator[Fault]:
    """Every fault with each of the other parameters that are worth trying."""
    for fault in faults:
        for name, values in fault.alternatives.items():
            for value in values:
                if value != fault.parameters[name]:
                    yield fault.with_parameters(**{name: value})
