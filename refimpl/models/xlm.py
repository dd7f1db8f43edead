"""XLM: one transformer for many languages, told which language each token is in.

    Lample & Conneau 2019, Cross-lingual Language Model Pretraining
    (https://arxiv.org/abs/1901.07291).

Read from top to bottom: config, the list of tensors, then the way of the data, ids -> embeddings
-> layers -> hidden states. A post-norm transformer like BERT's. What is particular to it: a
language embedding is added to every token, hidden states are set to zero at padding after every
layer, and the same network is a masked (MLM, TLM) or a causal (CLM) language model by a switch of
its config.

Letters in shapes: ``docs/notation.md``. Source throughout: transformers 4.57.6,
``models/xlm/modeling_xlm.py``, and ``transformer.py`` of facebookresearch/XLM; dropout does
nothing at inference and is left out. Its heads: ``xlm_heads.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import numpy

from refimpl import ops
from refimpl.backend import Array, arange, namespace
from refimpl.checkpoints.weights import Weights
from refimpl.models import xlm_heads, xlm_inputs
from refimpl.models.architecture import (
    Architecture,
    Encoder,
    Shapes,
    layer_norm_shapes,
    linear_shapes,
    with_heads,
)
from refimpl.models.config import PROBLEM_TYPES, require
from refimpl.models.outputs import KeyValues, XLMModelOutput
from refimpl.taps import tap

# --- config ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class XLMConfig:
    """The values of a config.json that the computation depends on.

    Defaults are those of the original's class: they hold where a config.json leaves a key out.
    The published files call ``vocab_size`` ``n_words``.
    """

    OTHER_NAMES: ClassVar = {
        "n_words": "vocab_size",
        "hidden_size": "emb_dim",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
    }

    vocab_size: int = 30145
    emb_dim: int = 2048
    n_layers: int = 12
    n_heads: int = 16
    gelu_activation: bool = True
    sinusoidal_embeddings: bool = False
    causal: bool = False
    asm: bool = False
    asm_cutoffs: list[int] | None = None
    asm_div_value: float | None = None
    n_langs: int = 1
    use_lang_emb: bool = True
    max_position_embeddings: int = 512
    layer_norm_eps: float = 1e-12
    pad_index: int = 2
    is_encoder: bool = True
    summary_type: str = "first"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    start_n_top: int = 5
    end_n_top: int = 5
    mask_token_id: int = 0
    lang_id: int | None = 0
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = 2
    pruned_heads: Mapping[str, list[int]] | None = None
    tie_word_embeddings: bool = True
    num_labels: int = 2
    id2label: Mapping[str, Any] | None = None
    problem_type: str | None = None
    output_hidden_states: bool = False
    output_attentions: bool = False

    def __post_init__(self) -> None:
        for key in ("vocab_size", "emb_dim", "n_layers", "n_heads", "n_langs",
                    "max_position_embeddings", "start_n_top", "end_n_top"):  # fmt: skip
            require(getattr(self, key) > 0, key, "a number above 0", getattr(self, key))
        require(self.emb_dim % self.n_heads == 0, "emb_dim",
                f"a multiple of n_heads ({self.n_heads})", self.emb_dim)  # fmt: skip
        in_vocabulary = 0 <= self.pad_index < self.vocab_size
        require(in_vocabulary, "pad_index", "an id of the vocabulary", self.pad_index)
        require(self.is_encoder, "is_encoder", "true (the original has no decoder either)", False)
        require(self.summary_type in ("first", "last", "mean", "cls_index"), "summary_type",
                "first, last, mean or cls_index", self.summary_type)  # fmt: skip
        activation = self.summary_activation
        require(activation is None or activation in ops.ACTIVATIONS, "summary_activation",
                f"null or one of {', '.join(ops.ACTIVATIONS)}", activation)  # fmt: skip
        require(self.problem_type in (None, *PROBLEM_TYPES), "problem_type",
                f"one of {', '.join(PROBLEM_TYPES)}", self.problem_type)  # fmt: skip
        if self.asm:
            cutoffs = [0, *(self.asm_cutoffs or ()), self.vocab_size]
            rising = all(a < b for a, b in pairwise(cutoffs))
            require(bool(self.asm_cutoffs) and rising, "asm_cutoffs",
                    "rising word counts below vocab_size", self.asm_cutoffs)  # fmt: skip
            require((self.asm_div_value or 0) > 0, "asm_div_value", "a number above 0",
                    self.asm_div_value)  # fmt: skip
        for layer, heads in (self.pruned_heads or {}).items():
            known = layer.isdecimal() and int(layer) < self.n_layers
            require(known and self.heads_left(int(layer)) > 0, "pruned_heads",
                    "layers of the model, some heads left in each", {layer: heads})  # fmt: skip

    @property
    def labels(self) -> int:
        """The number of labels N: the names in ``id2label`` count, where there are any."""
        return len(self.id2label) if self.id2label is not None else self.num_labels

    @property
    def head_size(self) -> int:
        """Features of one attention head, K; pruning heads does not change it."""
        return self.emb_dim // self.n_heads

    @property
    def has_languages(self) -> bool:
        """Whether there is a table of language embeddings."""
        return self.n_langs > 1 and self.use_lang_emb

    def heads_left(self, layer: int) -> int:
        """The number of heads of a layer that were not pruned."""
        pruned = set((self.pruned_heads or {}).get(str(layer), ()))
        return self.n_heads - len(pruned & set(range(self.n_heads)))


# --- the list of tensors, in the order in which they are used ------------------------------------


def encoder_parameters(config: XLMConfig) -> Shapes:
    """Name and shape of every tensor of the encoder, as published."""
    D = config.emb_dim
    shapes: Shapes = {
        "embeddings.weight": (config.vocab_size, D),
        "position_embeddings.weight": (config.max_position_embeddings, D),
    }
    if config.has_languages:
        shapes["lang_embeddings.weight"] = (config.n_langs, D)
    shapes |= layer_norm_shapes("layer_norm_emb", D)
    for i in range(config.n_layers):
        A = config.heads_left(i) * config.head_size  # D, unless heads were pruned
        shapes |= {
            **linear_shapes(f"attentions.{i}.q_lin", A, D),
            **linear_shapes(f"attentions.{i}.k_lin", A, D),
            **linear_shapes(f"attentions.{i}.v_lin", A, D),
            **linear_shapes(f"attentions.{i}.out_lin", D, A),
            **layer_norm_shapes(f"layer_norm1.{i}", D),
            **linear_shapes(f"ffns.{i}.lin1", 4 * D, D),
            **linear_shapes(f"ffns.{i}.lin2", D, 4 * D),
            **layer_norm_shapes(f"layer_norm2.{i}", D),
        }
    return shapes


# --- from ids to hidden states --------------------------------------------------------------------


class Masks(NamedTuple):
    """Who is a token, and who may look at whom."""

    tokens: Array  # (B, S)  False at padding, where hidden states become zero
    attention: Array  # (B, 1, 1, T) or (1, 1, S, T)


def masks(
    config: XLMConfig,
    places: Array,
    attention_mask: Array | None,
    lengths: Array | None,
    done: int,
) -> Masks:
    """Return the masks of a call: the padding given, or counted from ``lengths``.

    ``places`` (B, T) are the input ids; the first ``done`` of them were computed in earlier calls.
    A causal model looks back at everything, padding too: its attention ignores the padding mask.

    Source: ``get_masks``.
    """
    xp = namespace(places)
    if attention_mask is None:
        if lengths is None:
            lengths = xp.sum(xp.astype(places != config.pad_index, xp.int64), axis=1)
        attention_mask = ops.length_mask(lengths, places=places.shape[1])
    tokens, length = attention_mask[:, done:], places.shape[1]
    if config.causal:
        return Masks(tokens, ops.causal_mask(length - done, length, like=places)[None, None, :, :])
    return Masks(tokens, ops.broadcast_mask(attention_mask))


def places_of(inputs_embeds: Array) -> Array:
    """(B, S, D) -> ids (B, S)

    Ids that stand for vectors. None is padding: nobody can tell it from tokens any more.
    Source: ``XLMModel.forward``.
    """
    xp = namespace(inputs_embeds)
    return xp.full_like(inputs_embeds[:, :, 0], -1, dtype=xp.int64)


def positions_of(config: XLMConfig, input_ids: Array | None, inputs_embeds: Array | None) -> Array:
    """ids (B, S), (B, S, D) -> ids (1, S)

    Number all places from 0 on, padding too. Source: ``XLMModel.forward``.
    """
    texts: Array = inputs_embeds if input_ids is None else input_ids
    return arange(texts.shape[1], like=texts)[None, :]


def embeddings(
    w: Weights,
    config: XLMConfig,
    input_ids: Array | None,
    inputs_embeds: Array | None,
    position_ids: Array,
    langs: Array | None,
    token_type_ids: Array | None,
) -> Array:
    """ids (B, S) -> (B, S, D)

    Sum of word, position and language embeddings, normalised. Token types, where given, are rows
    of the word table: an oddity of the original that no published model uses.
    Source: Lample & Conneau 2019, figure 1; ``XLMModel.forward``.
    """
    words = inputs_embeds
    if words is None:
        words = tap(w.at("embeddings"), ops.embedding(input_ids, **w["embeddings"]))
    positions = ops.embedding(tap(w.at("position_ids"), position_ids), **position_table(w, config))
    x = words + tap(w.at("position_embeddings"), positions)
    if langs is not None and config.has_languages:
        languages = ops.embedding(langs, **w["lang_embeddings"])
        x = x + tap(w.at("lang_embeddings"), languages)
    if token_type_ids is not None:
        types = ops.embedding(token_type_ids, **w["embeddings"])
        x = x + tap(w.at("embeddings.token_types"), types)
    x = ops.layer_norm(x, **w["layer_norm_emb"], eps=config.layer_norm_eps)
    return tap(w.at("layer_norm_emb"), x)


def position_table(w: Weights, config: XLMConfig) -> Mapping[str, Array]:
    """Return the table of positions: the file's, or sines and cosines where it holds none."""
    if "position_embeddings" in w:
        table: Mapping[str, Array] = w["position_embeddings"]
        return table
    words = w["embeddings.weight"]
    places = arange(config.max_position_embeddings, like=words)
    sines = ops.sinusoidal_positions(places, width=config.emb_dim)
    return {"weight": namespace(words).astype(sines, words.dtype)}


