"""No work for padding: a packed run gives at tokens what an unpacked one gives.

Where the padding takes part in a result, a packed model runs unpacked.
"""

from dataclasses import replace
from unittest import mock

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl import ops
from refimpl.backend import get_backend, to_numpy
from refimpl.models import packing
from refimpl.models.model import ARCHITECTURES, load
from refimpl.parity.goldens import bundled
from refimpl.replacing import replace as replace_operations
from refimpl.taps import edit, record
from tests.compare import assert_same, assert_ulps
from tests.models.drawn import (
    CLASSES,
    FAMILIES,
    OTHER_ORDER,
    PREFIX,
    build,
    in_order,
    labels,
    languages,
    padded,
    padded_for,
    vectors,
)

MODES = [
    ("xlm", {}),
    ("xlm_roberta", {}),
    ("xlm_roberta", {"position_embedding_type": "relative_key"}),
    ("xlm_roberta_xl", {"position_embedding_type": "relative_key_query"}),
    ("xlm_roberta_xl", {}),
    ("xmod", {}),
    ("xmod", {"pre_norm": True, "adapter_layer_norm": True}),
]
modes = pytest.mark.parametrize(
    ("family", "values"), MODES, ids=["-".join([f, *map(str, v.values())]) for f, v in MODES]
)
OF_PLACES = ("last_hidden_state", "hidden_states", "start_logits", "end_logits")
SCORES_OF_PLACES = ("ForMaskedLM", "WithLMHeadModel", "ForTokenClassification")
sometimes = settings(max_examples=8, deadline=None)


def pack(model):
    return replace(model, packed=True)


def values_of(outputs, mask, scores_of_places):
    """Return by name what a call returned: of places those at tokens, as one array."""
    of_places = (*OF_PLACES, "logits") if scores_of_places else OF_PLACES
    found = {}
    for name, value in outputs._asdict().items():
        for i, x in enumerate(value if isinstance(value, tuple) else (value,)):
            if x is not None:
                x = to_numpy(x)
                found[name, i] = x[mask.reshape(x.shape[:2])] if name in of_places else x
    return found


def assert_packed_is_unpacked(model, mask, **inputs):
    """Results of a packed run are those of an unpacked one: bit for bit with sums in order."""
    scores_of_places = model.architecture.endswith(SCORES_OF_PLACES)

    def both():
        return [values_of(m(**inputs), mask, scores_of_places) for m in (pack(model), model)]

    with in_order():
        actual, expected = both()
        for name in expected:
            assert_same(actual[name], expected[name])
    actual, expected = both()
    for name, x in expected.items():
        if x.dtype.kind == "f" and numpy.isfinite(x).all() and x.size:  # a loss of nothing is none
            assert_ulps(actual[name], x, ulps=OTHER_ORDER, of=numpy.abs(x).max())


def rows_multiplied(run):
    """Return the numbers of rows that matrices were multiplied with while ``run()`` ran."""
    rows, plain = [], numpy.matmul

    def matmul(a, b):
        if a.ndim == 2:
            rows.append(a.shape[0])
        return plain(a, b)

    with mock.patch.object(numpy, "matmul", matmul):
        run()
    return rows


# --- the results at tokens ------------------------------------------------------------------------


@modes
@sometimes
@given(drawn=padded(), seed=st.integers(0, 99), data=st.data())
def test_hidden_states_at_tokens_are_those_of_an_unpacked_run(family, values, drawn, seed, data):
    ids, mask = drawn
    model = build(family, **values)
    inputs = {"attention_mask": mask, "output_hidden_states": True, **languages(family, ids)}
    if data.draw(st.booleans(), "vectors"):
        inputs["inputs_embeds"] = vectors(ids.shape, seed, model.config.hidden_size
                                          if family != "xlm" else model.config.emb_dim)  # fmt: skip
    else:
        inputs["input_ids"] = ids
    if data.draw(st.booleans(), "types"):
        inputs["token_type_ids"] = ids % (4 if family == "xlm" else model.config.type_vocab_size)
    positions = data.draw(st.sampled_from([None, 1, len(ids)]), "positions")
    if positions:
        inputs["position_ids"] = numpy.arange(positions * ids.shape[1])[::-1].reshape(
            positions, -1
        ) % (ids.shape[1] + 1)
    if data.draw(st.booleans(), "head mask"):
        heads = ARCHITECTURES[model.architecture].sizes(model.config)["H"]
        inputs["head_mask"] = numpy.linspace(0, 1, heads)
    if family == "xmod" and data.draw(st.booleans(), "a language for each token"):
        inputs["lang_ids"] = ids % 2
    assert_packed_is_unpacked(model, mask, **inputs)


