"""Diagnoses of candidates that were computed in another way than the reference computes."""

from dataclasses import replace
from functools import cache

import numpy
import pytest

from refimpl.backend import to_numpy
from refimpl.models.model import load
from refimpl.parity.diagnosis import diagnose, named
from refimpl.parity.diagnosis.honest import run_honestly
from refimpl.parity.dumps import Dump
from refimpl.parity.faults import CATALOGUE, Fault, run_faulty
from refimpl.parity.floors import ARITHMETICS, MULTIPLIER
from refimpl.parity.goldens import bundled, flatten, read_golden
from tests.models.drawn import build

HELD_OUT = 11  # an honest implementation that no floor was measured with


@cache
def case(name):
    golden = read_golden(bundled() / name)
    return load(golden.folder, dtype="float64", kernels="plain"), golden.inputs()


def candidate(name, *faults, arithmetic="float32"):
    """What a port with faults computes, in an arithmetic and in an order of its own."""
    model, inputs = case(name)
    how = ARITHMETICS[arithmetic]
    made = [CATALOGUE[f] if isinstance(f, str) else f for f in faults]
    values = run_honestly(how, HELD_OUT, how.computing(model), inputs, made)
    arrays = {n: x for n, x in inputs.items() if not isinstance(x, bool)}
    flags = {n: x for n, x in inputs.items() if isinstance(x, bool)}
    return Dump(values, {}, arrays, {"flags": flags})


def ask(name, *faults, **options):
    model, _ = case(name)
    arithmetic = options.pop("made_in", "float32")
    return diagnose(model, candidate(name, *faults, arithmetic=arithmetic), **options)


LEFT = "xlm_roberta/padding_left"
ONE = "xlm_roberta/one_token_type"  # of one layer


@pytest.fixture
def few(monkeypatch):
    """A catalogue of few faults, where it does not matter which there are."""
    names = ("gelu_tanh", "positions_from_zero", "value_bias_missing", "scale_missing")
    faults = {name: CATALOGUE[name] for name in names}
    monkeypatch.setattr("refimpl.parity.diagnosis.subject.CATALOGUE", faults)


# --- one fault ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (LEFT, "positions_from_zero"),
        (LEFT, "norm_eps_1e_12"),
        (LEFT, "value_bias_missing"),
        (LEFT, "heads_merged_interleaved"),
        (LEFT, "attention_residual_missing"),
        (LEFT, "last_layer_skipped"),
        ("xlm_roberta/masked_lm", "lm_head_gelu_tanh"),
        ("xlm/padding_left", "xlm_padding_not_zeroed"),
        ("xlm_roberta_xl/padding_left", "final_norm_missing"),
        ("xmod/mixed_languages", "xmod_language_of_first_text"),
    ],
)
def test_a_fault_is_named_and_proven(name, fault):
    prove(ask(name, fault), fault)


@pytest.mark.parametrize("fault", ["positions_from_zero", "norm_eps_1e_12", "final_norm_added"])
def test_a_fault_is_named_and_proven_from_outputs_alone(fault):
    prove(ask(LEFT, fault, outputs_only=True), fault)


def prove(found, fault):
    assert found.faults == (fault,)
    assert found.arithmetic == "float32"
    assert found.exit_code == 1
    assert not found.abstained
    best = found.answers[0]
    assert best.before == found.before > MULTIPLIER >= best.after


def test_where_it_first_parts_is_told():
    found = ask(LEFT, "gelu_tanh")
    assert found.first == "encoder.layer.0.intermediate"


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("positions_offset_twice", {"offset": 3}),
        ("mask_minus_10", {"value": -5.0}),
        ("norm_eps_other", {"eps": 1e-3}),
        ("square_weights_transposed", {"which": "attention_out"}),
    ],
)
def test_other_parameters_are_found(fault, parameters):
    wrong = CATALOGUE[fault].with_parameters(**parameters)
    found = ask(LEFT, wrong)
    assert found.answers[0].names == (named(wrong),)


def test_every_alternative_is_of_a_parameter_and_not_the_parameter_itself():
    for fault in CATALOGUE.values():
        assert set(fault.alternatives) <= set(fault.parameters)
        for parameter, values in fault.alternatives.items():
            assert fault.parameters[parameter] not in values
            assert len(set(values)) == len(values)


# --- two faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "outputs_only"),
    [
        (("gelu_tanh", "positions_from_zero"), False),
        (("norm_variance_unbiased", "token_types_missing"), True),
    ],
)
def test_two_faults_are_named(faults, outputs_only):
    found = ask(LEFT, *faults, outputs_only=outputs_only)
    assert set(found.faults) == set(faults)
    assert found.answers[0].after <= MULTIPLIER


# --- no fault, and which arithmetic ---------------------------------------------------------------


