"""Answers to questions: when two are the same, and how much two have in common.

Two normalisations, because two sets of benchmarks have been scored by them:

- ``"squad"``: SQuAD's (Rajpurkar et al. 2016, 2018), with which XQuAD is scored in all languages:
  lower case, ASCII punctuation away, the English articles away, spaces made one.
- a language code of MLQA's (Lewis et al. 2020): punctuation of all scripts, the articles of that
  language, and Chinese cut into characters.

Source: the rules of evaluate-v1.1.py and evaluate-v2.0.py of SQuAD and of
mlqa_evaluation_v1.py of MLQA. Two empty answers are equal (v2.0; v1.1 gives them an F1 of 0).
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

ARTICLES = {
    "en": r"\b(?:a|an|the)\b",
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
    "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": r"\sال^|ال",
    "zh": None,
}
LANGUAGES = tuple(ARTICLES)  # those of MLQA
HAN = re.compile("[\u4e00-\u9fa5]")


def normalise(answer: str, rule: str = "squad") -> str:
    """Return what is compared of an answer, by "squad" or by a language of MLQA.

    >>> normalise("The  Eiffel-Tower!"), normalise("Das «große» Haus", "de")
    ('eiffeltower', 'große haus')
    >>> normalise("北京2008年", "zh")
    '北 京 2008 年'

    Raises ``ValueError`` for another rule.
    """
    if rule == "squad":
        kept = "".join(c for c in answer.lower() if c not in string.punctuation)
        return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", kept).split())
    if rule not in ARTICLES:
        raise ValueError(f"rule: expected squad or one of {', '.join(LANGUAGES)}, got {rule!r}")
    text = "".join(c for c in answer.lower() if not is_punctuation(c))
    articles = ARTICLES[rule]
    if articles is not None:
        text = re.sub(articles, " ", text)
    return " ".join(han_apart(text) if rule == "zh" else text.split())


def is_punctuation(c: str) -> bool:
    """Say whether a character is punctuation in Unicode or in ASCII's sense ("$", "+", ...)."""
    return unicodedata.category(c).startswith("P") or c in string.punctuation


def han_apart(text: str) -> list[str]:
    """Return the words of a text in which every Chinese character is a word.

    >>> han_apart("在 GPU上 跑")
    ['在', 'GPU', '上', '跑']
    """
    return HAN.sub(lambda found: f" {found[0]} ", text).split()


def exact_match(answer: str, truth: str, rule: str = "squad") -> float:
    """Return 1 where two answers are the same, normalised; else 0."""
    return float(normalise(answer, rule) == normalise(truth, rule))


def f1(answer: str, truth: str, rule: str = "squad") -> float:
    """Return the F1 of the words that two answers have in common, normalised.

    >>> f1("the blue Danube waltz", "Blue Danube")
    0.8
    """
    a, b = normalise(answer, rule).split(), normalise(truth, rule).split()
    if not a or not b:
        return float(a == b)
    common = (Counter(a) & Counter(b)).total()
    return 2 * common / (len(a) + len(b))


def best_over(
    measure: Callable[[str, str, str], float], answer: str, truths: Sequence[str], rule: str
) -> float:
    """Return a measure against the truth that it is best against; none stands for no answer.

    For a question that can be answered, SQuAD passes over truths that normalise to nothing.
    """
    wanted = [truth for truth in truths if normalise(truth, rule)] or [""]
    return max(measure(answer, truth, rule) for truth in wanted)
