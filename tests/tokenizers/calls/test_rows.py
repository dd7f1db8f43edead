"""Rows: tokens in their template, and every field of the same form."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.tokenizers.calls import rows
from refimpl.tokenizers.calls.plan import Plan
from refimpl.tokenizers.calls.rows import Rows, Span, common_width, lay, padded
from refimpl.tokenizers.calls.windows import Window

SINGLE, PAIR = (0, "A", 2), (0, "A", 2, 2, "B", 2)


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(rows)
    assert (failed, tried > 4) == (0, True)


def no_spans(sample, which):
    raise AssertionError("expected no spans to be asked for")


def make(first, second=None, plan=None, template=None, types=None, spans=no_spans):
    template = template or (SINGLE if second is None else PAIR)
    types = types or (0,) * len(template)
    return Rows(first, second, template, types, plan or Plan(), 1, spans)


@pytest.mark.parametrize(
    ("template", "a", "b", "row"),
    [
        (SINGLE, [], [], [0, 2]),
        (PAIR, [], [7], [0, 2, 2, 7, 2]),
        (("A",), [5, 6], [], [5, 6]),
        (("A", "B"), [5], [7, 8], [5, 7, 8]),
        ((0, "A", 1, "B", 1), [5], [7], [0, 5, 1, 7, 1]),
    ],
)
def test_lay(template, a, b, row):
    assert lay(template, template, a, b, Window(0, len(a), 0, len(b))) == row


@pytest.mark.parametrize(
    ("plan", "width"),
    [
        (Plan(), 0),
        (Plan("longest"), 5),
        (Plan("longest", multiple_of=8), 8),
        (Plan("longest", multiple_of=5), 5),
        (Plan("max_length", None, 3), 3),
        (Plan("max_length", None, 6, multiple_of=4), 8),
    ],
)
def test_width(plan, width):
    assert common_width([5, 2], plan) == width


def test_a_row_that_is_too_long_stays_whole():
    made = make([[5, 6, 7]], plan=Plan("max_length", None, 2))
    assert made.input_ids() == [[0, 5, 6, 7, 2]]
    assert made.attention_mask() == [[1] * 5]


@pytest.mark.parametrize("side", ["right", "left"])
def test_fields_have_one_form(side):
    types = (0, 0, 0, 0, 1, 1)
    plan = Plan("longest", side=side, overflow=True)
    made = make([[5, 6], [5]], [[7], [8, 9, 1]], plan, types=types)
    names = ["input_ids", "token_type_ids", "attention_mask", "special_tokens_mask", "length",
             "overflow_to_sample_mapping"]  # fmt: skip
    fields = made.fields(names)
    assert list(fields) == names
    rows_of = {
        "input_ids": ([0, 5, 6, 2, 2, 7, 2], [0, 5, 2, 2, 8, 9, 1, 2], 1),
        "token_type_ids": ([0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1], 0),
        "attention_mask": ([1] * 7, [1] * 8, 0),
        "special_tokens_mask": ([1, 0, 0, 1, 1, 0, 1], [1, 0, 1, 1, 0, 0, 0, 1], 1),
    }
    for name, (short, long, pad) in rows_of.items():
        assert fields[name] == [[*short, pad] if side == "right" else [pad, *short], long]
    assert fields["length"] == [8, 8]
    assert fields["overflow_to_sample_mapping"] == [0, 1]


def spans_of(sample, which):
    """Tokens of two characters each; every second one begins a word."""
    return [Span(10 * sample + i, 2 * i, 2 * i + 2, i // 2) for i in range(9)]


def test_where_the_tokens_of_windows_come_from():
    plan = Plan("longest", "only_second", 9, "left", stride=1, overflow=True)
    made = make([[1, 2]], [[3, 4, 5, 6]], plan, spans=spans_of)
    assert made.windows == [Window(0, 2, 0, 3), Window(0, 2, 2, 4)]
    assert made.sequence_ids(0) == [None, 0, 0, None, None, 1, 1, 1, None]
    assert made.sequence_ids(1) == [None, None, 0, 0, None, None, 1, 1, None]
    assert made.word_ids(1) == [None, None, 0, 0, None, None, 1, 1, None]
    o = (0, 0)
    assert made.offsets(0) == [o, (0, 2), (2, 4), o, o, (0, 2), (2, 4), (4, 6), o]
    assert made.offsets(1) == [o, o, (0, 2), (2, 4), o, o, (4, 6), (6, 8), o]


def test_nothing_looks_for_places_unless_asked():
    made = make([[5]], [[6]])
    made.fields(["input_ids", "attention_mask", "token_type_ids", "special_tokens_mask", "length"])
    assert made.sequence_ids(0) == [None, 0, None, None, 1, None]
    with pytest.raises(AssertionError, match="no spans"):
        made.word_ids(0)


ids_lists = st.lists(st.integers(2, 99), max_size=12)


@given(
    st.lists(ids_lists, min_size=1, max_size=5),
    st.sampled_from([None, "longest", "max_length"]),
    st.integers(1, 20),
    st.sampled_from(["right", "left"]),
    st.integers(1, 9),
)
def test_masks_mark_exactly_what_is_no_padding(texts, padding, max_length, side, multiple):
    plan = Plan(padding, None, max_length, side, multiple_of=multiple)
    made = make(texts, plan=plan, template=("A",))  # 1, the pad, is in no text
    ids, masks = made.input_ids(), made.attention_mask()
    assert [[int(i != 1) for i in row] for row in ids] == masks
    assert [[i for i in row if i != 1] for row in ids] == texts
    if padding == "longest":
        assert {len(row) for row in ids} == {-(-max(map(len, texts)) // multiple) * multiple}
    if padding == "max_length":
        width = -(-max_length // multiple) * multiple
        assert [len(row) for row in ids] == [max(len(row), width) for row in texts]
    for row, text in zip(ids, texts, strict=True):
        fill = [1] * (len(row) - len(text))
        assert row == (text + fill if side == "right" else fill + text)


@given(st.lists(st.integers()), st.integers(0, 20), st.sampled_from(["right", "left"]))
def test_padding_can_be_taken_off_again(row, width, side):
    full = padded(row, width, None, side)
    assert len(full) == max(len(row), width)
    assert [i for i in full if i is not None] == row
