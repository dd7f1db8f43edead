"""Truncation, padding and Encoding: by hand, by property, and against the original."""

import copy
import doctest
import pickle
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.tokenizers import encoding
from refimpl.tokenizers.encoding import Encoding, Plan, as_batch, collate, make_plan, pad, truncate

MODEL = Path(__file__).parents[2] / "golden/tokenizers/xlm_roberta/sentencepiece.bpe.model"
LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND = "longest_first", "only_first", "only_second"
FIXED = settings(derandomize=True, deadline=None)


def cutting(truncation, max_length):
    return Plan(None, truncation, max_length, "right")


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(encoding)
    assert (failed, tried > 5) == (0, True)


# Encoding


def test_encoding_is_a_mapping_with_attributes():
    enc = Encoding({"input_ids": [0, 2], "attention_mask": [1, 1]})
    assert isinstance(enc, Mapping)
    assert list(enc) == list(enc.keys()) == ["input_ids", "attention_mask"]
    assert len(enc) == 2
    assert enc["input_ids"] is enc.input_ids
    assert "input_ids" in enc
    assert "token_type_ids" not in enc
    assert list(enc.values()) == [[0, 2], [1, 1]]
    assert dict(enc.items()) == {"input_ids": [0, 2], "attention_mask": [1, 1]} == enc
    assert enc != {"input_ids": [0, 2]}
    assert enc != 5
    assert enc.get("attention_mask") == [1, 1]
    assert enc.get("langs") is None
    assert repr(enc) == "Encoding({'input_ids': [0, 2], 'attention_mask': [1, 1]})"


def test_encoding_opens_into_keywords():
    def model(input_ids, attention_mask=None):
        return input_ids, attention_mask

    assert model(**Encoding({"input_ids": [0], "attention_mask": [1]})) == ([0], [1])


def test_encoding_says_what_it_lacks():
    enc = Encoding({"input_ids": [0]})
    with pytest.raises(AttributeError, match="an Encoding has no 'langs'"):
        enc.langs  # noqa: B018
    with pytest.raises(KeyError, match="langs"):
        enc["langs"]


def test_encoding_can_be_copied_and_pickled():
    enc = Encoding({"input_ids": [0, 2]})
    assert copy.copy(enc) == copy.deepcopy(enc) == pickle.loads(pickle.dumps(enc)) == enc


# make_plan


@pytest.mark.parametrize(
    ("padding", "truncation", "max_length", "expected"),
    [
        (False, False, None, Plan(None, None, None, "right")),
        ("do_not_pad", "do_not_truncate", None, Plan(None, None, None, "right")),
        (True, False, None, Plan("longest", None, None, "right")),
        ("longest", True, 9, Plan("longest", "longest_first", 9, "right")),
        ("max_length", False, 9, Plan("max_length", None, 9, "right")),
        ("max_length", "only_second", None, Plan("max_length", "only_second", 512, "right")),
        (False, "only_first", None, Plan(None, "only_first", 512, "right")),
    ],
)
def test_plan_spells_the_arguments_out(padding, truncation, max_length, expected):
    assert make_plan(padding, truncation, max_length, "right", 512) == expected


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("all", False, None, "right"), ValueError, "padding: expected one of False, True, 'long"),
        ((1, False, None, "right"), ValueError, "padding: .* got 1$"),
        ((None, False, None, "right"), ValueError, "padding: .* got None$"),
        ((False, "first", None, "right"), ValueError, "truncation: .* got 'first'$"),
        ((False, None, None, "right"), ValueError, "truncation: .* got None$"),
        ((False, 0, None, "right"), ValueError, "truncation: .* got 0$"),
        ((False, False, None, "up"), ValueError, "padding_side: expected 'right' or 'left', got"),
        ((False, True, 0, "right"), ValueError, "max_length: expected at least 1, got 0"),
        ((False, True, -4, "right"), ValueError, "max_length: expected at least 1, got -4"),
        ((False, True, 4.0, "right"), TypeError, r"max_length: expected an int, got 4.0 \(float"),
        ((False, True, True, "right"), TypeError, r"max_length: expected an int, got True \(bool"),
        ((False, True, None, "right"), ValueError, "max_length: expected an int .* got None"),
        (("max_length", False, None, "right"), ValueError, "max_length: expected an int .* None"),
        ((True, False, 4, "right"), ValueError, "max_length: expected truncation=True or .*=4"),
        ((False, False, 4, "right"), ValueError, "max_length: expected truncation=True or .*=4"),
    ],
)
def test_plan_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        make_plan(*arguments, model_max_length=None)


