"""Pseudo-perplexity: how well a masked language model expects the tokens of a text.

Each token is masked in turn; the log-probability of the true token is summed over all tokens.

Source: Salazar, Liang, Nguyen and Kirchhoff 2020, "Masked Language Model Scoring", equations 1 and
2: PLL(W) = sum of log P(w_t | W without t), PPPL = exp(-(sum of PLL over all texts) / N) with N the
number of all tokens. Special tokens are neither masked nor counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Surprise(NamedTuple):
    """What a model says of texts: a sum of natural logarithms, and how much text it is of."""

    log_probability: float
    tokens: int
    characters: int

    @property
    def pseudo_perplexity(self) -> float:
        """exp of the mean surprise of a token; infinite where a token was held impossible."""
        if not self.tokens:
            return 1.0
        try:
            return math.exp(-self.log_probability / self.tokens)
        except OverflowError:
            return math.inf

    @property
    def bits_per_token(self) -> float:
        """The mean surprise of a token in bits."""
        return self._bits / self.tokens if self.tokens else 0.0

    @property
    def bits_per_character(self) -> float:
        """The same for each character of the texts: comparable between vocabularies."""
        return self._bits / self.characters if self.characters else 0.0

    @property
    def _bits(self) -> float:
        return -self.log_probability / math.log(2)


def total(texts: Iterable[Surprise]) -> Surprise:
    """Return texts taken together; the sum is rounded once, so their order does not matter.

    >>> total([Surprise(-2.0, 1, 4), Surprise(-1.0, 2, 8)])
    Surprise(log_probability=-3.0, tokens=3, characters=12)
    """
    some = list(texts)
    return Surprise(
        math.fsum(text.log_probability for text in some),
        sum(text.tokens for text in some),
        sum(text.characters for text in some),
    )
