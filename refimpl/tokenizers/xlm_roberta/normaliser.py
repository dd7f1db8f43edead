"""How SentencePiece prepares a text: rewritten by rules, then its spaces put in order.

    "Ｔhe  ﬁsh™ "
      the rules     Ｔ -> T, ﬁ -> fi, ™ -> TM             "The  fishTM "
      the spaces    one where there are several,
                    none at the ends                      "The fishTM"
                    one in front, a dummy: so that a word
                    is the same piece wherever it stands  " The fishTM"
                    visible                               "▁The▁fishTM"

Each character of the result keeps the *span* of the original that it stands for:

- A rule's first result stands for its first source character, the second for the second, and so
  on. Results beyond that stand for the last source character (both T and M for ™); source
  characters beyond that for nothing (the accent that went into é).
- A ``▁`` stands for the last of its spaces. The dummy stands for the spaces that the text begins
  with; where there are none, it shares the first character.

Source: google/sentencepiece src/normalizer.cc. The spans are those of huggingface/tokenizers,
normalizers/precompiled.rs and tokenizer/normalizer.rs, put in words.
Differs: spans where a rule drops characters at the beginning of a text or after a ™ (theirs are
then one character early or late).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from refimpl.tokenizers.xlm_roberta.charsmap import longest_rule, parse_charsmap
from refimpl.tokenizers.xlm_roberta.model_file import SPACE, Kind, SentencePieceModel

Span = tuple[int, int]  # from the first character to behind the last
Part = tuple[int, int, str]  # a span of the original, and what becomes of it


class Normalised(NamedTuple):
    """A text as the pieces are looked for in it."""

    text: str
    spans: list[Span]  # of each of its characters, in the original


class Normaliser:
    """What a model does to a text before it is cut."""

    def __init__(self, model: SentencePieceModel) -> None:
        self._model = model
        self._charsmap = parse_charsmap(model.charsmap)
        self._symbols: dict[str, list[str]] = {}  # user-defined ones, by first character
        for piece, kind in zip(model.pieces, model.kinds, strict=True):
            if kind == Kind.USER_DEFINED:
                self._symbols.setdefault(piece[0], []).append(piece)

    def __call__(self, text: str) -> Normalised:
        """Return a text prepared, with the span of each character.

        Raises ``ValueError`` for a lone surrogate, which has no UTF-8 form.
        """
        check_utf8(text)
        return spaces_in_order(self._model, list(self.parts(text)))

    def parts(self, text: str) -> Iterator[Part]:
        """Give the parts of a text that a rule rewrites or that stay, in their order."""
        start = 0
        while start < len(text):
            end, new = self._rewritten(text, start)
            yield start, end, new
            start = end

    def _rewritten(self, text: str, start: int) -> tuple[int, str]:
        """Return where the part ends that begins at a character, and what becomes of it."""
        symbols = self._symbols.get(text[start])
        if symbols:
            found = [symbol for symbol in symbols if text.startswith(symbol, start)]
            if found:
                longest = max(found, key=len)
                return start + len(longest), longest
        rule = longest_rule(self._charsmap, text, start) if self._charsmap else None
        return rule or (start + 1, text[start])


def check_utf8(text: str) -> None:
    """Refuse a text that has no UTF-8 form with ``ValueError``."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text: expected text that has a UTF-8 form, got a lone surrogate, "
            f"{text[error.start]!a}, at character {error.start}"
        ) from None


def spaces_in_order(model: SentencePieceModel, parts: list[Part]) -> Normalised:
    """Join parts, with their spaces as the model wants them, and say what stands for what.

    >>> model = SentencePieceModel([], [], [], b"")
    >>> spaces_in_order(model, [(0, 1, " "), (1, 2, "a"), (2, 3, " "), (3, 4, " "), (4, 5, "TM")])
    Normalised(text='▁a▁TM', spans=[(0, 1), (1, 2), (3, 4), (4, 5), (4, 5)])
    """
    once = model.remove_extra_whitespaces
    if not parts or (once and all(new == " " for _, _, new in parts)):
        return Normalised("", [])
    space = SPACE if model.escape_whitespaces else " "
    prefix = model.add_dummy_prefix and not model.treat_whitespace_as_suffix
    chars, spans = ([space], [UNSET]) if prefix else ([], [])
    one_too_many = once  # whether a space here would be
    for start, end, new in parts:
        kept = new.lstrip(" ") if one_too_many else new
        dropped = len(new) - len(kept)
        if dropped and chars:
            spans[-1] = source(start, end, dropped - 1)
        for i, char in enumerate(kept, dropped):
            chars.append(space if char == " " else char)
            spans.append(source(start, end, i))
        if kept:
            one_too_many = once and kept.endswith(" ")
    while once and chars and chars[-1] == space:
        chars.pop()
        spans.pop()
    if spans[:1] == [UNSET]:
        spans[0] = spans[1] if len(spans) > 1 else (0, 0)
    if model.add_dummy_prefix and model.treat_whitespace_as_suffix:
        chars.append(space)
        spans.append(spans[-1] if spans else (0, 0))
    return Normalised("".join(chars), spans)


UNSET = (-1, -1)


def source(start: int, end: int, i: int) -> Span:
    """Return the span for which the character ``i`` of a part's result stands.

    >>> source(4, 6, 0), source(4, 6, 1), source(4, 6, 2)
    ((4, 5), (5, 6), (5, 6))
    """
    first = min(start + i, end - 1)
    return first, first + 1


def locate(
    normalised: Normalised, pieces: list[tuple[str, int]], model: SentencePieceModel
) -> list[tuple[str, int, int, int]]:
    """Return each (piece, place) with the span of the original that it stands for.

    The pieces follow each other in the prepared text. Those that spell the bytes of a character
    each have the span of the character.

    >>> kinds = [Kind.UNKNOWN, Kind.NORMAL, Kind.NORMAL]
    >>> model = SentencePieceModel(["<unk>", "▁a", "b"], [0.0, -1.0, -2.0], kinds, b"")
    >>> locate(Normalised("▁ab", [(1, 2), (2, 3), (4, 5)]), [("▁a", 1), ("b", 2)], model)
    [('▁a', 1, 1, 3), ('b', 2, 4, 5)]
    """
    located = []
    at = spelt = 0  # characters passed, and bytes of the next one
    for piece, place in pieces:
        if model.kinds[place] == Kind.BYTE:
            length, spelt = 1, spelt + 1
        else:
            length = len(piece)
        start, end = normalised.spans[at][0], normalised.spans[at + length - 1][1]
        located.append((piece, place, start, end))
        if not spelt or spelt == len(normalised.text[at].encode()):
            at, spelt = at + length, 0
    return located
