"""The search: one fault, then two, until the reference with them in it is the candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from refimpl.parity.diagnosis.case import Case, Proof
from refimpl.parity.diagnosis.contest import Contest, contest
from refimpl.parity.diagnosis.scan import Faults, Scan, Track, Trial, with_alternatives
from refimpl.parity.diagnosis.subject import possible
from refimpl.parity.faults import Fault

PROOFS = 8  # so many of the nearest are proven or not
FIRSTS = 8  # so many are taken for one of a pair
SMALL = 100.0  # what is off by less than so many floors is looked at to the end
SECONDS = 8.0  # about what all pairs may take, where the nearest alone do not explain it


@dataclass(frozen=True)
class Found:
    """What a search in one arithmetic came to."""

    case: Case
    nothing: Proof  # the candidate against the reference without faults
    proofs: tuple[Proof, ...]  # what explains the candidate, best first; none where it abstains

    @property
    def right(self) -> bool:
        """Whether the candidate is the reference, as far as can be told."""
        return bool(self.proofs) and not self.proofs[0].faults


@dataclass(frozen=True)
class Searched:
    """A search for one fault, and what it saw on its way."""

    found: Found
    scan: Scan
    faults: tuple[Fault, ...]  # those that can matter
    trials: tuple[Trial, ...]  # nearest first
    whole: bool  # whether runs went to their end


def is_narrow(case: Case) -> bool:
    """Whether the noise is so large that small faults are within it."""
    return case.how.results is not None or case.how.factors is not None


def search(case: Case, track: Track) -> Searched:
    """Look for the one fault that explains a candidate in one arithmetic."""
    nothing = case.prove()
    scan = Scan(case, nothing)
    if nothing.holds and not is_narrow(case):
        return Searched(Found(case, nothing, (nothing,)), scan, (), (), False)
    faults = tuple(possible(case.subject))
    whole = is_narrow(case) or case.feed is None or nothing.worst < SMALL
    trials = _singles(scan, faults, nothing, track, whole=whole)
    proofs = _prove(scan, trials)
    if not proofs or is_narrow(case):
        more = [(fault,) for fault in with_alternatives(faults)]
        trials = sorted([*trials, *scan.all(more, track, whole=whole)], key=lambda t: t.rank)
        proofs = _prove(scan, trials)
    if nothing.holds:
        proofs = [nothing, *proofs]
    found = Found(case, nothing, tuple(_in_order(case, proofs)))
    return Searched(found, scan, faults, tuple(trials), whole)


def pair_search(searched: Searched, track: Track) -> Found:
    """Look for the two faults that do, where no single one does."""
    found, scan = searched.found, searched.scan
    proofs = _pairs(scan, searched.trials, searched.faults, track, whole=searched.whole)
    return Found(found.case, found.nothing, tuple(_in_order(found.case, proofs)))


# --- one fault ------------------------------------------------------------------------------------


def _singles(
    scan: Scan, faults: Sequence[Fault], nothing: Proof, track: Track, *, whole: bool
) -> list[Trial]:
    """Try the faults that may part where the candidate does; where none fits, all others too."""
    first = nothing.first
    likely = [(f,) for f in faults if whole or f.may_part_first(first)]
    trials = scan.all(likely, track, whole=whole)
    if any(_is_whole(scan, trial) for trial in trials):
        return trials
    tried = {fault.name for (fault,) in likely}
    rest = [(f,) for f in faults if f.name not in tried]
    return sorted([*trials, *scan.all(rest, track, whole=whole)], key=lambda t: t.rank)


def _is_whole(scan: Scan, trial: Trial) -> bool:
    return trial.reached == len(scan.place)


def _prove(scan: Scan, trials: Sequence[Trial]) -> list[Proof]:
    """Prove what is nearest; give back what holds."""
    proofs: list[Proof] = []
    best = trials[0] if trials else None
    for trial in trials[:PROOFS]:
        assert best is not None
        if proofs and not _is_near(scan, trial, best):
            break
        if trial.reached < 0:
            break
        proof = scan.case.prove(trial.faults)
        if proof.holds and (scan.nothing.holds or proof.falls_below(scan.nothing)):
            proofs.append(proof)
    return proofs


def _is_near(scan: Scan, trial: Trial, best: Trial) -> bool:
    """Whether what a trial leaves may be noise too, if what the best one leaves is."""
    sizes = sum(x.size for x in scan.case.subject.given.values())
    return trial.reached == best.reached and trial.score <= best.score + 0.5 * sizes


# --- two faults -----------------------------------------------------------------------------------


def _pairs(
    scan: Scan, trials: Sequence[Trial], faults: Sequence[Fault], track: Track, *, whole: bool
) -> list[Proof]:
    """Try the nearest single ones with all others; where a run takes no time, all with all."""
    affordable = int(SECONDS / (len(faults) * scan.case.seconds)) if whole else FIRSTS
    firsts = _distinct(trials)[: max(2, min(FIRSTS, affordable))]
    tried = [pair for first in firsts for pair in _with(first, faults)]
    found = _prove(scan, scan.all(tried, track, whole=whole))
    if found:
        return found
    everything = list(combinations(faults, 2))
    if len(everything) * scan.case.seconds > SECONDS:
        return []
    done = {frozenset(f.name for f in pair) for pair in tried}
    rest = [pair for pair in everything if frozenset(f.name for f in pair) not in done]
    return _prove(scan, scan.all(rest, track, whole=whole))


def _distinct(trials: Sequence[Trial]) -> list[Fault]:
    """The single faults of trials, nearest first, each with its nearest parameters."""
    nearest = {trial.faults[0].name: trial.faults[0] for trial in reversed(trials)}
    order = dict.fromkeys(trial.faults[0].name for trial in trials)
    return [nearest[name] for name in order]


def _with(first: Fault, faults: Iterable[Fault]) -> Iterator[Faults]:
    """A fault with each other one; in both orders, where they change the same thing."""
    for other in faults:
        if other.name == first.name:
            continue
        yield (first, other)
        if _meet(first, other):
            yield (other, first)


def _meet(one: Fault, other: Fault) -> bool:
    same = [
        (one.weights and other.weights),
        (one.config and other.config),
        (one.inputs and other.inputs),
        (one.taps and other.taps) or (one.onward and other.onward),
        set(one.operations) & set(other.operations),
    ]
    return any(same)


# --- which of several -----------------------------------------------------------------------------


def _in_order(case: Case, proofs: Sequence[Proof]) -> list[Proof]:
    """The best explanation, and behind it those that cannot be told from it here."""
    if len(proofs) < 2:
        return list(proofs)
    best = proofs[0]
    for other in proofs[1:]:
        if contest(case, best, other).second:
            best = other
    rest = [(p, contest(case, best, p)) for p in proofs if p is not best]
    equal = [p for p, against in rest if not against.first]
    if best.faults:  # of those that are the same here, the one that was met most often
        near = [p for p in equal if p.worst <= 1.5 * best.worst]
        same = [p for p in near if not is_narrow(case) or _are_one(rest, p)]
        first = max([best, *same], key=_times_met)
        equal = [p for p in (best, *equal) if p is not first]
        best = first
    return [best, *equal]


def _are_one(rest: Sequence[tuple[Proof, Contest]], proof: Proof) -> bool:
    return any(p is proof and math.isinf(against.noise) for p, against in rest)


def _times_met(proof: Proof) -> int:
    return sum(len(fault.sources) for fault in proof.faults)
