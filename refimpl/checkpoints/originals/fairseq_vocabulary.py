"""fairseq's vocabulary, and a SentencePiece file that gives a Hugging Face tokenizer the same ids.

fairseq cuts a text with the SentencePiece file and looks the pieces up in ``dict.txt``: a token's
id is its line there, behind four tokens of fairseq's own. ``<mask>`` follows the last line, unless
it has a line of its own.

    fairseq        <s> <pad> </s> <unk>   the lines of dict.txt, in order     <mask>
    Hugging Face   <s> <pad> </s> <unk>   the pieces of the file from 3 on    <mask>

The Hugging Face tokenizer has no ``dict.txt``. Its ids are fairseq's only where the file holds the
pieces of ``dict.txt`` in that order, as the published files do. Where ``dict.txt`` is another list
(a pruned vocabulary, say), the file is written anew: its pieces in the order of ``dict.txt``. Words
of ``dict.txt`` that are no pieces (``madeupword0000``, which fairseq appends to round the size up)
become pieces that no text is cut into, so that they take their ids. Pieces that ``dict.txt`` lacks
are left out. Of these fairseq makes ``<unk>``; without them a text that needs one is cut into
smaller pieces instead, or gives ``<unk>`` where there are none.

Source: fairseq ``data/dictionary.py`` (``add_from_file``), ``tasks/multilingual_masked_lm.py``;
transformers 4.57.6 ``tokenization_xlm_roberta.py``; ``sentencepiece_model.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from refimpl.checkpoints.pytorch.pickled import describe
from refimpl.errors import CheckpointError

DICT = "dict.txt"
MODEL = "sentencepiece.bpe.model"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
MODEL_SPECIAL = ("<unk>", "<s>", "</s>")  # the first pieces of the file, which have no ids

# Numbers of sentencepiece_model.proto.
PIECES, NORMALIZER, SELF_TEST = 1, 3, 4  # fields of a model; it ends with one of the last two
PIECE = 1  # field of a piece: its text; 2 is its score, 3 its type
UNUSED = 5  # a type: in the list, but no text is cut into it
LENGTH, VARINT = 2, 0  # wire types: bytes behind their length, a number
FIXED = {1: 8, 5: 4}  # wire types of a fixed number of bytes


class Vocabulary(NamedTuple):
    """What becomes of a fairseq vocabulary."""

    size: int  # how many ids fairseq has
    tokens: int  # how many of them a text can have: behind <mask> there may be filling
    model: bytes  # the SentencePiece file that gives these
    is_new: bool = False  # it is not the original file
    left_out: int = 0  # how many pieces of the original file it lacks


def read_vocabulary(folder: Path) -> Vocabulary:
    """Read ``dict.txt`` and the SentencePiece file beside it.

    Raises ``CheckpointError`` where one is missing or broken, and where the ids of ``dict.txt``
    cannot be had from a SentencePiece file.
    """
    words, filling = split_at_mask(read_words(folder / DICT))
    path = folder / MODEL
    model = _read(path)
    fields = list(parse(path, model))
    pieces = {_text(path, f.content): f.whole for f in fields if f.number == PIECES}
    first = tuple(pieces)[:3]
    if first != MODEL_SPECIAL:
        raise CheckpointError(
            f"{path}: expected a SentencePiece model whose pieces 0, 1, 2 are "
            f"{', '.join(MODEL_SPECIAL)}, got {', '.join(map(describe, first)) or 'none'}"
        )
    if not any(f.number == NORMALIZER for f in fields):
        raise CheckpointError(f"{path}: is cut short: it ends before its normaliser")
    behind = [word for word in filling if word in pieces]
    if behind:
        raise CheckpointError(
            f"{folder / DICT}: expected no piece behind {MASK}, which a Hugging Face tokenizer has "
            f"last, got {describe(behind[0])}"
        )
    tokens = len(SPECIAL) + len(words) + 1
    size = tokens + len(filling)
    if list(pieces)[3:] == words:
        return Vocabulary(size, tokens, model)
    wanted = [*MODEL_SPECIAL, *words]
    new = b"".join(pieces[word] if word in pieces else unused_piece(word) for word in wanted)
    # The self-test holds texts with their pieces, which are others now.
    rest = (f.whole for f in fields if f.number not in (PIECES, SELF_TEST))
    left_out = len(pieces.keys() - set(wanted))
    return Vocabulary(size, tokens, new + b"".join(rest), True, left_out)


def split_at_mask(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the words before ``<mask>`` and those behind it.

    >>> split_at_mask(["a", "b", "<mask>", "madeupword0000"])
    (['a', 'b'], ['madeupword0000'])
    """
    place = words.index(MASK) if MASK in words else len(words)
    return words[:place], words[place + 1 :]


