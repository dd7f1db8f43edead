"""The model file: against the library's reading of it, and every way in which it can be broken."""

import doctest
import re
import tracemalloc
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta import model_file as spm
from refimpl.tokenizers.xlm_roberta.model_file import (
    Kind,
    check_model,
    model_bytes,
    parse_model,
    read_model,
)
from refimpl.tokenizers.xlm_roberta.protobuf import FIXED32, field
from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine
from tests.tokenizers.xlm_roberta.toy_models import TOY, library, make_model, published, toy_model

BYTES = {f"<0x{i:02X}>": (0.0, Kind.BYTE) for i in range(256)}


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(spm)
    assert (failed, tried > 2) == (0, True)


def refusal(tmp_path, data):
    """Return what is said of a file that is refused, after its name."""
    file = tmp_path / "sentencepiece.bpe.model"
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}: ") as raised:
        read_model(file)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return str(raised.value).removeprefix(f"{file}: ")


# what is read


def assert_same_as_library(model, other):
    n = len(model.pieces)
    assert n == len(model.scores) == len(model.kinds) == len(other)
    assert model.pieces == [other.id_to_piece(i) for i in range(n)]
    assert model.scores == [other.get_score(i) for i in range(n)]
    for kind, asked in [
        (Kind.UNKNOWN, other.is_unknown),
        (Kind.CONTROL, other.is_control),
        (Kind.UNUSED, other.is_unused),
        (Kind.BYTE, other.is_byte),
    ]:
        assert [one == kind for one in model.kinds] == [asked(i) for i in range(n)]


def test_the_toy_model_is_what_the_library_reads():
    model = read_model(TOY)
    assert_same_as_library(model, library(TOY))
    assert len(model.pieces) == 300
    assert model.pieces[:5] == ["<unk>", "<s>", "</s>", "▁", "."]
    assert model.scores[:3] == [0.0, 0.0, 0.0]
    assert model[4:] == (True, True, True, False, False)


def test_the_published_model_is_what_the_library_reads():
    file = published()
    model = read_model(file)
    assert_same_as_library(model, library(file))
    assert (len(model.pieces), len(model.charsmap)) == (250_000, 237_561)
    assert model.kinds.count(Kind.NORMAL) == 249_997
    assert model[4:] == (True, True, True, False, False)


ODD = make_model(
    {"▁a": -1.5, "b": (0.0, Kind.USER_DEFINED), "c": (-3.0, Kind.UNUSED), **BYTES, "字": -0.1},
    byte_fallback=True,
    treat_whitespace_as_suffix=True,
    add_dummy_prefix=False,
)


@pytest.mark.parametrize("model", [toy_model(), ODD], ids=["toy", "odd"])
def test_a_model_comes_back_as_it_was_written(model):
    assert parse_model(model_bytes(model)) == model == check_model(model)
    assert_same_as_library(model, library(model))


@pytest.mark.parametrize("values", list(product([False, True], repeat=4)))
def test_every_switch_comes_back(values):
    model = make_model({"a": -1.0})._replace(
        **dict(zip(toy_model()._fields[4:8], values, strict=True))
    )
    assert parse_model(model_bytes(model))[4:8] == values


PIECE_A = field(1, field(1, b"a") + field(2, b"\0\0\x80\xbf", FIXED32))
FIRST = b"".join(
    field(1, field(1, piece) + field(3, kind))
    for piece, kind in [(b"<unk>", 2), (b"<s>", 3), (b"</s>", 3)]
)
WHOLE = FIRST + PIECE_A + field(2, field(3, 1)) + field(3, b"")


def test_what_is_not_said_has_its_default(tmp_path):
    file = tmp_path / "m"
    file.write_bytes(FIRST + PIECE_A + field(3, b""))
    assert read_model(file) == make_model({"a": -1.0})


def test_what_means_nothing_here_is_passed_over(tmp_path):
    file = tmp_path / "m"
    more = (
        field(4, b"self test")
        + field(5, b"denormaliser")
        + field(200, 7)
        + field(99, b"12345678", 1)
    )
    piece = field(1, field(1, b"b") + field(200, b"?") + field(2, b"\0\0\0\xc0", FIXED32))
    file.write_bytes(WHOLE + piece + more + field(2, field(1, b"corpus.txt") + field(24, 0)))
    assert read_model(file) == make_model({"a": -1.0, "b": -2.0})


def test_of_what_is_said_twice_the_last_counts(tmp_path):
    file = tmp_path / "m"
    piece = field(1, field(1, b"c") + field(3, 4) + field(1, b"b") + field(3, 1))
    file.write_bytes(WHOLE + piece + field(3, field(3, 0)) + field(3, field(4, 0) + field(3, 1)))
    model = read_model(file)
    assert model.pieces[-1] == "b"
    assert (model.add_dummy_prefix, model.remove_extra_whitespaces) == (True, False)


# what is refused


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match="gone: expected the SentencePiece model, found no"):
        read_model(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="found no such file"):
        read_model(tmp_path)


