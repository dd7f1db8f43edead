"""How faults are run: several at once, without a trace, refused where they cannot matter."""

import re
from dataclasses import replace

import numpy
import pytest

from refimpl import ops, record
from refimpl.parity.faults import (
    CATALOGUE,
    FAMILIES,
    Fault,
    applies,
    effect,
    run_faulty,
    why_not,
)
from refimpl.parity.faults.inject import LazyTensors
from refimpl.taps import tap
from tests.compare import assert_same, assert_ulps
from tests.models.drawn import build, tensors_of, with_tensors

IDS = [[0, 17, 5, 23, 2], [0, 28, 2, 1, 1]]
PADDED = {"input_ids": IDS, "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]}
CALLS = {
    "xlm": {
        "input_ids": [[0, 17, 5, 23, 1], [0, 28, 1, 2, 2]],
        "langs": [[3] * 5, [0, 0, 1, 1, 2]],
    },
    "xlm_roberta": PADDED,
    "xlm_roberta_xl": PADDED,
    "xmod": {**PADDED, "lang_ids": [1, 0]},
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def run(family, *names, **inputs):
    faults = [CATALOGUE[name] if isinstance(name, str) else name for name in names]
    return run_faulty(build(family), {**CALLS[family], **inputs}, faults)


def parts(one, other):
    return max(effect(one, other).values())


# --- several at once ------------------------------------------------------------------------------


@every_family
@pytest.mark.parametrize("name", ["query_and_key_swapped", "layers_swapped"])
def test_an_exchange_undoes_itself(family, name):
    right = run(family)
    assert parts(right, run(family, name)) > 0
    assert parts(right, run(family, name, name)) == 0


@every_family
def test_faults_of_different_kinds_add_up_in_any_order(family):
    names = [
        "norm_eps_1e_12" if family != "xlm" else "norm_eps_1e_5",  # config
        "value_bias_missing",  # weights
        "attention_mask_not_passed" if family != "xlm" else "xlm_langs_missing",  # inputs
        "scale_missing",  # an operation
        "activation_missing",  # a tap
        "attention_residual_missing",  # what goes on from a tap
    ]
    together = run(family, *names)
    assert parts(together, run(family, *reversed(names))) == 0
    for name in names:
        assert parts(together, run(family, *(n for n in names if n != name))) > 1e-9


@every_family
def test_a_fault_may_come_twice(family):
    deep = build(family, **{"n_layers" if family == "xlm" else "num_hidden_layers": 3})
    shallow = replace(deep, config=replace(deep.config, **dict.fromkeys(depth_of(deep), 1)))
    twice = run_faulty(deep, CALLS[family], [CATALOGUE["last_layer_skipped"]] * 2)
    assert parts(run_faulty(shallow, CALLS[family], []), twice) == 0

    tensors = tensors_of(deep)
    third_first = tensors | {
        name.replace(".2.", ".0."): x for name, x in tensors.items() if ".2." in name
    }
    expected = run_faulty(with_tensors(shallow, third_first), CALLS[family], [])
    twice = run_faulty(deep, CALLS[family], [CATALOGUE["first_layer_skipped"]] * 2)
    assert parts(expected, twice) == 0


def depth_of(model):
    return [name for name in ("n_layers", "num_hidden_layers") if hasattr(model.config, name)]


def test_one_operation_is_wrapped_by_two_faults():
    """The scale of the one and the softmax of the other both hold."""
    both = run("xlm_roberta", "scale_missing", "softmax_over_queries")[0]
    scores = both["encoder.layer.0.attention.self.scores"]
    assert_same(scores, run("xlm_roberta", "scale_missing")[0][name_of(scores, both)])
    masked = ops.mask_scores(scores, numpy.asarray(PADDED["attention_mask"])[:, None, None, :] == 1)
    sums = both["encoder.layer.0.attention.self.probs"].sum(axis=-2)
    assert masked.shape == scores.shape
    assert_ulps(sums, numpy.ones_like(sums), ulps=2 * len(PADDED["attention_mask"][0]))


def name_of(x, taps):
    return next(name for name, value in taps.items() if value is x)


def test_of_two_operations_in_one_place_the_later_counts():
    one = run("xlm_roberta", "gelu_as_relu", "gelu_as_silu")
    assert parts(one, run("xlm_roberta", "gelu_as_silu")) == 0


def test_a_fault_acts_on_what_those_before_it_left():
    """Swapping queries and keys, then dropping the queries' bias, is not the other way round."""
    first = run("xlm_roberta", "query_and_key_swapped", "query_bias_missing")
    second = run("xlm_roberta", "query_bias_missing", "query_and_key_swapped")
    query, key = (f"encoder.layer.0.attention.self.{word}" for word in ("query", "key"))
    assert effect(first, second)[query] > 0
    assert effect(first, second)[key] > 0


# --- without a trace ------------------------------------------------------------------------------


@every_family
def test_nothing_is_left_behind(family):
    model, inputs = build(family), CALLS[family]
    before = run_faulty(model, inputs, [])
    config, given = model.config, {name: numpy.array(x) for name, x in inputs.items()}
    for fault in CATALOGUE.values():
        if applies(fault, model, inputs):
            run_faulty(model, inputs, [fault])
    assert model.config is config
    assert all(numpy.array_equal(inputs[name], x) for name, x in given.items())
    assert parts(before, run_faulty(model, inputs, [])) == 0


def test_nothing_is_left_behind_after_an_error():
    def broken(run, name, x):
        raise RuntimeError("stop")

    fault = replace(CATALOGUE["scale_missing"], taps=broken)
    with pytest.raises(RuntimeError, match="stop"):
        run("xlm_roberta", fault)
    x = numpy.ones(2)
    assert tap("x", x) is x
    query = numpy.ones((1, 1, 2, 4))
    options = {"mask": numpy.ones((1, 1, 2, 2), bool), "scale": 0.5}
    assert_same(
        ops.scaled_dot_product_attention(query, query, query, **options).scores,
        numpy.full((1, 1, 2, 2), 2.0),
    )


def test_taps_are_those_of_the_port():
    """A recorder outside sees what was computed; the run's own taps hold what the port has."""
    model = build("xlm_roberta")
    with record() as recorded:
        taps, _ = run_faulty(model, PADDED, [CATALOGUE["embedding_norm_missing"]])
    assert list(recorded) == list(taps)
    assert abs(recorded["embeddings.LayerNorm"] - taps["embeddings.LayerNorm"]).max() > 0.1
    summed = sum(
        taps[f"embeddings.{name}_embeddings"] for name in ("word", "token_type", "position")
    )
    assert_same(taps["embeddings.LayerNorm"], summed)


@every_family
def test_every_edited_tap_goes_on(family):
    """What a fault puts in the place of a tap reaches the output: no layer drops it."""
    model, inputs = build(family), CALLS[family]
    right = run_faulty(model, inputs, [])
    for tap_name, x in right[0].items():
        # Scores and probabilities are shown beside the context, which was computed with them.
        if x.dtype.kind == "f" and not tap_name.endswith((".scores", ".probs")):
            fault = replace(
                CATALOGUE["scale_missing"],
                operations={},
                taps=lambda run, name, x, edited=tap_name: x * x if name == edited else x,
            )
            found = effect(right, run_faulty(model, inputs, [fault]))
            assert found[tap_name] > 0
            assert max(error for name, error in found.items() if name not in right[0]) > 0


def test_weights_are_read_when_they_are_used():
    used = []
    tensors = LazyTensors(["a", "b"], lambda name: used.append(name) or name)
    assert list(tensors) == ["a", "b"]
    assert len(tensors) == 2
    assert "b" in tensors
    assert used == []
    assert tensors["a"] == "a"
    assert used == ["a"]
    with pytest.raises(KeyError):
        tensors["c"]


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family", "inputs", "reason"),
    [
        ("xlm_langs_missing", "xlm_roberta", {}, "is no fault of xlm_roberta"),
        ("final_norm_missing", "xmod", {}, "needs layers that normalise first"),
        ("position_ids_ignored", "xlm", {}, "needs `position_ids`"),
        ("lm_bias_missing", "xlm_roberta_xl", {}, "needs a language modelling head"),
        ("positions_offset_twice", "xlm_roberta", {"input_ids": [[5] * 14]},
         "needs a text so short that the shifted positions are in the table"),
        ("layers_sorted_as_text", "xmod", {}, "needs at least 11 layers"),
        ("mask_minus_infinity", "xlm_roberta", {}, "needs a query that may look at nothing"),
    ],
)  # fmt: skip
def test_a_fault_that_cannot_matter_is_refused(name, family, inputs, reason):
    call = {**CALLS[family], **inputs}
    if inputs:
        call.pop("attention_mask")
    fault, model = CATALOGUE[name], build(family)
    assert why_not(fault, model, call) == f"{name} {reason}"
    assert not applies(fault, model, call)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name} {reason}')}$"):
        run_faulty(model, call, [fault])


