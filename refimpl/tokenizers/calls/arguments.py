"""What a call of a tokenizer may be given, checked and brought into one form.

Pure functions. Each refuses what it does not know with one error that names the argument.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

Text = str | Sequence[str]  # a text, or its words
Texts = Text | Sequence[Text]


class Batch(NamedTuple):
    """The texts of a call. A text is a list of parts that are cut alone: itself, or its words."""

    texts: list[list[str]]
    pairs: list[list[str]] | None
    is_list: bool  # whether the call got a list of texts, and so gets lists of lists back
    is_split: bool  # whether the parts are words


def as_batch(text: Texts, text_pair: Texts | None, is_split_into_words: bool = False) -> Batch:
    """Return the texts of a call in one form, whatever form they came in.

    >>> as_batch("Who?", "Me.")
    Batch(texts=[['Who?']], pairs=[['Me.']], is_list=False, is_split=False)
    >>> as_batch(["one", "two"], None).texts
    [['one'], ['two']]
    >>> as_batch(["one", "two"], None, is_split_into_words=True).texts
    [['one', 'two']]

    Raises ``TypeError`` for anything but a text or a list (or tuple) of texts and for one of
    each, ``ValueError`` for an empty list, for lists of different lengths, and for text that has
    no UTF-8 form.
    """
    is_list = _is_list_of_texts(text, is_split_into_words)
    first = _texts("text", text, is_list, is_split_into_words)
    if text_pair is None:
        return Batch(first, None, is_list, is_split_into_words)
    if _is_list_of_texts(text_pair, is_split_into_words) != is_list:
        form = "one text" if not is_list else "a list of texts"
        raise TypeError(f"text_pair: expected {form}, as text is, got {kind(text_pair)}")
    second = _texts("text_pair", text_pair, is_list, is_split_into_words)
    if len(first) != len(second):
        raise ValueError(
            f"text_pair: expected {len(first)} texts, as many as text has, got {len(second)}"
        )
    return Batch(first, second, is_list, is_split_into_words)


def _is_list_of_texts(value: Any, split: bool) -> bool:
    if not split:
        return not isinstance(value, str)
    return isinstance(value, (list, tuple)) and any(isinstance(x, (list, tuple)) for x in value)


def _texts(name: str, value: Any, is_list: bool, split: bool) -> list[list[str]]:
    """Return the parts of each text of an argument."""
    if not is_list:
        return [_words(name, value) if split else [check_text(name, value)]]
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name}: expected a str or a list of str, got {kind(value)}")
    if not value:
        raise ValueError(f"{name}: expected at least one text, got an empty list")
    if split:
        return [_words(f"{name}[{i}]", one) for i, one in enumerate(value)]
    return [[check_text(name, one, i)] for i, one in enumerate(value)]


def _words(name: str, value: Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"{name}: expected a list of words (is_split_into_words=True), got {kind(value)}"
        )
    return [check_text(name, word, i) for i, word in enumerate(value)]


def check_text(name: str, text: Any, place: int | None = None) -> str:
    """Return a text that has a UTF-8 form; ``place`` is where it stands in a list ``name``.

    Raises ``TypeError`` for anything but a str, ``ValueError`` for a lone surrogate.
    """
    if not isinstance(text, str):
        raise TypeError(f"{_at(name, place)}: expected a str, got {kind(text)}")
    try:
        text.isascii() or text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{_at(name, place)}: expected text that has a UTF-8 form, got a lone surrogate, "
            f"{text[error.start]!a}, at character {error.start}"
        ) from None
    return text


def _at(name: str, place: int | None) -> str:
    return name if place is None else f"{name}[{place}]"


def as_languages(lang: Any, n_texts: int, lang2id: Mapping[str, int]) -> list[str | None]:
    """Return the language of each text of a call: one name for all, or one for each.

    >>> as_languages("sw", 2, {"en": 0, "sw": 1})
    ['sw', 'sw']

    Raises ``TypeError`` for what is no name, ``ValueError`` for a list of another length and for
    a name that ``lang2id`` lacks. An empty ``lang2id`` knows no languages and takes any name.
    """
    if lang is None or isinstance(lang, str):
        names = [lang] * n_texts
    elif isinstance(lang, (list, tuple)):
        names = list(lang)
    else:
        raise TypeError(f"lang: expected a str or a list of str, got {kind(lang)}")
    if len(names) != n_texts:
        raise ValueError(f"lang: expected one name, or {n_texts} as there are texts, got {names!r}")
    for name in dict.fromkeys(names) if lang is not None else ():
        if not isinstance(name, str):
            raise TypeError(f"lang: expected a str or a list of str, got {kind(name)} in a list")
        if lang2id and name not in lang2id:
            raise ValueError(f"lang: expected one of {', '.join(lang2id)}, got {name!r}")
    return names


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


def is_index(value: object) -> TypeGuard[int]:
    """Say whether a value is one integer: of Python, of NumPy, or an array without axes."""
    try:
        operator.index(value)  # type: ignore[arg-type]  # to find out is the purpose
    except TypeError:
        return False
    return True


def kind(value: object) -> str:
    """Say what came instead: the start of its ``repr`` and its type."""
    return "None" if value is None else f"{value!r:.60} ({type(value).__name__})"