def attention(
    w: Weights,
    config: XLMConfig,
    hidden: Array,
    mask: Array,
    head_mask: Array | None,
    past: tuple[Array, ...] | None,
) -> tuple[Array, ops.MultiHeadAttention]:
    """(B, S, D) -> (B, S, D)

    Multi-head self-attention, its heads mixed again by a linear map. The softmax is taken in
    float32 at least, as XLM's authors chose.
    Source: Vaswani et al. 2017, section 3.2.2; ``MultiHeadAttention``.
    """
    result = ops.multi_head_attention(
        tap(w.at("q_lin"), ops.linear(hidden, **w["q_lin"])),
        tap(w.at("k_lin"), ops.linear(hidden, **w["k_lin"])),
        tap(w.at("v_lin"), ops.linear(hidden, **w["v_lin"])),
        head_size=config.head_size,
        mask=mask,
        past=past,
        head_mask=head_mask,
        softmax=ops.softmax_float32,
    )
    result = result._replace(
        scores=tap(w.at("scores"), result.scores),
        probs=tap(w.at("probs"), result.probs),
        context=tap(w.at("context"), result.context),
    )
    return tap(w.at("out_lin"), ops.linear(result.context, **w["out_lin"])), result


def feed_forward(w: Weights, config: XLMConfig, hidden: Array) -> Array:
    """(B, S, D) -> (B, S, D)

    linear to 4 D, GELU (erf form) or ReLU, linear back.
    Source: Vaswani et al. 2017, section 3.3; ``TransformerFFN``.
    """
    x = tap(w.at("lin1"), ops.linear(hidden, **w["lin1"]))
    x = tap(w.at("activation"), ops.gelu_erf(x) if config.gelu_activation else ops.relu(x))
    return tap(w.at("lin2"), ops.linear(x, **w["lin2"]))


