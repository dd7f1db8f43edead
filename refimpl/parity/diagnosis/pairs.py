"""The search for the two faults that together make the reference the candidate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from refimpl.parity.diagnosis.scan import Faults, Track, Trial, with_alternatives
from refimpl.parity.diagnosis.search import Found, Searched, in_order, prove
from refimpl.parity.diagnosis.sums import Sum, likeliest
from refimpl.parity.faults import Fault

SECONDS = 10.0  # about what trying pairs may take
LEAST = 40  # but so many are tried
AT_ONCE = 8  # are run before one looks whether any fits


def pair_search(searched: Searched, track: Track) -> Found:
    """Look for two faults, where no single one explains the candidate."""
    found, scan = searched.found, searched.scan
    sums = likeliest(scan, _singles(searched, track))
    trials = sorted(_tried(searched, sums, track), key=lambda trial: trial.rank)
    proofs = prove(scan, trials)
    return Found(found.case, found.nothing, tuple(in_order(found.case, proofs)))


def _singles(searched: Searched, track: Track) -> list[Trial]:
    """A whole run with each single fault."""
    if searched.whole:
        return [trial for trial in searched.trials if trial.seen]
    more = with_alternatives(searched.faults) if searched.scan.case.is_small else ()
    tried = [(fault,) for fault in (*searched.faults, *more)]
    trials = searched.scan.all(tried, track, whole=True)
    return [trial for trial in trials if trial.seen]


def _tried(searched: Searched, sums: Sequence[Sum], track: Track) -> list[Trial]:
    """Run the likeliest pairs; where one fits, those that are as likely, and no others."""
    scan = searched.scan
    affordable = sums[: max(LEAST, int(SECONDS / scan.case.seconds))]
    doubt = 0.5 * sum(x.size for x in scan.given.values())
    trials: list[Trial] = []
    limit = math.inf
    for group in track([affordable[i : i + AT_ONCE] for i in range(0, len(affordable), AT_ONCE)]):
        if group[0].score > limit:
            break
        tried = [pair for one in group for pair in _orders(*one.faults)]
        trials += scan.all(tried, iter, whole=True)
        if limit == math.inf and any(trial.fits for trial in trials):
            limit = group[-1].score + doubt
    return trials


def _orders(one: Fault, other: Fault) -> Iterator[Faults]:
    """Two faults; in both orders, where they change the same thing."""
    yield (one, other)
    if _meet(one, other):
        yield (other, one)


def _meet(one: Fault, other: Fault) -> bool:
    same = [
        (one.weights and other.weights),
        (one.config and other.config),
        (one.inputs and other.inputs),
        (one.taps and other.taps) or (one.onward and other.onward),
        set(one.operations) & set(other.operations),
    ]
    return any(same)
