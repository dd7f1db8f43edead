"""XLM-R: masks and defaults, taps and outputs, how a decoder counts, and heads that are pruned.

The texts are drawn at random; the weights are those of the golden cases. What all four
architectures promise is in test_families.py.
"""

import math
from dataclasses import replace

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.parity.goldens import bundled, find_goldens, read_golden
from refimpl.taps import record
from tests.compare import assert_same, assert_ulps
from tests.models.drawn import (
    OTHER_ORDER,
    ROOM,
    VOCABULARY,
    assert_changes_nothing,
    build,
    rarely,
    tensors_of,
    texts,
    vectors,
    with_tensors,
)

PAD = 1


# --- masks ----------------------------------------------------------------------------------------


@rarely
@given(texts=texts(), seed=st.integers(0, 9))
def test_vectors_that_are_masked_are_not_seen(model, texts, seed):
    _, mask = texts
    x, far = vectors(mask.shape, seed), 1e6 * vectors(mask.shape, seed + 10)
    call = model("masked_lm")
    seen = call(inputs_embeds=x, attention_mask=mask).logits
    other = call(inputs_embeds=numpy.where(mask[:, :, None], x, far), attention_mask=mask).logits
    assert_same(other[mask], seen[mask])


@rarely
@given(texts=texts())
def test_a_mask_of_keys_is_a_mask_for_each_query(model, texts):
    ids, mask = texts
    each = numpy.broadcast_to(mask[:, None, :], (*ids.shape, ids.shape[1]))
    call = model("model")
    assert_same(
        call(input_ids=ids, attention_mask=each).last_hidden_state,
        call(input_ids=ids, attention_mask=mask).last_hidden_state,
    )


@rarely
@given(texts=texts())
def test_no_mask_is_a_mask_of_ones(model, texts):
    ids, mask = texts
    ids = numpy.where(mask, ids, PAD)  # padding is looked at, too
    call = model("model")
    assert_same(
        call(input_ids=ids).last_hidden_state,
        call(input_ids=ids, attention_mask=numpy.ones_like(mask)).last_hidden_state,
    )


@rarely
@given(texts=texts())
def test_the_weights_of_attention_are_0_where_masked_and_add_up_to_1(model, texts):
    ids, mask = texts
    for probs in model("model")(
        input_ids=ids, attention_mask=mask, output_attentions=True
    ).attentions:
        hidden = numpy.broadcast_to(~mask[:, None, None, :], probs.shape)
        assert (probs[hidden] == 0).all()
        assert (probs >= 0).all()
        total = probs.sum(axis=-1)
        assert_ulps(total, numpy.ones_like(total), ulps=ROOM)  # a rounding for each term


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("length", [1, 4, 7])
def test_a_text_that_may_look_at_nothing_looks_at_all_places_alike(model, dtype, length):
    ids = numpy.arange(2, 2 + length)[None]
    out = model("model", dtype)(
        input_ids=ids, attention_mask=numpy.zeros_like(ids), output_attentions=True
    )
    for probs in out.attentions:
        assert_same(probs, numpy.full((1, 3, length, length), 1 / length, dtype))
    assert numpy.isfinite(out.last_hidden_state).all()


# --- order ----------------------------------------------------------------------------------------


@rarely
@given(texts=texts(), seed=st.integers(0, 99))
def test_without_positions_order_does_not_matter(model, texts, seed):
    ids, mask = texts
    order = numpy.random.default_rng(seed).permutation(ids.shape[1])
    same = numpy.full((1, ids.shape[1]), 5)
    call = model("model")
    actual = call(input_ids=ids[:, order], attention_mask=mask[:, order], position_ids=same)
    expected = call(input_ids=ids, attention_mask=mask, position_ids=same).last_hidden_state
    assert_ulps(
        actual.last_hidden_state,
        expected[:, order],
        ulps=OTHER_ORDER,  # the sums over places have another order
        of=numpy.abs(expected).max(),
    )


# --- defaults -------------------------------------------------------------------------------------


def positions_by_hand(ids):
    """Return the position of every place: tokens count up from PAD + 1, padding stays at PAD."""
    rows = []
    for row in ids.tolist():
        position, numbered = PAD, []
        for word in row:
            position += word != PAD
            numbered.append(position if word != PAD else PAD)
        rows.append(numbered)
    return numpy.asarray(rows)


