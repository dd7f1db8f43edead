"""The SentencePiece model file: what it holds, read and written by our own code.

The file is one protocol buffer message (sentencepiece_model.proto, ``ModelProto``):

    1 pieces           again and again: 1 the piece, 2 its score, 3 its kind
    2 trainer_spec     how it was trained; 3, 24 and 35 change how text is cut
    3 normalizer_spec  how text is prepared: 2 the table of rewriting rules, 3, 4, 5 three switches

A piece's place in the file, from 0, is its id in the library. Fields that change nothing here are
passed over: the rest of the trainer's settings, the self-test, the denormaliser.

Source: google/sentencepiece src/sentencepiece_model.proto, src/model_interface.cc (the checks).
Differs: strings must be UTF-8; a file must say how it normalises (a cut one does not); and the
first pieces must be XLM-R's, ``<unk> <s> </s>``.
"""

from __future__ import annotations

import math
import os
import struct
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta.charsmap import parse_charsmap
from refimpl.tokenizers.xlm_roberta.protobuf import FIXED32, field, fields

T = TypeVar("T", int, bytes)

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
UNK_PLACE = 0
FIRST_PIECES = [UNK, BOS, EOS]
SPACE = "▁"  # U+2581, SentencePiece's visible space
LARGEST_FILE = 1 << 30  # bytes; the published file has 5.6 million
LONGEST_PIECE = 7999  # bytes, as in the library
MODEL_TYPES = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}


class Kind(IntEnum):
    """What a piece is for (``ModelProto.SentencePiece.Type``)."""

    NORMAL = 1  # part of the vocabulary, with a score
    UNKNOWN = 2  # stands for whatever is not in it
    CONTROL = 3  # never found in a text: <s>, </s>
    USER_DEFINED = 4  # always cut out whole, and not normalised
    UNUSED = 5  # in the file but never used
    BYTE = 6  # "<0x41>": spells what is unknown, byte by byte


class SentencePieceModel(NamedTuple):
    """A unigram model: its pieces in their order, and how text is prepared for them."""

    pieces: list[str]
    scores: list[float]  # natural logarithms of probabilities, each a float32
    kinds: list[Kind]
    charsmap: bytes  # the rewriting rules, see charsmap.py; empty for none
    add_dummy_prefix: bool = True  # a text begins with a space
    remove_extra_whitespaces: bool = True  # none at the ends, and one where there are several
    escape_whitespaces: bool = True  # a space is written ▁
    treat_whitespace_as_suffix: bool = False  # the dummy space stands at the end
    byte_fallback: bool = False  # the unknown is spelt in bytes


