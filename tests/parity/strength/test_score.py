"""The score of a set of goldens: what it notices, what it would miss, and why."""

import os

import pytest

from refimpl.parity.faults import CATALOGUE
from refimpl.parity.goldens import bundled
from refimpl.parity.strength import (
    CAUGHT,
    EQUIVALENT,
    MISSED,
    Score,
    fresh,
    questions,
    read_fixture,
    score,
)
from refimpl.parity.strength.equivalents import NO_MISTAKE, no_mistake
from refimpl.parity.strength.fixture import NOTHING
from refimpl.parity.strength.score import Question

RUNS = 2  # honest runs: mistakes of float32 stand hundreds of floors above rounding


def fixture(case, arithmetic="float32"):
    return read_fixture(bundled() / case, arithmetic, RUNS)


def ask(names, *fixtures):
    """What the fixtures, all of one family, make of some mistakes."""
    asked = [Question(CATALOGUE[name], fixtures) for name in names]
    return {finding.fault: finding for finding in score(asked)}


@pytest.fixture(scope="module")
def padded():
    return fixture("xlm_roberta/padding_right")


# --- one golden -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arithmetic", ["float32", "float16", "bfloat16"])
def test_a_port_without_a_mistake_is_within_its_floors(arithmetic):
    one = read_fixture(bundled() / "xlm" / "padding_right", arithmetic, 8)
    found = one.port()
    assert found.keys() == one.truth.keys()
    assert one.doubtful == set()


def test_a_mistake_is_seen_where_it_is_made(padded):
    seen = padded.look(CATALOGUE["gelu_tanh"])
    assert seen.name.endswith("intermediate")
    assert seen.units > padded.floors.multiplier


def test_a_value_of_another_shape_or_not_finite_is_infinitely_far_off():
    one = fixture("xlm_roberta/mask_3d")
    assert one.look(CATALOGUE["mask_minus_infinity"]).units == float("inf")


def test_what_changes_nothing_is_not_seen(padded):
    assert padded.look(CATALOGUE["mask_minus_10000"]).units <= padded.floors.multiplier
    assert padded.look(CATALOGUE["scale_on_query"]).units <= padded.floors.multiplier


def test_a_value_at_which_rounding_looks_like_a_mistake_is_no_witness(padded):
    tiny = {name: type(floor)(0.0, 0.0, 0.0) for name, floor in padded.floors.forced.items()}
    doubtful = type(padded)(
        padded.name, padded.model, padded.inputs, padded.arithmetic, RUNS,
        type(padded.floors)("float32", RUNS, 4.0, padded.floors.free, tiny),
    )  # fmt: skip
    assert any(name.endswith("intermediate.dense") for name in doubtful.doubtful)
    assert doubtful.look(CATALOGUE["scale_on_query"]) == NOTHING


# --- the answers ----------------------------------------------------------------------------------


def test_the_answers_for_one_unpadded_golden():
    names = ("gelu_tanh", "mask_ignored", "mask_minus_10000", "norm_variance_unbiased")
    found = ask(names, fixture("xlm_roberta/model"))
    assert found["gelu_tanh"].status == found["norm_variance_unbiased"].status == CAUGHT
    assert found["gelu_tanh"].case == "xlm_roberta/model"
    assert found["mask_ignored"].status == MISSED
    assert "may not be looked at" in found["mask_ignored"].note
    assert found["mask_minus_10000"].status == EQUIVALENT
    assert found["mask_minus_10000"].note == CATALOGUE["mask_minus_10000"].equivalent


def test_another_golden_of_the_set_may_notice(padded):
    found = ask(["mask_ignored"], fixture("xlm_roberta/model"), padded)
    assert found["mask_ignored"].status == CAUGHT
    assert found["mask_ignored"].case == "xlm_roberta/padding_right"


def test_what_is_a_mistake_in_float32_may_be_none_in_float16():
    found = ask(["results_in_float16"], fixture("xlm/model", "float16"))["results_in_float16"]
    assert (found.status, found.note) == (EQUIVALENT, NO_MISTAKE["float16"]["results_in_float16"])
    assert no_mistake(CATALOGUE["results_in_float16"], "float32") == ""


def test_every_argument_is_about_a_mistake_of_the_catalogue():
    for arguments in NO_MISTAKE.values():
        assert set(arguments) <= set(CATALOGUE)
        assert all(text.endswith((".", ".)")) for text in arguments.values())