# as_batch


def test_batch_of_tuples_is_a_batch():
    assert as_batch(("a", "b"), ["c", "d"]) == ([("a", "c"), ("b", "d")], True)


@pytest.mark.parametrize(
    ("text", "pair", "error", "message"),
    [
        (None, None, TypeError, "text: expected a str or a list of str, got None$"),
        (b"a", None, TypeError, r"text: expected a str or a list of str, got b'a' \(bytes\)"),
        (5, None, TypeError, r"text: .* got 5 \(int\)"),
        ({"a": 1}, None, TypeError, r"text: .* \(dict\)"),
        (["a", 5], None, TypeError, r"text\[1\]: expected a str, got 5 \(int\)"),
        ([("a", "b")], None, TypeError, r"text\[0\]: expected a str, got \('a', 'b'\) \(tuple\)"),
        ([], None, ValueError, "text: expected at least one text, got an empty list"),
        (["a"], [], ValueError, "text_pair: expected at least one text, got an empty list"),
        ("a", ["b"], TypeError, r"text_pair: expected a str, as text is one, got \['b'\] \(list\)"),
        ("a", 5, TypeError, "text_pair: expected a str, as text is one, got 5"),
        (["a"], "b", TypeError, "text_pair: expected a list, as text is one, got 'b'"),
        (["a"], 5, TypeError, "text_pair: expected a str or a list of str, got 5"),
        (["a"], [None], TypeError, r"text_pair\[0\]: expected a str, got None"),
        (["a"], ["b", "c"], ValueError, "text_pair: expected 1 texts, as many as text has, got 2"),
    ],
)
def test_batch_refuses(text, pair, error, message):
    with pytest.raises(error, match=message):
        as_batch(text, pair)


# truncate


@pytest.mark.parametrize(
    ("strategy", "max_length", "n_special", "expected"),
    [
        (LONGEST_FIRST, 10, 4, ([1, 2, 3, 4], [7, 8])),
        (LONGEST_FIRST, 9, 4, ([1, 2, 3], [7, 8])),
        (LONGEST_FIRST, 8, 4, ([1, 2], [7, 8])),
        (LONGEST_FIRST, 7, 4, ([1, 2], [7])),
        (LONGEST_FIRST, 6, 4, ([1], [7])),
        (LONGEST_FIRST, 5, 4, ([1], [])),
        (LONGEST_FIRST, 4, 4, ([], [])),
        (LONGEST_FIRST, 1, 0, ([1], [])),
        (ONLY_FIRST, 7, 4, ([1], [7, 8])),
        (ONLY_SECOND, 9, 4, ([1, 2, 3, 4], [7])),
    ],
)
def test_truncate_a_pair(strategy, max_length, n_special, expected):
    assert truncate([1, 2, 3, 4], [7, 8], cutting(strategy, max_length), n_special) == expected


@pytest.mark.parametrize("strategy", [LONGEST_FIRST, ONLY_FIRST])
def test_truncate_one_text(strategy):
    assert truncate([1, 2, 3, 4], None, cutting(strategy, 3), 2) == ([1], None)


@pytest.mark.parametrize("max_length", [6, 7])
def test_truncate_leaves_what_fits(max_length):
    assert truncate([1, 2, 3, 4], None, cutting(ONLY_SECOND, max_length), 2) == ([1, 2, 3, 4], None)


@pytest.mark.parametrize(
    ("ids", "pair", "strategy", "max_length", "n_special", "message"),
    [
        ([1, 2, 3], None, LONGEST_FIRST, 2, 2, "max_length: expected at least 3 .* text .* got 2"),
        ([], None, LONGEST_FIRST, 1, 2, "max_length: expected at least 2 .* got 1"),
        ([1, 2, 3], [7, 8], ONLY_FIRST, 6, 4, "max_length: expected at least 7 .* text .* got 6"),
        ([1, 2], [7, 8], ONLY_SECOND, 6, 4, "max_length: expected at least 7 .* text_pair .* got"),
        ([1, 2], [7, 8], LONGEST_FIRST, 3, 4, "max_length: expected at least 4, the special tok"),
        ([1, 2], None, ONLY_SECOND, 3, 2, "truncation: expected a text_pair for 'only_second'"),
    ],
)
def test_truncate_refuses(ids, pair, strategy, max_length, n_special, message):
    with pytest.raises(ValueError, match=message):
        truncate(ids, pair, cutting(strategy, max_length), n_special)


