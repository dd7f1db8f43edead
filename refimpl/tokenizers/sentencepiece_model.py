"""The SentencePiece model file, read and run by the sentencepiece library."""

from __future__ import annotations

from pathlib import Path

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta import BOS, EOS, UNK


class SentencePieceLibrary:
    """The sentencepiece library as an :class:`Engine`."""

    def __init__(self, path: Path) -> None:
        import sentencepiece  # here: importing refimpl stays light

        data = read_model_file(path)
        try:
            self._model = sentencepiece.SentencePieceProcessor(model_proto=data)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: is no SentencePiece model ({error})") from None
        if NORMALIZER_SPEC not in fields_of(data):
            raise CheckpointError(f"{path}: is cut short: it ends before its normaliser")
        start = [self.id_to_piece(i) for i in range(min(3, len(self)))]
        if start != [UNK, BOS, EOS]:
            raise CheckpointError(
                f"{path}: expected a model whose pieces 0, 1, 2 are {UNK}, {BOS}, {EOS}, got "
                f"{', '.join(start)}"
            )

    def __len__(self) -> int:
        return len(self._model)

    def tokenize(self, text: str) -> list[str]:
        """Normalise a text and cut it into its most probable pieces."""
        pieces: list[str] = self._model.encode(text, out_type=str)
        return pieces

    def piece_to_id(self, piece: str) -> int:
        """Return a piece's place in the model file, 0 for one that is not there."""
        place: int = self._model.piece_to_id(piece)
        return place

    def id_to_piece(self, i: int) -> str:
        """Return the piece at a place in the model file."""
        piece: str = self._model.id_to_piece(i)
        return piece


NORMALIZER_SPEC = 3  # the number of the last field that every SentencePiece model file has


def fields_of(message: bytes) -> set[int]:
    """Return the numbers of the fields of a protocol buffer whose fields all have a length.

    >>> sorted(fields_of(bytes([1 << 3 | 2, 1, 65, 1 << 3 | 2, 0, 3 << 3 | 2, 2, 66, 67])))
    [1, 3]

    A model file is a list of such fields, the pieces first. The library takes one that was cut
    between two of them for a smaller vocabulary.
    """
    seen, at = set(), 0
    while at < len(message):
        key, at = read_varint(message, at)
        length, at = read_varint(message, at)
        seen.add(key >> 3)
        at += length
    return seen


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at a byte, seven bits to a byte, and where it ends.

    >>> read_varint(bytes([0b1000_0001, 0b0000_0010]), 0)
    (257, 2)
    """
    value, shift = 0, 0
    while message[at] & 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def read_model_file(path: Path) -> bytes:
    """Return the bytes of the model file; ``CheckpointError`` where there are none."""
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected the SentencePiece model, found no such file (a tokenizer.json "
            "alone is not enough; the file is published with FacebookAI/xlm-roberta-base)"
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    if not data:
        raise CheckpointError(f"{path}: expected the SentencePiece model, found an empty file")
    return data
