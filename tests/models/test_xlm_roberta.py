"""What holds for every text: masks hide, padding and company change nothing, defaults are defaults.

The texts are drawn at random; the weights are those of the golden cases.
"""

import math
from unittest import mock

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.parity.goldens import bundled, find_goldens, read_golden
from refimpl.taps import record
from tests.compare import assert_same, assert_ulps

PAD, VOCABULARY, ROOM = 1, 29, 14
words = st.integers(2, VOCABULARY - 1)
rarely = settings(max_examples=40)

# Where two runs multiply matrices of different sizes, the matrix library adds up the products in
# another order, and two layers carry that on. Largest seen in 12,000 draws: 38 ulps.
OTHER_ORDER = 128


@st.composite
def texts(draw, ids=words, longest=ROOM):
    """Ids (B, S) without padding, and a mask (B, S) that leaves each text something to look at."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, longest)))
    mask = draw(arrays(bool, shape))
    mask[:, draw(st.integers(0, shape[1] - 1))] = True
    return draw(arrays("int64", shape, elements=ids)), mask


def vectors(shape, seed):
    return numpy.random.default_rng(seed).standard_normal((*shape, 12))


def in_order():
    """Within it, products and sums are added up one after another, whatever the sizes."""

    def matmul(a, b):
        total = numpy.zeros((), a.dtype)
        for k in range(a.shape[-1]):
            total = total + a[..., :, k, None] * b[..., None, k, :]
        return total

    def add(x, axis, keepdims):
        assert (axis, keepdims) == (-1, True)
        return numpy.add.accumulate(x, axis=-1)[..., -1:]

    return mock.patch.multiple(numpy, matmul=matmul, sum=add)


def assert_changes_nothing(actual, expected):
    """``actual()`` is ``expected()`` bit for bit with sums in order; else to within their order."""
    with in_order():
        assert_same(actual(), expected())
    truth = expected()
    assert_ulps(actual(), truth, ulps=OTHER_ORDER, of=numpy.abs(truth).max())


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@given(texts=texts(), seed=st.integers(0, 9))
def test_what_is_masked_is_not_seen(model, dtype, texts, seed):
    ids, mask = texts
    others = numpy.random.default_rng(seed).integers(2, VOCABULARY, ids.shape)
    call = model("model", dtype)
    seen = call(input_ids=ids, attention_mask=mask).last_hidden_state
    other = call(input_ids=numpy.where(mask, ids, others), attention_mask=mask).last_hidden_state
    assert_same(other[mask], seen[mask])  # to the bit: its weight is 0, and x + 0 v is x


@given(texts=texts(), seed=st.integers(0, 9))
def test_vectors_that_are_masked_are_not_seen(model, texts, seed):
    _, mask = texts
    x, far = vectors(mask.shape, seed), 1e6 * vectors(mask.shape, seed + 10)
    call = model("masked_lm")
    seen = call(inputs_embeds=x, attention_mask=mask).logits
    other = call(inputs_embeds=numpy.where(mask[:, :, None], x, far), attention_mask=mask).logits
    assert_same(other[mask], seen[mask])


@rarely
@given(texts=texts(), seed=st.integers(0, 9))
def test_what_is_not_masked_is_seen(model, texts, seed):
    ids, mask = texts
    call = model("model")
    seen = call(input_ids=ids, attention_mask=mask).last_hidden_state
    text, place = numpy.argwhere(mask)[seed % mask.sum()]
    other = ids.copy()
    other[text, place] = 2 + (ids[text, place] - 1) % (VOCABULARY - 2)  # another word
    other = call(input_ids=other, attention_mask=mask).last_hidden_state
    changed = (other != seen).any(axis=-1)
    assert changed[text].all()  # every place of the text sees it
    assert not numpy.delete(changed, text, axis=0).any()  # and no other text


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


# --- company and padding --------------------------------------------------------------------------


@rarely
@given(texts=texts())
def test_a_batch_is_its_texts_one_by_one(model, texts):
    ids, mask = texts
    call = model("model")

    def one_by_one():
        rows = zip(ids, mask, strict=True)
        each = [call(input_ids=i, attention_mask=m).last_hidden_state for i, m in rows]
        return numpy.concatenate(each)

    assert_changes_nothing(
        lambda: call(input_ids=ids, attention_mask=mask).last_hidden_state, one_by_one
    )


@pytest.mark.parametrize("side", ["right", "left", "inside"])
@rarely
@given(texts=texts(), padding=st.integers(1, 9), seed=st.integers(0, 99))
def test_padding_changes_no_token(model, side, texts, padding, seed):
    ids, mask = texts
    length = ids.shape[1]
    somewhere = numpy.random.default_rng(seed).permutation(length + padding)[:length]
    places = {
        "right": numpy.arange(length),
        "left": numpy.arange(length) + padding,
        "inside": numpy.sort(somewhere),
    }[side]
    padded = numpy.full((len(ids), length + padding), PAD)
    padded_mask = numpy.zeros(padded.shape, bool)
    padded[:, places], padded_mask[:, places] = ids, mask
    call = model("model")
    assert_changes_nothing(
        lambda: call(input_ids=padded, attention_mask=padded_mask).last_hidden_state[:, places],
        lambda: call(input_ids=ids, attention_mask=mask).last_hidden_state,
    )


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


@given(texts=texts(ids=st.integers(0, VOCABULARY - 1) | st.just(PAD)))
def test_the_positions_that_are_taken_may_as_well_be_given(model, texts):
    ids, mask = texts
    call, positions = model("model"), positions_by_hand(ids)
    with record() as taps:
        by_default = call(input_ids=ids, attention_mask=mask).last_hidden_state
    assert_same(taps["embeddings.position_ids"], positions)
    given_ = call(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
    assert_same(given_, by_default)


@given(texts=texts())
def test_vectors_count_every_place(model, texts):
    ids, mask = texts
    call, x = model("model"), vectors(ids.shape, 0)
    positions = numpy.arange(ids.shape[1]) + PAD + 1
    by_default = call(inputs_embeds=x, attention_mask=mask).last_hidden_state
    for each in (positions, positions[None], numpy.broadcast_to(positions, ids.shape)):
        given_ = call(inputs_embeds=x, attention_mask=mask, position_ids=each).last_hidden_state
        assert_same(given_, by_default)


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
