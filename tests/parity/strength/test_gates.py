"""Common gates, tried on the same mistakes."""

import numpy
import pytest

from refimpl.parity.faults import CATALOGUE
from refimpl.parity.goldens import bundled
from refimpl.parity.strength import EQUIVALENT, GATES, MISSED, Finding, read_fixture, score_gates
from refimpl.parity.strength.score import CAUGHT, Question

TRUTH = numpy.linspace(-2.0, 2.0, 60).reshape(3, 4, 5)


def passes(gate, given):
    return GATES[gate].passes({"logits": given}, {"logits": TRUTH})


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_lets_the_truth_through_and_nothing_else(gate):
    assert passes(gate, TRUTH)
    assert not passes(gate, -TRUTH)
    assert not passes(gate, TRUTH[:, :2])
    assert not passes(gate, numpy.full_like(TRUTH, numpy.nan))
    assert not GATES[gate].passes({}, {"logits": TRUTH})


@pytest.mark.parametrize(
    ("gate", "off", "passed"),
    [
        ("slice_1e_3", 9e-4, True),
        ("slice_1e_3", 2e-3, False),
        ("allclose_1e_3", 9e-4, True),
        ("allclose_1e_3", 2e-3, False),
        ("allclose_1e_5", 9e-6, True),
        ("allclose_1e_5", 9e-5, False),
        ("polygraphy", 9e-6, True),
        ("polygraphy", 9e-5, False),
        ("onnxruntime", 9e-5, True),
        ("onnxruntime", 9e-3, False),
        ("cosine", 0.1, True),
        ("cosine", 5.0, False),
    ],
)
def test_where_a_gate_begins(gate, off, passed):
    assert passes(gate, TRUTH + off) is passed


def test_polygraphy_takes_either_measure():
    large = numpy.asarray([1e6])
    assert GATES["polygraphy"].passes({"x": large + 1.0}, {"x": large})
    assert not GATES["allclose_1e_5"].passes({"x": large + 20.0}, {"x": large})


def test_a_slice_sees_the_last_feature_of_the_first_output_only():
    blind = TRUTH.copy()
    blind[..., :-1] += 1.0
    assert passes("slice_1e_3", blind)
    assert not passes("allclose_1e_3", blind)
    outputs = {"a": TRUTH, "b": TRUTH}
    assert GATES["cosine"].passes({"a": TRUTH, "b": -TRUTH}, outputs)
    assert not GATES["onnxruntime"].passes({"a": TRUTH, "b": -TRUTH}, outputs)


def test_a_loss_is_no_slice():
    outputs = {"loss": numpy.asarray(2.0), "logits": TRUTH}
    wrong = {**outputs, "loss": numpy.asarray(3.0)}
    assert GATES["slice_1e_3"].passes(wrong, outputs)
    assert not GATES["onnxruntime"].passes(wrong, outputs)
    assert not GATES["slice_1e_3"].passes(wrong, {"loss": outputs["loss"]})


def test_integers_and_empty_outputs_are_not_looked_at():
    outputs = {"ids": numpy.asarray([1, 2]), "none": numpy.zeros((0, 3)), "x": TRUTH}
    assert GATES["cosine"].passes({**outputs, "ids": numpy.asarray([3])}, outputs)


def test_the_score_of_gates_leaves_equivalents_aside():
    one = read_fixture(bundled() / "xlm_roberta" / "padding_right", runs=2)
    names = {"gelu_tanh": MISSED, "mask_ignored": CAUGHT, "scale_on_query": EQUIVALENT}
    pairs = [
        (Question(CATALOGUE[name], (one,)), Finding(name, one.family, status))
        for name, status in names.items()
    ]
    found = {gate.gate: gate for gate in score_gates(pairs, [one], runs=2)}
    assert list(found) == list(GATES)
    assert {gate.asked for gate in found.values()} == {2}
    assert {gate.honest for gate in found.values()} == {2}
    assert found["cosine"].caught < found["polygraphy"].caught == 2
    assert all(gate.alarms == 0 for gate in found.values())
