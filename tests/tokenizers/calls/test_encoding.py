"""Encoding: a mapping with attributes, and questions about single tokens."""

import copy
import doctest
import pickle
from collections.abc import Mapping

import array_api_strict
import numpy
import pytest

from refimpl.backend import get_backend
from refimpl.tokenizers.calls import encoding
from refimpl.tokenizers.calls.encoding import CharSpan, Encoding, as_arrays
from refimpl.tokenizers.calls.plan import Plan
from refimpl.tokenizers.calls.rows import Rows, Span


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(encoding)
    assert (failed, tried > 1) == (0, True)


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


# where tokens come from

A = [Span(5, 0, 3, 0), Span(6, 3, 6, 1), Span(7, 6, 9, 1)]  # "ein zwei" or so
B = [Span(8, 0, 2, 0), Span(9, 4, 5, 1)]


@pytest.fixture
def enc():
    """A text in two windows behind its pair, and a pad on the left."""
    plan = Plan("max_length", "only_first", 8, "left", overflow=True)
    texts = {(0, 0): A, (0, 1): B}
    template = (0, "A", 2, 2, "B", 2)
    rows = Rows([[5, 6, 7]], [[8, 9]], template, (0,) * 6, plan, 1, lambda *which: texts[which])
    return Encoding(rows.fields(["input_ids"]), rows)


def test_rows_as_expected(enc):
    assert enc.input_ids == [[0, 5, 6, 2, 2, 8, 9, 2], [1, 0, 7, 2, 2, 8, 9, 2]]


def test_sequence_ids(enc):
    assert enc.sequence_ids() == [None, 0, 0, None, None, 1, 1, None]
    assert enc.sequence_ids(1) == [None, None, 0, None, None, 1, 1, None]


def test_word_ids(enc):
    assert enc.word_ids() == enc.word_ids(0) == [None, 0, 1, None, None, 0, 1, None]
    assert enc.word_ids(batch_index=1) == [None, None, 1, None, None, 0, 1, None]


@pytest.mark.parametrize(
    ("arguments", "token"),
    [
        ((0,), 1),
        ((2,), 1),
        ((3,), 2),
        ((0, 5), 2),
        ((0, 6), None),
        ((1, 6), 2),
        ((1, 8), 2),
        ((1, 9), None),
        ((1, 0), None),
        ((0, 0, 1), 5),
        ((0, 2, 1), None),
        ((0, 4, 1), 6),
        ((0, -1), None),
    ],
)
def test_char_to_token(enc, arguments, token):
    assert enc.char_to_token(*arguments) == token


@pytest.mark.parametrize(
    ("arguments", "chars"),
    [((1,), (0, 3)), ((0, 6), (4, 5)), ((1, 2), (6, 9)), ((0, 0), None), ((1, 0), None)],
)
def test_token_to_chars(enc, arguments, chars):
    found = enc.token_to_chars(*arguments)
    assert found == chars
    assert chars is None or found == CharSpan(start=chars[0], end=chars[1])


@pytest.mark.parametrize("row", [2, -1])
def test_rows_that_are_not_there(enc, row):
    for question in (enc.sequence_ids, enc.word_ids):
        with pytest.raises(IndexError, match=f"expected a row from 0 to 1, got {row}"):
            question(row)
    with pytest.raises(IndexError, match="expected a row"):
        enc.char_to_token(row, 0)
    with pytest.raises(IndexError, match="expected a row"):
        enc.token_to_chars(row, 0)


@pytest.mark.parametrize("token", [8, -1])
def test_tokens_that_are_not_there(enc, token):
    with pytest.raises(IndexError, match=f"expected a token from 0 to 7, got {token}"):
        enc.token_to_chars(0, token)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda enc: pickle.loads(pickle.dumps(enc))]
)
def test_a_copy_has_the_fields_but_not_their_origin(enc, copied):
    other = copied(enc)
    assert other == enc
    with pytest.raises(ValueError, match="expected the Encoding that a tokenizer returned, got a"):
        other.sequence_ids()


# arrays


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("numpy", numpy.ndarray),
        (get_backend("numpy"), numpy.ndarray),
        ("strict:device1", type(array_api_strict.asarray(0))),
    ],
)
def test_fields_as_arrays(backend, kind):
    fields = {
        "input_ids": [[0, 5], [0, 2]],
        "offset_mapping": [[(0, 0), (0, 3)]] * 2,
        "length": [2, 2],
    }
    made = as_arrays(fields, backend)
    assert list(made) == list(fields)
    shapes = {name: array.shape for name, array in made.items()}
    assert shapes == {"input_ids": (2, 2), "offset_mapping": (2, 2, 2), "length": (2,)}
    for array in made.values():
        assert isinstance(array, kind)
        assert str(array.dtype).endswith("int64")
    assert int(made["input_ids"][0, 1]) == 5


def test_arrays_of_no_tokens():
    (array,) = as_arrays({"input_ids": [[], []]}, "numpy").values()
    assert (array.shape, array.dtype) == ((2, 0), numpy.int64)


def test_ragged_rows_are_no_array():
    with pytest.raises(ValueError, match=r"backend: .* got 2 to 4 tokens .padding=True makes them"):
        as_arrays({"input_ids": [[0, 2], [0, 5, 6, 2]]}, "numpy")


@pytest.mark.parametrize("backend", [5, numpy, True])
def test_what_is_no_backend(backend):
    with pytest.raises(TypeError, match="backend: expected a name or a Backend, got"):
        as_arrays({"input_ids": [[0]]}, backend)


def test_unknown_backend():
    with pytest.raises(ValueError, match=r"backend: expected 'numpy', .* got 'pt'"):
        as_arrays({"input_ids": [[0]]}, "pt")
