"""The search for the one fault that makes the reference the candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from refimpl.parity.diagnosis.case import Case, Proof
from refimpl.parity.diagnosis.contest import Contest, contest
from refimpl.parity.diagnosis.scan import Scan, Track, Trial, with_alternatives
from refimpl.parity.diagnosis.subject import possible
from refimpl.parity.faults import Fault

PROOFS = 8  # so many of the nearest are proven or not
SMALL = 100.0  # what is off by less than so many floors is looked at to the end
HOPELESS = 1000.0  # what a scan leaves so far off no floor will hide


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
    proofs = prove(scan, trials)
    if not proofs or is_narrow(case):
        more = [(fault,) for fault in with_alternatives(faults)]
        trials = sorted([*trials, *scan.all(more, track, whole=whole)], key=lambda t: t.rank)
        proofs = prove(scan, trials)
    if nothing.holds:
        proofs = [nothing, *proofs]
    found = Found(case, nothing, tuple(in_order(case, proofs)))
    return Searched(found, scan, faults, tuple(trials), whole)


# --- one fault ------------------------------------------------------------------------------------


def _singles(
    scan: Scan, faults: Sequence[Fault], nothing: Proof, track: Track, *, whole: bool
) -> list[Trial]:
    """Try the faults that may part where the candidate does; where none fits, all others too."""
    first = nothing.first
    likely = [(f,) for f in faults if whole or f.may_part_first(first)]
    trials = scan.all(likely, track, whole=whole)
    if any(trial.fits for trial in trials):
        return trials
    tried = {fault.name for (fault,) in likely}
    rest = [(f,) for f in faults if f.name not in tried]
    return sorted([*trials, *scan.all(rest, track, whole=whole)], key=lambda t: t.rank)


def prove(scan: Scan, trials: Sequence[Trial]) -> list[Proof]:
    """Prove what is nearest; give back what holds."""
    proofs: list[Proof] = []
    best = trials[0] if trials else None
    for trial in trials[:PROOFS]:
        assert best is not None
        if proofs and not _is_near(scan, trial, best):
            break
        if trial.away > HOPELESS:
            continue
        proof = scan.case.prove(trial.faults)
        if proof.holds and (scan.nothing.holds or proof.falls_below(scan.nothing)):
            proofs.append(proof)
    return proofs


def _is_near(scan: Scan, trial: Trial, best: Trial) -> bool:
    """Whether what a trial leaves may be noise too, if what the best one leaves is."""
    sizes = sum(x.size for x in scan.case.subject.given.values())
    return trial.reached == best.reached and trial.score <= best.score + 0.5 * sizes


# --- which of several -----------------------------------------------------------------------------


def in_order(case: Case, proofs: Sequence[Proof]) -> list[Proof]:
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