@pytest.mark.parametrize(("family", "architecture"), CLASSES)
@sometimes
@given(data=st.data())
def test_every_class_gives_the_same(family, architecture, data):
    model = build(family, architecture)
    ids, mask = data.draw(padded_for(architecture, st.integers(1, 3)))
    if data.draw(st.booleans()):
        mask[..., 0] = True  # for poolers
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}
    if data.draw(st.booleans(), "labels"):
        inputs |= labels(model, ids, mask if data.draw(st.booleans(), "at tokens") else True)
    assert_packed_is_unpacked(model, mask, **inputs)


@sometimes
@given(drawn=padded(), data=st.data())
def test_lengths_and_padding_ids_tell_xlm_where_the_tokens_are(drawn, data):
    ids, _ = drawn
    batch, places = ids.shape
    lengths = data.draw(arrays("int64", batch, elements=st.integers(1, places)))
    mask = numpy.arange(places) < lengths[:, None]
    model = build("xlm")
    if data.draw(st.booleans()):
        assert_packed_is_unpacked(model, mask, input_ids=ids, lengths=lengths)
    else:
        ids = numpy.where(mask, ids, model.config.pad_index)
        assert_packed_is_unpacked(model, mask, input_ids=ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_devices_are_not_mixed_and_kernels_make_no_difference(family):
    folder = bundled() / family / "model"
    ids, mask = example()
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}
    truth = values_of(load(folder, dtype="float64", kernels="plain")(**inputs), mask, False)
    strict = load(folder, dtype="float64", backend="strict:device1", packed=True)
    fused = load(folder, dtype="float64", packed=True)
    for model in (strict, fused):
        found = values_of(model(**inputs), mask, False)
        x = truth["last_hidden_state", 0]
        assert_ulps(found["last_hidden_state", 0], x, ulps=OTHER_ORDER, of=numpy.abs(x).max())


def example():
    """Three texts: one of a single token, one with padding inside, one whole."""
    ids = numpy.arange(3, 18).reshape(3, 5)
    mask = numpy.array([[1, 0, 0, 0, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1]], bool)
    return ids, mask


# --- the padding ----------------------------------------------------------------------------------


@modes
def test_no_matrix_is_multiplied_with_padding(family, values):
    ids, mask = example()
    mask[1] = [1, 1, 1, 0, 0]
    model = pack(build(family, **values))
    model.architecture = PREFIX[family] + "Model"
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}
    rows = rows_multiplied(lambda: model(**inputs))
    assert max(rows) == mask.sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_at_padding_are_zero(family):
    ids, mask = example()
    model = pack(build(family))
    out = model(
        input_ids=ids, attention_mask=mask, output_hidden_states=True, **languages(family, ids)
    )
    for x in out.hidden_states:
        assert x[mask].all()
        assert not x[~mask].any()


def test_scores_at_padding_are_what_the_head_makes_of_zeros():
    ids, mask = example()
    model = pack(build("xlm_roberta", "XLMRobertaForTokenClassification"))
    logits = model(input_ids=ids, attention_mask=mask).logits
    bias = model.weights["classifier.bias"]
    assert_same(logits[~mask], numpy.broadcast_to(bias, (int((~mask).sum()), len(bias))))


# --- where the padding takes part -----------------------------------------------------------------


def unpacked_calls():
    """Return calls that a packed model runs unpacked: what it is, model's values, arguments."""
    ids, mask = example()
    left, whole = mask[:, ::-1], numpy.ones_like(mask)
    of_queries = mask[:, None, :] | whole[0, :, None]
    places = {"start_positions": [0, 0, 1], "end_positions": [0, 2, 1]}
    relative = {"position_embedding_type": "relative_key"}
    return [
        ("no mask", "Model", {}, {}),
        ("no padding", "Model", {}, {"attention_mask": whole}),
        ("padding alone", "ForMaskedLM", {}, {"attention_mask": ~whole}),
        ("a mask for each query", "Model", {}, {"attention_mask": of_queries}),
        ("a decoder", "ForCausalLM", {"is_decoder": True}, {"attention_mask": mask}),
        ("weights", "Model", {}, {"attention_mask": mask, "output_attentions": True}),
        ("a pooler of padding", "Model", {}, {"attention_mask": left}),
        ("a class of padding", "ForSequenceClassification", {}, {"attention_mask": left}),
        ("a loss of padding", "ForMaskedLM", {}, {"attention_mask": mask, "labels": ids}),
        ("a span loss", "ForQuestionAnswering", {}, {"attention_mask": mask, **places}),
        ("gaps in distances", "ForMaskedLM", relative, {"attention_mask": mask}),
    ]