def layer(
    w: Weights,
    config: XLMConfig,
    i: int,
    hidden: Array,
    mask: Masks,
    head_mask: Array | None,
    past: tuple[Array, ...] | None,
) -> tuple[Array, ops.MultiHeadAttention]:
    """(B, S, D) -> (B, S, D)

    Attention and feed-forward network, each added to its input and normalised; then zero at
    padding. The weights lie by kind, then by layer ("layer_norm1.3"), so the whole encoder's come
    in. Also returns what :func:`attention` does.
    Source: the loop over layers of ``XLMModel.forward``.
    """
    eps = config.layer_norm_eps
    attended, result = attention(
        w[f"attentions.{i}"], config, hidden, mask.attention, head_mask, past
    )
    norm1, norm2 = f"layer_norm1.{i}", f"layer_norm2.{i}"
    hidden = tap(w.at(norm1), ops.layer_norm(hidden + attended, **w[norm1], eps=eps))
    hidden = hidden + feed_forward(w[f"ffns.{i}"], config, hidden)
    hidden = tap(w.at(norm2), ops.layer_norm(hidden, **w[norm2], eps=eps))
    return zero_padding(hidden, mask.tokens), result


def zero_padding(hidden: Array, tokens: Array) -> Array:
    """(B, S, D), mask (B, S) -> (B, S, D)

    Set what stands at padding to zero. Source: ``XLMModel.forward``.
    """
    xp = namespace(hidden, tokens)
    return hidden * xp.astype(tokens, hidden.dtype)[:, :, None]


