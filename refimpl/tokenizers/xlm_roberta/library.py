"""The engine "library": the SentencePiece model run by the sentencepiece library itself."""

from __future__ import annotations

import os
from functools import cached_property

from refimpl.errors import CheckpointError
from refimpl.tokenizers.xlm_roberta.model_file import (
    SentencePieceModel,
    check_first_pieces,
    model_bytes,
    parse_file,
    parse_model,
    read_model_file,
)
from refimpl.tokenizers.xlm_roberta.normaliser import Normaliser, check_utf8, locate


class LibraryEngine:
    """The sentencepiece library as an engine, on one thread.

    ``model`` is a path to a model file, or a model that was read.
    """

    def __init__(self, model: SentencePieceModel | str | os.PathLike[str]) -> None:
        import sentencepiece  # here: importing refimpl stays light

        if isinstance(model, SentencePieceModel):
            name, self._data, self.model = "model", model_bytes(model), model
        else:
            name, self._data = os.fspath(model), read_model_file(model)
        self._library = sentencepiece.SentencePieceProcessor()
        try:
            parse_file(self._data, without_pieces=True)  # the library reads them itself
            self._library.LoadFromSerializedProto(self._data)
            check_first_pieces([self.id_to_piece(i) for i in range(min(3, len(self)))])
        except RuntimeError as error:
            raise CheckpointError(f"{name}: is no SentencePiece model ({error})") from None
        except ValueError as error:
            raise CheckpointError(f"{name}: {error}") from None

    def __len__(self) -> int:
        return len(self._library)

    def tokenize(self, text: str) -> list[str]:
        """Return the most probable pieces of a text; what is unknown, as it is, in one.

        Raises ``ValueError`` for a lone surrogate, as the other methods that take text.
        """
        check_utf8(text)
        pieces: list[str] = self._library.encode(text, out_type=str)
        return pieces

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the places in the model file of the pieces of each text."""
        try:
            places: list[list[int]] = self._library.encode(texts, out_type=int, num_threads=1)
        except (TypeError, RuntimeError):  # how the library meets a lone surrogate
            for text in texts:
                check_utf8(text)
            raise
        return places

    def spans(self, text: str) -> list[tuple[str, int, int, int]]:
        """Return each piece, its place, and where in the text it begins and ends.

        Which characters a piece stands for is told in normaliser.py.
        """
        pieces = zip(self.tokenize(text), self.encode([text])[0], strict=True)
        return locate(self._normaliser(text), list(pieces), self.model)

    def piece_to_id(self, piece: str) -> int:
        """Return a piece's place in the model file, 0 for one that is not there."""
        check_utf8(piece)
        place: int = self._library.piece_to_id(piece)
        return place

    def id_to_piece(self, i: int) -> str:
        """Return the piece at a place in the model file; ``IndexError`` where there is none."""
        piece: str = self._library.id_to_piece(i)
        return piece

    @cached_property
    def model(self) -> SentencePieceModel:
        """The model, read by our own code on first use."""
        return parse_model(self._data)

    @cached_property
    def _normaliser(self) -> Normaliser:
        """What the library does to a text before it cuts it, by our own code, to say what is where.

        The library's own offsets count in units of a rule: both T and M of a ™ end with it, and an
        accent belongs to its letter.
        """
        return Normaliser(self.model)
