"""XLM's tokenizer: text in, ids out, and back.

    "The Président’s dog… <special1>"
      -> lower_around          the président’s dog… <special1>
      -> split_at              ["the président’s dog… ", "<special1>", ""]
      -> the language's steps  the président 's dog ...         (text.py, moses.py, steps.py)
      -> words, no accents     the president 's dog ...
      -> bpe, word by word     the</w> president</w> 's</w> dog</w> ...</w> <special1>   (bpe.py)
      -> vocabulary            ids

The language decides how words are found, and is the caller's to say (``lang``, else English).

A model without case (all but XLM-17 and XLM-100) lower-cases twice, as transformers does: every
character before anything else, and every word again with its accents. Because of the first, Moses
takes the full stop before a new sentence for an abbreviation's ("it. then"): it stays at its word.

Source: transformers 4.57.6 models/xlm/tokenization_xlm.py and tokenization_utils.py.
Differs: ``lang`` reaches the steps, which their ``tokenize``, ``encode`` and call silently do not
hand on (only their ``_tokenize`` takes it); a language that nothing is known of is a ``ValueError``
and not a message in the log; Chinese as segmentation.py says.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from refimpl.checkpoints.folder import find_folder
from refimpl.tokenizers.calls.arguments import as_languages, check_text
from refimpl.tokenizers.calls.encoding import Encoding
from refimpl.tokenizers.calls.rows import Span
from refimpl.tokenizers.tokenizer import Tokenizer
from refimpl.tokenizers.xlm import moses
from refimpl.tokenizers.xlm.alignment import Aligned, align, change_characters, join_aligned
from refimpl.tokenizers.xlm.bpe import END, LONG, Ranks, bpe, merges_of
from refimpl.tokenizers.xlm.explanation import Explanation, Word, tell_stages, tell_word
from refimpl.tokenizers.xlm.files import SpecialTokens, read_files
from refimpl.tokenizers.xlm.segmentation import SEGMENTERS, Segmenter
from refimpl.tokenizers.xlm.steps import AT_WHITE_SPACE, SEGMENTED, Steps, steps_for
from refimpl.tokenizers.xlm.text import lower_characters

DEFAULT_LANGUAGE = "en"
CACHED_WORDS = 1 << 16  # how many words a tokenizer remembers the ids of
LONGEST_CACHED_WORD = 64


def pattern_of(tokens: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern that finds any of some tokens; it finds nothing where there are none.

    >>> pattern_of(["<s>", "</s>"]).split("a<s>b")
    ['a', '<s>', 'b']
    """
    return re.compile(f"({'|'.join(map(re.escape, tokens))})" if tokens else "((?!))")


def lower_around(text: str, special: re.Pattern[str]) -> str:
    """Lower-case a text character by character, all but the special tokens in it.

    >>> lower_around("ΟΔΟΣ <Ent> <ENT>", pattern_of(["<Ent>"]))
    'οδοσ <Ent> <ent>'
    """
    parts = special.split(text)
    parts[::2] = map(lower_characters, parts[::2])
    return "".join(parts)


def lower_around_aligned(old: Aligned, special: re.Pattern[str]) -> Aligned:
    """Do what :func:`lower_around` does to an aligned text."""
    parts = split_at_aligned(old, special)
    parts[::2] = [change_characters(lower_characters, part) for part in parts[::2]]
    return join_aligned(parts)


def split_at_aligned(old: Aligned, special: re.Pattern[str]) -> list[Aligned]:
    """Cut an aligned text around the special tokens in it; the odd parts are these tokens."""
    ends = [0, *(end for m in special.finditer(old.text) for end in m.span()), len(old.text)]
    return [old.cut(*span) for span in pairwise(ends)]