def xlm(
    w: Weights,
    config: XLMConfig,
    *,
    input_ids: Array | None = None,
    attention_mask: Array | None = None,
    langs: Array | None = None,
    token_type_ids: Array | None = None,
    position_ids: Array | None = None,
    lengths: Array | None = None,
    cache: KeyValues | None = None,
    head_mask: Array | None = None,
    inputs_embeds: Array | None = None,
    use_cache: bool = False,
    output_hidden_states: bool = False,
    output_attentions: bool = False,
) -> XLMModelOutput:
    """ids (B, S) -> (B, S, D)

    The encoder. Without ``attention_mask`` and ``lengths`` the padding ids are counted and taken
    to stand on the right. With a ``cache`` of the first T tokens (as an earlier call returned it),
    ``input_ids`` are still those of the whole text; only what comes after T is computed.
    Source: ``XLMModel``.
    """
    places: Array = input_ids if inputs_embeds is None else places_of(inputs_embeds)
    if position_ids is None:
        position_ids = positions_of(config, input_ids, inputs_embeds)

    done = 0 if cache is None else cache[0][0].shape[2]
    mask = masks(config, places, attention_mask, lengths, done)
    new = [None if x is None else x[:, done:, ...]
           for x in (input_ids, inputs_embeds, position_ids, langs, token_type_ids)]  # fmt: skip
    hidden = zero_padding(embeddings(w, config, *new), mask.tokens)

    all_hidden, attentions, kept = [hidden], [], []
    for i in range(config.n_layers):
        of_layer = head_mask[i, :] if head_mask is not None and head_mask.ndim == 2 else head_mask
        past = None if cache is None else cache[i]
        hidden, result = layer(w, config, i, hidden, mask, of_layer, past)
        all_hidden += [hidden] if output_hidden_states else []
        attentions += [result.weights] if output_attentions else []
        kept += [result.kept] if use_cache else []
        del result  # its scores are as large as all else together

    return XLMModelOutput(
        last_hidden_state=hidden,
        hidden_states=tuple(all_hidden) if output_hidden_states else None,
        attentions=tuple(attentions) if output_attentions else None,
        cache=tuple(kept) if use_cache else None,
    )


def tokens(config: XLMConfig, inputs: Mapping[str, Any], first: bool) -> numpy.ndarray | None:
    """Return where the tokens of a call are, mask (B, S), if it may leave out its padding, or None.

    It may not where the model is causal, for then tokens look at padding too, and where keys and
    values are kept. Heads find zeros at the padding either way.
    """
    if config.causal or inputs["use_cache"]:
        return None
    places = inputs.get("input_ids")
    places = places_of(inputs["inputs_embeds"]) if places is None else places
    given = inputs.get("attention_mask"), inputs.get("lengths")
    mask: numpy.ndarray = masks(config, places, *given, done=0).tokens
    return mask


# --- the published classes ------------------------------------------------------------------------


ARCHITECTURES: dict[str, Architecture] = with_heads(
    "XLM",
    Encoder(
        config=XLMConfig,
        base="transformer",
        parameters=encoder_parameters,
        inputs=xlm_inputs.inputs,
        sizes=xlm_inputs.sizes,
        check=xlm_inputs.check_inputs,
        forward=xlm,
        positions=positions_of,
        tokens=tokens,
        flags=("use_cache",),
        state="cache",
        buffers=("position_ids",),
        optional=lambda config: ("position_embeddings",) if config.sinusoidal_embeddings else (),
    ),
    xlm_heads.HEADS,
)