def read_words(path: Path) -> list[str]:
    """Return the words of a ``dict.txt``, in order.

    A line is a word, a space and a count. Raises ``CheckpointError`` for another line, for a word
    that comes twice, and for one of fairseq's own four.
    """
    try:
        lines = _read(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: expected UTF-8: {error}") from None
    words = [_word(path, i, line) for i, line in enumerate(lines, 1) if line or i < len(lines)]
    if not words:
        raise CheckpointError(f"{path}: expected a word and its count in each line, it is empty")
    seen = set()
    for i, word in enumerate(words, 1):
        if word in SPECIAL:
            raise CheckpointError(f"{path}: line {i}: {word} stands before the first line already")
        if word in seen:
            raise CheckpointError(f"{path}: line {i}: {describe(word)} comes twice")
        seen.add(word)
    return words


def _word(path: Path, i: int, line: str) -> str:
    word, space, count = line.rstrip().rpartition(" ")
    if not (space and count.removeprefix("-").isdecimal()):
        raise CheckpointError(f"{path}: line {i}: expected a word and its count, got {line[:60]!r}")
    return word


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file, ids cannot be known without it") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None


# --- protocol buffers: a list of fields, each a number with what it holds -------------------------


class Field(NamedTuple):
    """A field of a message: its number, all its bytes, and those of its content."""

    number: int
    whole: bytes
    content: bytes


def parse(path: Path, message: bytes) -> Iterator[Field]:
    r"""Yield the fields of a message, in order; ``CheckpointError`` where it is none.

    >>> [f.content for f in parse(Path(), unused_piece("ab"))]
    [b'\n\x02ab\x18\x05']
    """
    at = 0
    while at < len(message):
        start = at
        key, at = _varint(path, message, at)
        kind = key & 7
        if kind == LENGTH:
            length, at = _varint(path, message, at)
        elif kind == VARINT:
            length = _varint(path, message, at)[1] - at
        elif kind in FIXED:
            length = FIXED[kind]
        else:
            raise CheckpointError(f"{path}: is no SentencePiece model")
        at, begin = at + length, at
        if at > len(message):
            raise CheckpointError(f"{path}: is cut short, or no SentencePiece model")
        yield Field(key >> 3, message[start:at], message[begin:at])


def _varint(path: Path, message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a byte, seven bits to a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):  # ten bytes hold 64 bits
        if at >= len(message):
            break
        value |= (message[at] & 0x7F) << shift
        at += 1
        if not message[at - 1] & 0x80:
            return value, at
    raise CheckpointError(f"{path}: is cut short, or no SentencePiece model")


def _text(path: Path, piece: bytes) -> str:
    for one in parse(path, piece):
        if one.number == PIECE:
            try:
                return one.content.decode("utf-8")
            except UnicodeDecodeError:
                break
    raise CheckpointError(f"{path}: holds a piece without a text")


def unused_piece(word: str) -> bytes:
    r"""Return a piece, as a field of a model, that takes an id and nothing else.

    >>> unused_piece("ab")
    b'\n\x06\n\x02ab\x18\x05'
    """
    text = word.encode("utf-8")
    piece = _field(PIECE, text) + bytes([3 << 3 | VARINT, UNUSED])
    return _field(PIECES, piece)


def _field(number: int, content: bytes) -> bytes:
    length, rest = b"", len(content)
    while rest > 0x7F:
        length += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([number << 3 | LENGTH]) + length + bytes([rest]) + content
