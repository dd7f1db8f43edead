"""XLM-RoBERTa-XL and -XXL: XLM-RoBERTa with 3.5 and 10.7 billion parameters, normalised first.

    Goyal et al. 2021, Larger-Scale Transformers for Multilingual Masked Language Modeling
    (https://arxiv.org/abs/2105.00572).

Read from top to bottom: config, the list of tensors, then the way of the data, ids -> embeddings
-> layers -> hidden states. It is a pre-norm transformer: each part of a layer normalises its input
first and adds its result to what came in, so that nothing is normalised on the way from the
embeddings to the end; there the last layer norm does it. The embeddings have no norm of their own.

Letters in shapes: ``docs/notation.md``. Source throughout: transformers 4.57.6,
``models/xlm_roberta_xl/modeling_xlm_roberta_xl.py``; dropout does nothing at inference and is left
out, and so is chunking of the feed-forward network, which changes no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.checkpoints.weights import Weights
from refimpl.models import heads, roberta
from refimpl.models.architecture import (
    Architecture,
    Encoder,
    Shapes,
    layer_norm_shapes,
    linear_shapes,
    with_heads,
)
from refimpl.models.inputs import IGNORE_INDEX
from refimpl.models.outputs import BaseModelOutput, KeyValues, TokenClassifierOutput
from refimpl.models.roberta import LayerResult
from refimpl.taps import tap

# --- config ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class XLMRobertaXLConfig:
    """The values of a config.json that the computation depends on.

    Defaults are those of the original's class, and of XL: they hold where a config.json leaves a
    key out.
    """

    vocab_size: int = 250880
    hidden_size: int = 2560
    num_hidden_layers: int = 36
    num_attention_heads: int = 32
    intermediate_size: int = 10240
    hidden_act: str = "gelu"
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1
    position_embedding_type: str = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False
    use_cache: bool = True
    pruned_heads: Mapping[str, list[int]] | None = None
    tie_word_embeddings: bool = True
    eos_token_id: int | list[int] | None = 2
    num_labels: int = 2
    id2label: Mapping[str, Any] | None = None
    problem_type: str | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False

    def __post_init__(self) -> None:
        roberta.check_config(self)

    @property
    def labels(self) -> int:
        """The number of labels N: the names in ``id2label`` count, where there are any."""
        return len(self.id2label) if self.id2label is not None else self.num_labels

    @property
    def head_size(self) -> int:
        """Features of one attention head, K; pruning heads does not change it."""
        return self.hidden_size // self.num_attention_heads


# --- the list of tensors, in the order in which they are used ------------------------------------


def encoder_parameters(config: XLMRobertaXLConfig) -> Shapes:
    """Name and shape of every tensor of the encoder, as published."""
    D, F = config.hidden_size, config.intermediate_size
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, D),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, D),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, D),
    }
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        width = roberta.heads_left(config, i) * config.head_size  # D, unless heads were pruned
        shapes |= attention_parameters(config, f"{layer}.attention", width)
        if config.position_embedding_type != "absolute":
            distances = (2 * config.max_position_embeddings - 1, config.head_size)
            shapes[f"{layer}.attention.self.distance_embedding.weight"] = distances
        if config.add_cross_attention:
            shapes |= attention_parameters(config, f"{layer}.crossattention", D)
        shapes |= {
            **layer_norm_shapes(f"{layer}.LayerNorm", D),
            **linear_shapes(f"{layer}.intermediate.dense", F, D),
            **linear_shapes(f"{layer}.output.dense", D, F),
        }
    return shapes | layer_norm_shapes("encoder.LayerNorm", D)


def attention_parameters(config: XLMRobertaXLConfig, name: str, width: int) -> Shapes:
    """The tensors of one attention, self or cross, whose heads are ``width`` wide together."""
    D = config.hidden_size
    return {
        **layer_norm_shapes(f"{name}.self_attn_layer_norm", D),
        **linear_shapes(f"{name}.self.query", width, D),
        **linear_shapes(f"{name}.self.key", width, D),
        **linear_shapes(f"{name}.self.value", width, D),
        **linear_shapes(f"{name}.output.dense", D, width),
    }


# --- from ids to hidden states --------------------------------------------------------------------


def embeddings(
    w: Weights,
    config: XLMRobertaXLConfig,
    input_ids: Array | None,
    inputs_embeds: Array | None,
    token_type_ids: Array | None,
    position_ids: Array | None,
    past: int,
) -> Array:
    """ids (B, S) -> (B, S, D)

    Sum of word, token type and position embeddings, not normalised. The published models have one
    token type, 0: its row is added everywhere. ``past`` tokens came in earlier calls.
    Source: ``XLMRobertaXLEmbeddings``.
    """
    words = inputs_embeds
    if words is None:
        words = tap(w.at("word_embeddings"), ops.embedding(input_ids, **w["word_embeddings"]))
    if position_ids is None:
        position_ids = roberta.positions_of(config, input_ids, words, past)
    if token_type_ids is None:
        xp = namespace(words)
        token_type_ids = xp.zeros_like(words[:, :, 0], dtype=xp.int64)

    types = ops.embedding(token_type_ids, **w["token_type_embeddings"])
    x = words + tap(w.at("token_type_embeddings"), types)
    if config.position_embedding_type == "absolute":
        position_ids = tap(w.at("position_ids"), position_ids)
        positions = ops.embedding(position_ids, **w["position_embeddings"])
        x = x + tap(w.at("position_embeddings"), positions)
    return x


class Around(NamedTuple):
    """What a layer works with beside its input."""

    mask: Array  # (B, 1, 1, T) or (B, 1, S, T)  the tokens it may look at
    head_mask: Array | None  # (H)
    past: tuple[Array, ...] | None  # keys and values that an earlier call kept
    encoder_states: Array | None  # (B, E, D)  what cross-attention looks at
    encoder_mask: Array | None  # (B, 1, 1, E) or (B, 1, S, E)


def self_attention(
    w: Weights, config: XLMRobertaXLConfig, hidden: Array, around: Around
) -> ops.MultiHeadAttention:
    """(B, S, D) -> (B, S, D)

    Every token looks at every token that the mask allows, once per head, and at those whose keys
    and values an earlier call kept. Source: ``XLMRobertaXLSelfAttention``.
    """
    relative = config.position_embedding_type != "absolute"
    result = ops.multi_head_attention(
        tap(w.at("query"), ops.linear(hidden, **w["query"])),
        tap(w.at("key"), ops.linear(hidden, **w["key"])),
        tap(w.at("value"), ops.linear(hidden, **w["value"])),
        head_size=config.head_size,
        mask=around.mask,
        past=None if around.past is None else around.past[:2],
        distances=w["distance_embedding.weight"] if relative else None,
        of_key=config.position_embedding_type == "relative_key_query",
        head_mask=around.head_mask,
    )
    return tap_attention(w, result)


def cross_attention(
    w: Weights, config: XLMRobertaXLConfig, hidden: Array, around: Around
) -> ops.MultiHeadAttention:
    """(B, S, D) -> (B, S, D)

    Every token looks at the encoder's tokens. Their keys and values do not change from call to
    call: kept ones are used again. Source: ``XLMRobertaXLSelfAttention``.
    """
    query = tap(w.at("query"), ops.linear(hidden, **w["query"]))
    key = value = None
    kept = None if around.past is None else around.past[2:]
    if not kept:
        key = tap(w.at("key"), ops.linear(around.encoder_states, **w["key"]))
        value = tap(w.at("value"), ops.linear(around.encoder_states, **w["value"]))
    result = ops.multi_head_attention(
        query,
        key,
        value,
        head_size=config.head_size,
        mask=around.encoder_mask,
        past=kept or None,
        head_mask=around.head_mask,
    )
    return tap_attention(w, result)


def tap_attention(w: Weights, result: ops.MultiHeadAttention) -> ops.MultiHeadAttention:
    """Offer what lies between the modules, in the order in which it was computed."""
    return result._replace(
        scores=tap(w.at("scores"), result.scores),
        probs=tap(w.at("probs"), result.probs),
        context=tap(w.at("context"), result.context),
    )


def norm(w: Weights, name: str, config: XLMRobertaXLConfig, x: Array) -> Array:
    """(B, S, D) -> (B, S, D)

    The layer norm called ``name``: how each part of a layer begins, and how the encoder ends.
    Source: ``XLMRobertaXLAttention``, ``XLMRobertaXLLayer``, ``XLMRobertaXLEncoder``.
    """
    return tap(w.at(name), ops.layer_norm(x, **w[name], eps=config.layer_norm_eps))


def add(w: Weights, x: Array, residual: Array) -> Array:
    """(B, S, I), (B, S, D) -> (B, S, D)

    How each part of a layer ends: a linear map, and what came in added.
    Source: ``XLMRobertaXLSelfOutput``, ``XLMRobertaXLOutput``.
    """
    return tap(w.at("dense"), ops.linear(x, **w["dense"])) + residual


def layer(w: Weights, config: XLMRobertaXLConfig, hidden: Array, around: Around) -> LayerResult:
    """(B, S, D) -> (B, S, D)

    Self-attention, cross-attention in a decoder that has it, the feed-forward network; each
    normalises first and adds its result to what came in. Source: ``XLMRobertaXLLayer``.
    """
    x = norm(w["attention"], "self_attn_layer_norm", config, hidden)
    own = self_attention(w["attention.self"], config, x, around)
    hidden = add(w["attention.output"], own.context, hidden)

    cross = None
    if around.encoder_states is not None:
        x = norm(w["crossattention"], "self_attn_layer_norm", config, hidden)
        cross = cross_attention(w["crossattention.self"], config, x, around)
        hidden = add(w["crossattention.output"], cross.context, hidden)

    inner = w.at("intermediate")
    x = norm(w, "LayerNorm", config, hidden)
    x = tap(f"{inner}.dense", ops.linear(x, **w["intermediate.dense"]))
    x = tap(inner, ops.ACTIVATIONS[config.hidden_act](x))
    return LayerResult(add(w["output"], x, hidden), own, cross)


def xlm_roberta_xl(
    w: Weights,
    config: XLMRobertaXLConfig,
    *,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    token_type_ids: Array | None = None,
    position_ids: Array | None = None,
    head_mask: Array | None = None,
    inputs_embeds: Array | None = None,
    encoder_hidden_states: Array | None = None,
    encoder_attention_mask: Array | None = None,
    past_key_values: KeyValues | None = None,
    use_cache: bool = False,
    output_hidden_states: bool = False,
    output_attentions: bool = False,
) -> BaseModelOutput:
    """ids (B, S) -> (B, S, D)

    The encoder (or decoder). Without ``attention_mask`` every token is looked at, padding too.
    ``head_mask`` is (H), or (L, H) with a row for each layer. With ``past_key_values`` of T tokens,
    ``input_ids`` are the tokens after them and ``attention_mask`` (B, T + S) covers both.
    Source: ``XLMRobertaXLModel``.
    """
    past = 0 if past_key_values is None else past_key_values[0][0].shape[2]
    hidden = embeddings(
        w["embeddings"], config, input_ids, inputs_embeds, token_type_ids, position_ids, past
    )
    mask = ops.attention_mask_for(hidden, attention_mask, past=past, causal=config.is_decoder)
    states, states_mask = encoder_hidden_states, None
    if states is not None:
        states_mask = ops.attention_mask_for(states, encoder_attention_mask, past=0, causal=False)

    keep = roberta.Kept(config, hidden, use_cache, output_hidden_states, output_attentions)
    for i in range(config.num_hidden_layers):
        kept = None if past_key_values is None else past_key_values[i]
        around = Around(mask, roberta.of_layer(head_mask, i), kept, states, states_mask)
        hidden = keep.add(layer(w[f"encoder.layer.{i}"], config, hidden, around))
    # Of the last layer the result is shown normalised.
    return keep.outputs(norm(w["encoder"], "LayerNorm", config, hidden))


# --- the published classes ------------------------------------------------------------------------


def for_token_classification(
    encode: heads.Encode,
    w: Weights,
    config: XLMRobertaXLConfig,
    *,
    labels: Array | None = None,
    attention_mask: Array | None = None,
    **inputs: Any,
) -> TokenClassifierOutput:
    """ids (B, S) -> (B, S, N)

    As in the rest of the family, but labels at padding do not count, whatever they are.
    Source: ``XLMRobertaXLForTokenClassification``.
    """
    if labels is not None and attention_mask is not None and attention_mask.ndim == 2:
        xp = namespace(labels)
        labels = xp.where(attention_mask, labels, xp.full_like(labels, IGNORE_INDEX))
    return heads.for_token_classification(
        encode, w, config, labels=labels, attention_mask=attention_mask, **inputs
    )


HEADS = {
    **heads.HEADS,
    "ForTokenClassification": heads.HEADS["ForTokenClassification"]._replace(
        forward=for_token_classification
    ),
}

ARCHITECTURES: dict[str, Architecture] = with_heads(
    "XLMRobertaXL",
    Encoder(
        config=XLMRobertaXLConfig,
        base="roberta",
        parameters=encoder_parameters,
        inputs=roberta.inputs,
        sizes=roberta.sizes,
        check=roberta.check_inputs,
        forward=xlm_roberta_xl,
        positions=roberta.positions_of,
        tokens=roberta.tokens,
        flags=("use_cache",),
        state="past_key_values",
        buffers=roberta.BUFFERS,
        pooler=heads.pooler_shapes,
        pool=heads.pooler,
    ),
    HEADS,
)
