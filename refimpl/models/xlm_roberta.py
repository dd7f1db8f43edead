"""XLM-RoBERTa: RoBERTa's encoder over one vocabulary of 250,000 pieces for a hundred languages.

    Conneau et al. 2020, Unsupervised Cross-lingual Representation Learning at Scale
    (https://arxiv.org/abs/1911.02116); the encoder is that of Liu et al. 2019, RoBERTa.

Read from top to bottom: config, the list of tensors, then the way of the data, ids -> embeddings
-> layers -> hidden states -> head. It is a post-norm transformer: each half of a layer adds its
result to its input and normalises the sum. What is particular to it is the position ids: they
start at ``pad_token_id + 1`` and pass over padding.

Letters in shapes: ``docs/notation.md``. Source throughout: transformers 4.57.6,
``models/xlm_roberta/modeling_xlm_roberta.py``; dropout does nothing at inference and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.checkpoints.names import Shape
from refimpl.checkpoints.weights import Weights
from refimpl.models import heads
from refimpl.models.architecture import Architecture, Encoder, layer_norm_shapes, linear_shapes
from refimpl.models.config import PROBLEM_TYPES, require
from refimpl.models.inputs import Input, Inputs
from refimpl.models.outputs import BaseModelOutput
from refimpl.taps import tap

# --- config ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class XLMRobertaConfig:
    """The values of a config.json that the computation depends on.

    Defaults are those of the original's class, not of the published checkpoints: they hold where a
    config.json leaves a key out. Note ``layer_norm_eps``: 1e-12 here, 1e-5 in the published files.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 1
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False
    pruned_heads: Mapping[str, list[int]] | None = None
    tie_word_embeddings: bool = True
    num_labels: int = 2
    id2label: Mapping[str, str] | None = None
    problem_type: str | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False

    def __post_init__(self) -> None:
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                    "intermediate_size", "max_position_embeddings", "type_vocab_size"):  # fmt: skip
            require(getattr(self, key) > 0, key, "a number above 0", getattr(self, key))
        heads_fit = self.hidden_size % self.num_attention_heads == 0
        require(heads_fit, "hidden_size",
                f"a multiple of num_attention_heads ({self.num_attention_heads})",
                self.hidden_size)  # fmt: skip
        require(self.hidden_act in ops.ACTIVATIONS, "hidden_act",
                f"one of {', '.join(ops.ACTIVATIONS)}", self.hidden_act)  # fmt: skip
        require(0 <= self.pad_token_id < self.vocab_size, "pad_token_id",
                "an id of the vocabulary", self.pad_token_id)  # fmt: skip
        require(self.position_embedding_type == "absolute", "position_embedding_type",
                "'absolute'", self.position_embedding_type)  # fmt: skip
        require(not self.is_decoder, "is_decoder", "false", self.is_decoder)
        require(not self.add_cross_attention, "add_cross_attention", "false", True)
        require(not self.pruned_heads, "pruned_heads", "none", self.pruned_heads)
        require(self.problem_type in (None, *PROBLEM_TYPES), "problem_type",
                f"one of {', '.join(PROBLEM_TYPES)}", self.problem_type)  # fmt: skip

    @property
    def labels(self) -> int:
        """The number of labels N: the names in ``id2label`` count, where there are any."""
        return len(self.id2label) if self.id2label is not None else self.num_labels


# --- the list of tensors, in the order in which they are used ------------------------------------


def encoder_parameters(config: XLMRobertaConfig) -> dict[str, Shape]:
    """Name and shape of every tensor of the encoder, as published."""
    D, F = config.hidden_size, config.intermediate_size
    shapes: dict[str, Shape] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, D),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, D),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, D),
        **layer_norm_shapes("embeddings.LayerNorm", D),
    }
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        shapes |= {
            **linear_shapes(f"{layer}.attention.self.query", D, D),
            **linear_shapes(f"{layer}.attention.self.key", D, D),
            **linear_shapes(f"{layer}.attention.self.value", D, D),
            **linear_shapes(f"{layer}.attention.output.dense", D, D),
            **layer_norm_shapes(f"{layer}.attention.output.LayerNorm", D),
            **linear_shapes(f"{layer}.intermediate.dense", F, D),
            **linear_shapes(f"{layer}.output.dense", D, F),
            **layer_norm_shapes(f"{layer}.output.LayerNorm", D),
        }
    return shapes


