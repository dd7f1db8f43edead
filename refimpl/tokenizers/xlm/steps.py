"""XLM's steps from a text to words, for each language: which they are, and in which order.

    most languages     unicode punctuation, Moses punctuation, non-printing characters,
                       (Romanian: its letters,) words by Moses
    Thai, Japanese     the same three, words by a segmenter
    Chinese            words by a segmenter, the same three, words at white space

and after that, in a model without case, each word loses it and its accents.

Every step stands here in two forms, for a plain text and for one that keeps its places.

Source: transformers 4.57.6 ``XLMTokenizer._tokenize``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from refimpl.tokenizers.xlm import alignment, moses, text
from refimpl.tokenizers.xlm.alignment import Aligned
from refimpl.tokenizers.xlm.segmentation import Segmenter

SEGMENTED = ("zh", "th", "ja")


class Step(NamedTuple):
    """A step from a text to a text."""

    name: str
    plain: Callable[[str], str]
    aligned: Callable[[Aligned], Aligned]


class Cut(NamedTuple):
    """A step from a text to its words."""

    name: str
    plain: Callable[[str], list[str]]
    aligned: Callable[[Aligned], list[Aligned]]


class Steps(NamedTuple):
    """All steps from a text to words."""

    before: tuple[Step, ...]
    cut: Cut
    after: Step | None  # on every word

    def words(self, text: str) -> list[str]:
        """Return the words of a plain text, as they are before the last step."""
        for step in self.before:
            text = step.plain(text)
        return self.cut.plain(text)

    def aligned_words(self, text: Aligned) -> list[Aligned]:
        """Return the words of an aligned text, as they are before the last step."""
        for step in self.before:
            text = step.aligned(text)
        return self.cut.aligned(text)


def _unicode_punctuation_aligned(old: Aligned) -> Aligned:
    stops = alignment.Rule("", text.FULL_STOPS, ". ")
    table = text.UNICODE_PUNCTUATION
    return alignment.change_characters(
        lambda char: char.translate(table), alignment.rewrite_aligned([stops], old)
    )


UNICODE_PUNCTUATION = Step(
    "unicode punctuation", text.replace_unicode_punctuation, _unicode_punctuation_aligned
)
NON_PRINTING = Step(
    "non-printing",
    text.remove_non_printing,
    partial(alignment.change_characters, text.remove_non_printing),
)
ROMANIAN = (
    Step(
        "romanian letters",
        text.normalize_romanian,
        partial(alignment.change_characters, text.normalize_romanian),
    ),
    Step(
        "romanian diacritics",
        text.remove_romanian_diacritics,
        partial(alignment.change_characters, text.remove_romanian_diacritics),
    ),
)
LOWER_CASE_AND_ACCENTS = Step(
    "lower case, accents",
    text.lowercase_and_remove_accents,
    alignment.lowercase_and_remove_accents_aligned,
)
AT_WHITE_SPACE = Cut("white space", str.split, alignment.split_aligned)


def steps_for(lang: str, lower: bool, segmenter: Segmenter | None) -> Steps:
    """Return the steps of a language; ``segmenter`` is that of one of ``SEGMENTED``.

    >>> print(*(step.name for step in steps_for("ro", True, None).before), sep=", ")
    unicode punctuation, moses punctuation, non-printing, romanian letters, romanian diacritics
    >>> steps_for("en", True, None).words("the dog’s “bowl” .")
    ['the', 'dog', "'s", '"', 'bowl', '"', '.']
    """
    cleaning = (
        UNICODE_PUNCTUATION,
        Step(
            "moses punctuation",
            partial(moses.normalize_punctuation, lang=lang),
            partial(moses.normalize_punctuation_aligned, lang=lang),
        ),
        NON_PRINTING,
    )
    after = LOWER_CASE_AND_ACCENTS if lower else None
    if segmenter is None:
        cut = Cut(
            "moses words",
            partial(moses.tokenize, lang=lang),
            partial(moses.tokenize_aligned, lang=lang),
        )
        return Steps((*cleaning, *(ROMANIAN if lang == "ro" else ())), cut, after)
    if lang == "zh":
        return Steps((_spaced(segmenter), *cleaning), AT_WHITE_SPACE, after)
    return Steps(cleaning, _segmented(segmenter), after)


def _segmented(segmenter: Segmenter) -> Cut:
    return Cut(
        "segmented words",
        segmenter,
        lambda old: alignment.cut_aligned(old, segmenter(old.text)),
    )


def _spaced(segmenter: Segmenter) -> Step:
    return Step(
        "segmented words",
        lambda text: " ".join(segmenter(text)),
        lambda old: alignment.join_aligned(alignment.cut_aligned(old, segmenter(old.text)), " "),
    )
