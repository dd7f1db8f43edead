"""Which two faults could add up to a candidate.

What two small changes do together is, to first order, the sum of what each does alone; and where
each operation is fed with the candidate's values, two faults in two operations do not meet at all.
So from one run for each fault all pairs can be ranked, and only the nearest need be run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy

from refimpl.parity.diagnosis.scan import Sample, Scan, Trial, sample
from refimpl.parity.faults import Fault

FINEST = 2.0**-24  # noise below this would drown in the sums
FOREIGN = 1e8  # stands for NaN, infinity, another shape: what no sum of changes comes to


class _Part(NamedTuple):
    """Some numbers of one text in one value."""

    rest: numpy.ndarray  # (N,) what the candidate is off by, in honest errors
    changes: numpy.ndarray  # (F, N) what each fault changes
    weight: float  # how many numbers it stands for


class Sum(NamedTuple):
    """Two faults, and how unlikely what the sum of their changes leaves is as noise."""

    faults: tuple[Fault, Fault]
    score: float


def likeliest(scan: Scan, singles: Sequence[Trial]) -> list[Sum]:
    """Return all pairs of the faults of ``singles``, each of a whole run, the likeliest first."""
    faults = [trial.faults[0] for trial in singles]
    scores = numpy.zeros((len(faults), len(faults)))
    for part in _parts(scan, singles):
        scores += _scores(part)
    pairs = numpy.transpose(numpy.triu_indices(len(faults), 1))
    sums = (Sum((faults[i], faults[j]), float(scores[i, j])) for i, j in pairs)
    return sorted((s for s in sums if s.faults[0].name != s.faults[1].name), key=lambda s: s.score)


def _scores(part: _Part) -> numpy.ndarray:
    """(F, F): how unlikely what each pair leaves is as noise (see ``Trial.score``)."""
    products = part.changes @ part.changes.T
    along = part.changes @ part.rest
    alone = numpy.diagonal(products) - 2.0 * along
    left = part.rest @ part.rest + alone[:, None] + alone[None, :] + 2.0 * products
    away: numpy.ndarray = numpy.maximum(left, 0.0) / len(part.rest)
    return part.weight * numpy.log(0.1 + away)


def _parts(scan: Scan, singles: Sequence[Trial]) -> Iterator[_Part]:
    for name, given in scan.given.items():
        at, right = sample(given), _right(scan, name)
        base = right.numbers if right.shape == at.shape else numpy.zeros_like(at.numbers)
        unit = max(scan.noise.get(name, 0.0), FINEST) * (scan.sizes[name] or 1.0)
        start = _in_units(base, unit)
        rest = _in_units(at.numbers, unit) - start
        changes = numpy.stack([
            _change(trial.seen.get(name), at, right, start, unit) for trial in singles
        ])  # fmt: skip
        yield from _texts(given, rest, changes)


def _right(scan: Scan, name: str) -> Sample:
    return sample(scan.nothing.truth.get(name, numpy.zeros(0)))


def _texts(given: numpy.ndarray, rest: numpy.ndarray, changes: numpy.ndarray) -> Iterator[_Part]:
    """One part for each text: a fault may be all that is wrong with one of them."""
    count = given.shape[0] if given.ndim > 1 else 1
    text = numpy.arange(len(rest)) * count // max(len(rest), 1)
    for i in range(count):
        here = text == i
        if here.any():
            yield _Part(rest[here], changes[:, here], given.size / count)


def _change(
    seen: Sample | None, at: Sample, right: Sample, start: numpy.ndarray, unit: float
) -> numpy.ndarray:
    if seen is not None and seen.shape == at.shape:
        change: numpy.ndarray = _in_units(seen.numbers, unit) - start
        return change
    unchanged = seen is not None and seen.shape == right.shape
    return numpy.zeros_like(start) if unchanged else numpy.full_like(start, FOREIGN)


def _in_units(x: numpy.ndarray, unit: float) -> numpy.ndarray:
    """(N,) -> (N,): in honest errors, and finite."""
    with numpy.errstate(over="ignore"):
        units: numpy.ndarray = x / unit
    finite: numpy.ndarray = numpy.nan_to_num(
        units, nan=FOREIGN, posinf=2 * FOREIGN, neginf=-2 * FOREIGN
    )
    return finite
