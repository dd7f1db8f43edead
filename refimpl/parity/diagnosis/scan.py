"""Looking through many faults at once: which bring the reference nearer to the candidate.

A scan finds what is worth a proof; nothing is named because of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy

from refimpl.backend import Array, to_numpy
from refimpl.parity.comparison.metrics import root_mean_square
from refimpl.parity.diagnosis.case import Case, Proof
from refimpl.parity.diagnosis.known import Known
from refimpl.parity.diagnosis.subject import Check, Values, compute
from refimpl.parity.faults import Fault

LOOSE = 6.0  # so many root mean square errors of honest runs part two values, in a scan
FAR = 1e12  # stands for an error that is infinite
LARGE = 2**18  # of a value with more numbers than this some are looked at
SOME = 512  # so many numbers of a value, at most, are kept of each run
THREADS = 4  # at most: each holds a whole run

Faults = tuple[Fault, ...]
Track = Callable[[Sequence[Any]], Iterable[Any]]


class Sample(NamedTuple):
    """Some numbers of a value, evenly spaced."""

    shape: tuple[int, ...]
    numbers: numpy.ndarray  # (N,)


def sample(x: numpy.ndarray) -> Sample:
    """Take as many numbers of a value as are enough to tell what changes it."""
    flat = x.reshape(-1)
    return Sample(x.shape, flat[:: flat.size // SOME * 2 + 1].astype(numpy.float64))


class Trial(NamedTuple):
    """What became of the reference with some faults in it."""

    faults: Faults
    reached: int  # how many of the candidate's values agree before the first that does not
    score: float  # how unlikely the rest is as noise: each value's size times log of its square
    away: float  # how far the worst value is, or the first that parted, in honest errors
    seen: Mapping[str, Sample] = MappingProxyType({})  # some of the numbers of each value

    @property
    def rank(self) -> tuple[int, float]:
        """Nearest first."""
        return (-self.reached, self.score)

    @property
    def fits(self) -> bool:
        """Whether what is left may be noise, as far as a scan can tell."""
        return self.away <= LOOSE


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

    @cached_property
    def thinned(self) -> dict[str, numpy.ndarray]:
        """The candidate's values as a scan looks at them."""
        return {name: thin(x) for name, x in self.given.items()}

    @cached_property
    def sizes(self) -> dict[str, float]:
        """The root mean square of each of them."""
        return {name: _rms(x) for name, x in self.thinned.items()}

    @cached_property
    def known(self) -> Known | None:
        """What the reference computes, where that takes long."""
        if self.case.is_small:
            return None
        known = Known()
        with known.kept():
            compute(self.case.quick, self.case.inputs, (), self.case.feed)
        return known

    def off(self, name: str, x: numpy.ndarray) -> float:
        """How far the candidate's value is from ``x``, in honest root mean square errors."""
        if self.given[name].shape != x.shape:
            return FAR
        given, x = self.thinned[name], thin(x)
        if not numpy.array_equal(numpy.isfinite(given), numpy.isfinite(x)):
            return FAR
        with numpy.errstate(all="ignore"):
            error = _rms(given.astype(numpy.float64) - x)
            size = max(self.sizes[name], _rms(x))
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
            values = self._compute(faults, check)
        except _PartedError as parted:
            return Trial(faults, reached, parted.args[0], parted.args[0])
        return self._judge(faults, values)

    def whole(self, faults: Faults) -> Trial:
        """Run to the end, look at all values, and keep some numbers of each."""
        values = self._compute(faults)
        trial = self._judge(faults, values)
        if values is None:
            return trial
        seen = {name: sample(values[name]) for name in self.given if name in values}
        return trial._replace(reached=0, seen=seen)

    def _compute(self, faults: Faults, check: Check | None = None) -> Values | None:
        """What a run makes; None where faults do not fit together."""
        case = self.case
        with self.known.used() if self.known else nullcontext():
            try:
                return compute(case.quick, case.inputs, faults, case.feed, check)
            except (ValueError, IndexError, KeyError, TypeError):
                return None

    def _judge(self, faults: Faults, values: Values | None) -> Trial:
        if values is None:
            return Trial(faults, -1, math.inf, math.inf)
        judged = self.case.subject.given
        away = {
            name: max((self.off(name, x) for x in self.case.subject.computed(name, values)),
                      default=FAR)
            for name in judged
        }  # fmt: skip
        parted = [self.place.get(name, 0) for name, x in away.items() if x > LOOSE]
        reached = min(parted) if parted else len(self.place)
        score = sum(judged[name].size * math.log(0.1 + x * x) for name, x in away.items())
        return Trial(faults, reached, score, max(away.values()))

    def all(self, tried: Sequence[Faults], track: Track, *, whole: bool) -> list[Trial]:
        """Try all; nearest first, and of equals those that came first."""
        return sorted(self.each(tried, track, whole=whole), key=lambda t: t.rank)

    def each(self, tried: Sequence[Faults], track: Track, *, whole: bool) -> Iterator[Trial]:
        """Try one after another; where a run takes long, some at once."""
        trial = self.whole if whole else self.until_parted
        if self.case.is_small:
            yield from map(trial, track(tried))
            return
        assert self.known is not None  # made here, once, before it is used by several
        contexts = [copy_context() for _ in tried]
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            found = pool.map(lambda context, faults: context.run(trial, faults), contexts, tried)
            yield from (done for _, done in zip(track(tried), found, strict=True))


def thin(x: numpy.ndarray) -> numpy.ndarray:
    """(..., D) -> (..., fewer): of a large value some features of each cell."""
    if x.size <= LARGE or x.ndim == 0:
        return x
    return x[..., :: min(x.size // LARGE * 2 + 1, x.shape[-1])]


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
