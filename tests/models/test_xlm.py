"""XLM: what stands at padding, how lengths are counted, languages, and the causal model."""

from dataclasses import replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import ops
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.taps import record
from tests.compare import assert_same
from tests.models.drawn import (
    assert_changes_nothing,
    build,
    rarely,
    tensors_of,
    texts,
    vectors,
    with_tensors,
)

PAD = 2
IDS = numpy.asarray([[0, 17, 5, 23, 1], [0, 28, 11, 8, 1]])
either = pytest.mark.parametrize("causal", [False, True])


def hidden(model, **inputs):
    return model(**inputs).last_hidden_state


# --- padding --------------------------------------------------------------------------------------


@either
@rarely
@given(drawn=texts())
def test_hidden_states_at_padding_are_zero_after_every_layer(causal, drawn):
    ids, mask = drawn
    out = build("xlm", causal=causal)(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    for x in out.hidden_states:
        assert not x[~mask].any()
        assert x[mask].any(axis=-1).all()
    assert len(out.hidden_states) == 3
    assert out.hidden_states[-1] is out.last_hidden_state


@st.composite
def padded(draw):
    """Texts that end in padding, and their lengths."""
    ids, _ = draw(texts())
    lengths = numpy.asarray([draw(st.integers(1, ids.shape[1])) for _ in ids])
    ids[numpy.arange(ids.shape[1]) >= lengths[:, None]] = PAD
    return ids, lengths


@either
@rarely
@given(drawn=padded())
def test_three_ways_to_say_what_is_padding(causal, drawn):
    ids, lengths = drawn
    model, langs = build("xlm", causal=causal), ids % 4
    counted = hidden(model, input_ids=ids, langs=langs)
    mask = ids != PAD
    for more in ({"lengths": lengths}, {"attention_mask": mask}):
        assert_same(hidden(model, input_ids=ids, langs=langs, **more), counted)
    # The mask counts, where both are given.
    both = hidden(model, input_ids=ids, langs=langs, attention_mask=mask, lengths=lengths * 0 + 1)
    assert_same(both, counted)


def test_padding_that_is_counted_is_taken_from_the_right():
    # As the original does: two of these ids are padding, so the last two places are not looked at.
    model, ids = build("xlm"), numpy.asarray([[PAD, PAD, 5, 6, 7]])
    out = hidden(model, input_ids=ids)
    assert_same(out, hidden(model, input_ids=ids, attention_mask=[[1, 1, 1, 0, 0]]))
    assert not out[:, 3:].any()


@either
@rarely
@given(drawn=padded())
def test_padding_on_the_right_changes_no_token(causal, drawn):
    ids, lengths = drawn
    model = build("xlm", causal=causal)
    for text, length in zip(ids, lengths, strict=True):
        alone = text[None, :length]
        assert_changes_nothing(
            lambda text=text, length=length: hidden(model, input_ids=text[None])[:, :length],
            lambda alone=alone: hidden(model, input_ids=alone),
        )


def test_of_vectors_none_is_padding():
    x = vectors((2, 5), 0, width=9)
    x[1, 3] = float(PAD)  # nor is one of the number of the padding id
    model = build("xlm")
    expected = hidden(model, inputs_embeds=x, attention_mask=numpy.ones((2, 5)))
    assert_same(hidden(model, inputs_embeds=x), expected)
    assert expected.any(axis=-1).all()


@pytest.mark.parametrize("length", [1, 5])
def test_a_text_without_any_token_is_zero(length):
    ids = numpy.full((1, length), 5)
    out = build("xlm")(
        input_ids=ids, attention_mask=numpy.zeros((1, length)), output_attentions=True
    )
    assert not out.last_hidden_state.any()
    for probs in out.attentions:
        assert_same(probs, numpy.full((1, 3, length, length), 1 / length))


# --- the embeddings -------------------------------------------------------------------------------


def test_token_types_are_words():
    model, types = build("xlm"), numpy.asarray([[0, 5, 28, 5, 0]] * 2)
    with record() as taps:
        model(input_ids=IDS, token_type_ids=types)
    table = model.weights["embeddings.weight"]
    assert_same(taps["embeddings.token_types"], table[types])
    of_sum = taps["embeddings"] + taps["position_embeddings"] + table[types]
    expected = ops.layer_norm(of_sum, **model.weights["layer_norm_emb"], eps=1e-12)
    assert_same(taps["layer_norm_emb"], expected)


def test_no_languages_are_no_embeddings_of_languages():
    model = build("xlm")
    with record() as taps:
        without = hidden(model, input_ids=IDS)
    assert "lang_embeddings" not in taps
    langs = numpy.zeros_like(IDS)
    assert (hidden(model, input_ids=IDS, langs=langs) != without).any()  # language 0 is one
    tensors = {**tensors_of(model), "lang_embeddings.weight": numpy.zeros((4, 9))}
    assert_same(hidden(with_tensors(model, tensors), input_ids=IDS, langs=langs), without)


@pytest.mark.parametrize("values", [{"use_lang_emb": False}, {"n_langs": 1}])
def test_languages_change_nothing_where_there_is_no_table(values):
    model = build("xlm", **values)
    langs = numpy.zeros_like(IDS)
    assert_same(hidden(model, input_ids=IDS, langs=langs), hidden(model, input_ids=IDS))
    assert "lang_embeddings.weight" not in tensors_of(model)


def test_every_token_has_a_language_of_its_own():
    model, langs = build("xlm"), numpy.asarray([[0, 1, 2, 3, 0], [3, 3, 1, 1, 1]])
    with record() as taps:
        model(input_ids=IDS, langs=langs)
    assert_same(taps["lang_embeddings"], model.weights["lang_embeddings.weight"][langs])


@rarely
@given(drawn=texts())
def test_positions_count_from_0_padding_and_all(drawn):
    ids, mask = drawn
    model = build("xlm")
    with record() as taps:
        by_default = hidden(model, input_ids=ids, attention_mask=mask)
    positions = numpy.arange(ids.shape[1])[None]
    assert_same(taps["position_ids"], positions)
    for each in (positions, positions.repeat(len(ids), 0)):
        given_ = hidden(model, input_ids=ids, attention_mask=mask, position_ids=each)
        assert_same(given_, by_default)


# --- sines in place of a table --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_file_without_the_sines_is_one_with_them(checkpoint, dtype):
    def drop(tensors):
        return {n: x for n, x in tensors.items() if n != "position_embeddings.weight"}

    def add(tensors):
        sines = ops.sinusoidal_positions(numpy.arange(16), width=9)
        return {**tensors, "position_embeddings.weight": sines}

    without, with_them = (
        load(checkpoint("xlm/sinusoidal", tensors=change), dtype=dtype) for change in (drop, add)
    )
    assert_same(hidden(without, input_ids=IDS), hidden(with_them, input_ids=IDS))


def test_a_table_that_is_not_of_sines_must_be_there(checkpoint):
    def drop(tensors):
        return {n: x for n, x in tensors.items() if n != "position_embeddings.weight"}

    with pytest.raises(CheckpointError, match=r"position_embeddings\.weight"):
        load(checkpoint("xlm/model", tensors=drop))


# --- the causal model -----------------------------------------------------------------------------


@rarely
@given(drawn=padded())
def test_a_causal_model_looks_at_padding_which_is_nothing_but_zero(drawn):
    ids, lengths = drawn
    out = build("xlm", causal=True)(input_ids=ids, lengths=lengths, output_attentions=True)
    for probs in out.attentions:
        assert not numpy.triu(probs, 1).any()
        looked_at = probs[:, :, -1, :] > 0  # the last place looks at all that stands before it
        assert looked_at.all()
    others = numpy.where(ids == PAD, 28, ids)
    other = build("xlm", causal=True)(input_ids=others, lengths=lengths)
    assert_same(other.last_hidden_state, out.last_hidden_state)


def test_causal_is_a_switch_of_the_config():
    model = build("xlm")
    causal = replace(model, config=replace(model.config, causal=True))
    one, other = numpy.asarray([[0, 5, 6]]), numpy.asarray([[0, 5, 7]])
    changed = hidden(causal, input_ids=one) != hidden(causal, input_ids=other)
    assert changed.any(axis=-1).tolist() == [[False, False, True]]
    changed = hidden(model, input_ids=one) != hidden(model, input_ids=other)
    assert changed.any(axis=-1).all()


def test_a_model_that_looks_both_ways_computes_new_tokens_beside_what_was_kept():
    # As in the original; tokens that were kept do not see the new ones.
    model = build("xlm")
    kept = model(input_ids=IDS[:, :3], use_cache=True).cache
    out = model(input_ids=IDS, cache=kept, use_cache=True, output_attentions=True)
    assert out.last_hidden_state.shape == (2, 2, 9)
    assert {x.shape for x in out.attentions} == {(2, 3, 2, 5)}
    assert (out.attentions[0] > 0).all()  # the first new token sees the second
    assert_same(out.cache[0][0][:, :, :3], kept[0][0])


def test_vectors_beside_what_was_kept():
    model, x = build("xlm", causal=True), vectors((2, 5), 1, width=9)

    def rest():
        kept = model(inputs_embeds=x[:, :3], use_cache=True).cache
        return hidden(model, inputs_embeds=x, cache=kept)

    assert_changes_nothing(rest, lambda: hidden(model, inputs_embeds=x)[:, 3:])


def test_softmax_is_taken_in_float32_at_least():
    model = build("xlm", dtype="float16")
    with record() as taps:
        model(input_ids=IDS)
    scores = taps["attentions.0.scores"]
    assert_same(taps["attentions.0.probs"], ops.softmax_float32(scores))
    assert (ops.softmax(scores) != taps["attentions.0.probs"]).any()
