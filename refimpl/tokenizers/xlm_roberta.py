"""XLM-RoBERTa's tokenizer: text in, ids out, and back.

    "Paris is <mask>."
      -> split_at_special_tokens   ["Paris is", "<mask>", "."]
      -> the engine, text by text  ["▁Paris", "▁is", "<mask>", "▁", "."]
      -> tokens_to_ids             [7270, 83, 250001, 6, 5]
      -> build_inputs              [0, 7270, 83, 250001, 6, 5, 2]

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
Differs: none in ids and tokens; ``decode`` never tidies spaces (their
``clean_up_tokenization_spaces=False``); errors instead of log messages (see encoding.py).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

from refimpl.tokenizers.encoding import (
    Encoding,
    Plan,
    Texts,
    as_batch,
    collate,
    kind,
    make_plan,
    truncate,
)

MODEL_FILE = "sentencepiece.bpe.model"  # the published name; the model is a unigram one

BOS, PAD, EOS, UNK, MASK = "<s>", "<pad>", "</s>", "<unk>", "<mask>"
FAIRSEQ_IDS = {BOS: 0, PAD: 1, EOS: 2, UNK: 3}
FAIRSEQ_OFFSET = 1
SPM_UNK = 0
SPACE = "▁"  # U+2581, SentencePiece's visible space


class Engine(Protocol):
    """A SentencePiece model, numbered as in its own file."""

    def __len__(self) -> int:
        """Return the number of pieces."""

    def tokenize(self, text: str) -> list[str]:
        """Cut a text into pieces."""

    def piece_to_id(self, piece: str) -> int:
        """Return a piece's place in the model file, 0 for one that is not there."""

    def id_to_piece(self, i: int) -> str:
        """Return the piece at a place in the model file."""


# text -> tokens -> ids, one function for each step


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


def tokenize(text: str, pieces_of: Callable[[str], list[str]]) -> list[str]:
    """Turn a text into tokens: special tokens as they are, the engine's pieces of the rest.

    >>> tokenize("ab <mask>c", list)
    ['a', 'b', '<mask>', 'c']

    Each stretch between special tokens goes to the engine alone, which puts a ``▁`` in front.
    """
    tokens: list[str] = []
    for part in split_at_special_tokens(text):
        tokens += [part] if part in FAIRSEQ_IDS or part == MASK else pieces_of(part)
    return tokens


def special_token_ids(n_pieces: int) -> dict[str, int]:
    """Return the ids of the special tokens over a model file of ``n_pieces`` pieces.

    >>> special_token_ids(250_000)
    {'<s>': 0, '<pad>': 1, '</s>': 2, '<unk>': 3, '<mask>': 250001}
    """
    return {**FAIRSEQ_IDS, MASK: n_pieces + FAIRSEQ_OFFSET}


def tokens_to_ids(
    tokens: Iterable[str], special: Mapping[str, int], piece_to_id: Callable[[str], int]
) -> list[int]:
    """Look tokens up: special tokens in their table, pieces one above their place in the file.

    >>> file = ["<unk>", "<s>", "</s>", ",", "."]
    >>> piece_to_id = lambda piece: file.index(piece) if piece in file else 0
    >>> tokens_to_ids(["<s>", ",", ".", "?", "<mask>"], special_token_ids(5), piece_to_id)
    [0, 4, 5, 3, 6]
    """

    def piece_id(piece: str) -> int:
        place = piece_to_id(piece)
        return special[UNK] if place == SPM_UNK else place + FAIRSEQ_OFFSET

    return [special[token] if token in special else piece_id(token) for token in tokens]


def build_inputs(ids: list[int], pair: list[int] | None = None) -> list[int]:
    """Put the special tokens around one text, ``<s> A </s>``, or two, ``<s> A </s></s> B </s>``.

    >>> build_inputs([11, 12])
    [0, 11, 12, 2]
    >>> build_inputs([11, 12], [21])
    [0, 11, 12, 2, 2, 21, 2]

    Our ``build_inputs`` is their ``build_inputs_with_special_tokens``.
    """
    bos, eos = FAIRSEQ_IDS[BOS], FAIRSEQ_IDS[EOS]
    if pair is None:
        return [bos, *ids, eos]
    return [bos, *ids, eos, eos, *pair, eos]


# ids -> tokens -> text


