"""Honest ways are ways to compute the same: in float64 they agree but for rounding."""

from itertools import pairwise

import numpy
import pytest

from refimpl.models.model import load
from refimpl.parity.compare import NORM, compare_floats
from refimpl.parity.floors import (
    ARITHMETICS,
    draw_implementation,
    measure_errors,
    measure_floors,
    run_honest,
)
from refimpl.parity.floors.honest import ELEMENTWISE, NORMS, PRODUCTS, SOFTMAXES
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.reference import run_reference
from refimpl.replacing import plain
from tests.compare import assert_ulps

LOT = numpy.random.default_rng(5)
CASES = ("xlm/head_mask", "xlm_roberta/padding_inside", "xlm_roberta_xl/model", "xmod/pre_norm")


def model_of(case):
    golden = read_golden(bundled() / case)
    return load(golden.folder, dtype="float64", kernels="plain"), golden.inputs()


@pytest.mark.parametrize("way", PRODUCTS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 200), (4, 0)])
def test_products(way, shape):
    a, b = LOT.standard_normal((2, *shape)), LOT.standard_normal((2, 5, shape[1]))
    found = PRODUCTS[way](a, b)
    expected = numpy.matmul(a, numpy.matrix_transpose(b))
    terms = numpy.matmul(abs(a), abs(numpy.matrix_transpose(b)))
    assert_ulps(found, expected, ulps=shape[1] + 1, of=terms)  # a rounding for each term


@pytest.mark.parametrize("way", NORMS)
@pytest.mark.parametrize("width", [1, 2, 13])
def test_layer_norms(way, width):
    x, weight, bias = LOT.standard_normal((3, 4, width)) * 9, *LOT.standard_normal((2, width))
    expected = plain("layer_norm")(x, weight, bias, eps=1e-5)
    mean, deviation = x.mean(axis=-1, keepdims=True), x.std(axis=-1, keepdims=True)
    terms = (abs(x) + abs(mean)) / (deviation + 1e-5**0.5) * abs(weight) + abs(bias)
    assert_ulps(NORMS[way](x, weight, bias, 1e-5), expected, ulps=2 * width + 16, of=terms)


@pytest.mark.parametrize("way", SOFTMAXES)
@pytest.mark.parametrize("keys", [1, 2, 11])
def test_softmaxes(way, keys):
    x = LOT.standard_normal((3, keys)) * 30
    x[0, 1:] = -1e30
    apart = numpy.clip(x.max(axis=-1, keepdims=True) - x, 1.0, 800.0)  # ulps that exp multiplies
    found, expected = SOFTMAXES[way](x), plain("softmax")(x)
    assert_ulps(found, expected, ulps=keys + 16, of=numpy.maximum(expected * apart, 5e-324))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_operations_of_one_array(name):
    x = numpy.linspace(-8, 8, 999)
    for way in ELEMENTWISE[name]:
        assert_ulps(way(x), plain(name)(x), ulps=16, of=numpy.maximum(abs(x), 1.0))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("number", range(12))
def test_an_honest_implementation_computes_what_the_reference_does(case, number):
    model, inputs = model_of(case)
    truth = run_reference(model, inputs).values
    drawn = draw_implementation(ARITHMETICS["float64"], number)
    found = run_honest(drawn, model, inputs).values
    assert list(found) == list(truth)
    for name, x in truth.items():
        if x.dtype.kind == "f" and x.size:
            assert compare_floats(name, found[name], x, NORM, "float64").ok, name


def test_the_same_number_is_the_same_implementation():
    how = ARITHMETICS["float32"]
    model, inputs = model_of("xlm_roberta/model")
    for number in range(12):
        once, again = (
            run_honest(draw_implementation(how, number), how.computing(model), inputs).values
            for _ in range(2)
        )
        assert all(numpy.array_equal(once[name], again[name]) for name in once), number


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_all_results_are_numbers_of_the_arithmetic(arithmetic):
    how = ARITHMETICS[arithmetic]
    model, inputs = model_of("xlm_roberta/cross_attention")
    for number in range(6):
        found = run_honest(draw_implementation(how, number), how.computing(model), inputs).taps
        for name, x in found.items():
            if x.dtype.kind == "f" and not name.endswith("word_embeddings"):
                assert (how.represent(x) == x).all(), name


@pytest.mark.parametrize("case", CASES)
def test_floors_grow_with_depth_and_not_where_each_operation_is_given_the_truth(case):
    model, inputs = model_of(case)
    floors = measure_floors(model, inputs, "float32", runs=8)
    norms = [n for n in floors.free if n.endswith("LayerNorm") or "layer_norm2" in n]
    last = norms[-1]
    assert floors.free[last].rms >= floors.forced[last].rms > 0
    assert floors.quantile == 8 / 9


def test_narrower_arithmetic_has_higher_floors():
    model, inputs = model_of("xlm_roberta/model")
    order = ("float64", "float32", "tf32", "bfloat16")
    found = [measure_floors(model, inputs, how, runs=6).free["last_hidden_state"] for how in order]
    for lower, higher in pairwise(found):
        assert 4 * lower.rms < higher.rms


def test_the_truth_is_of_the_weights_as_they_are_stored():
    """Weights rounded to bfloat16, float32 arithmetic: a float32 floor around another truth."""
    model, inputs = model_of("xlm_roberta/model")
    plain_floor = measure_floors(model, inputs, "float32", runs=6).free["last_hidden_state"]
    stored = measure_floors(model, inputs, "bfloat16-weights", runs=6).free["last_hidden_state"]
    assert stored.rms < 4 * plain_floor.rms
    exact = run_reference(model, inputs).outputs["last_hidden_state"]
    rounded = run_reference(ARITHMETICS["bfloat16-weights"].weights(model), inputs)
    moved = measure_errors(rounded.outputs["last_hidden_state"], exact)
    assert moved.rms > 1000 * stored.rms


def test_bad_arguments():
    model, inputs = model_of("xlm_roberta/model")
    with pytest.raises(ValueError, match=r"arithmetic: expected one of float64, .*, got 'fp8'"):
        measure_floors(model, inputs, "fp8")
    with pytest.raises(ValueError, match="runs: expected 1 or more, got 0"):
        measure_floors(model, inputs, runs=0)