@pytest.mark.parametrize("arithmetic", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.usefixtures("few")
def test_a_right_candidate_has_no_fault(arithmetic):
    found = ask(ONE, made_in=arithmetic)
    assert found.right
    assert found.exit_code == 0
    assert found.arithmetic == arithmetic


@pytest.mark.parametrize(
    ("arithmetic", "fault"),
    [
        ("tf32", "tf32_products"),
        ("float16-weights", "weights_in_float16"),
        ("bfloat16-weights", "weights_in_bfloat16"),
    ],
)
def test_an_arithmetic_that_nobody_asked_for_is_a_fault(arithmetic, fault):
    found = ask(LEFT, made_in=arithmetic)
    assert (found.arithmetic, found.faults) == (arithmetic, (fault,))
    asked = ask(LEFT, made_in=arithmetic, arithmetic=arithmetic)
    assert asked.right


@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16"])
def test_a_fault_is_named_in_low_precision(arithmetic):
    found = ask(LEFT, "gelu_as_silu", made_in=arithmetic)
    assert (found.arithmetic, found.faults) == (arithmetic, ("gelu_as_silu",))


def test_a_fault_that_changes_no_output_is_none_by_outputs_alone():
    assert ask(LEFT, "key_bias_missing", outputs_only=True).right
    assert ask(LEFT, "key_bias_missing").faults == ("key_bias_missing",)


# --- what cannot be told --------------------------------------------------------------------------


def test_faults_that_this_input_does_not_tell_apart_are_all_named():
    found = ask(LEFT, "attention_mask_not_passed")
    assert {answer.names for answer in found.answers} == {
        ("mask_ignored",),
        ("attention_mask_not_passed",),
    }


def unknown_mistake(place, change):
    """A mistake that the catalogue does not have."""
    return Fault(
        name="unheard_of",
        title="",
        area="layers",
        explanation="",
        effect="",
        mend="",
        first_taps=(),
        taps=lambda run, name, x: change(x) if name.endswith(place) else x,
    )


@pytest.mark.usefixtures("few")
def test_it_abstains_where_nothing_explains_it():
    fault = unknown_mistake("layer.0.output.dense", lambda x: 1.01 * x[:, ::-1, :])
    found = ask(ONE, fault)
    assert found.answers == ()
    assert found.faults == ()
    assert found.exit_code == 1
    assert found.abstained.startswith("no known fault and no two of them explain it")
    assert found.first in found.abstained
    assert found.first == "encoder.layer.0.output.dense"


# --- broken candidates ----------------------------------------------------------------------------


def test_a_candidate_of_few_values_is_diagnosed_by_these():
    whole = candidate(LEFT, "gelu_tanh")
    few = {n: whole.taps[n] for n in ("encoder.layer.0.intermediate", "pooler_output")}
    assert diagnose(case(LEFT)[0], replace(whole, taps=few)).faults == ("gelu_tanh",)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x * numpy.nan,
        lambda x: x[..., :-1],
        lambda x: x[:0],
        lambda x: numpy.full_like(x, numpy.inf),
    ],
)
@pytest.mark.usefixtures("few")
def test_a_broken_value_is_no_traceback(spoil):
    whole = candidate(ONE)
    name = next(n for n in whole.taps if n.endswith("layer.0.output.dense"))
    taps = {**whole.taps, name: spoil(whole.taps[name])}
    found = diagnose(case(ONE)[0], replace(whole, taps=taps))
    assert found.exit_code == 1
    assert found.abstained
    assert found.first == name


def test_names_that_the_reference_does_not_have_are_told():
    whole = candidate(LEFT)
    found = diagnose(case(LEFT)[0], replace(whole, taps={**whole.taps, "x.y": numpy.ones(3)}))
    assert found.right
    assert found.unknown == ("x.y",)


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({"inputs": {}, "about": {}}, {}, "inputs: expected those of the call"),
        ({"taps": {"x": numpy.ones(2)}}, {}, "candidate: expected names such as embeddings"),
        ({}, {"arithmetic": "float8"}, "arithmetic: expected one of float64"),
    ],
)
def test_what_cannot_be_run_is_refused(change, options, said):
    with pytest.raises(ValueError, match=said):
        diagnose(case(LEFT)[0], replace(candidate(LEFT), **change), **options)


def test_the_reference_is_in_float64():
    with pytest.raises(ValueError, match="model: expected one in float64, got float32"):
        diagnose(load(bundled() / LEFT), candidate(LEFT))


# --- honest runs with faults in them --------------------------------------------------------------


def test_an_honest_run_makes_the_fault():
    """In float64 it is the faulty reference, in whatever order it computes."""
    model = build("xlm_roberta")
    inputs = {"input_ids": [[0, 17, 5, 1, 1]], "attention_mask": [[1, 1, 1, 0, 0]]}
    arrays = {name: numpy.asarray(x) for name, x in inputs.items()}
    how = ARITHMETICS["float64"]
    for name in ("softmax_over_queries", "norm_without_mean", "gelu_as_silu", "mask_inverted"):
        taps, outputs = run_faulty(model, arrays, [CATALOGUE[name]])
        expected = {n: to_numpy(x) for n, x in {**taps, **flatten(outputs)}.items()}
        actual = run_honestly(how, HELD_OUT, how.computing(model), arrays, [CATALOGUE[name]])
        assert list(actual) == list(expected)
        for n, x in expected.items():
            size = numpy.abs(x).max() or 1.0
            assert numpy.abs(actual[n] - x).max() / size < 2.0**-40, (name, n)
