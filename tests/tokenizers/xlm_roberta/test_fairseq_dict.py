"""``dict.txt``: which piece has which id, and every line that is none."""

import doctest
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta import fairseq_dict
from refimpl.tokenizers.xlm_roberta.fairseq_dict import ids_by_place, read_dict
from tests.tokenizers.xlm_roberta.toy_models import toy_model

PIECES = toy_model().pieces


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(fairseq_dict)
    assert (failed, tried) == (0, 1)


def write(folder, lines):
    file = folder / "dict.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def test_the_published_order_gives_a_place_and_one_more(tmp_path):
    dictionary = read_dict(write(tmp_path, [f"{piece} 999" for piece in PIECES[3:]]))
    assert dictionary == PIECES[3:]
    assert ids_by_place(PIECES, dictionary) == [3, 0, 2, *range(4, 301)]


def test_another_order_and_pieces_left_out(tmp_path):
    chosen = random.Random(1).sample(PIECES[3:], 100)
    dictionary = read_dict(write(tmp_path, [f"{piece} {i}" for i, piece in enumerate(chosen)]))
    ids = ids_by_place(PIECES, dictionary)
    assert ids[:3] == [3, 0, 2]
    for piece, i in zip(PIECES[3:], ids[3:], strict=True):
        assert i == (chosen.index(piece) + 4 if piece in chosen else 3)


@given(st.permutations(["▁a", "b", "c d", "\x85", "字", "▁"]), st.integers(0, 6))
def test_ids_are_the_lines(pieces, n):
    model = ["<unk>", "<s>", "</s>", "▁a", "b", "c d", "\x85", "字", "▁"]
    ids = ids_by_place(model, list(pieces[:n]))
    assert [ids[model.index(piece)] for piece in pieces[:n]] == list(range(4, 4 + n))
    assert sorted(ids) == sorted([0, 2, *[3] * (len(model) - 2 - n), *range(4, 4 + n)])


def test_lines_as_fairseq_reads_them(tmp_path):
    file = tmp_path / "dict.txt"
    file.write_bytes("a b 5\r\n▁ 7\n\x85 1\n字 0  ".encode())  # a space in it, no end of line
    assert read_dict(file) == ["a b", "▁", "\x85", "字"]


def test_entries_that_fill_up_a_dictionary_are_no_pieces():
    dictionary = ["▁the", "madeupword0000", "madeupword0001", "."]
    ids = ids_by_place(PIECES, dictionary)
    assert ids[PIECES.index("▁the")] == 4
    assert ids[PIECES.index(".")] == 7
    assert sorted(set(ids)) == [0, 2, 3, 4, 7]


def test_an_entry_that_the_model_does_not_have():
    for odd in ("nope", "madeupword1", "madeupword00000"):
        with pytest.raises(ValueError, match=f"^line 2: the model has no piece '{odd}'"):
            ids_by_place(PIECES, ["▁the", odd])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a 1", "b"], "line 2: expected a piece, a space and a count, got 'b'"),
        (["a 1", ""], "line 2: expected a piece, a space and a count, got ''"),
        (["a"], "line 1: expected a piece"),
        (["a x"], "line 1: expected a piece"),
        (["a -1"], "line 1: expected a piece"),
        (["a 1.5"], "line 1: expected a piece"),
        (["a \u0661"], "line 1: expected a piece"),
        ([" 5"], "line 1: expected a piece"),
        (["a 1", "b 1", "a 2"], "line 3: 'a' stands in line 1 too"),
        (["a 1", "<s> 1"], "line 2: '<s>' has the id 0"),
        (["<s> 1 #fairseq:overwrite"], "line 1: #fairseq:overwrite is not served"),
        (["x" * 999], f"line 1: expected a piece, a space and a count, got '{'x' * 60}'"),
    ],
)
def test_lines_that_are_none(tmp_path, lines, message):
    file = write(tmp_path, lines)
    with pytest.raises(CheckpointError, match=f"^{re.escape(f'{file}: {message}')}"):
        read_dict(file)


def test_files_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match=r"dict\.txt: cannot be read \(No such file"):
        read_dict(tmp_path / "dict.txt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_dict(tmp_path)
    file = write(tmp_path, [])
    with pytest.raises(CheckpointError, match="expected lines of a piece and a count, found none"):
        read_dict(file)
    file.write_bytes(b"\xff\xfe 5\n")
    with pytest.raises(CheckpointError, match=r"dict\.txt: expected UTF-8"):
        read_dict(file)
    monkeypatch.setattr(fairseq_dict, "LARGEST_FILE", 3)
    with pytest.raises(CheckpointError, match="expected at most 3 bytes, got more"):
        read_dict(file)
