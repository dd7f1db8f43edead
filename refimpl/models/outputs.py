"""What a forward pass returns. Fields are named as in transformers; what was not asked for is None.

Letters: ``docs/notation.md``. ``hidden_states`` holds the embeddings' output and that of each
layer, ``attentions`` each layer's attention weights (B, H, S, S).
"""

from __future__ import annotations

from typing import NamedTuple

from refimpl.backend import Array

# What a decoder keeps for each layer: key and value of all tokens so far, (B, H, T, K) each, and
# those of the encoder's tokens where it attends to an encoder.
KeyValues = tuple[tuple[Array, ...], ...]


class BaseModelOutput(NamedTuple):
    """An encoder, or a decoder, without a head."""

    last_hidden_state: Array  # (B, S, D)
    pooler_output: Array | None = None  # (B, D)
    hidden_states: tuple[Array, ...] | None = None
    past_key_values: KeyValues | None = None
    attentions: tuple[Array, ...] | None = None
    cross_attentions: tuple[Array, ...] | None = None


class XLMModelOutput(NamedTuple):
    """XLM's encoder without a head. ``cache`` is what the next call may take."""

    last_hidden_state: Array  # (B, S, D)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
    cache: KeyValues | None = None


class CausalLMOutput(NamedTuple):
    """Scores of every vocabulary entry as the next token, at every place."""

    loss: Array | None  # ()
    logits: Array  # (B, S, V), with logits_at (P, V)
    past_key_values: KeyValues | None = None
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
    cross_attentions: tuple[Array, ...] | None = None


class XLMWithLMHeadOutput(NamedTuple):
    """Scores of every vocabulary entry at every place; log-probabilities with adaptive softmax."""

    loss: Array | None  # ()
    logits: Array  # (B, S, V), with logits_at (P, V)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None
    cache: KeyValues | None = None


class XLMForQuestionAnsweringOutput(NamedTuple):
    """The loss, where positions are given; else the spans that the beam search found best.

    P is ``start_n_top``, Q is ``end_n_top``. The names say log_probs; they are probabilities, in
    the original too.
    """

    loss: Array | None = None  # ()
    start_top_log_probs: Array | None = None  # (B, P)
    start_top_index: Array | None = None  # (B, P)
    end_top_log_probs: Array | None = None  # (B, Q * P)
    end_top_index: Array | None = None  # (B, Q * P)
    cls_logits: Array | None = None  # (B)
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array, ...] | None = None


class MaskedLMOutput(NamedTuple):
    """Scores of every vocabulary entry at every place."""

    loss: Array | None  # ()
    logits: Array  # (B, S, V), with logits_at (P, V)
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
