"""The heads: which loss the labels call for, and each loss by hand from the scores."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.backend import to_numpy
from refimpl.models.heads import HEADS, problem_type, sequence_loss, span_loss
from refimpl.models.model import ARCHITECTURES, load
from refimpl.models.xlm_roberta import XLMRobertaConfig
from refimpl.taps import record
from tests.compare import assert_same, assert_ulps

IDS = [[0, 17, 5, 23, 2], [0, 28, 11, 8, 2]]
scores = arrays("float64", (3, 4), elements=st.floats(-30, 30))


def assert_is_mean(loss, terms, of):
    """The loss is the mean of ``terms``, made of numbers as large as ``of``, to a few roundings."""
    expected = numpy.asarray(math.fsum(terms) / len(terms))
    assert_ulps(loss, expected, ulps=8, of=max(of, 1.0))


def surprise(row, label):
    """-log softmax(row)[label]"""
    top = max(row)
    return math.log(math.fsum(math.exp(x - top) for x in row)) + top - row[label]


# --- the kind of problem --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "labels", "expected"),
    [
        ({"num_labels": 1}, [0.5, 1.0], "regression"),
        ({"num_labels": 1}, [3, 1], "regression"),
        ({"num_labels": 3}, [0, 2], "single_label_classification"),
        ({"num_labels": 3}, [[0.0, 1.0, 1.0]], "multi_label_classification"),
        ({"num_labels": 3, "problem_type": "regression"}, [[0.0, 1.0, 1.0]], "regression"),
        ({"num_labels": 1, "problem_type": "multi_label_classification"}, [[1.0]],
         "multi_label_classification"),
        ({"id2label": {"0": "a"}}, [1.0], "regression"),
    ],
)  # fmt: skip
def test_problem_type_is_the_configs_or_what_the_labels_show(config, labels, expected):
    assert problem_type(XLMRobertaConfig(**config), numpy.asarray(labels)) == expected


def test_what_one_call_shows_does_not_bind_the_next(model):
    call = model("classification")  # names no problem type; the original keeps the first it saw
    classes = call(input_ids=IDS, labels=[0, 2])
    several = call(input_ids=IDS, labels=[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert_same(call(input_ids=IDS, labels=[0, 2]).loss, classes.loss)
    assert several.loss != classes.loss


def test_problem_type_named_or_shown_is_the_same_loss(checkpoint, model):
    named = load(
        checkpoint("classification", config={"problem_type": "single_label_classification"}),
        dtype="float64",
        kernels="plain",
    )
    shown = model("classification")
    assert_same(named(input_ids=IDS, labels=[2, 1]).loss, shown(input_ids=IDS, labels=[2, 1]).loss)


def test_whole_numbers_are_numbers_to_regression(model):
    for case, whole in (("regression", [1, -2]), ("regression_multi", [[1, -2, 0], [0, 3, 1]])):
        real = numpy.asarray(whole, "float64")
        call = model(case)
        assert_same(call(input_ids=IDS, labels=whole).loss, call(input_ids=IDS, labels=real).loss)
    call = model("classification_multi")
    whole = [[1, 0, 1], [0, 0, 1]]
    real = numpy.asarray(whole, "float64")
    assert_same(call(input_ids=IDS, labels=whole).loss, call(input_ids=IDS, labels=real).loss)


def test_labels_of_regression_may_stand_in_a_column(model):
    call = model("regression")
    column = call(input_ids=IDS, labels=[[0.5], [-2.0]])
    assert_same(call(input_ids=IDS, labels=[0.5, -2.0]).loss, column.loss)


@pytest.mark.parametrize("case", ["masked_lm", "classification", "question_answering"])
def test_without_labels_there_is_no_loss_and_the_same_scores(model, case):
    call = model(case)
    places = {"start_positions": [1, 2], "end_positions": [3, 4]}
    labels = {"masked_lm": {"labels": IDS}, "classification": {"labels": [0, 1]}}.get(case, places)
    without, with_ = call(input_ids=IDS), call(input_ids=IDS, **labels)
    assert without.loss is None
    assert with_.loss is not None
    for actual, expected in zip(without[1:3], with_[1:3], strict=True):
        if expected is not None:
            assert_same(actual, expected)


# --- losses of sequences --------------------------------------------------------------------------


@given(scores, arrays("int64", 3, elements=st.integers(0, 3) | st.just(-100)))
def test_loss_of_one_class(logits, labels):
    loss = sequence_loss(logits, labels, problem_type="single_label_classification")
    pairs = zip(logits, labels, strict=True)
    terms = [surprise(row, label) for row, label in pairs if label != -100]
    if terms:
        assert_is_mean(loss, terms, of=numpy.abs(logits).max())
    else:
        assert math.isnan(loss)


@given(scores, scores)
def test_loss_of_regression(logits, labels):
    loss = sequence_loss(logits, labels, problem_type="regression")
    terms = [(x - y) ** 2 for x, y in zip(logits.ravel(), labels.ravel(), strict=True)]
    assert_is_mean(loss, terms, of=max(terms))


@given(scores, arrays("int64", (3, 4), elements=st.integers(0, 1)))
def test_loss_of_several_classes(logits, labels):
    loss = sequence_loss(logits, labels, problem_type="multi_label_classification")
    pairs = zip(logits.ravel(), labels.ravel(), strict=True)
    terms = [math.log1p(math.exp(-x if y else x)) for x, y in pairs]
    assert_is_mean(loss, terms, of=numpy.abs(logits).max())


# --- spans ----------------------------------------------------------------------------------------


@given(scores, scores, *[arrays("int64", 3, elements=st.integers(-2, 6))] * 2)
def test_loss_of_a_span(start_logits, end_logits, start, end):
    halves = []
    for logits, places in ((start_logits, start), (end_logits, end)):
        # Before the text counts as its first place, behind it does not count.
        terms = [surprise(row, max(i, 0)) for row, i in zip(logits, places, strict=True) if i < 4]
        halves.append(math.fsum(terms) / len(terms) if terms else math.nan)
    loss = span_loss(start_logits, end_logits, start, end)
    if math.isnan(sum(halves)):
        assert math.isnan(loss)
    else:
        largest = max(numpy.abs(start_logits).max(), numpy.abs(end_logits).max())
        assert_is_mean(loss, halves, of=largest)


def test_places_out_of_the_window(model):
    def loss(start, end):
        return model("question_answering")(
            input_ids=IDS, start_positions=start, end_positions=end
        ).loss

    inside = loss([1, 2], [3, 4])
    assert_same(loss([[1], [2]], [[3], [4]]), inside)
    assert_same(loss([-1, 2], [3, 4]), loss([0, 2], [3, 4]))
    assert_same(loss([1, 5], [3, 4]), loss([1, 10**9], [3, 4]))
    assert loss([1, 5], [3, 4]) != loss([1, 4], [3, 4])
    assert math.isnan(loss([5, 5], [3, 4]))  # a mean of nothing, as in the original


def test_a_span_needs_both_ends(model):
    call = model("question_answering")
    assert call(input_ids=IDS, start_positions=[1, 2]).loss is None
    assert call(input_ids=IDS, end_positions=[1, 2]).loss is None


# --- the classes ----------------------------------------------------------------------------------


def test_the_published_classes_are_there():
    names = {f"XLMRoberta{head}" for head in ("Model", *HEADS)}
    assert {name for name in ARCHITECTURES if name.startswith("XLMRoberta")} >= names


def test_choices_are_texts_of_their_own(model):
    call = model("multiple_choice")
    choices = numpy.asarray([IDS, [[0, 9, 9, 9, 2], [0, 3, 4, 2, 1]]])
    out = call(input_ids=choices, attention_mask=choices != 1)
    assert out.logits.shape == (2, 2)
    swapped = call(input_ids=choices[:, ::-1], attention_mask=choices[:, ::-1] != 1)
    # Rows that stand elsewhere in a matrix may be multiplied in another order: a few roundings.
    assert_ulps(swapped.logits, out.logits[:, ::-1], ulps=128, of=1.0)
    with record() as taps:
        call(input_ids=choices, output_hidden_states=True)
    assert taps["roberta.pooler"].shape == (4, 12)


def test_positions_of_choices_may_be_given_once_for_all(model):
    call = model("multiple_choice")
    choices = [IDS, IDS]
    expected = call(input_ids=choices).logits
    assert_same(call(input_ids=choices, position_ids=[[2, 3, 4, 5, 6]]).logits, expected)
    assert_same(call(input_ids=choices, position_ids=[2, 3, 4, 5, 6]).logits, expected)
    every = numpy.broadcast_to([2, 3, 4, 5, 6], (2, 2, 5))
    assert_same(call(input_ids=choices, position_ids=every).logits, expected)


def test_vectors_of_choices(model):
    call = model("multiple_choice")
    choices = numpy.asarray([IDS, IDS[::-1]])
    with record() as taps:
        expected = call(input_ids=choices, labels=[0, 1])
    x = to_numpy(taps["roberta.embeddings.word_embeddings"]).reshape(2, 2, 5, 12)
    actual = call(inputs_embeds=x, labels=[0, 1])
    assert_same(actual.logits, expected.logits)
    assert_same(actual.loss, expected.loss)