def ids_to_tokens(
    ids: Iterable[int], special: Mapping[str, int], id_to_piece: Callable[[int], str]
) -> list[str]:
    """Look ids up, :func:`tokens_to_ids` the other way round.

    >>> file = ["<unk>", "<s>", "</s>", ",", "."]
    >>> ids_to_tokens([0, 4, 5, 3, 6], special_token_ids(5), file.__getitem__)
    ['<s>', ',', '.', '<unk>', '<mask>']
    """
    named = {i: token for token, i in special.items()}
    return [named[i] if i in named else id_to_piece(i - FAIRSEQ_OFFSET) for i in ids]


def tokens_to_text(tokens: Iterable[str]) -> str:
    """Join tokens, make every ``▁`` a space, and strip both ends.

    >>> tokens_to_text(["<s>", "▁Paris", "▁is", "<mask>", "▁", ".", "</s>"])
    '<s> Paris is<mask> .</s>'
    """
    return "".join(tokens).replace(SPACE, " ").strip()


class XLMRobertaTokenizer:
    """The tokenizer of XLM-R, XLM-R-XL, XLM-R-XXL and X-MOD.

    Arguments: ``engine``, the SentencePiece model; ``model_max_length``, the length that
    truncation and padding take where the call names none (``None``: there is no such length;
    their ``int(1e30)``); ``padding_side``, "right" or "left".

    ``lang`` is taken by every method that takes text, as by the other tokenizers of the family.
    It changes nothing: the vocabulary is one for all languages and holds no language tokens.
    (X-MOD is told the language as ``lang_ids`` of the model.)

    Source: transformers 4.57.6 ``XLMRobertaTokenizer``.
    """

    bos_token = cls_token = BOS
    eos_token = sep_token = EOS
    pad_token, unk_token, mask_token = PAD, UNK, MASK
    bos_token_id = cls_token_id = FAIRSEQ_IDS[BOS]
    eos_token_id = sep_token_id = FAIRSEQ_IDS[EOS]
    pad_token_id, unk_token_id = FAIRSEQ_IDS[PAD], FAIRSEQ_IDS[UNK]

    def __init__(
        self, engine: Engine, model_max_length: int | None = None, padding_side: str = "right"
    ) -> None:
        self.engine = engine
        self.model_max_length = model_max_length
        self.padding_side = padding_side
        self._special = special_token_ids(len(engine))
        self.mask_token_id = self._special[MASK]
        self.vocab_size = self.mask_token_id + 1

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of ``<s> </s> <unk> <pad> <mask>``, in the order in which they list them."""
        return [self._special[token] for token in (BOS, EOS, UNK, PAD, MASK)]

    def __call__(
        self,
        text: Texts,
        text_pair: Texts | None = None,
        lang: object = None,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        *,
        padding_side: str | None = None,
    ) -> Encoding:
        """Turn a text, or a list of texts, into what the model takes: ``model(**tok(text))``.

        Arguments: ``text`` and, for pairs, ``text_pair``: a str each, or lists of the same
        length; ``lang``: has no effect; ``padding``: False, True or "longest" (to the longest of
        the batch), "max_length"; ``truncation``: False, True or "longest_first", "only_first",
        "only_second"; ``max_length``: for the two before, ``model_max_length`` where it is None;
        ``add_special_tokens``: put ``<s>`` and ``</s>`` around; ``padding_side``: "right" or
        "left", None for the tokenizer's own.

        Returns ``input_ids`` and ``attention_mask``: flat lists for a str, lists of lists for a
        list. There are no ``token_type_ids``: the model has one type.

        Raises ``TypeError`` and ``ValueError``, naming the argument, for anything else, and for
        text that has no UTF-8 form (a lone surrogate).

        Source: transformers 4.57.6 ``PreTrainedTokenizerBase.__call__``, whose ``truncation=None``
        (a ``max_length`` alone truncates) is not taken over.
        """
        del lang  # one vocabulary for all languages
        side = self.padding_side if padding_side is None else padding_side
        plan = make_plan(padding, truncation, max_length, side, self.model_max_length)
        batch, batched = as_batch(text, text_pair)
        rows = [self._row(one, two, plan, add_special_tokens) for one, two in batch]
        return collate(rows, batched, plan, self.pad_token_id)

    def encode(
        self,
        text: str,
        text_pair: str | None = None,
        lang: object = None,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        *,
        padding_side: str | None = None,
    ) -> list[int]:
        """Return the ``input_ids`` of one text or pair; arguments and errors as in a call.

        A list is refused with ``TypeError``: to the original it means tokens, not texts.
        """
        if not isinstance(text, str):
            raise TypeError(f"text: expected a str (a list: call the tokenizer), got {kind(text)}")
        encoding = self(
            text,
            text_pair,
            lang,
            padding,
            truncation,
            max_length,
            add_special_tokens,
            padding_side=padding_side,
        )
        ids: list[int] = encoding["input_ids"]
        return ids

    def tokenize(self, text: str, lang: object = None) -> list[str]:
        """Return the tokens of one text, without the special tokens around it.

        Raises ``TypeError`` for anything but a str, ``ValueError`` for a lone surrogate in it.
        """
        del lang  # one vocabulary for all languages
        return self._cut("text", text)

    def decode(self, ids: Iterable[int] | int, skip_special_tokens: bool = False) -> str:
        """Return the text of one list of ids (any iterable of integers), or of one id.

        Source: transformers 4.57.6 ``decode`` with ``clean_up_tokenization_spaces=False``; with
        ``skip_special_tokens`` it leaves out ``<unk>`` too.
        Raises ``TypeError`` for what is no id, ``ValueError`` for an id outside the vocabulary.
        """
        tokens = self._tokens([ids] if is_index(ids) else ids)
        if skip_special_tokens:
            tokens = [token for token in tokens if token not in self._special]
        return tokens_to_text(tokens)

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int]:
        """Return the id of a token, or the ids of a list of tokens; 3 (``<unk>``) for unknown ones.

        Raises ``TypeError`` for anything but a str or a list of str.
        """
        if isinstance(tokens, str):
            return self._ids([check_text("tokens", tokens)])[0]
        if not isinstance(tokens, (list, tuple)):
            raise TypeError(f"tokens: expected a str or a list of str, got {kind(tokens)}")
        return self._ids([check_text(f"tokens[{i}]", one) for i, one in enumerate(tokens)])

    def convert_ids_to_tokens(self, ids: int | Iterable[int]) -> str | list[str]:
        """Return the token of an id, or the tokens of a list of ids.

        Raises ``TypeError`` for what is no id, ``ValueError`` for an id outside the vocabulary.
        """
        return self._tokens([ids])[0] if is_index(ids) else self._tokens(ids)

    def _row(self, text: str, pair: str | None, plan: Plan, special: bool) -> list[int]:
        ids = self._ids(self._cut("text", text))
        pair_ids = None if pair is None else self._ids(self._cut("text_pair", pair))
        n_special = len(build_inputs([], None if pair is None else [])) if special else 0
        ids, pair_ids = truncate(ids, pair_ids, plan, n_special)
        return build_inputs(ids, pair_ids) if special else ids + (pair_ids or [])

    def _cut(self, name: str, text: str) -> list[str]:
        return tokenize(check_text(name, text), self.engine.tokenize)

    def _ids(self, tokens: Iterable[str]) -> list[int]:
        return tokens_to_ids(tokens, self._special, self.engine.piece_to_id)

    def _tokens(self, ids: Any) -> list[str]:
        return ids_to_tokens(
            check_ids(ids, self.vocab_size), self._special, self.engine.id_to_piece
        )


def check_text(name: str, text: str) -> str:
    """Return a text that has a UTF-8 form, which is what SentencePiece reads.

    Raises ``TypeError`` for anything but a str, ``ValueError`` for a lone surrogate, at which the
    library would fail with an error of its own.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a str, got {kind(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name}: expected text that has a UTF-8 form, got a lone surrogate, "
            f"{text[error.start]!a}, at character {error.start}"
        ) from None
    return text


def is_index(value: object) -> TypeGuard[int]:
    """Say whether a value is one integer: of Python, of NumPy, or an array without axes."""
    try:
        operator.index(value)  # type: ignore[arg-type]  # to find out is the purpose
    except TypeError:
        return False
    return True


def check_ids(ids: Any, vocab_size: int) -> list[int]:
    """Return ids as Python ints, all of them inside the vocabulary.

    Raises ``TypeError`` for anything but integers, ``ValueError`` for one out of range.
    """
    if isinstance(ids, (str, bytes, Mapping)) or not isinstance(ids, Iterable):
        raise TypeError(f"ids: expected a list of ints, got {kind(ids)}")
    checked = []
    for i, one in enumerate(ids):
        if isinstance(one, bool) or not is_index(one):
            raise TypeError(f"ids[{i}]: expected an int, got {kind(one)}")
        checked.append(operator.index(one))
        if not 0 <= checked[-1] < vocab_size:
            raise ValueError(f"ids[{i}]: expected an id from 0 to {vocab_size - 1}, got {one}")
    return checked
