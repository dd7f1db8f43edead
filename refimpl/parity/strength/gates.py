"""Gates in common use, to be tried on the same mistakes: what they would let through.

Each looks at outputs only, by the rule and the numbers of its project.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy

from refimpl.parity.floors import draw_implementation, run_honest
from refimpl.parity.strength.fixture import Fixture
from refimpl.parity.strength.score import EQUIVALENT, Finding, Question

Array = numpy.ndarray
Outputs = Mapping[str, Array]
Rule = Callable[[Array, Array], bool]  # given, truth -> passed


class Gate(NamedTuple):
    """A rule by which some project tells a right port from a wrong one."""

    name: str
    title: str
    rule: Rule
    all_outputs: bool  # or the first only

    def passes(self, given: Outputs, truth: Outputs) -> bool:
        """Whether a port with these outputs would be taken for right."""
        names = [name for name, x in truth.items() if x.dtype.kind == "f" and x.size]
        names.sort(key=lambda name: truth[name].ndim == 0)  # a loss comes last
        for name in names if self.all_outputs else names[:1]:
            if name not in given or given[name].shape != truth[name].shape:
                return False
            with numpy.errstate(all="ignore"):
                if not self.rule(given[name], truth[name]):
                    return False
        return True


def _allclose(relative: float, absolute: float) -> Rule:
    return lambda x, truth: bool(numpy.allclose(x, truth, rtol=relative, atol=absolute))


def _slice(x: Array, truth: Array) -> bool:
    """Twelve numbers, of the last feature, as the integration test of XLM-R takes them."""
    few, of_truth = (numpy.atleast_1d(y)[..., -1].reshape(-1)[:12] for y in (x, truth))
    return bool(numpy.allclose(few, of_truth, rtol=1e-5, atol=1e-3))


def _cosine(least: float) -> Rule:
    def rule(x: Array, truth: Array) -> bool:
        product = float(numpy.vdot(x, truth))
        return product >= least * float(numpy.linalg.norm(x) * numpy.linalg.norm(truth))

    return rule


def _either(limit: float) -> Rule:
    """Wrong is what is off by too much both absolutely and relatively."""

    def rule(x: Array, truth: Array) -> bool:
        off = numpy.abs(x - truth)
        return not bool(numpy.any(~(off <= limit) & ~(off <= limit * numpy.abs(truth))))

    return rule


GATES: dict[str, Gate] = {
    gate.name: gate
    for gate in (
        Gate("slice_1e_3", "12 values within 1e-3 (transformers' integration test)", _slice, False),
        Gate("allclose_1e_3", "allclose, 1e-3 (transformers' converters)",
             _allclose(1e-5, 1e-3), True),
        Gate("allclose_1e_5", "allclose, 1e-5", _allclose(1e-5, 1e-5), True),
        Gate("polygraphy", "1e-5 absolute or 1e-5 relative (Polygraphy)", _either(1e-5), True),
        Gate("onnxruntime", "1e-3 relative plus 1e-4 (onnxruntime's transformers tools)",
             _allclose(1e-3, 1e-4), True),
        Gate("cosine", "cosine of 0.95", _cosine(0.95), False),
    )
}  # fmt: skip


class GateScore(NamedTuple):
    """What a gate makes of the mistakes that a set of goldens is to notice."""

    gate: str
    caught: int
    asked: int  # equivalents aside
    alarms: int  # honest runs that it takes for wrong
    honest: int


def score_gates(
    asked: Iterable[tuple[Question, Finding]], fixtures: Iterable[Fixture], runs: int = 4
) -> list[GateScore]:
    """Return what each gate catches of the same mistakes, on the same goldens.

    ``runs`` honest implementations of each fixture show how often a gate is wrong about them.
    """
    caught: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    total = honest = 0
    for question, finding in asked:
        if finding.status != EQUIVALENT:
            total += 1
            caught.update(_catching(question))
    for fixture in fixtures:
        for number in range(runs):
            honest += 1
            alarms.update(name for name, gate in GATES.items() if _alarms(gate, fixture, number))
    return [GateScore(name, caught[name], total, alarms[name], honest) for name in GATES]


def _catching(question: Question) -> list[str]:
    """The gates that notice a fault on one of the fixtures at least."""
    left = dict(GATES)
    for fixture in question.fixtures:
        if left and not fixture.refusal(question.fault):
            values, truth = fixture.port(question.fault), fixture.reference.outputs
            left = {name: gate for name, gate in left.items() if gate.passes(values, truth)}
    return [name for name in GATES if name not in left]


def _alarms(gate: Gate, fixture: Fixture, number: int) -> bool:
    how = fixture.arithmetic
    drawn = draw_implementation(how, number)
    outputs = run_honest(drawn, how.computing(fixture.model), fixture.inputs).outputs
    return not gate.passes(outputs, fixture.reference.outputs)