# pad and collate


@pytest.mark.parametrize(
    ("plan", "ids", "masks"),
    [
        (Plan(None, None, None, "right"), [[5, 6, 7], [8]], [[1, 1, 1], [1]]),
        (Plan("longest", None, None, "right"), [[5, 6, 7], [8, 9, 9]], [[1, 1, 1], [1, 0, 0]]),
        (Plan("longest", None, None, "left"), [[5, 6, 7], [9, 9, 8]], [[1, 1, 1], [0, 0, 1]]),
        (Plan("max_length", None, 2, "right"), [[5, 6, 7], [8, 9]], [[1, 1, 1], [1, 0]]),
        (
            Plan("max_length", None, 4, "left"),
            [[9, 5, 6, 7], [9, 9, 9, 8]],
            [[0, 1, 1, 1], [0, 0, 0, 1]],
        ),
    ],
)
def test_pad(plan, ids, masks):
    assert pad([[5, 6, 7], [8]], plan, pad_id=9) == (ids, masks)


def test_no_ids_alone_are_not_padded_but_in_a_batch_they_are():
    plan = Plan("max_length", None, 2, "right")
    assert collate([[]], False, plan, 9) == {"input_ids": [], "attention_mask": []}
    assert collate([[]], True, plan, 9) == {"input_ids": [[9, 9]], "attention_mask": [[0, 0]]}


# properties

ids_lists = st.lists(st.integers(2, 99), max_size=12)
plans = st.builds(
    make_plan,
    padding=st.sampled_from(["longest", "max_length", False]),
    truncation=st.sampled_from([True, "only_first", "only_second"]),
    max_length=st.integers(1, 20),
    padding_side=st.sampled_from(["right", "left"]),
    model_max_length=st.none(),
)


@FIXED
@given(ids_lists, st.none() | ids_lists, plans, st.integers(0, 4))
def test_truncated_ids_fit_and_are_the_beginnings(ids, pair, plan, n_special):
    total = len(ids) + len(pair or []) + n_special
    try:
        kept, kept_pair = truncate(ids, pair, plan, n_special)
    except ValueError:
        assert total > plan.max_length
        return
    assert len(kept) + len(kept_pair or []) + n_special == min(total, plan.max_length)
    assert kept == ids[: len(kept)]
    assert (kept_pair is None) == (pair is None)
    assert kept_pair is None or kept_pair == pair[: len(kept_pair)]


@FIXED
@given(st.lists(ids_lists, min_size=1, max_size=5), plans)
def test_masks_mark_exactly_what_is_no_pad(rows, plan):
    padded, masks = pad(rows, plan, pad_id=1)  # 1 is in no row
    assert [[int(i != 1) for i in row] for row in padded] == masks
    assert [[i for i in row if i != 1] for row in padded] == rows
    if plan.padding == "longest":
        assert {len(row) for row in padded} == {max(map(len, rows))}
    if plan.padding == "max_length":
        assert [len(row) for row in padded] == [max(len(row), plan.max_length) for row in rows]
    for row, old in zip(padded, rows, strict=True):
        fill = [1] * (len(row) - len(old))
        assert row == (old + fill if plan.side == "right" else fill + old)


@pytest.mark.oracle
def test_truncation_is_the_originals():
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    original = transformers.XLMRobertaTokenizer(str(MODEL))
    for n, m in [(a, b) for a in range(7) for b in (None, *range(7))]:
        ids, pair = list(range(n)), None if m is None else list(range(m))
        for strategy in (LONGEST_FIRST, ONLY_FIRST, ONLY_SECOND):
            for excess in range(1, 14):
                total = n + (m or 0)
                theirs = original.truncate_sequences(ids, pair, excess, strategy)[:2]
                if len(theirs[0]) + len(theirs[1] or []) != total - excess:
                    with pytest.raises(ValueError, match=r"max_length|truncation"):
                        truncate(ids, pair, cutting(strategy, 20), 20 - total + excess)
                else:
                    ours = truncate(ids, pair, cutting(strategy, 20), 20 - total + excess)
                    assert ours == theirs, (n, m, strategy, excess)