def test_only_families_that_the_set_has_are_asked_about(padded):
    asked = questions([padded])
    assert {one.fault.name for one in asked} == {
        name for name, fault in CATALOGUE.items() if "xlm_roberta" in fault.families
    }
    both = questions([padded, fixture("xlm/model")])
    assert len(both) > len(asked)
    assert all(len(one.fixtures) == 1 for one in both)


def test_the_score_counts():
    found = ask(["gelu_tanh", "mask_ignored", "scale_on_query"], fixture("xlm_roberta/model"))
    result = Score("float32", 4.0, tuple(found.values()))
    assert (result.share, result.exit_code) == (0.5, 1)
    assert result.weakest == found["gelu_tanh"]
    assert Score("float32", 4.0, (found["gelu_tanh"],)).exit_code == 0
    assert Score("float32", 4.0, (found["scale_on_query"],)).share == 1.0


# --- weak sets, and the bundled one ---------------------------------------------------------------

# What fresh weights hide: biases of 0, gains of 1.
HIDDEN = (
    "norm_weight_missing",
    "norm_bias_missing",
    "biases_missing",
    "query_bias_missing",
    "value_bias_missing",
    "inner_bias_missing",
)
# What a text without padding hides.
PADDING = ("mask_ignored", "positions_count_padding", "mask_behind_softmax")


def test_freshly_initialised_weights_without_padding_are_blind(padded):
    names = (*HIDDEN, *PADDING)
    weak = fresh(padded, {"input_ids": [[0, 17, 5, 23, 2]]})
    found = ask(names, weak)
    assert {found[name].status for name in names} == {MISSED}
    strong = ask(names, padded)
    assert {strong[name].status for name in names} == {CAUGHT}


def test_fresh_weights_are_as_a_model_has_them_before_training(padded):
    weights = fresh(padded).model.weights
    assert not weights["embeddings.word_embeddings"]["weight"][1].any()
    norm = weights["embeddings.LayerNorm"]
    assert (norm["weight"] == 1).all()
    assert not norm["bias"].any()
    query = weights["encoder.layer.0.attention.self.query"]["weight"]
    assert 0.01 < query.std() < 0.03


# Mistakes that hide, each with the golden that is there for it.
MADE_FOR = {
    "positions_in_bfloat16": "kept_keys",
    "positions_restart_behind_cache": "kept_keys",
    "layers_sorted_as_text": "eleven_layers",
    "two_masks_added": "decoder_padding_left",
    "lm_head_follows_hidden_act": "masked_lm_relu",
    "decoder_tied_wrongly": "masked_lm_relu",
    "norm_eps_in_float16": "edges",
    "norm_eps_1e_12": "edges",
    "gelu_tanh": "edges",
}


@pytest.mark.parametrize("family", ["xlm_roberta", "xlm_roberta_xl", "xmod"])
def test_what_hides_is_noticed_plainly(family):
    for case in dict.fromkeys(MADE_FOR.values()):
        one = fixture(f"{family}/{case}")
        for name in (name for name, made in MADE_FOR.items() if made == case):
            assert one.look(CATALOGUE[name]).units > 20 * one.floors.multiplier, (name, case)


@pytest.mark.parametrize("arithmetic", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["xlm", "xlm_roberta", "xlm_roberta_xl", "xmod"])
def test_the_other_gelu_is_noticed_in_few_bits(family, arithmetic):
    one = read_fixture(bundled() / family / "edges", arithmetic, 8)
    assert one.look(CATALOGUE["gelu_tanh"]).units > one.floors.multiplier


LEAST = {"float32": 1.0, "float16": 0.92, "bfloat16": 0.90}


# In float32 always; the others, minutes more each, where REFIMPL_MISTAKES is "all".
SCORED = LEAST if os.environ.get("REFIMPL_MISTAKES") == "all" else ["float32"]


@pytest.mark.large
@pytest.mark.parametrize("arithmetic", SCORED)
def test_the_bundled_goldens_notice_what_they_should(arithmetic):
    from refimpl.parity.goldens import find_goldens

    asked = questions([read_fixture(folder, arithmetic) for folder in find_goldens()])
    found = Score(arithmetic, 4.0, tuple(score(asked)))
    assert found.share >= LEAST[arithmetic], found.of(MISSED)
