"""XLM-RoBERTa's tokenizer: text in, ids out, and back.

    "Paris is <mask>."
      -> split_at_special_tokens   ["Paris is", "<mask>", "."]
      -> the engine, text by text  ["▁Paris", "▁is", "<mask>", "▁", "."]
      -> the numbering             [7270, 83, 250001, 6, 5]
      -> the template              [0, 7270, 83, 250001, 6, 5, 2]

The engine is a unigram SentencePiece model: it normalises a text and finds its most probable
pieces. XLM-RoBERTa was trained in fairseq, whose dictionary begins with four tokens of its own
where the model file has three, so a piece's id is one more than its place in the file:

    id       0        1        2        3        4    5    ...    N          N + 1
    fairseq  <s>      <pad>    </s>     <unk>    ,    .    ...    (last)     <mask>
    spm      <unk>    <s>      </s>     ,        .    ...  (last: N - 1)

The file's own first three are not used: ``<s>`` and ``</s>`` get fairseq's ids and whatever is
unknown gets 3. ``<mask>`` follows the last of the file's N pieces (the published file has
250,000, so 250001). The same vocabulary serves XLM-R, XLM-R-XL and -XXL, and X-MOD.

Source: fairseq (examples/xlmr); transformers 4.57.6 models/xlm_roberta/tokenization_xlm_roberta.py
and tokenization_utils.py, the Python ("slow") tokenizer, which runs on the sentencepiece library.
Differs: none in ids and tokens; what a call does beyond them is told in tokenizer.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from refimpl.tokenizers.calls.arguments import as_languages, check_text
from refimpl.tokenizers.calls.rows import Span, Template
from refimpl.tokenizers.tokenizer import Tokenizer
from refimpl.tokenizers.xlm_roberta.model_file import BOS, EOS, SPACE, UNK, SentencePieceModel

if TYPE_CHECKING:
    from refimpl.tokenizers.xlm_roberta.explanation import Explanation
    from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine

PAD, MASK = "<pad>", "<mask>"
FAIRSEQ_IDS = {BOS: 0, PAD: 1, EOS: 2, UNK: 3}
FAIRSEQ_OFFSET = 1


class Engine(Protocol):
    """A SentencePiece model, numbered as in its own file."""

    @property
    def model(self) -> SentencePieceModel:
        """The model, as read from its file."""

    def __len__(self) -> int:
        """Return the number of pieces."""

    def tokenize(self, text: str) -> list[str]:
        """Cut a text into pieces."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Return the places in the model file of the pieces of each text."""

    def spans(self, text: str) -> list[tuple[str, int, int, int]]:
        """Return each piece with its place in the model file and its start and end in the text."""

    def piece_to_id(self, piece: str) -> int:
        """Return a piece's place in the model file, 0 for one that is not there."""

    def id_to_piece(self, i: int) -> str:
        """Return the piece at a place in the model file."""


# text -> parts -> pieces -> ids, one function for each step


def split_at_special_tokens(text: str) -> list[str]:
    """Cut a text before and after the special tokens written in it.

    >>> split_at_special_tokens("Paris is <mask>. </s>")
    ['Paris is', '<mask>', '. ', '</s>']

    ``<mask>`` stands for a word with the space before it, so it takes the white space in front of
    it along; the other special tokens leave what is around them alone.
    """
    parts = re.split("(<s>|<pad>|</s>|<unk>|<mask>)", text)
    for i in range(1, len(parts), 2):  # the odd parts are the special tokens
        if parts[i] == MASK:
            parts[i - 1] = parts[i - 1].rstrip()
    return [part for part in parts if part]


class Numbering(NamedTuple):
    """The ids of a vocabulary."""

    special: Mapping[str, int]  # of the special tokens; <mask> has the last id of all
    pieces: Sequence[int]  # of the piece at each place in the model file
    unused: Mapping[int, str] = MappingProxyType({})  # names of ids that no piece has


def fairseq_numbering(n_pieces: int) -> Numbering:
    """Return the ids over a model file of ``n_pieces`` pieces, as fairseq's dictionary has them.

    >>> fairseq_numbering(6).pieces
    [3, 0, 2, 4, 5, 6]
    >>> fairseq_numbering(250_000).special
    {'<s>': 0, '<pad>': 1, '</s>': 2, '<unk>': 3, '<mask>': 250001}
    """
    special = {**FAIRSEQ_IDS, MASK: n_pieces + FAIRSEQ_OFFSET}
    first = [special[UNK], special[BOS], special[EOS]]  # as the file has them: see above
    return Numbering(special, first + [i + FAIRSEQ_OFFSET for i in range(len(first), n_pieces)])


def number_words(parts: Iterable[tuple[str, bool]]) -> Iterator[int]:
    """Say which word each token is of; a token is given with whether it is a special one.

    >>> list(number_words([("▁The", False), ("▁lamp", False), ("s", False), ("<mask>", True)]))
    [0, 1, 1, 2]
    >>> list(number_words([("<mask>", True), (".", False)]))
    [0, 1]

    A word begins at a ``▁``, and at and behind a special token.
    """
    word, after_special = -1, True
    for token, is_special in parts:
        if is_special or after_special or token.startswith(SPACE):
            word += 1
        after_special = is_special
        yield word


# ids -> tokens -> text


