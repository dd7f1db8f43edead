"""What a forward pass returns. Fields are named as in transformers; what was not asked for is None.

Letters: ``docs/notation.md``. ``hidden_states`` holds the embeddings' output and that of each
layer, ``attentions`` each layer's attention weights (B, H, S, S).
"""

from __future__ import annotations

from typing import NamedTuple

from refimpl.backend import Array


class BaseModelOutput(NamedTuple):
    """An encoder without a head."""

    last_hidden_state: Array  # (B, S, D)
    pooler_output: Array | None = None  # (B, D)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class MaskedLMOutput(NamedTuple):
    """Scores of every vocabulary entry at every place."""

    loss: Array | None  # ()
    logits: Array  # (B, S, V)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class SequenceClassifierOutput(NamedTuple):
    """Scores of each label for each text."""

    loss: Array | None  # ()
    logits: Array  # (B, N)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class TokenClassifierOutput(NamedTuple):
    """Scores of each label at every place."""

    loss: Array | None  # ()
    logits: Array  # (B, S, N)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class MultipleChoiceModelOutput(NamedTuple):
    """One score for each choice."""

    loss: Array | None  # ()
    logits: Array  # (B, C)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class QuestionAnsweringModelOutput(NamedTuple):
    """Scores of every place as the first and as the last token of the answer."""

    loss: Array | None  # ()
    start_logits: Array  # (B, S)
    end_logits: Array  # (B, S)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
