"""What the search for a fault rests on: known products, threads, and sums of changes."""

import numpy
import pytest

from refimpl import ops
from refimpl.parity.diagnosis.case import Case
from refimpl.parity.diagnosis.known import Known
from refimpl.parity.diagnosis.scan import LARGE, Scan, sample, thin
from refimpl.parity.diagnosis.subject import make_subject
from refimpl.parity.diagnosis.sums import likeliest
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.floors import ARITHMETICS
from tests.parity.diagnosis.test_diagnosis import LEFT, candidate, case

FEW = ["gelu_tanh", "positions_from_zero", "value_bias_missing", "scale_missing", "norm_first"]


def scan_of(*faults, taps=True):
    subject = make_subject(case(LEFT)[0], candidate(LEFT, *faults), taps=taps)
    of = Case(subject, ARITHMETICS["float32"])
    return Scan(of, of.prove())


# --- what is known --------------------------------------------------------------------------------


def test_what_is_known_is_given_back():
    rng = numpy.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape) for shape in ((2, 3), (4, 3), (4,)))
    known = Known()
    with known.kept():
        y = ops.linear(x, weight, bias)
        z = ops.gelu_erf(y)
    with known.used():
        assert ops.linear(x.copy(), weight, bias) is y
        assert ops.gelu_erf(y) is z


@pytest.mark.parametrize("changed", ["x", "weight", "bias", "no bias"])
def test_what_is_not_known_is_computed(changed):
    rng = numpy.random.default_rng(0)
    given = {"x": rng.standard_normal((2, 3)), "weight": rng.standard_normal((4, 3))}
    given["bias"] = rng.standard_normal(4)
    known = Known()
    with known.kept():
        ops.linear(**given)
    other = (
        {**given, changed: given[changed] + 1.0} if changed in given else {**given, "bias": None}
    )
    with known.used():
        found = ops.linear(**other)
    assert numpy.array_equal(found, ops.linear(**other))


@pytest.mark.parametrize("taps", [True, False])
def test_a_scan_of_a_large_model_sees_what_one_of_a_small_model_sees(taps, monkeypatch):
    """Several runs at once, with what is known, rank the faults as one after another."""
    tried = [(CATALOGUE[name],) for name in FEW]
    slow = scan_of("gelu_tanh", taps=taps)
    expected = slow.all(tried, iter, whole=True)
    monkeypatch.setattr(Case, "is_small", False)
    monkeypatch.setattr(Case, "runs", slow.case.runs)
    quick = scan_of("gelu_tanh", taps=taps)
    assert quick.known is not None
    actual = quick.all(tried, iter, whole=True)
    assert [trial.faults for trial in actual] == [trial.faults for trial in expected]
    assert [trial.fits for trial in actual] == [True, False, False, False, False]


def test_of_a_large_value_some_features_of_each_cell_are_looked_at():
    x = numpy.zeros((3, 2 * LARGE))
    assert thin(x[:, :9]).shape == (3, 9)
    assert thin(x).shape[0] == 3
    assert thin(x).size <= LARGE


# --- sums -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [True, False])
def test_the_likeliest_sum_is_of_the_two_faults_that_were_made(taps):
    made = ("gelu_tanh", "value_bias_missing")
    scan = scan_of(*made, taps=taps)
    trials = scan.all([(CATALOGUE[name],) for name in FEW], iter, whole=True)
    best = likeliest(scan, trials)[0]
    assert {fault.name for fault in best.faults} == set(made)


def test_no_sum_is_of_one_fault_with_two_parameters():
    scan = scan_of("norm_eps_other")
    faults = [CATALOGUE["norm_eps_other"].with_parameters(eps=eps) for eps in (1e-3, 1e-4)]
    faults.append(CATALOGUE["gelu_tanh"])
    trials = scan.all([(fault,) for fault in faults], iter, whole=True)
    names = [{fault.name for fault in one.faults} for one in likeliest(scan, trials)]
    assert names == [{"norm_eps_other", "gelu_tanh"}] * 2


def test_a_sample_is_small_and_keeps_the_shape():
    found = sample(numpy.arange(12.0).reshape(3, 4))
    assert found.shape == (3, 4)
    assert numpy.array_equal(found.numbers, numpy.arange(12.0))
    assert sample(numpy.zeros((70, 99))).numbers.size <= 512
