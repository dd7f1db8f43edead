"""The diagnosis of a candidate: which mistakes explain it, in which arithmetic, and the proof."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy

from refimpl.models.model import Model
from refimpl.parity.diagnosis.case import Case, Proof
from refimpl.parity.diagnosis.pairs import pair_search
from refimpl.parity.diagnosis.scan import Track
from refimpl.parity.diagnosis.search import Found, search
from refimpl.parity.diagnosis.subject import Subject, make_subject
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE, Fault
from refimpl.parity.floors import ARITHMETICS, MULTIPLIER, find_arithmetic
from refimpl.parity.rounding import bfloat16, float16

# A fault of precision is an arithmetic, seen from float32.
AS_FAULT = {
    "tf32": "tf32_products",
    "bfloat16-weights": "weights_in_bfloat16",
    "float16-weights": "weights_in_float16",
}
AS_ARITHMETIC = {
    **{fault: name for name, fault in AS_FAULT.items()},
    "results_in_bfloat16": "bfloat16",
    "results_in_float16": "float16",
}
# Others that a candidate in float32 numbers may have run in, and the rounding that they add.
WIDER = {
    "bfloat16-weights": 2.0**-9,
    "float16-weights": 2.0**-11,
    "tf32": 2.0**-11,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-9,
}
ROOM = 8.0  # a typical error may be so many times what the rounding makes one expect
TOO_GOOD = 0.2  # a typical error of fewer floors than this is that of a narrower arithmetic


@dataclass(frozen=True)
class Answer:
    """One explanation: faults, and how the candidate's distance falls with them, in floors."""

    faults: tuple[Fault, ...]
    before: float
    after: float
    values: int  # how many values of the candidate were compared

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the faults, with those parameters that they have."""
        return tuple(named(fault) for fault in self.faults)


@dataclass(frozen=True)
class Diagnosis:
    """What is known about a candidate."""

    architecture: str
    arithmetic: str  # in which the candidate is explained, or "" where it is not
    answers: tuple[Answer, ...]  # best first; more than one cannot be told apart by this input
    first: str  # the first value beyond rounding without faults; "" for none
    before: float  # how far the reference without faults is from the candidate, in floors
    values: int
    unknown: tuple[str, ...]  # values of the candidate without a name of the reference
    abstained: str = ""  # why there is no answer

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of the faults of the first answer."""
        return tuple(fault.name for fault in self.answers[0].faults) if self.answers else ()

    @property
    def right(self) -> bool:
        """Whether the candidate computes what the reference does."""
        return bool(self.answers) and not self.answers[0].faults

    @property
    def exit_code(self) -> int:
        """0: no fault. 1: a fault, or a difference without a name."""
        return 0 if self.right else 1


def named(fault: Fault) -> str:
    """A fault's name with its parameters.

    >>> named(CATALOGUE["norm_eps_1e_12"])
    'norm_eps_1e_12(eps=1e-12)'
    """
    if not fault.parameters:
        return fault.name
    told = (f"{k}={v if isinstance(v, str) else f'{v:g}'}" for k, v in fault.parameters.items())
    return f"{fault.name}({', '.join(told)})"


def diagnose(
    model: Model,
    candidate: Dump,
    *,
    arithmetic: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs_only: bool = False,
    track: Track = iter,
) -> Diagnosis:
    """Say which fault, or pair of faults, makes the reference equal to a candidate.

    ``model`` is the checkpoint in float64; ``candidate`` a dump under the names of the reference.
    ``arithmetic`` is that of the candidate, where it is known: one of ``ARITHMETICS``. ``inputs``
    are those of the call, where the dump lacks them. With ``outputs_only`` its taps do not count.
    ``track`` may show the progress of what is tried.

    Raises ``ValueError`` for an unknown arithmetic, for a model that is not in float64, and for a
    candidate without inputs or without a single known name.
    """
    if model.dtype != "float64":
        raise ValueError(f"model: expected one in float64, got {model.dtype}")
    subject = make_subject(model, candidate, inputs, taps=not outputs_only)
    names = [arithmetic] if arithmetic else _likely(subject)
    cases = [[Case(view, find_arithmetic(name)) for view in subject.views()] for name in names]
    told = arithmetic is not None or names[0] != "float32"
    for found in _ways(subject, cases, track, told):
        if found.proofs:
            return _explained(subject, found, told)
    return _abstain(subject, cases[0][0], told)


