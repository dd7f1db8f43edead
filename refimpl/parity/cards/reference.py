"""The reference's own answer to each card: which of our functions it is, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from types import SimpleNamespace
from typing import Any

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.checkpoints.weights import Weights
from refimpl.models import heads, xlm, xlm_heads, xlm_roberta, xlm_roberta_xl, xmod
from refimpl.parity.cards.card import Card, CardCase
from refimpl.replacing import plain

Function = Callable[..., Array]


def answer(card: Card, case: CardCase, change: Callable[[Array], Array] = lambda x: x) -> Array:
    """Compute a case's output. ``change`` makes of each array of reals what goes in, such as the
    same numbers in another dtype.
    """
    given = {
        name: change(x) if getattr(x, "dtype", None) is not None and x.dtype.kind == "f" else x
        for name, x in card.arguments(case).items()
    }
    return FUNCTIONS[card.name](**given)


def _as_models_do(name: str) -> Function:
    """An operation, called as the architectures call it: arrays by place, options by name."""
    function, parameters = getattr(ops, name), signature(plain(name)).parameters.values()
    places = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    def run(**given: Any) -> Array:
        arrays = [given.pop(place) for place in places if place in given]
        return function(*arrays, **given)

    return run


# --- operations that a card calls by other names, or in part --------------------------------------


def _attention_mask_for(attention_mask: Array, queries: int, causal: bool) -> Array:
    xp = namespace(attention_mask)
    states = xp.zeros((attention_mask.shape[0], queries, 1))
    past = attention_mask.shape[-1] - queries
    return ops.attention_mask_for(states, attention_mask, past=past, causal=causal)


def _causal_mask(queries: int, keys: int) -> Array:
    import numpy

    return ops.causal_mask(queries, keys, like=numpy.zeros(1))


def _mask_scores(scores: Array, mask: Array) -> Array:
    return ops.softmax(ops.mask_scores(scores, mask))


def _scaled_dot_product_attention(query: Array, key: Array, value: Array, **options: Any) -> Array:
    return ops.scaled_dot_product_attention(query, key, value, **options).context


def _multi_head_attention(
    query: Array,
    key: Array,
    value: Array,
    past_key: Array | None = None,
    past_value: Array | None = None,
    **options: Any,
) -> Array:
    past = None if past_key is None or past_value is None else (past_key, past_value)
    return ops.multi_head_attention(query, key, value, past=past, **options).context


def _xlm_attention(
    query: Array, key: Array, value: Array, heads: int, mask: Array, head_mask: Array | None = None
) -> Array:
    return ops.multi_head_attention(
        query,
        key,
        value,
        head_size=query.shape[2] // heads,
        mask=ops.broadcast_mask(mask),
        head_mask=head_mask,
        softmax=ops.softmax_float32,
    ).context


def _adaptive_log_softmax(x: Array, head_weight: Array, head_bias: Array, **tails: Array) -> Array:
    pairs = [
        (tails[f"tail_{i}_projection"], tails[f"tail_{i}_words"]) for i in range(len(tails) // 2)
    ]
    return ops.adaptive_log_softmax(x, head_weight, head_bias, pairs)


# --- steps of several operations ------------------------------------------------------------------


def _add_and_norm(x: Array, residual: Array, eps: float, **tensors: Array) -> Array:
    return xlm_roberta.add_and_norm(Weights(tensors), _config(eps), x, residual)


def _config(eps: float, **switches: Any) -> Any:
    return SimpleNamespace(
        layer_norm_eps=eps, hidden_act="gelu", position_embedding_type="absolute", **switches
    )


def _feed_forward(x: Array, eps: float, **tensors: Array) -> Array:
    w = Weights(tensors)
    inner = ops.gelu_erf(ops.linear(x, **w["intermediate.dense"]))
    return xlm_roberta.add_and_norm(w["output"], _config(eps), inner, x)


def _pre_norm_feed_forward(x: Array, eps: float, **tensors: Array) -> Array:
    w = Weights(tensors)
    normed = xlm_roberta_xl.norm(w, "LayerNorm", _config(eps), x)
    inner = ops.gelu_erf(ops.linear(normed, **w["intermediate.dense"]))
    return xlm_roberta_xl.add(w["output"], inner, x)


def _language_adapter(
    x: Array,
    lang_ids: Array,
    eps: float,
    adapter_layer_norm: bool,
    adapter_reuse_layer_norm: bool,
    ln_before_adapter: bool,
    **tensors: Array,
) -> Array:
    config = _config(
        eps,
        languages=("0", "1", "2"),
        adapter_layer_norm=adapter_layer_norm,
        adapter_reuse_layer_norm=adapter_reuse_layer_norm,
        ln_before_adapter=ln_before_adapter,
    )
    return xmod.language_adapter(Weights(tensors), config, x, lang_ids)


def _embeddings(function: Function) -> Function:
    def run(
        input_ids: Array,
        token_type_ids: Array,
        padding_idx: int,
        eps: float = 0.0,
        **tensors: Array,
    ) -> Array:
        config = _config(eps, pad_token_id=padding_idx)
        return function(Weights(tensors), config, input_ids, None, token_type_ids, None, 0)

    return run


def _xlm_embeddings(
    input_ids: Array, langs: Array, attention_mask: Array, eps: float, **tensors: Array
) -> Array:
    xp = namespace(input_ids)
    config = _config(eps, has_languages=True)
    places = xp.broadcast_to(xp.arange(input_ids.shape[1]), input_ids.shape)
    hidden = xlm.embeddings(Weights(tensors), config, input_ids, None, places, langs, None)
    return xlm.zero_padding(hidden, attention_mask)


def _pooler(hidden: Array, **tensors: Array) -> Array:
    return heads.pooler(Weights(tensors), hidden)


def _lm_head(hidden: Array, eps: float, **tensors: Array) -> Array:
    return heads.lm_head(Weights(tensors), hidden, eps=eps)


def _classification_head(hidden: Array, **tensors: Array) -> Array:
    return heads.classification_head(Weights(tensors), hidden)


SUMMARIES = ("first", "last", "mean", "cls_index")


def _sequence_summary(
    hidden: Array, kind: int, activation: bool, cls_index: Array | None = None, **tensors: Array
) -> Array:
    config = SimpleNamespace(
        summary_type=SUMMARIES[kind], summary_activation="tanh" if activation else None
    )
    w = Weights(tensors) if tensors else None
    return xlm_heads.sequence_summary(w, config, hidden, cls_index)


def _start_logits(hidden: Array, p_mask: Array | None = None, **tensors: Array) -> Array:
    return xlm_heads.start_logits(Weights(tensors), hidden, p_mask)


def _end_logits(
    hidden: Array, start_states: Array, eps: float, p_mask: Array | None = None, **tensors: Array
) -> Array:
    return xlm_heads.end_logits(Weights(tensors), _config(eps), hidden, start_states, p_mask)


def _answer_class(
    hidden: Array, start_states: Array, cls_index: Array | None = None, **tensors: Array
) -> Array:
    return xlm_heads.answer_class(Weights(tensors), hidden, start_states, cls_index)


FUNCTIONS: dict[str, Function] = {
    **{
        name: _as_models_do(name)
        for name in (
            *("linear", "embedding", "position_ids_from_padding", "position_ids_in_order"),
            *("sinusoidal_positions", "relative_position_scores", "layer_norm", "softmax"),
            *("softmax_float32", "log_softmax", "erf", "gelu_erf", "gelu_tanh", "relu", "silu"),
            *("tanh", "broadcast_mask", "length_mask", "split_heads", "merge_heads"),
            *("negative_log_likelihood", "cross_entropy", "mean_squared_error"),
            "binary_cross_entropy_with_logits",
        )
    },
    "extend": lambda new, past=None: ops.extend(past, new),
    "causal_mask": _causal_mask,
    "attention_mask_for": _attention_mask_for,
    "mask_scores": _mask_scores,
    "scaled_dot_product_attention": _scaled_dot_product_attention,
    "multi_head_attention": _multi_head_attention,
    "xlm_attention": _xlm_attention,
    "adaptive_log_softmax": _adaptive_log_softmax,
    "add_and_norm": _add_and_norm,
    "feed_forward": _feed_forward,
    "pre_norm_feed_forward": _pre_norm_feed_forward,
    "language_adapter": _language_adapter,
    "roberta_embeddings": _embeddings(xlm_roberta.embeddings),
    "xl_embeddings": _embeddings(xlm_roberta_xl.embeddings),
    "xlm_embeddings": _xlm_embeddings,
    "pooler": _pooler,
    "lm_head": _lm_head,
    "classification_head": _classification_head,
    "sequence_summary": _sequence_summary,
    "start_logits": _start_logits,
    "end_logits": _end_logits,
    "answer_class": _answer_class,
}