# --- from ids to hidden states --------------------------------------------------------------------


def embeddings(
    w: Weights,
    config: XLMRobertaConfig,
    input_ids: Array | None,
    inputs_embeds: Array | None,
    token_type_ids: Array | None,
    position_ids: Array | None,
) -> Array:
    """ids (B, S) -> (B, S, D)

    Sum of word, token type and position embeddings, normalised. The published models have one
    token type, 0: its row is added everywhere.
    """
    words = inputs_embeds
    if words is None:
        words = tap(w.at("word_embeddings"), ops.embedding(input_ids, **w["word_embeddings"]))
    if position_ids is None and input_ids is not None:
        position_ids = ops.position_ids_from_padding(input_ids, padding_idx=config.pad_token_id)
    elif position_ids is None:
        position_ids = ops.position_ids_in_order(words, padding_idx=config.pad_token_id)
    if token_type_ids is None:
        xp = namespace(words)
        token_type_ids = xp.zeros_like(words[:, :, 0], dtype=xp.int64)

    types = ops.embedding(token_type_ids, **w["token_type_embeddings"])
    x = words + tap(w.at("token_type_embeddings"), types)
    positions = ops.embedding(tap(w.at("position_ids"), position_ids), **w["position_embeddings"])
    x = x + tap(w.at("position_embeddings"), positions)
    return tap(w.at("LayerNorm"), ops.layer_norm(x, **w["LayerNorm"], eps=config.layer_norm_eps))


