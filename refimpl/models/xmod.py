"""X-MOD: XLM-RoBERTa with a small adapter for each language in every layer.

    Pfeiffer et al. 2022, Lifting the Curse of Multilinguality by Pre-training Modular Transformers
    (https://arxiv.org/abs/2205.06266).

Read from top to bottom: config, the list of tensors, then the way of the data, ids -> embeddings
-> layers -> hidden states. Everything is shared by all languages but the adapters: a text goes
through those of its language only (``lang_ids``; ``xmod_languages.py`` sends it there). Layers are
post-norm as in XLM-R, or pre-norm (``pre_norm``) in the published large model.

Letters in shapes: ``docs/notation.md``. Source throughout: transformers 4.57.6,
``models/xmod/modeling_xmod.py``; dropout does nothing at inference and is left out, and so is
chunking of the feed-forward network, which changes no number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.checkpoints.weights import Weights
from refimpl.models import heads, roberta, xmod_languages
from refimpl.models.architecture import (
    Architecture,
    Encoder,
    Shapes,
    layer_norm_shapes,
    linear_shapes,
    with_heads,
)
from refimpl.models.outputs import BaseModelOutput, KeyValues
from refimpl.models.roberta import LayerResult
from refimpl.taps import tap

# --- config ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class XmodConfig:
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
    use_cache: bool = True
    pre_norm: bool = False
    adapter_reduction_factor: int | float = 2
    adapter_layer_norm: bool = False
    adapter_reuse_layer_norm: bool = True
    ln_before_adapter: bool = True
    languages: list[str] | tuple[str, ...] = ("en_XX",)
    default_language: str | None = None
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
        xmod_languages.check_config(self)

    @property
    def labels(self) -> int:
        """The number of labels N: the names in ``id2label`` count, where there are any."""
        return len(self.id2label) if self.id2label is not None else self.num_labels

    @property
    def head_size(self) -> int:
        """Features of one attention head, K; pruning heads does not change it."""
        return self.hidden_size // self.num_attention_heads


# --- the list of tensors, in the order in which they are used ------------------------------------


def encoder_parameters(config: XmodConfig) -> Shapes:
    """Name and shape of every tensor of the encoder, as published."""
    D, F = config.hidden_size, config.intermediate_size
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, D),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, D),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, D),
        **layer_norm_shapes("embeddings.LayerNorm", D),
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
            **linear_shapes(f"{layer}.intermediate.dense", F, D),
            **linear_shapes(f"{layer}.output.dense", D, F),
            **layer_norm_shapes(f"{layer}.output.LayerNorm", D),
            **adapter_parameters(config, f"{layer}.output"),
        }
    return shapes | (layer_norm_shapes("encoder.LayerNorm", D) if config.pre_norm else {})


def adapter_parameters(config: XmodConfig, name: str) -> Shapes:
    """The tensors of a layer's adapters: down to D / ``adapter_reduction_factor``, and up again."""
    D = config.hidden_size
    narrow = int(D // config.adapter_reduction_factor)
    shapes = layer_norm_shapes(f"{name}.adapter_layer_norm", D) if config.adapter_layer_norm else {}
    for language in config.languages:
        shapes |= {
            **linear_shapes(f"{name}.adapter_modules.{language}.dense1", narrow, D),
            **linear_shapes(f"{name}.adapter_modules.{language}.dense2", D, narrow),
        }
    return shapes


def attention_parameters(config: XmodConfig, name: str, width: int) -> Shapes:
    """The tensors of one attention, self or cross, whose heads are ``width`` wide together."""
    D = config.hidden_size
    return {
        **linear_shapes(f"{name}.self.query", width, D),
        **linear_shapes(f"{name}.self.key", width, D),
        **linear_shapes(f"{name}.self.value", width, D),
        **linear_shapes(f"{name}.output.dense", D, width),
        **layer_norm_shapes(f"{name}.output.LayerNorm", D),
    }


# --- from ids to hidden states --------------------------------------------------------------------


def embeddings(
    w: Weights,
    config: XmodConfig,
    input_ids: Array | None,
    inputs_embeds: Array | None,
    token_type_ids: Array | None,
    position_ids: Array | None,
    past: int,
) -> Array:
    """ids (B, S) -> (B, S, D)

    Sum of word, token type and position embeddings, normalised. The published models have one
    token type, 0: its row is added everywhere. ``past`` tokens came in earlier calls.
    Source: ``XmodEmbeddings``.
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
    return tap(w.at("LayerNorm"), ops.layer_norm(x, **w["LayerNorm"], eps=config.layer_norm_eps))


class Around(NamedTuple):
    """What a layer works with beside its input."""

    mask: Array  # (B, 1, 1, T) or (B, 1, S, T)  the tokens it may look at
    head_mask: Array | None  # (H)
    past: tuple[Array, ...] | None  # keys and values that an earlier call kept
    languages: numpy.ndarray  # (B) or (B, S)  which adapter; on the host, where it is chosen
    encoder_states: Array | None  # (B, E, D)  what cross-attention looks at
    encoder_mask: Array | None  # (B, 1, 1, E) or (B, 1, S, E)


def self_attention(
    w: Weights, config: XmodConfig, hidden: Array, around: Around
) -> ops.MultiHeadAttention:
    """(B, S, D) -> (B, S, D)

    Every token looks at every token that the mask allows, once per head, and at those whose keys
    and values an earlier call kept. Source: ``XmodSelfAttention``.
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
    w: Weights, config: XmodConfig, hidden: Array, around: Around
) -> ops.MultiHeadAttention:
    """(B, S, D) -> (B, S, D)

    Every token looks at the encoder's tokens. Their keys and values do not change from call to
    call: kept ones are used again. Source: ``XmodSelfAttention``.
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


def norm(w: Weights, config: XmodConfig, x: Array, word: str = "") -> Array:
    """(B, S, D) -> (B, S, D)

    The layer norm of an output module. Where it is used twice, ``word`` tells the taps apart.
    Source: ``XmodAttention``, ``XmodOutput``, ``XmodLayer``, ``XmodEncoder``.
    """
    x = ops.layer_norm(x, **w["LayerNorm"], eps=config.layer_norm_eps)
    return tap(w.at("LayerNorm") + word, x)


def add(w: Weights, x: Array, residual: Array) -> Array:
    """(B, S, I), (B, S, D) -> (B, S, D)

    A linear map, and the residual added. Source: ``XmodSelfOutput``, ``XmodOutput``.
    """
    return tap(w.at("dense"), ops.linear(x, **w["dense"])) + residual


def attention_block(
    w: Weights,
    config: XmodConfig,
    hidden: Array,
    around: Around,
    attention: Callable[..., ops.MultiHeadAttention],
) -> tuple[Array, ops.MultiHeadAttention]:
    """(B, S, D) -> (B, S, D)

    Self- or cross-attention, added to its input; normalised before (pre-norm) or after.
    Source: ``XmodAttention``.
    """
    x = norm(w["output"], config, hidden) if config.pre_norm else hidden
    result = attention(w["self"], config, x, around)
    hidden = add(w["output"], result.context, hidden)
    if not config.pre_norm:
        hidden = norm(w["output"], config, hidden)
    return hidden, result


def language_adapter(
    w: Weights, config: XmodConfig, hidden: Array, languages: numpy.ndarray
) -> Array:
    """(B, S, D) -> (B, S, D)

    Send each text (or each token) through the adapter of its language, and add the result to what
    came in: after the norm that stands before the adapter, or before it.

    Source: Pfeiffer et al. 2022, section 3; ``XmodOutput.lang_adapter``.
    """
    x = hidden
    if config.adapter_layer_norm:
        x = ops.layer_norm(hidden, **w["adapter_layer_norm"], eps=config.layer_norm_eps)
        x = tap(w.at("adapter_layer_norm"), x)
    elif config.adapter_reuse_layer_norm:
        x = norm(w, config, hidden, ".before_adapter")
    residual = x if config.ln_before_adapter else hidden

    def of_language(place: int, rows: Array) -> Array:
        return adapter(w[f"adapter_modules.{config.languages[place]}"], config, rows)

    return xmod_languages.by_language(x, languages, of_language) + residual


def adapter(w: Weights, config: XmodConfig, x: Array) -> Array:
    """(..., D) -> (..., D)

    One language's adapter: linear down, activation, linear up. Source: ``XmodAdapter``.
    """
    x = tap(w.at("dense1"), ops.linear(x, **w["dense1"]))
    x = tap(w.at("activation"), ops.ACTIVATIONS[config.hidden_act](x))
    return tap(w.at("dense2"), ops.linear(x, **w["dense2"]))


def layer(w: Weights, config: XmodConfig, hidden: Array, around: Around) -> LayerResult:
    """(B, S, D) -> (B, S, D)

    Self-attention, cross-attention in a decoder that has it, the feed-forward network with the
    adapter of the text's language behind it. Source: ``XmodLayer``.
    """
    hidden, own = attention_block(w["attention"], config, hidden, around, self_attention)
    cross = None
    if around.encoder_states is not None:
        hidden, cross = attention_block(
            w["crossattention"], config, hidden, around, cross_attention
        )

    inner = w.at("intermediate")
    x = norm(w["output"], config, hidden) if config.pre_norm else hidden
    x = tap(f"{inner}.dense", ops.linear(x, **w["intermediate.dense"]))
    x = tap(inner, ops.ACTIVATIONS[config.hidden_act](x))
    hidden = add(w["output"], x, hidden)
    hidden = language_adapter(w["output"], config, hidden, around.languages)
    if not config.pre_norm:
        hidden = norm(w["output"], config, hidden)
    return LayerResult(hidden, own, cross)


def xmod(
    w: Weights,
    config: XmodConfig,
    *,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    lang_ids: numpy.ndarray | None = None,
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
    ``lang_ids`` (B), or (B, S) for each token, are places in ``config.languages``; without them
    ``config.default_language`` holds for all. Source: ``XmodModel``.
    """
    past = 0 if past_key_values is None else past_key_values[0][0].shape[2]
    hidden = embeddings(
        w["embeddings"], config, input_ids, inputs_embeds, token_type_ids, position_ids, past
    )
    mask = ops.attention_mask_for(hidden, attention_mask, past=past, causal=config.is_decoder)
    states, states_mask = encoder_hidden_states, None
    if states is not None:
        states_mask = ops.attention_mask_for(states, encoder_attention_mask, past=0, causal=False)

    languages = xmod_languages.choose_languages(config, lang_ids, hidden.shape[0])
    keep = roberta.Kept(config, hidden, use_cache, output_hidden_states, output_attentions)
    for i in range(config.num_hidden_layers):
        kept = None if past_key_values is None else past_key_values[i]
        around = Around(mask, roberta.of_layer(head_mask, i), kept, languages, states, states_mask)
        hidden = keep.add(layer(w[f"encoder.layer.{i}"], config, hidden, around))
    if config.pre_norm:
        hidden = norm(w["encoder"], config, hidden)  # and so is the last layer's result shown
    return keep.outputs(hidden)


# --- the published classes ------------------------------------------------------------------------


ARCHITECTURES: dict[str, Architecture] = with_heads(
    "Xmod",
    Encoder(
        config=XmodConfig,
        base="roberta",
        parameters=encoder_parameters,
        inputs=xmod_languages.inputs,
        sizes=roberta.sizes,
        check=roberta.check_inputs,
        forward=xmod,
        positions=roberta.positions_of,
        tokens=roberta.tokens,
        flags=("use_cache",),
        state="past_key_values",
        buffers=roberta.BUFFERS,
        pooler=heads.pooler_shapes,
        pool=heads.pooler,
    ),
    heads.HEADS,
)
