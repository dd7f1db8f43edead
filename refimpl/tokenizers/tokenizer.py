"""The tokenizer as users meet it: texts in, ids out, and back. The same for every family.

    texts -> batch: one form for all calls                           arguments.py
          -> ids of each text                                        the family: _batch_ids
          -> windows: what truncation leaves, or cuts into pieces    windows.py
          -> rows: special tokens around by a template, padding      rows.py
          -> Encoding                                                encoding.py

A family (xlm_roberta/, xlm/) is a subclass that fills in the hooks, and nothing else: a
vocabulary, the way from one text to tokens and back, and a template for the special tokens.

Source: transformers 4.57.6 tokenization_utils_base.py (``PreTrainedTokenizerBase.__call__``),
tokenization_utils.py (Python tokenizers: ids), tokenization_utils_fast.py with the tokenizers
library (Rust: windows, offsets, words).
Differs: errors instead of log messages (see plan.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from refimpl.tokenizers.calls.arguments import (
    Batch,
    Text,
    Texts,
    as_batch,
    as_languages,
    check_ids,
    check_text,
    is_index,
    kind,
)
from refimpl.tokenizers.calls.encoding import Encoding, hand_over
from refimpl.tokenizers.calls.plan import Plan, make_plan
from refimpl.tokenizers.calls.rows import Rows, Span, Template

if TYPE_CHECKING:
    from refimpl.backend import Backend

NO_LANGUAGES: Mapping[str, int] = MappingProxyType({})


class Tokenizer(ABC):
    """What the tokenizers of all families have in common.

    A family sets, as attributes, before it calls ``super().__init__``: ``vocab_size``; the seven
    special tokens (``bos_token`` to ``mask_token``) and ``additional_special_tokens``;
    ``single`` and ``pair``, its templates: tuples of ids with "A" and "B" for the texts;
    ``pair_token_types``, the token type of each part of ``pair``; ``model_input_names``, what a
    call returns unless told otherwise; ``lang2id``, where its model takes ``langs``. It defines
    the methods marked abstract.
    """

    bos_token: str
    eos_token: str
    unk_token: str
    sep_token: str
    pad_token: str
    cls_token: str
    mask_token: str
    additional_special_tokens: tuple[str, ...] = ()
    vocab_size: int
    single: Template
    pair: Template
    pair_token_types: tuple[int, ...]
    model_input_names: tuple[str, ...] = ("input_ids", "attention_mask")
    lang2id: Mapping[str, int] = NO_LANGUAGES

    def __init__(self, model_max_length: int | None = None, padding_side: str = "right") -> None:
        self.model_max_length = model_max_length
        self.padding_side = padding_side
        self.bos_token_id = self._token_to_id(self.bos_token)
        self.eos_token_id = self._token_to_id(self.eos_token)
        self.unk_token_id = self._token_to_id(self.unk_token)
        self.sep_token_id = self._token_to_id(self.sep_token)
        self.pad_token_id = self._token_to_id(self.pad_token)
        self.cls_token_id = self._token_to_id(self.cls_token)
        self.mask_token_id = self._token_to_id(self.mask_token)

    # the hooks: what a family defines. Texts come checked: str with a UTF-8 form.

    @abstractmethod
    def _tokenize(self, text: str, lang: str | None) -> list[str]:
        """Cut one text into tokens, special tokens written in it included."""

    @abstractmethod
    def _batch_ids(self, texts: list[str], lang: str | None) -> list[list[int]]:
        """Return the ids of each text, all of one language; the fast way, no tokens made."""

    @abstractmethod
    def _spans(self, text: str, lang: str | None) -> list[Span]:
        """Return the ids of one text (those of ``_batch_ids``) with the place of each."""

    @abstractmethod
    def _token_to_id(self, token: str) -> int:
        """Look up a token; the id of ``unk_token`` for one that is not there."""

    @abstractmethod
    def _id_to_token(self, i: int) -> str:
        """Look up an id, which is from 0 to ``vocab_size`` - 1."""

    @abstractmethod
    def _tokens_to_text(self, tokens: list[str]) -> str:
        """Join tokens to a text."""

    @abstractmethod
    def explain(self, text: str, lang: str | None = None) -> object:
        """Tell step by step how a text becomes ids; the result can be printed."""

    # text -> ids

    def __call__(
        self,
        text: Texts,
        text_pair: Texts | None = None,
        lang: str | Sequence[str] | None = None,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        *,
        padding_side: str | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        return_overflowing_tokens: bool = False,
        return_offsets_mapping: bool = False,
        return_special_tokens_mask: bool = False,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_length: bool = False,
        backend: str | Backend | None = None,
    ) -> Encoding:
        """Turn a text, or a list of texts, into what the model takes: ``model(**tok(text))``.

        Arguments, called as in transformers where it has them:

        - ``text`` and, for pairs, ``text_pair``: a str each, or lists of the same length; with
          ``is_split_into_words`` a list of words in place of each str.
        - ``lang``: the language, one for all or a list with one for each text.
        - ``padding``: False; True or "longest", to the longest row; "max_length". On the
          ``padding_side`` "right" or "left" (None: the tokenizer's own), up to a multiple of
          ``pad_to_multiple_of``.
        - ``truncation``: False; True or "longest_first", from the longer text; "only_first",
          "only_second". To ``max_length``, or ``model_max_length`` where that is None.
        - ``add_special_tokens``: put them around the texts.
        - ``return_overflowing_tokens``: what is cut off follows in further rows, windows that
          have ``stride`` tokens in common with the one before; ``overflow_to_sample_mapping``
          says which text each row is of.
        - ``return_offsets_mapping``, ``return_special_tokens_mask``, ``return_token_type_ids``,
          ``return_attention_mask``, ``return_length``: what else to return, or not. Offsets are
          characters of the text (of the word, where it is split); (0, 0) at special tokens.
          ``length`` counts the whole row, padding too.
        - ``backend``: arrays of this backend (its name, or a ``Backend``) in place of lists;
          all rows must have one length then.

        Returns an :class:`Encoding`: flat lists for one text, lists of lists for a list of texts,
        for windows and for arrays. ``langs`` is in it where ``lang`` is given and the model takes
        it: the language's id at every place.

        Ids are those of transformers' Python tokenizers; windows those of its Rust tokenizers.
        The two part where "longest_first" cuts a pair to an odd number of tokens: the odd one is
        the first text's, but in windows the longer text's (the second's, where both are equally
        long).

        Raises ``TypeError`` and ``ValueError``, naming the argument.
        """
        side = self.padding_side if padding_side is None else padding_side
        plan = make_plan(
            *(padding, truncation, max_length, side, self.model_max_length),
            stride=stride,
            overflow=return_overflowing_tokens,
            multiple_of=pad_to_multiple_of,
        )
        batch = as_batch(text, text_pair, is_split_into_words)
        languages = as_languages(lang, len(batch.texts), self.lang2id)
        asked = {
            "token_type_ids": return_token_type_ids,
            "attention_mask": return_attention_mask,
            "special_tokens_mask": return_special_tokens_mask,
            "offset_mapping": return_offsets_mapping,
            "length": return_length,
            "overflow_to_sample_mapping": return_overflowing_tokens,
        }
        rows = self._rows(batch, languages, plan, add_special_tokens)
        fields = rows.fields(["input_ids", *self._wanted(asked)])
        if self.lang2id and lang is not None:
            fields["langs"] = rows.spread([self.lang2id[str(name)] for name in languages])
        return hand_over(fields, rows, batch.is_list or plan.overflow, backend)

    def _wanted(self, asked: Mapping[str, bool | None]) -> list[str]:
        """Return the names of what is asked for, or where nothing is said, of what is usual."""
        usual = self.model_input_names
        return [name for name, on in asked.items() if on or (on is None and name in usual)]

    def _rows(self, batch: Batch, languages: list[str | None], plan: Plan, special: bool) -> Rows:
        """Cut all texts of a call and lay them out."""
        first = self._ids(batch.texts, languages)
        second = None if batch.pairs is None else self._ids(batch.pairs, languages)
        template = self.single if second is None else self.pair
        types = self.pair_token_types if second is not None else (0,) * len(template)
        if not special:
            template = ("A",) if second is None else ("A", "B")
            types = (0,) * len(template)
            if not batch.is_list and not plan.overflow and not any(first + (second or [])):
                plan = plan._replace(padding=None)  # as theirs: one text of no ids is not padded

        @cache
        def spans(sample: int, which: int) -> list[Span]:
            texts = batch.pairs if which and batch.pairs is not None else batch.texts
            return self._spans_of_parts(texts[sample], languages[sample], batch.is_split)

        return Rows(first, second, template, types, plan, self.pad_token_id, spans)

    def _ids(self, texts: list[list[str]], languages: list[str | None]) -> list[list[int]]:
        """Return the ids of each text, which are those of its parts, one part behind the other."""
        parts = [part for text in texts for part in text]
        langs = [lang for text, lang in zip(texts, languages, strict=True) for _ in text]
        rows: list[list[int]] = [[]] * len(parts)
        for lang in dict.fromkeys(langs):
            places = [i for i, one in enumerate(langs) if one == lang]
            cut = self._batch_ids([parts[i] for i in places], lang)
            for i, row in zip(places, cut, strict=True):
                rows[i] = row
        if len(parts) == len(texts) and all(len(text) == 1 for text in texts):
            return rows
        ends = list(accumulate(map(len, texts), initial=0))
        return [[i for row in rows[start:stop] for i in row] for start, stop in pairwise(ends)]

    def _spans_of_parts(self, parts: list[str], lang: str | None, are_words: bool) -> list[Span]:
        if not are_words:
            return self._spans(parts[0], lang)
        cut = enumerate(self._spans(part, lang) for part in parts)
        return [span._replace(word=i) for i, spans in cut for span in spans]

    def encode(
        self,
        text: Text,
        text_pair: Text | None = None,
        lang: str | None = None,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        *,
        padding_side: str | None = None,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
    ) -> list[int]:
        """Return the ``input_ids`` of one text or pair; arguments and errors as in a call.

        A list is refused with ``TypeError`` unless it is the text's words: to the original it
        means tokens, not texts.
        """
        if as_batch(text, text_pair, is_split_into_words).is_list:
            raise TypeError(f"text: expected one text (for a list: a call), got {kind(text)}")
        encoding = self(
            *(text, text_pair, lang, padding, truncation, max_length, add_special_tokens),
            padding_side=padding_side,
            is_split_into_words=is_split_into_words,
            pad_to_multiple_of=pad_to_multiple_of,
        )
        ids: list[int] = encoding["input_ids"]
        return ids

    def tokenize(self, text: str, lang: str | None = None) -> list[str]:
        """Return the tokens of one text, without the special tokens around it.

        Raises ``TypeError`` for anything but a str, ``ValueError`` for a lone surrogate in it.
        """
        (lang,) = as_languages(lang, 1, self.lang2id)
        return self._tokenize(check_text("text", text), lang)

    # ids -> text

    def decode(
        self,
        ids: Iterable[int] | int,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """Return the text of one list of ids (any iterable of integers), or of one id.

        ``skip_special_tokens`` leaves out all special tokens, ``unk_token`` too;
        ``clean_up_tokenization_spaces`` takes the space before English punctuation away.
        Raises ``TypeError`` for what is no id, ``ValueError`` for an id outside the vocabulary.
        """
        checked = check_ids([ids] if is_index(ids) else ids, self.vocab_size)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        text = self._tokens_to_text([self._id_to_token(i) for i in checked if i not in skipped])
        return clean_up_spaces(text) if clean_up_tokenization_spaces else text

    def batch_decode(
        self,
        sequences: Iterable[Iterable[int] | int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[str]:
        """Return the text of each list of ids; arguments and errors as in :meth:`decode`.

        Raises ``TypeError`` for anything but a list of lists.
        """
        if isinstance(sequences, (str, bytes, Mapping)) or not isinstance(sequences, Iterable):
            raise TypeError(f"sequences: expected a list of lists of ids, got {kind(sequences)}")
        how = (skip_special_tokens, clean_up_tokenization_spaces)
        return [self.decode(ids, *how) for ids in sequences]

    # tokens and ids

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int]:
        """Return the id of a token, or the ids of a list of tokens.

        A token that is not in the vocabulary has the id of ``unk_token``.
        Raises ``TypeError`` for anything but a str or a list of str.
        """
        if isinstance(tokens, str):
            return self._token_to_id(check_text("tokens", tokens))
        if not isinstance(tokens, (list, tuple)):
            raise TypeError(f"tokens: expected a str or a list of str, got {kind(tokens)}")
        return [self._token_to_id(check_text("tokens", one, i)) for i, one in enumerate(tokens)]

    def convert_ids_to_tokens(
        self, ids: int | Iterable[int], skip_special_tokens: bool = False
    ) -> str | list[str]:
        """Return the token of an id, or the tokens of a list of ids.

        Raises ``TypeError`` for what is no id, ``ValueError`` for an id outside the vocabulary.
        """
        if is_index(ids):
            return self._id_to_token(check_ids([ids], self.vocab_size)[0])
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        checked = check_ids(ids, self.vocab_size)
        return [self._id_to_token(i) for i in checked if i not in skipped]

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its id."""
        return {self._id_to_token(i): i for i in range(self.vocab_size)}

    def __len__(self) -> int:
        return self.vocab_size

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once, in the order in which they list them."""
        named = (self.bos_token, self.eos_token, self.unk_token, self.sep_token, self.pad_token)
        more = (self.cls_token, self.mask_token, *self.additional_special_tokens)
        return list(dict.fromkeys((*named, *more)))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of :attr:`all_special_tokens`."""
        return [self._token_to_id(token) for token in self.all_special_tokens]


ENGLISH = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def clean_up_spaces(text: str) -> str:
    """Take the spaces in front of English punctuation and short forms away.

    >>> clean_up_spaces("it 's red , is n't it ? the dogs ' bowl")
    "it's red, isn't it? the dogs'bowl"

    Source: transformers 4.57.6 ``PreTrainedTokenizerBase.clean_up_tokenization``.
    """
    for form in ENGLISH:
        text = text.replace(form, form.strip())
    return text
