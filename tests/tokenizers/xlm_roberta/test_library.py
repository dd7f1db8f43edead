"""The engine "library": what it answers, from a file and from a model, and what it refuses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta.library import LibraryEngine
from refimpl.tokenizers.xlm_roberta.model_file import Kind, read_model
from refimpl.tokenizers.xlm_roberta.protobuf import field
from tests.oracle.corpus import interesting_text, nasty
from tests.tokenizers.xlm_roberta.toy_models import TOY, make_model, toy_model

ENGINE = LibraryEngine(TOY)


def test_answers():
    text = "The ﬁsh, Q🙂Z"
    assert len(ENGINE) == 300
    pieces = ["▁The", "▁", "f", "is", "h", ",", "▁", "Q🙂Z"]
    assert ENGINE.tokenize(text) == pieces
    assert ENGINE.encode([text, ""]) == [[54, 3, 24, 44, 30, 12, 3, 0], []]
    assert ENGINE.encode([]) == []
    assert ENGINE.spans(text) == [
        ("▁The", 54, 0, 3),
        ("▁", 3, 3, 4),
        ("f", 24, 4, 5),
        ("is", 44, 4, 6),
        ("h", 30, 6, 7),
        (",", 12, 7, 8),
        ("▁", 3, 8, 9),
        ("Q🙂Z", 0, 9, 12),
    ]
    assert [ENGINE.piece_to_id(piece) for piece in ("▁The", "nope", "")] == [54, 0, 0]
    assert ENGINE.id_to_piece(54) == "▁The"
    for place in (-1, 300):
        with pytest.raises(IndexError):
            ENGINE.id_to_piece(place)


@given(st.lists(interesting_text(), max_size=5))
def test_a_batch_is_its_texts_one_by_one(texts):
    assert ENGINE.encode(texts) == [ENGINE.encode([text])[0] for text in texts]
    for text, places in zip(texts, ENGINE.encode(texts), strict=True):
        found = ENGINE.spans(text)
        assert [place for _, place, _, _ in found] == places
        assert [piece for piece, _, _, _ in found] == ENGINE.tokenize(text)


def test_a_model_that_was_read_serves_as_its_file():
    made = LibraryEngine(toy_model())
    texts = nasty()
    assert made.encode(texts) == ENGINE.encode(texts)
    assert made.spans("Ｔhe ﬁsh") == ENGINE.spans("Ｔhe ﬁsh")
    assert made.model == ENGINE.model == read_model(TOY)


def test_bytes_of_a_character_share_its_span():
    pieces = {"▁": -1.0, **{f"<0x{i:02X}>": (0.0, Kind.BYTE) for i in range(256)}}
    engine = LibraryEngine(make_model(pieces, byte_fallback=True))
    found = engine.spans("é 🙂")
    assert [(piece, start, end) for piece, _, start, end in found] == [
        ("▁", 0, 1),
        ("<0xC3>", 0, 1),
        ("<0xA9>", 0, 1),
        ("▁", 1, 2),
        ("<0xF0>", 2, 3),
        ("<0x9F>", 2, 3),
        ("<0x99>", 2, 3),
        ("<0x82>", 2, 3),
    ]


@pytest.mark.parametrize("name", ["tokenize", "spans", "piece_to_id"])
def test_a_lone_surrogate_is_refused(name):
    with pytest.raises(ValueError, match=r"UTF-8 form, got a lone surrogate, '\\ud800', at char"):
        getattr(ENGINE, name)("a\ud800")


def test_a_lone_surrogate_in_a_batch_is_refused():
    with pytest.raises(ValueError, match="got a lone surrogate"):
        ENGINE.encode(["a", "\ud800"])


def test_what_is_no_text_is_refused():
    with pytest.raises((TypeError, AttributeError)):
        ENGINE.encode(["a", 5])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found an empty file"),
        (bytes(64), "is no SentencePiece model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no SentencePiece model"),
        (TOY.read_bytes()[:-3000], "is no SentencePiece model|is cut short"),
        (TOY.read_bytes().replace(b"<s>", b"<S>"), "pieces 0, 1, 2 are <unk>, <s>, </s>, got"),
        (TOY.read_bytes() + field(2, field(3, 2)), "model_type: expected a unigram model"),
        (
            TOY.read_bytes() + field(1, field(1, b".")),
            ".*already defined",
        ),
        (TOY.read_bytes() + field(3, field(2, bytes(5000))), "is no SentencePiece model"),
    ],
)
def test_broken_file(tmp_path, data, message):
    file = tmp_path / "sentencepiece.bpe.model"
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}: .*({message})") as raised:
        LibraryEngine(file)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_no_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone: expected the SentencePiece model, found no"):
        LibraryEngine(tmp_path / "gone")


def test_nothing_is_said_on_the_way(capfd, tmp_path):
    """The library writes to the terminal by itself; what it has to say is in the error."""
    (tmp_path / "m").write_bytes(TOY.read_bytes() + field(1, field(1, b".")))
    with pytest.raises(CheckpointError):
        LibraryEngine(tmp_path / "m")
    assert capfd.readouterr() == ("", "")


def test_the_library_is_imported_on_first_use():
    module = "refimpl.tokenizers.xlm_roberta.library"
    code = f"import sys, {module}; print('sentencepiece' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=True,
        text=True,
    )
    assert ran.stdout == "False\n"
