"""Filling in the blank: the first thing to ask of a masked language model."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy

from refimpl import ops
from refimpl.backend import to_numpy
from refimpl.models.model import Model


class Tokenizer(Protocol):
    """What filling in needs of a tokenizer."""

    mask_token: str
    mask_token_id: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens included."""

    def convert_ids_to_tokens(self, ids: int) -> Any:
        """Return the piece of the vocabulary with this id."""

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids."""


class Filling(NamedTuple):
    """One candidate for one mask."""

    mask: int  # which mask of the text, from 0
    id: int
    token: str  # the piece, with ▁ for a space
    probability: float
    text: str  # the whole text with this mask filled in


def fill_mask(model: Model, tokenizer: Tokenizer, text: str, top_k: int = 5) -> list[Filling]:
    """Return, for each ``<mask>`` of ``text``, its ``top_k`` most probable pieces, best first.

    Every mask is filled on its own, the others staying masked, and probabilities are those of one
    place: softmax over the whole vocabulary.

    Raises ``ValueError`` for a text without a mask, a ``top_k`` that is not in [1, vocabulary
    size], and a model that is not a masked language model.
    """
    if not model.architecture.endswith("ForMaskedLM"):
        raise ValueError(
            f"model: expected a masked language model (...ForMaskedLM), got {model.architecture}"
        )
    if not 1 <= top_k <= model.config.vocab_size:
        raise ValueError(f"top_k: expected 1 to {model.config.vocab_size}, got {top_k}")
    ids = tokenizer.encode(text)
    places = [i for i, token in enumerate(ids) if token == tokenizer.mask_token_id]
    if not places:
        raise ValueError(f"text: expected at least one {tokenizer.mask_token}, got {text!r}")
    logits = model(input_ids=[ids], logits_at=[[0, place] for place in places]).logits
    fillings = []
    for mask, place in enumerate(places):
        probabilities = to_numpy(ops.softmax(logits[mask, :]))
        # Equal probabilities: the lower id first, whatever order the sort finds them in.
        for i in numpy.argsort(-probabilities, stable=True)[:top_k].tolist():
            filled = tokenizer.decode([*ids[1:place], i, *ids[place + 1 : -1]])  # no <s>, no </s>
            token = tokenizer.convert_ids_to_tokens(i)
            fillings.append(Filling(mask, i, token, float(probabilities[i]), filled))
    return fillings
