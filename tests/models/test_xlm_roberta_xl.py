"""XLM-R-XL: what is normalised and what is not, and labels at padding."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl import ops
from refimpl.taps import record
from tests.compare import assert_same, assert_ulps
from tests.models.drawn import build, rarely, tensors_of, texts, with_tensors

IDS = numpy.asarray([[0, 17, 5, 23, 2], [0, 28, 11, 8, 2]])
modes = pytest.mark.parametrize("values", [{}, {"is_decoder": True}])


@modes
@rarely
@given(drawn=texts())
def test_only_the_last_hidden_states_are_normalised(values, drawn):
    ids, mask = drawn
    with record() as taps:
        out = build("xlm_roberta_xl", **values)(
            input_ids=ids, attention_mask=mask, output_hidden_states=True
        )
    embeddings, first, last = out.hidden_states
    parts = [taps[f"embeddings.{part}_embeddings"] for part in ("word", "token_type", "position")]
    assert_same(embeddings, parts[0] + parts[1] + parts[2])
    attended = taps["encoder.layer.0.attention.output.dense"] + embeddings
    assert_same(first, taps["encoder.layer.0.output.dense"] + attended)
    assert last is taps["encoder.LayerNorm"]
    assert last is out.last_hidden_state


def test_the_last_hidden_states_have_mean_0_and_variance_1_without_a_gain():
    model = build("xlm_roberta_xl", layer_norm_eps=1e-30)
    tensors = tensors_of(model)
    tensors["encoder.LayerNorm.weight"] = numpy.ones(12)
    tensors["encoder.LayerNorm.bias"] = numpy.zeros(12)
    out = with_tensors(model, tensors)(input_ids=IDS, output_hidden_states=True)
    rows = out.last_hidden_state.reshape(-1, 12)
    means = numpy.asarray([math.fsum(row) / 12 for row in rows])
    squares = numpy.asarray([math.fsum(row * row) / 12 for row in rows])
    # The mean, rounded 12 times, is subtracted from numbers whose deviation it is measured by:
    # a few ulps for each of 12; the variance has as many again.
    assert_ulps(means, numpy.zeros(10), ulps=16, of=1.0)
    assert_ulps(squares, numpy.ones(10), ulps=32)
    deviations = out.hidden_states[1].std(axis=-1)
    assert (numpy.abs(deviations - 1) > 0.01).all()  # those of the first layer are as they come


def test_a_layer_whose_parts_give_nothing_passes_on_what_comes_in():
    model = build("xlm_roberta_xl")
    tensors = {
        name: numpy.zeros_like(x) if ".output.dense." in name else x
        for name, x in tensors_of(model).items()
    }
    out = with_tensors(model, tensors)(input_ids=IDS, output_hidden_states=True)
    embeddings, first, last = out.hidden_states
    assert_same(first, embeddings)
    assert_same(last, ops.layer_norm(embeddings, **model.weights["encoder.LayerNorm"], eps=1e-5))


# --- labels at padding ----------------------------------------------------------------------------

TAGS = "XLMRobertaXLForTokenClassification"
labels = arrays("int64", (2, 5), elements=st.integers(0, 3))


@rarely
@given(labels=labels, mask=arrays(bool, (2, 5)))
def test_labels_at_padding_do_not_count(labels, mask):
    mask[:, 0] = True
    model = build("xlm_roberta_xl", TAGS, num_labels=4)
    out = model(input_ids=IDS, attention_mask=mask, labels=labels)
    ignored = numpy.where(mask, labels, -100)
    expected = model(input_ids=IDS, attention_mask=mask, labels=ignored)
    assert_same(out.loss, expected.loss)
    assert_same(
        out.loss,
        ops.cross_entropy(out.logits.reshape(-1, 4), ignored.reshape(-1), ignore_index=-100),
    )
    assert_same(out.logits, model(input_ids=IDS, attention_mask=mask).logits)


def test_all_labels_count_without_a_mask_or_with_one_for_each_query():
    model = build("xlm_roberta_xl", TAGS, num_labels=4)
    labels = numpy.arange(10).reshape(2, 5) % 4
    expected = model(input_ids=IDS, labels=labels).loss
    ones = model(input_ids=IDS, labels=labels, attention_mask=numpy.ones((2, 5, 5))).loss
    assert_same(ones, expected)
    # In XLM-R labels at padding count.
    other = build("xlm_roberta", "XLMRobertaForTokenClassification", num_labels=4)
    mask = [[1, 1, 1, 0, 0]] * 2
    ignored = numpy.where(mask, labels, -100)
    losses = [other(input_ids=IDS, attention_mask=mask, labels=x).loss for x in (labels, ignored)]
    assert losses[0] != losses[1]