@rarely
@given(texts=texts(ids=st.integers(0, VOCABULARY - 1) | st.just(PAD)))
def test_the_positions_that_are_taken_may_as_well_be_given(model, texts):
    ids, mask = texts
    call, positions = model("model"), positions_by_hand(ids)
    with record() as taps:
        by_default = call(input_ids=ids, attention_mask=mask).last_hidden_state
    assert_same(taps["embeddings.position_ids"], positions)
    given_ = call(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
    assert_same(given_, by_default)


@rarely
@given(texts=texts())
def test_vectors_count_every_place(model, texts):
    ids, mask = texts
    call, x = model("model"), vectors(ids.shape, 0)
    positions = numpy.arange(ids.shape[1]) + PAD + 1
    by_default = call(inputs_embeds=x, attention_mask=mask).last_hidden_state
    for each in (positions, positions[None], numpy.broadcast_to(positions, ids.shape)):
        given_ = call(inputs_embeds=x, attention_mask=mask, position_ids=each).last_hidden_state
        assert_same(given_, by_default)


@rarely
@given(texts=texts())
def test_the_vectors_of_the_ids_may_as_well_be_given(model, texts):
    ids, mask = texts  # without padding, which would be numbered as vectors
    call = model("masked_lm")
    with record() as taps:
        of_ids = call(input_ids=ids, attention_mask=mask).logits
    x = taps["roberta.embeddings.word_embeddings"]
    assert_same(call(inputs_embeds=x, attention_mask=mask).logits, of_ids)


@rarely
@given(texts=texts())
def test_ones_in_the_head_mask_and_token_type_0_are_the_defaults(model, texts):
    ids, mask = texts
    call = model("model")
    by_default = call(input_ids=ids, attention_mask=mask).last_hidden_state
    for more in (
        {"head_mask": [1, 1, 1]},
        {"head_mask": [[1, 1, 1], [1.0, 1.0, 1.0]]},
        {"token_type_ids": numpy.zeros_like(ids)},
    ):
        given_ = call(input_ids=ids, attention_mask=mask, **more).last_hidden_state
        assert_same(given_, by_default)


@rarely
@given(texts=texts(), head=st.integers(0, 2))
def test_a_head_that_is_switched_off_has_no_say(model, texts, head):
    ids, mask = texts
    keep = numpy.arange(3) != head
    with record() as taps:
        out = model("model")(
            input_ids=ids, attention_mask=mask, head_mask=keep, output_attentions=True
        )
    for i, weights in enumerate(out.attentions):
        attention = f"encoder.layer.{i}.attention.self"
        assert not weights[:, head].any()
        assert_same(weights[:, keep], taps[f"{attention}.probs"][:, keep])
        assert not taps[f"{attention}.context"][:, :, 4 * head : 4 * head + 4].any()


# --- taps and outputs -----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", find_goldens(bundled() / "xlm_roberta"), ids=lambda f: f.name)
def test_taps_are_those_of_the_original_in_its_order(model, folder):
    golden = read_golden(folder)
    with record() as taps:
        model(folder)(**golden.inputs())
    assert list(taps) == list(golden.description["taps"])


@rarely
@given(texts=texts(), half=st.booleans())
def test_hidden_states_and_attentions_are_taps(model, texts, half):
    ids, mask = texts
    with record() as taps:
        out = model("model")(
            input_ids=ids,
            attention_mask=mask,
            head_mask=[0.5, 1, 1] if half else None,
            output_hidden_states=True,
            output_attentions=True,
        )
    layers = [f"encoder.layer.{i}" for i in range(2)]
    hidden = [taps["embeddings.LayerNorm"], *(taps[f"{x}.output.LayerNorm"] for x in layers)]
    for actual, expected in zip(out.hidden_states, hidden, strict=True):
        assert actual is expected
    for actual, x in zip(out.attentions, layers, strict=True):
        scale = numpy.asarray([0.5, 1, 1] if half else [1.0, 1, 1])[:, None, None]
        assert_same(actual, taps[f"{x}.attention.self.probs"] * scale)
    assert out.last_hidden_state is hidden[-1]
    assert out.pooler_output is taps["pooler"]
    assert_same(out.pooler_output, numpy.tanh(taps["pooler.dense"]))


def test_recording_changes_no_bit(model):
    inputs = {"input_ids": [[0, 17, 5, 2]]}
    with record():
        recorded = model("masked_lm")(**inputs).logits
    assert_same(model("masked_lm")(**inputs).logits, recorded)


@rarely
@given(texts=texts(), data=st.data())
def test_the_loss_is_what_the_logits_say(model, texts, data):
    ids, mask = texts
    some = st.just(-100) | st.integers(0, VOCABULARY - 1)
    labels = data.draw(arrays("int64", ids.shape, elements=some))
    out = model("masked_lm")(input_ids=ids, attention_mask=mask, labels=labels)
    assert_same(out.logits, model("masked_lm")(input_ids=ids, attention_mask=mask).logits)
    counted = [(row, int(label)) for row, label in
               zip(out.logits.reshape(-1, VOCABULARY), labels.ravel(), strict=True)
               if label != -100]  # fmt: skip
    if not counted:
        assert math.isnan(out.loss)
        return
    losses = [math.log(math.fsum(map(math.exp, row))) - row[label] for row, label in counted]
    expected = numpy.asarray(math.fsum(losses) / len(losses))
    # Subtractions of numbers as large as the largest score, and sums of as many as there are.
    largest = max(numpy.abs(row).max() for row, _ in counted)
    assert_ulps(out.loss, expected, ulps=8, of=largest)


# --- decoders -------------------------------------------------------------------------------------


def surprises(logits, labels):
    """Return -log softmax(logits)[label] of every place whose label counts."""
    pairs = zip(logits.reshape(-1, VOCABULARY), labels.ravel(), strict=True)
    return [math.log(math.fsum(map(math.exp, r))) - r[i] for r, i in pairs if i != -100]


@rarely
@given(drawn=texts(longest=7), data=st.data())
def test_the_loss_of_a_causal_model_is_that_of_the_next_token(model, drawn, data):
    ids, _ = drawn
    some = st.just(-100) | st.integers(0, VOCABULARY - 1)
    labels = data.draw(arrays("int64", ids.shape, elements=some))
    out = model("causal_lm")(input_ids=ids, labels=labels)
    losses = surprises(out.logits[:, :-1], labels[:, 1:])
    if not losses:
        assert math.isnan(out.loss)
        return
    expected = numpy.asarray(math.fsum(losses) / len(losses))
    assert_ulps(out.loss, expected, ulps=8, of=numpy.abs(out.logits).max())


@rarely
@given(drawn=texts())
def test_a_causal_mask_for_each_query_is_what_a_decoder_makes(drawn):
    ids, mask = drawn
    length = ids.shape[1]
    causal = mask[:, None, :] & numpy.tri(length, dtype=bool)
    decoder, encoder = build("xlm_roberta", is_decoder=True), build("xlm_roberta")
    made = decoder(input_ids=ids, attention_mask=mask).last_hidden_state
    for model in (decoder, encoder):
        assert_same(model(input_ids=ids, attention_mask=causal).last_hidden_state, made)


def test_a_decoder_looks_ahead_where_a_mask_for_each_query_says_so():
    ids, ones = [[5, 6, 7]], numpy.ones((1, 3, 3))
    decoder, encoder = build("xlm_roberta", is_decoder=True), build("xlm_roberta")
    ahead = decoder(input_ids=ids, attention_mask=ones).last_hidden_state
    assert_same(ahead, encoder(input_ids=ids).last_hidden_state)


def test_positions_behind_what_was_kept_count_its_padding():
    # As in the original: what was kept is counted, whatever it was.
    decoder = build("xlm_roberta", is_decoder=True)
    kept = decoder(input_ids=[[PAD, 5, 6]], use_cache=True).past_key_values
    with record() as taps:
        decoder(input_ids=[[7, PAD, 8]], past_key_values=kept)
    assert_same(taps["embeddings.position_ids"], [[PAD + 4, PAD, PAD + 5]])
    with record() as taps:
        decoder(inputs_embeds=numpy.zeros((1, 3, 12)), past_key_values=kept)
    assert_same(taps["embeddings.position_ids"], [[PAD + 4, PAD + 5, PAD + 6]])


def test_token_types_of_new_tokens_are_0(model):
    decoder = build("xlm_roberta", is_decoder=True)
    kept = decoder(input_ids=[[5, 6]], use_cache=True).past_key_values
    expected = decoder(input_ids=[[7]], past_key_values=kept, token_type_ids=[[0]])
    actual = decoder(input_ids=[[7]], past_key_values=kept)
    assert_same(actual.last_hidden_state, expected.last_hidden_state)


# --- pruned heads ---------------------------------------------------------------------------------

PRUNED = {0: [0, 2], 1: [1]}


@pytest.mark.parametrize("family", ["xlm_roberta", "xlm_roberta_xl", "xmod", "xlm"])
def test_a_head_that_is_pruned_is_a_head_that_is_switched_off(family):
    ids = numpy.arange(3, 13).reshape(2, 5)
    model = build(family)
    config = model.config
    size, tensors = config.head_size, tensors_of(model)
    for layer, heads in PRUNED.items():
        rows = [i for h in range(3) if h not in heads for i in range(h * size, (h + 1) * size)]
        for name in list(tensors):
            if f"attentions.{layer}." not in name and f"layer.{layer}.attention." not in name:
                continue
            if name.endswith(("output.dense.weight", "out_lin.weight")):
                tensors[name] = tensors[name][:, rows]
            elif any(part in name for part in ("query", "key", "value", "_lin")) and (
                "out_lin" not in name
            ):
                tensors[name] = tensors[name][rows]
    pruned = replace(config, pruned_heads={str(i): heads for i, heads in PRUNED.items()})
    pruned = with_tensors(replace(model, config=pruned), tensors)
    keep = [[float(h not in PRUNED[i]) for h in range(3)] for i in range(2)]
    more = {"lang_ids": [0, 1]} if family == "xmod" else {}
    assert_changes_nothing(
        lambda: pruned(input_ids=ids, **more).last_hidden_state + 0.0,
        lambda: model(input_ids=ids, head_mask=keep, **more).last_hidden_state + 0.0,
    )