def _likely(subject: Subject) -> list[str]:
    """float32, unless nearly all the candidate's numbers are those of a narrower format."""
    real = [x for x in subject.given.values() if x.dtype.kind == "f" and x.size]
    for name, to in (("bfloat16", bfloat16), ("float16", float16)):
        fitting = [x for x in real if _fits(x, to)]
        if real and len(fitting) >= 0.9 * len(real):
            return [name]
    return ["float32"]


def _fits(x: numpy.ndarray, to: Any) -> bool:
    wide = x.astype(numpy.float64)
    with numpy.errstate(all="ignore"):
        return bool(numpy.array_equal(to(wide), wide, equal_nan=True))


def _ways(
    subject: Subject, cases: Sequence[Sequence[Case]], track: Track, told: bool
) -> Iterator[Found]:
    """Look for an explanation: one fault, another arithmetic, two faults, both.

    Of all that the candidate shows first. One fault that explains only some of it would hide two
    that explain it all.
    """
    searched = [search(cases[0][0], track)]
    yield searched[0].found
    wider = [] if told else _wider(subject, searched[0].found.nothing)
    yield from _other_arithmetics(wider)
    yield pair_search(searched[0], track)
    for case in cases[0][1:]:
        one = search(case, track)
        if one.found.right:
            break  # what parts is hidden there, not explained
        searched.append(one)
        yield one.found
    for one in searched[1:]:
        yield pair_search(one, track)
    for case in wider:
        if case.how.results is None:
            yield search(case, track).found


def _wider(subject: Subject, nothing: Proof) -> list[Case]:
    """The arithmetics that could be what makes most of a candidate's values part."""
    if nothing.typical <= MULTIPLIER:
        return []
    float32 = ARITHMETICS["float32"].unit
    names = [n for n, unit in WIDER.items() if nothing.typical <= ROOM * unit / float32]
    return [Case(subject, ARITHMETICS[name]) for name in names]


def _other_arithmetics(wider: Sequence[Case]) -> Iterator[Found]:
    """The reference as it is, in a wider arithmetic, if that is not far too wide."""
    for case in wider:
        proof = case.prove()
        if proof.holds and proof.typical > TOO_GOOD:
            yield Found(case, proof, (proof,))


# --- what is told ---------------------------------------------------------------------------------


def _explained(subject: Subject, found: Found, told: bool) -> Diagnosis:
    best = found.proofs[0]
    arithmetic = found.case.how.name
    names = [fault.name for fault in best.faults]
    answers = [_answer(found, proof) for proof in found.proofs]
    if not told:
        arithmetic = next((AS_ARITHMETIC[n] for n in names if n in AS_ARITHMETIC), arithmetic)
        if not names and arithmetic in AS_FAULT:
            fault = CATALOGUE[AS_FAULT[arithmetic]]
            before = Case(subject, ARITHMETICS["float32"]).prove()
            answers = [replace(answers[0], faults=(fault,), before=before.worst)]
            return _diagnosis(subject, before, arithmetic, answers)
        if arithmetic == "float32" and _is_float64(found.case, best):
            arithmetic = "float64"
    return _diagnosis(subject, found.nothing, arithmetic, answers)


def _is_float64(case: Case, best: Proof) -> bool:
    if best.typical > TOO_GOOD:
        return False
    return Case(case.subject, ARITHMETICS["float64"]).prove(best.faults).holds


def _answer(found: Found, proof: Proof) -> Answer:
    return Answer(proof.faults, found.nothing.worst, proof.worst, len(proof.units))


def _diagnosis(
    subject: Subject, nothing: Proof, arithmetic: str, answers: Iterable[Answer], why: str = ""
) -> Diagnosis:
    return Diagnosis(
        subject.model.architecture,
        arithmetic,
        tuple(answers),
        nothing.first,
        nothing.worst,
        len(nothing.units),
        subject.unknown,
        why,
    )


def _abstain(subject: Subject, case: Case, told: bool) -> Diagnosis:
    nothing = case.prove()
    how = f"in {case.how.name}" if told else "in any arithmetic"
    why = (
        f"no known fault and no two of them explain it {how}; it first parts at "
        f"{nothing.first or 'no single value'}"
    )
    return _diagnosis(subject, nothing, "", (), why)
