"""How a text became ids in XLM-RoBERTa's tokenizer, step by step: to print, or field by field."""

from __future__ import annotations

from typing import NamedTuple

from refimpl.tokenizers.xlm_roberta.lattice import LatticeExplanation


class Token(NamedTuple):
    """A token, its place in the model file (None for a special token), and its id."""

    token: str
    place: int | None
    id: int


class Part(NamedTuple):
    """A stretch of text that was cut alone, or a special token, which has no lattice."""

    text: str
    lattice: LatticeExplanation | None
    tokens: tuple[Token, ...]


class Explanation(NamedTuple):
    """What every step did: ``print`` it, or look at ``parts``."""

    text: str
    parts: tuple[Part, ...]
    input_ids: tuple[int, ...]  # with the special tokens around

    @property
    def tokens(self) -> list[str]:
        """All tokens of the text, in order."""
        return [token.token for part in self.parts for token in part.tokens]

    @property
    def ids(self) -> list[int]:
        """All ids of the text, in order."""
        return [token.id for part in self.parts for token in part.tokens]

    def __str__(self) -> str:
        shown = " | ".join(repr(part.text) for part in self.parts) or "nothing"
        lines = ["text, cut at its special tokens", f"  {shown}"]
        for part in self.parts:
            if part.lattice is not None:
                lines += ["", *str(part.lattice).splitlines()]
        lines += ["", "pieces, places in the model file, ids", *self._id_lines()]
        lines += ["", "with the special tokens around", f"  {' '.join(map(str, self.input_ids))}"]
        return "\n".join(lines)

    def _id_lines(self) -> list[str]:
        return [f"  {id_line(token)}" for part in self.parts for token in part.tokens]


def id_line(token: Token) -> str:
    """Say how a token got its id.

    >>> id_line(Token("▁the", 14, 15)), id_line(Token("🙂", 0, 3))
    ('14 + 1 = 15  ▁the', '0 -> 3  🙂 (unknown)')
    """
    if token.place is None:
        return f"{token.id}  {token.token} (special)"
    if token.place == 0:
        return f"{token.place} -> {token.id}  {token.token} (unknown)"
    if token.id == token.place + 1:
        return f"{token.place} + 1 = {token.id}  {token.token}"
    return f"{token.place} -> {token.id}  {token.token}"