def tokens_to_text(tokens: Iterable[str]) -> str:
    """Join tokens, make every ``▁`` a space, and strip both ends.

    >>> tokens_to_text(["<s>", "▁Paris", "▁is", "<mask>", "▁", ".", "</s>"])
    '<s> Paris is<mask> .</s>'
    """
    return "".join(tokens).replace(SPACE, " ").strip()


class XLMRobertaTokenizer(Tokenizer):
    """The tokenizer of XLM-R, XLM-R-XL, XLM-R-XXL and X-MOD.

    Arguments: ``engine``, the SentencePiece model; ``model_max_length``, the length that
    truncation and padding take where the call names none (``None``: there is no such length;
    their ``int(1e30)``); ``padding_side``, "right" or "left"; ``numbering``, the ids, where they
    are not those of :func:`fairseq_numbering`.

    ``lang`` is taken by every method that takes text, as by the other tokenizers of the family.
    It changes nothing: the vocabulary is one for all languages and holds no language tokens.
    (X-MOD is told the language as ``lang_ids`` of the model.)

    Source: transformers 4.57.6 ``XLMRobertaTokenizer``.
    """

    bos_token = cls_token = BOS
    eos_token = sep_token = EOS
    pad_token, unk_token, mask_token = PAD, UNK, MASK
    single: Template = (0, "A", 2)
    pair: Template = (0, "A", 2, 2, "B", 2)
    pair_token_types = (0, 0, 0, 0, 0, 0)  # the model has one type

    def __init__(
        self,
        engine: Engine,
        model_max_length: int | None = None,
        padding_side: str = "right",
        numbering: Numbering | None = None,
    ) -> None:
        self.engine = engine
        self.numbering = fairseq_numbering(len(engine)) if numbering is None else numbering
        self._special = self.numbering.special
        self._names = {**self.numbering.unused, **{i: name for name, i in self._special.items()}}
        self.vocab_size = self._special[MASK] + 1
        super().__init__(model_max_length, padding_side)

    def _tokenize(self, text: str, lang: str | None) -> list[str]:
        tokens: list[str] = []
        for part in split_at_special_tokens(text):
            tokens += [part] if part in self._special else self.engine.tokenize(part)
        return tokens

    def _batch_ids(self, texts: list[str], lang: str | None) -> list[list[int]]:
        # All texts go to the engine in one call; only one with a "<" can hold special tokens.
        rows = [split_at_special_tokens(text) if "<" in text else [text] for text in texts]
        stretches = [part for row in rows for part in row if part not in self._special]
        ids = self.numbering.pieces
        cut = iter([[*map(ids.__getitem__, row)] for row in self.engine.encode(stretches)])
        special = self._special
        return [
            next(cut)
            if len(row) == 1 and row[0] not in special
            else [i for part in row for i in ([special[part]] if part in special else next(cut))]
            for row in rows
        ]

    def _spans(self, text: str, lang: str | None) -> list[Span]:
        found: list[tuple[str, int, int, int]] = []
        at = 0
        for part in split_at_special_tokens(text):
            end = text.index(part, at) + len(part)
            if part in self._special:  # with the white space that it took along
                found.append((part, self._special[part], at, end))
            else:
                ids = self.numbering.pieces
                spans = self.engine.spans(part)
                found += [(piece, ids[place], at + a, at + b) for piece, place, a, b in spans]
            at = end
        words = number_words((token, token in self._special) for token, *_ in found)
        return [Span(*row[1:], word) for row, word in zip(found, words, strict=True)]

    def _token_to_id(self, token: str) -> int:
        if token in self._special:
            return self._special[token]
        return self.numbering.pieces[self.engine.piece_to_id(token)]

    def _id_to_token(self, i: int) -> str:
        if i in self._names:
            return self._names[i]
        return self.engine.id_to_piece(self._places[i])

    @cached_property
    def _places(self) -> dict[int, int]:
        """The place in the model file of the piece with each id, for the way back."""
        return {i: place for place, i in enumerate(self.numbering.pieces)}

    def _tokens_to_text(self, tokens: list[str]) -> str:
        return tokens_to_text(tokens)

    def explain(self, text: str, lang: str | None = None) -> Explanation:
        """Tell how a text becomes ids: its parts, the lattice of each, the numbering.

        The result can be printed. The first call builds the explicit engine where it is not in
        use, a second or so. Errors as for :meth:`tokenize`.
        """
        from refimpl.tokenizers.xlm_roberta.explanation import Explanation, Part, Token
        from refimpl.tokenizers.xlm_roberta.lattice import explain_lattice

        as_languages(lang, 1, self.lang2id)
        parts = []
        for part in split_at_special_tokens(check_text("text", text)):
            if part in self._special:
                parts.append(Part(part, None, (Token(part, None, self._special[part]),)))
                continue
            (places,) = self.engine.encode([part])
            pieces = zip(self.engine.tokenize(part), places, strict=True)
            tokens = (Token(piece, i, self.numbering.pieces[i]) for piece, i in pieces)
            parts.append(Part(part, explain_lattice(self._explicit, part), tuple(tokens)))
        return Explanation(text, tuple(parts), tuple(self.encode(text)))

    @cached_property
    def _explicit(self) -> ExplicitEngine:
        from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine

        return (
            self.engine
            if isinstance(self.engine, ExplicitEngine)
            else ExplicitEngine(self.engine.model)
        )