def test_wrong_inputs_are_the_models_own_error():
    with pytest.raises(ValueError, match="input_ids: expected ids from 0 to 28, got 29"):
        run("xlm_roberta", "scale_missing", input_ids=[[0, 29, 2, 2, 2]] * 2)
    with pytest.raises(TypeError, match="XLMRobertaModel takes no 'langs'"):
        run("xlm_roberta", "scale_missing", langs=[[0] * 5] * 2)


# --- parameters -----------------------------------------------------------------------------------


def test_a_parameter_is_what_the_port_has():
    eps = CATALOGUE["norm_eps_1e_12"]
    assert parts(run("xlm_roberta"), run("xlm_roberta", eps.with_parameters(eps=1e-3))) > 1e-5
    same = build("xlm_roberta", layer_norm_eps=1e-3)
    expected = run_faulty(same, PADDED, [])
    assert parts(expected, run("xlm_roberta", eps.with_parameters(eps=1e-3))) == 0
    assert dict(eps.parameters) == {"eps": 1e-12}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("norm_eps_1e_12", {"offset": 2}, "norm_eps_1e_12 has eps, got 'offset'"),
        ("scale_missing", {"eps": 2}, "scale_missing has no parameters, got 'eps'"),
    ],
)
def test_a_parameter_that_there_is_not(name, values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        CATALOGUE[name].with_parameters(**values)


def test_a_fault_of_ones_own():
    """What the catalogue lacks can be written where it is needed."""
    fault = Fault(
        name="hidden_doubled",
        title="Embeddings are doubled",
        area="embeddings",
        explanation="",
        effect="",
        mend="",
        first_taps=("embedding_norm",),
        taps=lambda run, name, x: 2 * x if name == "embeddings.LayerNorm" else x,
    )
    taps, _ = run("xlm_roberta", fault)
    assert_same(taps["embeddings.LayerNorm"], 2 * run("xlm_roberta")[0]["embeddings.LayerNorm"])