class XLMTokenizer(Tokenizer):
    """The tokenizer of XLM.

    Arguments: ``vocabulary``, ids by token; ``ranks``, pairs of symbols with their place in the
    list of merges; ``tokens``, the special and added tokens; ``lang2id``, the languages that the
    model takes as ``langs``, empty for a model that takes none;
    ``do_lowercase_and_remove_accent``, as in the original; ``model_max_length`` and
    ``padding_side`` as for every tokenizer.

    ``lang`` may be any of ``lang2id``; without that, any language that Moses has rules for, or
    "zh", "th", "ja". ``segmenters`` maps the last three to functions from a text to its words:
    put one there to replace segmentation.py's. With ``bypass_tokenizer`` a text is taken as cut
    into words already, at white space, and goes to byte-pair encoding as it is.

    ``eos_token`` is ``</s>``, as ``sep_token``; theirs is None. ``vocab_size`` counts added
    tokens, as ``len``; theirs does not.

    Raises ``ValueError`` for a vocabulary without one of the special tokens.

    Source: transformers 4.57.6 ``XLMTokenizer``.
    """

    pair_token_types = (0, 0, 0, 1, 1)
    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    eos_token = "</s>"

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        ranks: Ranks,
        tokens: SpecialTokens | None = None,
        *,
        lang2id: Mapping[str, int] | None = None,
        do_lowercase_and_remove_accent: bool = True,
        model_max_length: int | None = None,
        padding_side: str = "right",
    ) -> None:
        tokens = SpecialTokens() if tokens is None else tokens
        for role, token in tokens.roles.items():
            setattr(self, role, token)
        self.additional_special_tokens = tokens.additional
        self.ranks = ranks
        self.lang2id = dict(lang2id or {})
        self.id2lang = {i: lang for lang, i in self.lang2id.items()}
        self.do_lowercase_and_remove_accent = do_lowercase_and_remove_accent
        self.segmenters: dict[str, Segmenter] = {}
        self._ids_of = {**vocabulary, **tokens.added}
        for token in tokens.special:
            if token not in self._ids_of:
                raise ValueError(f"vocabulary: expected the special token {token!r}, found none")
        self._tokens_of = {i: token for token, i in self._ids_of.items()}
        self._special = pattern_of(sorted({*tokens.special, *tokens.added}, key=len, reverse=True))
        self._cased = pattern_of([*tokens.special, *tokens.cased])
        late = {t for t in tokens.additional if self._ids_of[t] >= len(vocabulary)}
        self._apart = set(tokens.added) - set(tokens.special) | late
        self._bypass = False
        self._cache: dict[str, tuple[int, ...]] = {}
        self.vocab_size = max(self._tokens_of) + 1
        super().__init__(model_max_length, padding_side)
        bos, sep = self.bos_token_id, self.sep_token_id
        self.single = (bos, "A", sep)
        self.pair = (bos, "A", sep, "B", sep)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> XLMTokenizer:
        """Read vocab.json, merges.txt and the settings beside them, of a folder or a hub id.

        Raises ``CheckpointError``, naming the file and the line, for what is missing or broken.
        """
        files = read_files(find_folder(folder))
        return cls(
            files.vocabulary,
            files.ranks,
            files.tokens,
            lang2id=files.lang2id,
            do_lowercase_and_remove_accent=files.lower,
            model_max_length=files.model_max_length,
            padding_side=files.padding_side,
        )

    # with the words given: the same tokenizer, that only looks for white space

    def __call__(self, *args: Any, bypass_tokenizer: bool = False, **options: Any) -> Encoding:
        """Turn a text, or a list of texts, into what the model takes: ``model(**tok(text))``.

        Arguments as for :class:`Tokenizer`, and ``bypass_tokenizer``.
        """
        return Tokenizer.__call__(self._reader(bypass_tokenizer), *args, **options)

    def encode(self, *args: Any, bypass_tokenizer: bool = False, **options: Any) -> list[int]:
        """Return the ``input_ids`` of one text or pair; arguments as in a call."""
        return Tokenizer.encode(self._reader(bypass_tokenizer), *args, **options)

    def tokenize(
        self, text: str, lang: str | None = None, bypass_tokenizer: bool = False
    ) -> list[str]:
        """Return the tokens of one text, without the special tokens around it."""
        return Tokenizer.tokenize(self._reader(bypass_tokenizer), text, lang)

    def _reader(self, bypass: bool) -> XLMTokenizer:
        if not bypass:
            return self
        twin = copy.copy(self)
        twin._bypass, twin._cache = True, {}
        return twin

    # text -> words

    @property
    def _lower(self) -> bool:
        return self.do_lowercase_and_remove_accent and not self._bypass

    def _steps(self, lang: str | None) -> Steps:
        lang = DEFAULT_LANGUAGE if lang is None else lang
        if not (lang in self.lang2id or lang in moses.languages() or lang in SEGMENTED):
            known = self.lang2id or sorted({*moses.languages(), *SEGMENTED})
            raise ValueError(f"lang: expected one of {', '.join(known)}, got {lang!r}")
        if self._bypass:
            return Steps((), AT_WHITE_SPACE, None)
        segmenter = self.segmenters.get(lang)
        if segmenter is None and lang in SEGMENTED:
            segmenter = SEGMENTERS[lang]()
        return steps_for(lang, self._lower, segmenter)

    def _parts(self, text: str) -> list[str]:
        """Return a text cut around its special tokens, which are the odd parts."""
        return self._special.split(lower_around(text, self._cased) if self._lower else text)

    # words -> tokens -> ids

    def _bpe_words(self, word: str, steps: Steps) -> list[str]:
        """Return what byte-pair encoding takes of a word: no empty words."""
        if steps.after is None:
            return [word]
        return [part for part in steps.after.plain(word).split(" ") if part]

    def _word_tokens(self, word: str, steps: Steps) -> list[str]:
        symbols = [s for part in self._bpe_words(word, steps) for s in bpe(part, self.ranks)]
        if " " not in word:
            return symbols
        # As theirs, white space in a word (in Thai, in a model with case) parts its symbols.
        return [token for symbol in symbols for token in symbol.split(" ")]

    def _word_ids(self, word: str, steps: Steps) -> tuple[int, ...]:
        id_of, unknown = self._ids_of.get, self.unk_token_id
        ids = tuple([id_of(token, unknown) for token in self._word_tokens(word, steps)])
        if len(word) <= LONGEST_CACHED_WORD:
            if len(self._cache) >= CACHED_WORDS:
                self._cache.clear()
            self._cache[word] = ids
        return ids

    def _tokenize(self, text: str, lang: str | None) -> list[str]:
        steps = self._steps(lang)
        tokens: list[str] = []
        for i, part in enumerate(self._parts(text)):
            if i % 2:
                tokens.append(part)
            else:
                for word in steps.words(part):
                    tokens += self._word_tokens(word, steps)
        return tokens

    def _batch_ids(self, texts: list[str], lang: str | None) -> list[list[int]]:
        steps = self._steps(lang)
        known = self._cache.get
        rows = []
        for text in texts:
            row: list[int] = []
            for i, part in enumerate(self._parts(text)):
                if i % 2:
                    row.append(self._ids_of[part])
                    continue
                for word in steps.words(part):
                    row += known(word) or self._word_ids(word, steps)
            rows.append(row)
        return rows

    def _spans(self, text: str, lang: str | None) -> list[Span]:
        steps = self._steps(lang)
        old = align(text)
        if self._lower:
            old = lower_around_aligned(old, self._cased)
        spans: list[Span] = []
        number = 0
        for i, part in enumerate(split_at_aligned(old, self._special)):
            for word in [part] if i % 2 else steps.aligned_words(part):
                if i % 2:
                    place = min(word.starts), max(word.ends)
                    spans.append(Span(self._ids_of[word.text], *place, number))
                else:
                    spans += self._word_spans(word, number, steps)
                number += 1
        return spans

    def _word_spans(self, word: Aligned, number: int, steps: Steps) -> list[Span]:
        last = word if steps.after is None else steps.after.aligned(word)
        spans: list[Span] = []
        at = 0
        for part in self._bpe_words(word.text, steps):
            at = last.text.index(part, at)
            end = at + len(part)
            for symbol in bpe(part, self.ranks):
                stop = min(at + len(symbol), end)  # the last symbol has the end of the word too
                place = min(last.starts[at:stop]), max(last.ends[at:stop])
                spans += [Span(self._token_to_id(t), *place, number) for t in symbol.split(" ")]
                at = stop
        return spans

    def _token_to_id(self, token: str) -> int:
        i = self._ids_of.get(token)
        return self._ids_of[self.unk_token] if i is None else i

    # ids -> text

    def _id_to_token(self, i: int) -> str:
        return self._tokens_of.get(i, self.unk_token)

    def _tokens_to_text(self, tokens: list[str]) -> str:
        """Join tokens, ``</w>`` a space; an added token stands apart, between spaces.

        Source: ``convert_tokens_to_string``, and ``_decode`` of tokenization_utils.py.
        """
        texts, run = [], ""
        for token in tokens:
            if token not in self._apart:
                run += token
                continue
            texts += [run.replace(END, " ").strip()] if run else []
            texts.append(token)
            run = ""
        return " ".join([*filter(None, texts), *([run.replace(END, " ").strip()] if run else [])])

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once, in the order in which they list them."""
        roles = (self.bos_token, self.unk_token, self.sep_token, self.pad_token, self.cls_token)
        return list(dict.fromkeys([*roles, self.mask_token, *self.additional_special_tokens]))

    # how it comes about

    def explain(
        self, text: str, lang: str | None = None, bypass_tokenizer: bool = False
    ) -> Explanation:
        """Tell how a text becomes ids: what every step did, and every merge with its rank.

        The result can be printed; its ``stages`` and ``words`` are there to look at one by one.
        Of a word of more than 100 characters the merges are left out. Errors as in ``tokenize``.
        """
        (lang,) = as_languages(lang, 1, self.lang2id)
        return self._reader(bypass_tokenizer)._explain(check_text("text", text), lang)

    def _explain(self, text: str, lang: str | None) -> Explanation:
        steps = self._steps(lang)
        parts = self._parts(text)
        stages = tell_stages(text, parts, self._lower, steps)
        words: list[Word] = []
        for i, part in enumerate(parts):
            if i % 2:
                words.append(tell_word(part, (), [part], self._token_to_id))
                continue
            for word in steps.words(part):
                for last in self._bpe_words(word, steps):
                    merges = list(merges_of(last, self.ranks)) if len(last) <= LONG else []
                    tokens = [t for s in bpe(last, self.ranks) for t in s.split(" ")]
                    words.append(tell_word(last, merges, tokens, self._token_to_id))
        language = DEFAULT_LANGUAGE if lang is None else lang
        return Explanation(text, language, tuple(stages), tuple(words), self.unk_token_id)