@pytest.mark.parametrize(
    ("head", "values", "inputs"), [pytest.param(*x, id=name) for name, *x in unpacked_calls()]
)
def test_where_padding_takes_part_a_call_runs_unpacked(head, values, inputs):
    assert_runs_unpacked(build("xlm_roberta", "XLMRoberta" + head, **values), inputs)


@pytest.mark.parametrize(
    ("values", "inputs"),
    [({"causal": True}, {}), ({}, {"use_cache": True})],
    ids=["causal", "kept"],
)
def test_a_causal_xlm_and_one_that_keeps_keys_run_unpacked(values, inputs):
    inputs = {"attention_mask": example()[1], **inputs}
    assert_runs_unpacked(build("xlm", "XLMWithLMHeadModel", **values), inputs)


def assert_runs_unpacked(model, inputs):
    ids, _ = example()
    with mock.patch.object(packing, "run") as run:
        actual = pack(model)(input_ids=ids, **inputs)
    assert not run.called
    expected = model(input_ids=ids, **inputs)
    for a, b in zip(actual, expected, strict=True):
        if b is not None and not isinstance(b, tuple):
            assert_same(a, b)


@pytest.mark.parametrize(
    "watching",
    [record, lambda: edit(lambda name, x: x), lambda: replace_operations(gelu_erf=ops.gelu_tanh)],
    ids=["recorded", "edited", "replaced"],
)
def test_whoever_looks_inside_sees_whole_batches(watching):
    ids, mask = example()
    model = build("xlm_roberta", "XLMRobertaForMaskedLM")
    with watching():
        actual = pack(model)(input_ids=ids, attention_mask=mask).logits
    with watching():
        expected = model(input_ids=ids, attention_mask=mask).logits
    assert_same(actual, expected)


def test_a_packed_run_is_used_where_nothing_forbids_it():
    ids, mask = example()
    with mock.patch.object(packing, "run", wraps=packing.run) as run:
        pack(build("xlm_roberta", "XLMRobertaForMaskedLM"))(input_ids=ids, attention_mask=mask)
    assert run.called


def test_the_switch_is_true_or_false():
    with pytest.raises(TypeError, match="packed: expected True or False, got 'yes'"):
        load(bundled() / "xlm_roberta" / "model", packed="yes")


# --- the operations -------------------------------------------------------------------------------


@given(drawn=padded(), width=st.integers(1, 3))
def test_unpacking_what_was_packed_leaves_zeros_at_padding(drawn, width):
    _, mask = drawn
    x = vectors(mask.shape, 0, width)
    segments = packing.segments_of(mask)
    if mask.any():
        packed = ops.pack(x, segments)
        assert packed.shape == (1, mask.sum(), width)
        assert_same(ops.unpack(packed, segments), numpy.where(mask[..., None], x, 0.0))


@given(drawn=padded())
def test_texts_of_one_length_stand_side_by_side(drawn):
    _, mask = drawn
    segments = packing.segments_of(mask)
    lengths = [length for count, length in segments.runs for _ in range(count)]
    assert lengths == sorted(mask.sum(axis=1)[mask.any(axis=1)])
    assert len({length for _, length in segments.runs}) == len(segments.runs)
    texts = numpy.split(segments.places, numpy.cumsum(lengths)[:-1]) if lengths else []
    for places in texts:  # each is one text, its tokens in their order
        assert len(set(places // mask.shape[1])) == 1
        assert_same(places, numpy.sort(places))


def test_what_goes_to_the_device_is_there():
    strict = get_backend("strict:device1")
    segments = packing.packing_of(example()[1], strict).device
    assert {segments.places.device, segments.packed.device} == {strict.device}