def self_attention(
    w: Weights, config: XLMRobertaConfig, hidden: Array, mask: Array, head_mask: Array | None
) -> tuple[Array, Array]:
    """(B, S, D) -> (B, S, D)

    Every token looks at every token that ``mask`` allows, once per head. Also returns the
    attention weights (B, H, S, S).
    """
    query = tap(w.at("query"), ops.linear(hidden, **w["query"]))
    key = tap(w.at("key"), ops.linear(hidden, **w["key"]))
    value = tap(w.at("value"), ops.linear(hidden, **w["value"]))
    attention = ops.scaled_dot_product_attention(
        ops.split_heads(query, heads=config.num_attention_heads),
        ops.split_heads(key, heads=config.num_attention_heads),
        ops.split_heads(value, heads=config.num_attention_heads),
        mask=mask,
        scale=1.0 / math.sqrt(config.hidden_size // config.num_attention_heads),
        head_mask=head_mask,
    )
    tap(w.at("scores"), attention.scores)
    tap(w.at("probs"), attention.probs)
    context = tap(w.at("context"), ops.merge_heads(attention.context))
    return context, attention.weights


def add_and_norm(w: Weights, config: XLMRobertaConfig, x: Array, residual: Array) -> Array:
    """(B, S, I), (B, S, D) -> (B, S, D)

    How both halves of a layer end: a linear map, the residual added, the sum normalised.
    """
    x = tap(w.at("dense"), ops.linear(x, **w["dense"])) + residual
    return tap(w.at("LayerNorm"), ops.layer_norm(x, **w["LayerNorm"], eps=config.layer_norm_eps))


def layer(
    w: Weights, config: XLMRobertaConfig, hidden: Array, mask: Array, head_mask: Array | None
) -> tuple[Array, Array]:
    """(B, S, D) -> (B, S, D)

    Self-attention, then the feed-forward network, each added to its input and normalised. Also
    returns the attention weights (B, H, S, S).
    """
    context, weights = self_attention(w["attention.self"], config, hidden, mask, head_mask)
    hidden = add_and_norm(w["attention.output"], config, context, hidden)

    inner = w.at("intermediate")
    x = tap(f"{inner}.dense", ops.linear(hidden, **w["intermediate.dense"]))
    x = tap(inner, ops.ACTIVATIONS[config.hidden_act](x))
    return add_and_norm(w["output"], config, x, hidden), weights


def xlm_roberta(
    w: Weights,
    config: XLMRobertaConfig,
    *,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    token_type_ids: Array | None = None,
    position_ids: Array | None = None,
    head_mask: Array | None = None,
    inputs_embeds: Array | None = None,
    output_hidden_states: bool = False,
    output_attentions: bool = False,
) -> BaseModelOutput:
    """ids (B, S) -> (B, S, D)

    The encoder, and the pooler where the weights have one. Without ``attention_mask`` every token
    is looked at, padding too. ``head_mask`` is (H), or (L, H) with a row for each layer.
    """
    hidden = embeddings(
        w["embeddings"], config, input_ids, inputs_embeds, token_type_ids, position_ids
    )
    xp = namespace(hidden)
    if attention_mask is None:
        attention_mask = xp.ones_like(hidden[:, :, 0], dtype=xp.bool)
    mask = ops.broadcast_mask(attention_mask)

    all_hidden, all_weights = [hidden], []
    for i in range(config.num_hidden_layers):
        of_layer = head_mask[i, :] if head_mask is not None and head_mask.ndim == 2 else head_mask
        hidden, weights = layer(w[f"encoder.layer.{i}"], config, hidden, mask, of_layer)
        all_hidden.append(hidden)
        all_weights.append(weights)

    return BaseModelOutput(
        last_hidden_state=hidden,
        pooler_output=heads.pooler(w["pooler"], hidden) if "pooler" in w else None,
        hidden_states=tuple(all_hidden) if output_hidden_states else None,
        attentions=tuple(all_weights) if output_attentions else None,
    )


# --- what a call may hold, and the published classes ----------------------------------------------


def encoder_inputs(config: XLMRobertaConfig) -> Inputs:
    """The encoder's arguments: kinds, shapes and bounds."""
    return {
        "input_ids": (Input("ids", ("B S",), below=config.vocab_size),),
        "attention_mask": (Input("mask", ("B S", "B S S")),),
        "token_type_ids": (Input("ids", ("B S",), below=config.type_vocab_size),),
        "position_ids": (Input("ids", ("B S", "1 S"), below=config.max_position_embeddings),),
        "head_mask": (Input("real", ("H", "L H")),),
        "inputs_embeds": (Input("real", ("B S D",)),),
    }


def check_lengths(config: XLMRobertaConfig, inputs: Mapping[str, numpy.ndarray]) -> None:
    """Refuse a text that is longer than there are positions.

    The first ``pad_token_id + 1`` rows of the position table serve no token: 514 positions are 512
    tokens. Padding takes no position, so only tokens count, unless the vectors are given.
    """
    if "position_ids" in inputs:
        return
    if "input_ids" in inputs:
        longest = (inputs["input_ids"] != config.pad_token_id).sum(axis=-1).max()
        name = "input_ids"
    else:
        longest = inputs["inputs_embeds"].shape[-2]
        name = "inputs_embeds"
    room = config.max_position_embeddings - config.pad_token_id - 1
    if longest > room:
        raise ValueError(
            f"{name}: expected at most {room} tokens in a row (max_position_embeddings "
            f"{config.max_position_embeddings} less pad_token_id + 1), got {longest}"
        )


ARCHITECTURES: dict[str, Architecture] = heads.with_heads(
    "XLMRoberta",
    Encoder(
        config=XLMRobertaConfig,
        parameters=encoder_parameters,
        inputs=encoder_inputs,
        check=check_lengths,
        forward=xlm_roberta,
    ),
    ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification",
     "ForMultipleChoice", "ForQuestionAnswering"),
)  # fmt: skip
