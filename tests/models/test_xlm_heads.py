"""XLM's own heads: which token sums up a text, spans by beam search, and losses by hand."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl import ops
from refimpl.models import xlm_heads
from refimpl.models.model import ARCHITECTURES
from refimpl.taps import record
from tests.compare import assert_same, assert_ulps
from tests.models.drawn import VOCABULARY, build, rarely, texts

PAD = 2
IDS = numpy.asarray([[0, 17, 5, 23, 1], [0, 28, 11, 8, 1]])
LM, QA = "XLMWithLMHeadModel", "XLMForQuestionAnswering"


def test_the_published_classes_are_there():
    names = {f"XLM{head}" for head in ("Model", *xlm_heads.HEADS)}
    assert {name for name in ARCHITECTURES if name.startswith("XLM")} >= names


def surprise(row, label):
    """-log softmax(row)[label]"""
    top = max(row)
    return math.log(math.fsum(math.exp(x - top) for x in row)) + top - row[label]


def assert_is_mean(loss, terms, of):
    expected = numpy.asarray(math.fsum(terms) / len(terms))
    assert_ulps(loss, expected, ulps=8, of=max(of, 1.0))


# --- language modelling ---------------------------------------------------------------------------

ASM = {"asm": True, "asm_cutoffs": (7, 15), "asm_div_value": 2.0}
some_labels = arrays("int64", (2, 5), elements=st.just(-100) | st.integers(0, VOCABULARY - 1))


@pytest.mark.parametrize("values", [{}, {"causal": True}, ASM, {**ASM, "causal": True}])
@rarely
@given(labels=some_labels)
def test_labels_are_not_shifted_in_any_language_model(values, labels):
    out = build("xlm", LM, **values)(input_ids=IDS, labels=labels)
    pairs = zip(out.logits.reshape(-1, VOCABULARY), labels.ravel(), strict=True)
    terms = [surprise(row, label) for row, label in pairs if label != -100]
    if terms:
        assert_is_mean(out.loss, terms, of=numpy.abs(out.logits).max())
    else:
        assert math.isnan(out.loss)


@rarely
@given(drawn=texts())
def test_an_adaptive_softmax_gives_log_probabilities(drawn):
    ids, mask = drawn
    logits = build("xlm", LM, **ASM)(input_ids=ids, attention_mask=mask).logits
    assert logits.shape == (*ids.shape, VOCABULARY)
    sums = numpy.asarray([math.fsum(map(math.exp, r)) for r in logits.reshape(-1, VOCABULARY)])
    # Logarithms above -37 count, off by some ulps of 32 (see tests/ops/test_adaptive_softmax.py).
    assert_ulps(sums, numpy.ones_like(sums), ulps=4 * 32)


def test_words_are_tied_but_for_an_adaptive_softmax():
    entry, adaptive = ARCHITECTURES[LM], build("xlm", LM, **ASM).config
    ties = {"pred_layer.proj.weight": "transformer.embeddings.weight"}
    assert entry.rules(build("xlm", LM).config).ties == ties
    assert entry.rules(build("xlm", LM, tie_word_embeddings=False).config).ties == {}
    assert entry.rules(adaptive).ties == {}
    shapes = entry.parameters(adaptive)
    assert "pred_layer.proj.weight" not in shapes
    assert shapes["pred_layer.proj.head.weight"] == (7 + 2, 9)
    assert shapes["pred_layer.proj.tail.0.0.weight"] == (4, 9)  # 9 / 2
    assert shapes["pred_layer.proj.tail.0.1.weight"] == (8, 4)  # words 7 to 14
    assert shapes["pred_layer.proj.tail.1.0.weight"] == (2, 9)  # 9 / 2²
    assert shapes["pred_layer.proj.tail.1.1.weight"] == (14, 2)


# --- the summary ----------------------------------------------------------------------------------


class Summary:
    """A config with no projection, unless it says so."""

    summary_activation = None

    def __init__(self, summary_type):
        self.summary_type = summary_type


HIDDEN = numpy.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("kind", "cls_index", "expected"),
    [
        ("first", None, HIDDEN[:, 0]),
        ("last", None, HIDDEN[:, 2]),
        ("mean", None, HIDDEN[:, 1]),  # of three rows in steps of four
        ("cls_index", numpy.asarray([2, 1]), HIDDEN[[0, 1], [2, 1]]),
        ("cls_index", None, HIDDEN[:, 2]),
        ("first", numpy.asarray([2, 1]), HIDDEN[:, 0]),
    ],
)
def test_one_vector_for_a_text(kind, cls_index, expected):
    out = xlm_heads.sequence_summary(None, Summary(kind), HIDDEN, cls_index)
    assert_same(out, expected)


@pytest.mark.parametrize("activation", [None, "tanh", "relu"])
@pytest.mark.parametrize("to_labels", [True, False])
def test_a_projection_and_an_activation(activation, to_labels):
    model = build(
        "xlm",
        "XLMForSequenceClassification",
        summary_activation=activation,
        summary_proj_to_labels=to_labels,
        num_labels=3,
    )
    with record() as taps:
        logits = model(input_ids=IDS).logits
    x = taps["sequence_summary.summary"]
    assert x.shape == (2, 3 if to_labels else 9)
    assert_same(logits, x if activation is None else ops.ACTIVATIONS[activation](x))
    assert_same(logits, taps["sequence_summary"])


def test_the_last_place_is_the_last_whether_padding_or_not():
    model = build("xlm", "XLMForSequenceClassification", summary_type="last")
    logits = model(input_ids=[[0, 5, PAD]]).logits
    assert_same(logits, model.weights["sequence_summary.summary.bias"][None])  # of zero


def test_choices_are_scored_from_their_summaries():
    model = build("xlm", "XLMForMultipleChoice")
    choices = numpy.asarray([IDS, IDS[::-1]])
    with record() as taps:
        out = model(input_ids=choices, langs=choices % 4, labels=[0, 1])
    assert out.logits.shape == (2, 2)
    summary, w = taps["sequence_summary"], model.weights["logits_proj"]
    assert_same(out.logits, ops.linear(summary, **w).reshape(2, 2))
    terms = [surprise(row, label) for row, label in zip(out.logits, [0, 1], strict=True)]
    assert_is_mean(out.loss, terms, of=numpy.abs(out.logits).max())
    lengths = model(input_ids=choices, lengths=[[5, 3], [4, 5]]).logits
    mask = numpy.arange(5) < numpy.asarray([[5, 3], [4, 5]])[:, :, None]
    assert_same(lengths, model(input_ids=choices, attention_mask=mask).logits)


# --- helpers of the span head ---------------------------------------------------------------------


def test_places_that_are_taken():
    places = numpy.asarray([[2, 0], [1, 1]])
    expected = [[HIDDEN[0, 2], HIDDEN[0, 0]], [HIDDEN[1, 1], HIDDEN[1, 1]]]
    assert_same(xlm_heads.take_places(HIDDEN, places), numpy.asarray(expected))


def test_the_largest_first():
    x = numpy.asarray([[1.0, 3.0, 2.0, 3.0]])
    top, places = xlm_heads.top_k(x, 3)
    assert_same(top, [[3.0, 3.0, 2.0]])
    assert_same(places, [[1, 3, 2]])


def test_by_rank_all_best_come_first():
    x = numpy.asarray([[[1, 2, 3], [4, 5, 6]]])  # two first places, three last places for each
    assert_same(xlm_heads.by_rank(x), [[1, 4, 2, 5, 3, 6]])


@pytest.mark.parametrize(
    ("dtype", "low"), [("float64", -1e30), ("float32", -1e30), ("float16", -65500.0)]
)
def test_what_is_ruled_out_is_low(dtype, low):
    logits, p_mask = numpy.asarray([[1.5, 2.5]], dtype), numpy.asarray([[0.0, 1.0]], dtype)
    expected = numpy.asarray([[1.5, low]], dtype)
    assert_same(xlm_heads.rule_out(logits, p_mask), expected)
    assert xlm_heads.rule_out(logits, None) is logits


# --- spans ----------------------------------------------------------------------------------------


@rarely
@given(drawn=texts(longest=7), top=st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_the_best_spans_are_the_best_of_all(drawn, top):
    ids, _ = drawn
    length = ids.shape[1]
    first, last = (min(n, length) for n in top)
    model = build("xlm", QA, start_n_top=first, end_n_top=last)
    with record() as taps:
        out = model(input_ids=ids)
    starts = ops.softmax(taps["qa_outputs.start_logits.dense"][:, :, 0])
    # (B, S, P, 1): of each first place that was found, every last place
    ends = ops.softmax(
        numpy.moveaxis(taps["qa_outputs.end_logits.dense_1"][..., 0], 1, 2)
    )  # (B, P, S)
    for b in range(len(ids)):
        order = sorted(range(length), key=lambda i, b=b: -starts[b, i])[:first]
        assert out.start_top_index[b].tolist() == order
        assert_same(out.start_top_log_probs[b], starts[b, order])
        for p in range(first):
            best = sorted(range(length), key=lambda i, b=b, p=p: -ends[b, p, i])[:last]
            assert out.end_top_index[b, p::first].tolist() == best
            assert_same(out.end_top_log_probs[b, p::first], ends[b, p, best])
    assert out.cls_logits.shape == (len(ids),)
    assert out.loss is None


def test_places_that_are_ruled_out_are_not_found():
    model = build("xlm", QA, start_n_top=2, end_n_top=2)
    p_mask = [[1, 1, 0, 1, 0], [0, 1, 1, 1, 0]]
    out = model(input_ids=IDS, p_mask=p_mask)
    for found in (out.start_top_index, out.end_top_index):
        for row, allowed in zip(found, ({2, 4}, {0, 4}), strict=True):
            assert set(row.tolist()) <= allowed


def test_the_class_token_is_the_last_unless_it_is_named():
    model = build("xlm", QA)
    by_default = model(input_ids=IDS).cls_logits
    assert_same(model(input_ids=IDS, cls_index=[4, 4]).cls_logits, by_default)
    assert_same(model(input_ids=IDS, cls_index=[[4], [4]]).cls_logits, by_default)
    assert (model(input_ids=IDS, cls_index=[0, 0]).cls_logits != by_default).all()


@pytest.mark.parametrize(
    ("start", "end"), [([1, 2], [3, 2]), ([[1], [2]], [[3], [2]]), ([0, -100], [4, -100])]
)
def test_the_loss_of_a_span(start, end):
    model = build("xlm", QA)
    with record() as taps:
        loss = model(input_ids=IDS, start_positions=start, end_positions=end).loss
    halves, largest = [], 0.0
    for name, places in (("start_logits.dense", start), ("end_logits.dense_1", end)):
        logits = taps[f"qa_outputs.{name}"][..., 0]
        pairs = zip(logits, numpy.ravel(places), strict=True)
        terms = [surprise(row, i) for row, i in pairs if i != -100]
        halves.append(math.fsum(terms) / len(terms))
        largest = max(largest, numpy.abs(logits).max())
    assert_is_mean(loss, halves, of=largest)


def test_half_the_loss_of_whether_there_is_an_answer_is_added():
    model = build("xlm", QA)
    span = {"input_ids": IDS, "start_positions": [1, 2], "end_positions": [3, 2]}
    plain = model(**span)
    with record() as taps:
        loss = model(**span, cls_index=[0, 1], is_impossible=[0, 1]).loss
    logits = taps["qa_outputs.answer_class.dense_1"][:, 0]
    terms = [math.log1p(math.exp(logits[0])), math.log1p(math.exp(-logits[1]))]
    expected = numpy.asarray(float(plain.loss) + 0.5 * math.fsum(terms) / 2)
    assert_ulps(loss, expected, ulps=8, of=max(1.0, numpy.abs(logits).max()))
    # One without the other is not enough.
    for more in ({"cls_index": [0, 1]}, {"is_impossible": [0.0, 1.0]}):
        assert_same(model(**span, **more).loss, plain.loss)
    assert plain.start_top_index is None


@pytest.mark.parametrize("given_", ["start_positions", "end_positions"])
def test_a_span_needs_both_ends(given_):
    model = build("xlm", QA)
    out = model(input_ids=IDS, **{given_: [1, 2]})
    assert out.loss is None
    assert_same(out.start_top_index, model(input_ids=IDS).start_top_index)