def test_empty_and_too_large(tmp_path, monkeypatch):
    assert refusal(tmp_path, b"") == "expected the SentencePiece model, found an empty file"
    monkeypatch.setattr(spm, "LARGEST_FILE", 5)
    assert refusal(tmp_path, b"123456") == "expected at most 5 bytes, got 6"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is no SentencePiece model (a field of"),
        (bytes(64), "is no SentencePiece model (a field of number 0"),
        (FIRST + PIECE_A, "is cut short: it ends before its normaliser"),
        (WHOLE[:-1], "is no SentencePiece model (no varint at byte"),
        (b"\x0a\xff\xff\xff\xff\x0f" + WHOLE, "is no SentencePiece model (4294967295 bytes ann"),
        (WHOLE + b"\x80" * 11, "is no SentencePiece model (no varint"),
        (WHOLE + field(2, field(3, 2)), "model_type: expected a unigram model, got .* BPE"),
        (WHOLE + field(2, field(3, 3)), "model of type word"),
        (WHOLE + field(2, field(3, 4)), "model of type char"),
        (WHOLE + field(2, field(3, 9)), "model of type number 9"),
        (WHOLE + field(2, field(3, b"1")), "model_type: expected a number, got a string of bytes"),
        (WHOLE + field(2, 5), "trainer_spec: expected a string of bytes, got a number"),
        (WHOLE + field(3, field(4, b"")), "remove_extra_whitespaces: expected a number, got a str"),
        (
            WHOLE + field(3, field(2, 1)),
            "precompiled_charsmap: expected a string of bytes, got a n",
        ),
        (WHOLE + field(3, field(2, b"abc")), "precompiled_charsmap: a trie of"),
        (WHOLE + field(1, 5), "piece 4: expected a string of bytes, got a number"),
        (WHOLE + field(1, field(1, 1)), "piece 4: expected a string of bytes, got a number"),
        (WHOLE + field(1, field(1, b"\xff\xfe")), r"piece 4: expected UTF-8, got b'\\xff\\xfe'"),
        (WHOLE + field(1, field(1, b"\xed\xa0\x80")), "piece 4: expected UTF-8"),  # a surrogate
        (WHOLE + field(1, field(1, b"b") + field(2, 1)), "piece 4: score: expected a string of by"),
        (WHOLE + field(1, field(1, b"b") + field(2, b"12")), "score: expected 4 bytes, got 2"),
        (WHOLE + field(1, field(1, b"b") + field(2, b"\0\0\xc0\x7f", 5)), "finite score, got nan"),
        (WHOLE + field(1, field(1, b"b") + field(2, b"\0\0\x80\xff", 5)), "finite score, got -inf"),
        (WHOLE + field(1, field(1, b"b") + field(3, b"")), "piece 4: kind: expected a number"),
        (WHOLE + field(1, field(1, b"b") + field(3, 0)), "kind: expected one of 1 to 6, got 0"),
        (WHOLE + field(1, field(1, b"b") + field(3, 7)), "kind: expected one of 1 to 6, got 7"),
        (WHOLE + field(1, field(1, b"b" * 8000)), "piece 4: expected at most 7999 bytes, got 8000"),
        (WHOLE + field(1, b""), "piece 4: expected text without a null character, got ''"),
        (WHOLE + field(1, field(1, b"b\0")), r"null character, got 'b\\x00'"),
        (WHOLE + PIECE_A, "piece 4, 'a': is piece 3 too"),
        (WHOLE + field(1, field(1, b"<s>") + field(3, 3)), "piece 4, '<s>': is piece 1 too"),
        (
            WHOLE + field(1, field(1, b"b") + field(3, 2)),
            "expected piece 0, and no other, to be of",
        ),
        (
            PIECE_A + WHOLE,
            "expected a model whose pieces 0, 1, 2 are <unk>, <s>, </s>, got a, <unk",
        ),
        (field(3, b""), "pieces 0, 1, 2 are <unk>, <s>, </s>, got no pieces"),
        (FIRST + field(3, b""), "expected pieces of the kind NORMAL, found none"),
        (
            WHOLE + field(1, field(1, b"<0x41>") + field(3, 6)),
            "expected 0 byte pieces, as byte_fallback is False, got 1 .'<0x41>' is one too many",
        ),
        (
            WHOLE + field(2, field(35, 1)),
            "expected 256 byte pieces, as byte_fallback is True, got 0 .'<0x00>' is missing",
        ),
    ],
)
def test_broken_file(tmp_path, data, message):
    assert re.search(message.replace("(", "[(]"), refusal(tmp_path, data))


def test_the_name_of_a_piece_may_be_a_piece(tmp_path):
    file = tmp_path / "m"
    file.write_bytes(WHOLE + field(1, field(1, b"<s>")))
    model = read_model(file)
    assert (model.pieces[4], model.kinds[4]) == ("<s>", Kind.NORMAL)
    engine = ExplicitEngine(model)
    assert (engine.piece_to_id("<s>"), library(model).piece_to_id("<s>")) == (1, 1)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    data = TOY.read_bytes()
    for end in range(1, len(data), 7):
        refusal(tmp_path, data[:end])


def test_what_a_file_announces_is_not_reserved(tmp_path):
    tracemalloc.start()
    for size in (1 << 31, 1 << 40, (1 << 63) - 1):
        refusal(tmp_path, WHOLE + field(1, b"")[:1] + field(1, size)[1:])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 22


@given(st.data())
def test_a_changed_file_is_refused_or_works(data):
    changed = bytearray(TOY.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = check_model(parse_model(bytes(changed)))
    except ValueError:
        return
    engine = ExplicitEngine(model)
    assert engine.tokenize("The ﬁsh is 🙂") == library(model).encode("The ﬁsh is 🙂", out_type=str)
