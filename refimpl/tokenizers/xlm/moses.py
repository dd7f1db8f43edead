r"""Moses, the machine-translation toolkit: its punctuation normaliser and its word tokenizer.

    "He said :  « 5 % ».  It's 3,000 dots..."
      -> normalize_punctuation   He said: "5%". It's 3,000 dots...
      -> tokenize                He said : " 5 % " . It 's 3,000 dots ...

Both are ladders of replacements: each :class:`Rule` is one line of the ladder, and the next sees
what it left. Three characters are judged by tables of Unicode properties as Perl had them long ago
(a Chinese character is no letter to Moses), and abbreviations by lists for 38 languages; these
data come with the sacremoses package. Languages without a list borrow the English one.

Source: Moses (normalize-punctuation.perl, tokenizer.perl) as ported by sacremoses 0.2:
``MosesPunctNormalizer`` and ``MosesTokenizer.tokenize(escape=False)``, with their defaults.
Differs: nothing in what comes out. Their runs of dots become words ("DOTDOTMULTI") for a while
and then dots again; ours stay dots and are kept apart by spaces alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from refimpl.tokenizers.xlm.alignment import (
    Aligned,
    Rule,
    change_characters,
    rewrite,
    rewrite_aligned,
    rule,
    split_aligned,
)

# Punctuation. A group is what stays; what is in no group is what the template's own signs are for.

_NORMALIZE = [
    # white space and brackets
    rule("\r", "\r", ""),
    rule("(", r"(\()", r" \1"),
    rule(")", r"(\))", r"\1 "),
    rule("  ", " +", " "),
    rule(") ", r"(\)) ([.!:?;,])", r"\1\2"),
    rule("( ", r"(\() ", r"\1"),
    rule(" )", r" (\))", r"\1"),
    rule(" %", r"(\d) (%)", r"\1\2"),
    rule(" :", " (:)", r"\1"),
    rule(" ;", " (;)", r"\1"),
    # quotes as in the Penn treebank
    rule("`", "`", "'"),
    rule("''", "''", ' " '),
    # typographic quotes, dashes, dots
    rule("„", "„", '"'),
    rule("“", "“", '"'),
    rule("”", "”", '"'),
    rule("–", "–", "-"),
    rule("—", "—", " - "),
    rule("  ", " +", " "),
    rule("´", "´", "'"),
    rule("‘", "‘", "'"),
    rule("‚", "‚", "'"),
    rule("’", "’", "'"),
    rule("''", "''", '"'),
    rule("…", "…", "..."),
    # French quotes, with and without the no-break space inside
    rule("\xa0«\xa0", "\xa0«\xa0", '"'),
    rule("«\xa0", "«\xa0", '"'),
    rule("«", "«", '"'),
    rule("\xa0»\xa0", "\xa0»\xa0", '"'),
    rule("\xa0»", "\xa0»", '"'),
    rule("»", "»", '"'),
    # other no-break spaces
    rule("\xa0%", "\xa0(%)", r"\1"),
    rule("nº\xa0", "(nº)\xa0", r"\1 "),
    rule("\xa0:", "\xa0(:)", r"\1"),
    rule("\xa0ºC", "\xa0(ºC)", r" \1"),
    rule("\xa0cm", "\xa0(cm)", r" \1"),
    rule("\xa0?", r"\xa0(\?)", r"\1"),
    rule("\xa0!", "\xa0(!)", r"\1"),
    rule("\xa0;", "\xa0(;)", r"\1"),
    rule(",\xa0", "(,)\xa0", r"\1 "),
    rule("  ", " +", " "),
]
# A quote changes places with the sign before or after it.
_QUOTES_ENGLISH = [rule('"', '(")([,.]+)', r"\2\1")]
_QUOTES_CONTINENTAL = [
    rule(',"', '(,)(")', r"\2\1"),
    rule('."', r'(\.+)(?:(")(\s*[^<]))?', r"\2\1\3"),  # dots without a quote: as they are
]
_DECIMAL_COMMA = [rule("\xa0", r"(\d)\xa0(\d)", r"\1,\2")]
_DECIMAL_POINT = [rule("\xa0", r"(\d)\xa0(\d)", r"\1.\2")]


@cache
def _normalizing_rules(lang: str) -> list[Rule]:
    quotes = _QUOTES_ENGLISH if lang == "en" else []
    if lang in ("de", "es", "fr"):
        quotes = _QUOTES_CONTINENTAL
    comma = lang in ("de", "es", "cz", "cs", "fr")
    return [*_NORMALIZE, *quotes, *(_DECIMAL_COMMA if comma else _DECIMAL_POINT)]


def normalize_punctuation(text: str, lang: str) -> str:
    r"""Bring punctuation and the spaces around it into one form; strip both ends.

    >>> normalize_punctuation(" « Oui » , dit-il ( 5 % ) .", "fr")
    '" Oui " , dit-il (5%).'
    >>> normalize_punctuation('It is "so", he said', "en")
    'It is "so," he said'

    Our ``normalize_punctuation`` is sacremoses' ``MosesPunctNormalizer(lang).normalize``.
    """
    return rewrite(_normalizing_rules(lang), text).strip()


def normalize_punctuation_aligned(text: Aligned, lang: str) -> Aligned:
    """Do what :func:`normalize_punctuation` does to an aligned text."""
    new = rewrite_aligned(_normalizing_rules(lang), text)
    left = len(new.text) - len(new.text.lstrip())
    return new.cut(left, max(len(new.text.rstrip()), left))


# Words


class Characters(NamedTuple):
    """Unicode properties as Perl had them, for :func:`character_class` and as sets."""

    alphanumeric: str
    alphabetic: str
    numeric: str
    letters: frozenset[str]
    lower: frozenset[str]


class Language(NamedTuple):
    """What Moses knows of a language."""

    sign: re.Pattern[str]  # a character that is a word by itself
    rules: list[Rule]  # put spaces between other words
    prefixes: frozenset[str]  # keep their full stop: "Mr", "Inc"
    numeric_prefixes: frozenset[str]  # keep it before a number: "No", "pp"
    letters: frozenset[str]
    lower: frozenset[str]


_SCRIPTS = {  # which Moses takes for letters in these languages alone
    "ko": ("Hangul",),
    "zh": ("Han",),
    "ja": ("Hiragana", "Katakana", "Han"),
    "cjk": ("Hangul", "Han", "Hiragana", "Katakana"),
}


@cache
def languages() -> frozenset[str]:
    """Return the codes of the languages that Moses has an abbreviation list or a rule for."""
    from sacremoses.corpus import NonbreakingPrefixes

    return frozenset([*NonbreakingPrefixes().available_langs.values(), *_SCRIPTS, "cz"])


@cache
def language(lang: str) -> Language:
    """Return what Moses knows of a language; of one without an abbreviation list, English."""
    from sacremoses.corpus import NonbreakingPrefixes

    listed = [line.strip() for line in NonbreakingPrefixes().words(lang)]
    numeric = [line.rpartition(" ")[0] for line in listed if re.search(r"\s#NUMERIC_ONLY#", line)]
    known = characters(_SCRIPTS.get(lang, ()))
    return Language(
        re.compile(rf"([^{known.alphanumeric}\s\.'\`\,\-])"),
        _splitting_rules(lang, known),
        frozenset(listed) - frozenset(numeric),
        frozenset(numeric),
        known.letters,
        known.lower,
    )


@cache
def characters(scripts: tuple[str, ...]) -> Characters:
    """Return the properties of characters, those of more scripts taken for letters."""
    from sacremoses.corpus import Perluniprops
    from sacremoses.indic import NUKTAS, VIRAMAS

    table = Perluniprops().chars
    more = {char for name in scripts for char in table(name)} | {*VIRAMAS, *NUKTAS}
    letters = frozenset(table("IsAlpha")) | more
    return Characters(
        character_class({*table("IsAlnum"), *more}),
        character_class(letters),
        character_class(table("IsN")),
        letters,
        frozenset(table("IsLower")),
    )


def character_class(characters: Iterable[str]) -> str:
    r"""Write a set of characters for the inside of a regular expression's brackets, as ranges.

    >>> print(character_class("bcdaxz"))
    \U00000061-\U00000064\U00000078\U0000007a
    """
    ranges: list[list[int]] = []
    for code in sorted(map(ord, set(characters))):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{a:08x}" if a == b else f"\\U{a:08x}-\\U{b:08x}" for a, b in ranges)


def _splitting_rules(lang: str, known: Characters) -> list[Rule]:
    """Return the rules that put spaces around dots, commas and apostrophes."""
    n = known.numeric
    return [
        rule("..", r"(\.{2,})", r" \1 "),
        rule(",", f"([^{n}])(,)", r"\1 \2 "),  # a comma stays in "3,000"
        rule(",", f"(,)([^{n}])", r" \1 \2"),
        rule(",", f"([{n}])(,)$", r"\1 \2 "),
        *_apostrophe_rules(lang, known.alphabetic, n),
    ]


def _apostrophe_rules(lang: str, a: str, n: str) -> list[Rule]:
    if lang == "en":
        return [
            rule("'", f"([^{a}])(')([^{a}])", r"\1 \2 \3"),
            rule("'", f"([^{a}{n}])(')([{a}])", r"\1 \2 \3"),
            rule("'", f"([{a}])(')([^{a}])", r"\1 \2 \3"),
            rule("'", f"([{a}])(')([{a}])", r"\1 \2\3"),  # "it 's"
            rule("'", f"([{n}])(')(s)", r"\1 \2\3"),  # "the 1980 's"
        ]
    if lang in ("fr", "it"):
        return [
            rule("'", f"([^{a}])(')([^{a}])", r"\1 \2 \3"),
            rule("'", f"([^{a}])(')([{a}])", r"\1 \2 \3"),
            rule("'", f"([{a}])(')([^{a}])", r"\1 \2 \3"),
            rule("'", f"([{a}])(')([{a}])", r"\1\2 \3"),  # "l' eau"
        ]
    return [rule("'", "(')", r" \1 ")]


def tokenize(text: str, lang: str) -> list[str]:
    """Cut a text into words and punctuation.

    >>> tokenize("Mr. Smith's dog, aged 3, won $1,000.", "en")
    ['Mr.', 'Smith', "'s", 'dog', ',', 'aged', '3', ',', 'won', '$', '1,000', '.']
    >>> tokenize("L'eau... coule", "fr")
    ["L'", 'eau', '...', 'coule']

    Our ``tokenize`` is sacremoses' ``MosesTokenizer(lang).tokenize(text, escape=False)``. As there,
    a word of the text that reads "DOTMULTI" becomes a dot.
    """
    known = language(lang)
    text = " ".join(text.split())
    if not text.isprintable():
        text = "".join(char for char in text if char >= " ").strip()
    words = rewrite(known.rules, " ".join(known.sign.split(text))).split()
    if "." in text:
        words = [part for ends in _parts(words, known) for part in ends if part]
    return [_restore_dots(word) for word in words] if "MULTI" in text else words


def tokenize_aligned(text: Aligned, lang: str) -> list[Aligned]:
    """Do what :func:`tokenize` does to an aligned text."""
    known = language(lang)
    spaced = change_characters(lambda char: " " if char.isspace() else char, text)
    printed = change_characters(lambda char: char if char >= " " else "", spaced)
    left = len(printed.text) - len(printed.text.lstrip())
    stripped = printed.cut(left, max(len(printed.text.rstrip()), left))
    signs = Rule("", known.sign, r" \1 ")
    words = split_aligned(rewrite_aligned([_ONE_SPACE, signs, *known.rules], stripped))
    cut = []
    for word, parts in zip(words, _parts([word.text for word in words], known), strict=True):
        at = 0
        for part in parts:
            cut += [word.cut(at, at + len(part))] if part else []
            at += len(part)
    return [_restore_dots_aligned(word) for word in cut]


_ONE_SPACE = rule("  ", " +", " ")


def _parts(words: list[str], known: Language) -> Iterable[tuple[str, ...]]:
    """Cut off the full stop that ends a word, unless it is part of it, and a last apostrophe."""
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        if word[-1] == "." and ends_sentence(word, following, known):
            yield word[:-1], "."
        elif word.endswith(".'") and not following:
            yield word[:-2], ".", "'"
        else:
            yield (word,)


def ends_sentence(word: str, following: str, known: Language) -> bool:
    """Say whether the full stop that ends a word is a word of its own.

    >>> ends_sentence("dog.", "It", language("en")), ends_sentence("dog.", "it", language("en"))
    (True, False)
    >>> ends_sentence("Mr.", "It", language("en")), ends_sentence("No.", "5", language("en"))
    (False, False)

    It is not in a word with a full stop and a letter inside ("U.S."), in an abbreviation, before
    a word in lower case, or in "No." and its like before a number.
    """
    prefix = word[:-1]
    if not prefix.strip("."):  # "." and "...", which are words themselves
        return False
    if "." in prefix and not known.letters.isdisjoint(prefix):
        return False
    if prefix in known.prefixes or following[:1] in known.lower:
        return False
    return not (prefix in known.numeric_prefixes and re.match("[0-9]", following))


_DOTS = re.compile("((?:DOT)+)(MULTI)?")


def _restore_dots(word: str) -> str:
    return _DOTS.sub(lambda m: "." * (len(m[1]) // 3) if m[2] else m[0], word)


def _restore_dots_aligned(word: Aligned) -> Aligned:
    dots = _restore_dots(word.text)
    if dots == word.text:
        return word
    return Aligned(dots, [word.starts[0]] * len(dots), [word.ends[-1]] * len(dots))