def read_model(path: str | os.PathLike[str]) -> SentencePieceModel:
    """Read a model file.

    Raises ``CheckpointError``, naming the file, where it is missing, cut short, no unigram model,
    not consistent in itself or not laid out as XLM-R's.
    """
    data = read_model_file(path)
    try:
        return check_model(parse_model(data))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def read_model_file(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of the model file; ``CheckpointError`` where there are none."""
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(
            f"{file}: expected the SentencePiece model, found no such file (it is published with "
            "FacebookAI/xlm-roberta-base)"
        )
    try:
        size = file.stat().st_size
        if size > LARGEST_FILE:
            raise CheckpointError(f"{file}: expected at most {LARGEST_FILE} bytes, got {size}")
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    if not data:
        raise CheckpointError(f"{file}: expected the SentencePiece model, found an empty file")
    return data


# bytes -> model

PIECES, TRAINER_SPEC, NORMALIZER_SPEC = 1, 2, 3  # of the file
PIECE, SCORE, KIND = 1, 2, 3  # of a piece
MODEL_TYPE, WHITESPACE_AS_SUFFIX, BYTE_FALLBACK = 3, 24, 35  # of trainer_spec
CHARSMAP, DUMMY_PREFIX, REMOVE_WHITESPACES, ESCAPE_WHITESPACES = 2, 3, 4, 5  # of normalizer_spec


def parse_model(data: bytes) -> SentencePieceModel:
    """Return what the bytes of a model file say; ``ValueError`` where they are no such file."""
    header, messages = parse_file(data)
    try:
        table = [parse_piece(i, message) for i, message in enumerate(messages)]
    except ValueError as error:
        raise ValueError(f"is no SentencePiece model ({error})") from None
    return SentencePieceModel(
        [piece for piece, _, _ in table],
        [score for _, score, _ in table],
        [kind for _, _, kind in table],
        **header,
    )


def parse_file(
    data: bytes, without_pieces: bool = False
) -> tuple[dict[str, Any], list[int | bytes]]:
    """Return a file's settings, and its pieces as messages; ``ValueError`` where it has none.

    A file that was cut between two pieces is a well-formed message; but the settings come last.
    """
    try:
        parts = list(fields(data, PIECES if without_pieces else 0))
        header = parse_header(parts)
    except ValueError as error:
        raise ValueError(f"is no SentencePiece model ({error})") from None
    if NORMALIZER_SPEC not in dict(parts):
        raise ValueError("is cut short: it ends before its normaliser")
    return header, [value for number, value in parts if number == PIECES]


def parse_piece(i: int, message: int | bytes) -> tuple[str, float, Kind]:
    """Return the piece, its score and its kind, from the message at place ``i``.

    >>> score = bytes([0, 0, 32, 192])  # a float32, little-endian
    >>> parse_piece(5, field(PIECE, "▁the".encode()) + field(SCORE, score, FIXED32))
    ('▁the', -2.5, <Kind.NORMAL: 1>)

    Raises ``ValueError`` for text that is no UTF-8, a score of another size, an unknown kind.
    """
    said = dict(fields(expect(bytes, message, f"piece {i}")))
    piece = expect(bytes, said.get(PIECE, b""), f"piece {i}")
    score = expect(bytes, said.get(SCORE, bytes(4)), f"piece {i}: score")
    kind = expect(int, said.get(KIND, 1), f"piece {i}: kind")
    if len(score) != 4:
        raise ValueError(f"piece {i}: score: expected 4 bytes, got {len(score)}")
    if kind not in KINDS:
        raise ValueError(f"piece {i}: kind: expected one of 1 to {len(Kind)}, got {kind}")
    try:
        return piece.decode(), FLOAT32.unpack(score)[0], KINDS[kind]
    except UnicodeDecodeError:
        raise ValueError(f"piece {i}: expected UTF-8, got {piece[:40]!r}") from None


FLOAT32 = struct.Struct("<f")
KINDS = {int(kind): kind for kind in Kind}


def parse_header(parts: list[tuple[int, int | bytes]]) -> dict[str, Any]:
    """Return the settings among the fields of a file; what is not said has the schema's default.

    Raises ``ValueError`` for a model that is not of the unigram kind.
    """
    trainer, normalizer = (
        [
            one
            for number, value in parts
            if number == spec
            for one in fields(expect(bytes, value, name))
        ]
        for spec, name in ((TRAINER_SPEC, "trainer_spec"), (NORMALIZER_SPEC, "normalizer_spec"))
    )
    trained, normal = dict(trainer), dict(normalizer)  # of a field that is there twice, the last
    kind = expect(int, trained.get(MODEL_TYPE, 1), "model_type")
    if kind != 1:
        name = MODEL_TYPES.get(kind, f"number {kind}")
        raise ValueError(f"model_type: expected a unigram model, got a model of type {name}")
    switches = {
        "add_dummy_prefix": normal.get(DUMMY_PREFIX, 1),
        "remove_extra_whitespaces": normal.get(REMOVE_WHITESPACES, 1),
        "escape_whitespaces": normal.get(ESCAPE_WHITESPACES, 1),
        "treat_whitespace_as_suffix": trained.get(WHITESPACE_AS_SUFFIX, 0),
        "byte_fallback": trained.get(BYTE_FALLBACK, 0),
    }
    flags = {name: bool(expect(int, value, name)) for name, value in switches.items()}
    return {"charsmap": expect(bytes, normal.get(CHARSMAP, b""), "precompiled_charsmap"), **flags}


def expect(kind: type[T], value: int | bytes, name: str) -> T:
    """Return a value that is written as its field should be; ``ValueError`` for another."""
    if not isinstance(value, kind):
        names = {int: "a number", bytes: "a string of bytes"}
        raise ValueError(f"{name}: expected {names[kind]}, got {names[type(value)]}")
    return value


# what must hold


def check_model(model: SentencePieceModel) -> SentencePieceModel:
    """Return a model if it can be used: it passes the library's checks and begins as XLM-R's.

    Raises ``ValueError``, saying what is wrong, for any other.
    """
    check_first_pieces(model.pieces[:3])
    if [i for i, kind in enumerate(model.kinds) if kind == Kind.UNKNOWN] != [UNK_PLACE]:
        raise ValueError(f"expected piece {UNK_PLACE}, and no other, to be of the kind UNKNOWN")
    check_pieces(model)
    check_bytes(model)
    parse_charsmap(model.charsmap)
    if Kind.NORMAL not in model.kinds:
        raise ValueError("expected pieces of the kind NORMAL, found none")
    return model


def check_first_pieces(pieces: list[str]) -> None:
    """Raise ``ValueError`` for a model that does not begin as XLM-R's."""
    if pieces != FIRST_PIECES:
        raise ValueError(
            f"expected a model whose pieces 0, 1, 2 are {', '.join(FIRST_PIECES)}, got "
            f"{', '.join(pieces) or 'no pieces'}"
        )


def check_pieces(model: SentencePieceModel) -> None:
    """Raise ``ValueError`` for pieces empty, too long or there twice, and for infinite scores."""
    for i, (piece, score) in enumerate(zip(model.pieces, model.scores, strict=True)):
        if not piece or "\0" in piece:
            raise ValueError(f"piece {i}: expected text without a null character, got {piece!r}")
        if len(piece) > LONGEST_PIECE // 4 and len(piece.encode()) > LONGEST_PIECE:
            raise ValueError(
                f"piece {i}: expected at most {LONGEST_PIECE} bytes, got {len(piece.encode())}"
            )
        if not math.isfinite(score):
            raise ValueError(f"piece {i}, {piece!r}: expected a finite score, got {score}")
    for places in places_by_use(model):
        seen: dict[str, int] = {}
        for i in places:
            first = seen.setdefault(model.pieces[i], i)
            if first != i:
                raise ValueError(f"piece {i}, {model.pieces[i]!r}: is piece {first} too")


def places_by_use(model: SentencePieceModel) -> tuple[list[int], list[int]]:
    """Return the places of the pieces that stand for text, and of those that are names.

    A name may be spelt like a piece: ``<s>`` in a text is not the control piece ``<s>``.
    """
    places: tuple[list[int], list[int]] = [], []
    names = {Kind.UNKNOWN, Kind.CONTROL, Kind.BYTE}
    for i, kind in enumerate(model.kinds):
        places[kind in names].append(i)
    return places


def check_bytes(model: SentencePieceModel) -> None:
    """Raise ``ValueError`` for byte pieces where nothing is spelt in bytes, and for their lack."""
    found = {
        piece for piece, kind in zip(model.pieces, model.kinds, strict=True) if kind == Kind.BYTE
    }
    expected = {byte_piece(byte) for byte in range(256)} if model.byte_fallback else set()
    if found != expected:
        one = min(found ^ expected)
        raise ValueError(
            f"expected {len(expected)} byte pieces, as byte_fallback is {model.byte_fallback}, got "
            f"{len(found)} ({one!r} is {'one too many' if one in found else 'missing'})"
        )


def byte_piece(byte: int) -> str:
    """Return the piece that spells a byte.

    >>> byte_piece(0x0A)
    '<0x0A>'
    """
    return f"<0x{byte:02X}>"


# model -> bytes


def model_bytes(model: SentencePieceModel) -> bytes:
    """Return a model as the bytes of a model file, which :func:`read_model` reads back.

    A model that was read elsewhere (tokenizer_json.py) is handed to the library in this form.
    """
    rows = zip(*model[:3], strict=True)
    pieces = [
        field(
            PIECES,
            field(PIECE, p.encode()) + field(SCORE, FLOAT32.pack(s), FIXED32) + field(KIND, k),
        )
        for p, s, k in rows
    ]
    trainer = (
        field(MODEL_TYPE, 1)
        + field(WHITESPACE_AS_SUFFIX, int(model.treat_whitespace_as_suffix))
        + field(BYTE_FALLBACK, int(model.byte_fallback))
    )
    normalizer = (
        field(CHARSMAP, model.charsmap)
        + field(DUMMY_PREFIX, int(model.add_dummy_prefix))
        + field(REMOVE_WHITESPACES, int(model.remove_extra_whitespaces))
        + field(ESCAPE_WHITESPACES, int(model.escape_whitespaces))
    )
    return b"".join([*pieces, field(TRAINER_SPEC, trainer), field(NORMALIZER_SPEC, normalizer)])
