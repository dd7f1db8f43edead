"""Multi-head scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from refimpl.backend import Array, namespace
from refimpl.ops.masks import mask_scores
from refimpl.ops.norms import softmax
from refimpl.ops.positions import relative_position_scores
from refimpl.replacing import operation


class Attention(NamedTuple):
    """What attention computes, in reverse order of computation.

    A faster twin may leave all but the context None, where nobody asked for the rest.
    """

    context: Array  # (B, H, S, K)
    weights: Array  # (B, H, S, T)  probs, with switched-off heads at zero
    probs: Array  #   (B, H, S, T)  softmax of the masked scores
    scores: Array  #  (B, H, S, T)  scaled dot products, before the mask


@operation
def split_heads(x: Array, *, size: int) -> Array:
    """(B, S, D) -> (B, H, S, K)

    Cut the last axis into heads of ``size`` (K) features each.

    Source: Vaswani et al. 2017, section 3.2.2 (there: a linear map for each head).
    """
    xp = namespace(x)
    batch, length, width = x.shape
    return xp.permute_dims(xp.reshape(x, (batch, length, width // size, size)), (0, 2, 1, 3))


@operation
def merge_heads(x: Array) -> Array:
    """(B, H, S, K) -> (B, S, D)

    Undo :func:`split_heads`: the heads' features side by side again.

    Source: Vaswani et al. 2017, section 3.2.2 (Concat).
    """
    xp = namespace(x)
    batch, heads, length, size = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, length, heads * size))


@operation
def extend(past: Array | None, new: Array) -> Array:
    """(B, H, T-S, K), (B, H, S, K) -> (B, H, T, K)

    Put the keys (or values) of new tokens behind those that an earlier call kept, if it did.

    Source: ``DynamicLayer.update`` of transformers.
    """
    return new if past is None else namespace(new).concat([past, new], axis=2)


@operation
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array,
    scale: float,
    position_scores: Array | None = None,
    head_mask: Array | None = None,
    softmax: Callable[[Array], Array] = softmax,
) -> Attention:
    """(B, H, S, K), (B, H, T, K), (B, H, T, K) -> (B, H, S, K)

    softmax(mask(Q Kᵀ scale)) V, for S queries and T keys. ``mask`` is boolean and broadcasts to
    (B, H, S, T); ``position_scores`` (B, H, S, T) are added to Q Kᵀ before it is scaled;
    ``head_mask`` (H) multiplies each head's probabilities (1 keeps it, 0 removes it). ``scale``
    has no default: it is 1/√K in this family. ``softmax`` is another one where XLM wants it.

    Source: Vaswani et al. 2017, equation 1; head_mask: Michel et al. 2019, equation 3.
    """
    xp = namespace(query, key, value)
    products = xp.matmul(query, xp.matrix_transpose(key))
    if position_scores is not None:
        products = products + position_scores
    scores = products * scale
    probs = softmax(mask_scores(scores, mask))
    weights = probs if head_mask is None else probs * head_mask[:, None, None]
    return Attention(xp.matmul(weights, value), weights, probs, scores)


@operation
def tiled_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array,
    scale: float,
    tile: int,
    position_scores: Array | None = None,
    head_mask: Array | None = None,
) -> Array:
    """(B, H, S, K), (B, H, T, K), (B, H, T, K) -> (B, H, S, K)

    The context of :func:`scaled_dot_product_attention` without its matrix of S times T scores:
    only ``tile`` keys are looked at together. What a query has found so far are its highest score,
    the sum of exp(score - highest) and the sum of values with these weights. Where a tile brings a
    higher score, both sums shrink to what they would be, had it been known from the start.

    float16 is computed in float32 and cast back: the sums may be larger than what they are means
    of.

    Source: Milakov & Gimelshein 2018 (the sum); Rabe & Staats 2021; Dao et al. 2022, algorithm 1.
    """
    xp = namespace(query, key, value)
    if xp.finfo(query.dtype).bits < 32:
        given = (query, key, value, position_scores, head_mask)
        wide = [x if x is None else xp.astype(x, xp.float32) for x in given]
        context = tiled_attention(
            *wide[:3], mask=mask, scale=scale, tile=tile, position_scores=wide[3], head_mask=wide[4]
        )
        return xp.astype(context, query.dtype)
    keys = key.shape[2]
    mask = xp.broadcast_to(mask, (*mask.shape[:3], keys))
    highest = xp.full_like(query[:, :, :, :1], -math.inf)
    total = context = xp.zeros_like(highest)
    for start in range(0, keys, tile):
        these = slice(start, min(start + tile, keys))
        products = xp.matmul(query, xp.matrix_transpose(key[:, :, these, :]))
        if position_scores is not None:
            products = products + position_scores[:, :, :, these]
        scores = mask_scores(products * scale, mask[:, :, :, these])
        higher = xp.maximum(highest, xp.max(scores, axis=-1, keepdims=True))
        weights = xp.exp(scores - higher)
        shrink = xp.exp(highest - higher)
        total = total * shrink + xp.sum(weights, axis=-1, keepdims=True)
        context = context * shrink + xp.matmul(weights, value[:, :, these, :])
        highest = higher
    context = context / total
    return context if head_mask is None else context * head_mask[:, None, None]


class MultiHeadAttention(NamedTuple):
    """What multi-head attention computes; A is the width of all heads together."""

    context: Array  # (B, S, A)
    weights: Array  # (B, H, S, T)
    probs: Array  #   (B, H, S, T)
    scores: Array  #  (B, H, S, T)
    kept: tuple[Array, ...]  # keys, values of all T tokens so far, (B, H, T, K) each; or ()


@operation
def multi_head_attention(
    query: Array,
    key: Array | None,
    value: Array | None,
    *,
    head_size: int,
    mask: Array,
    past: tuple[Array, ...] | None = None,
    distances: Array | None = None,
    of_key: bool = False,
    head_mask: Array | None = None,
    softmax: Callable[[Array], Array] = softmax,
) -> MultiHeadAttention:
    """(B, S, A), (B, T, A), (B, T, A) -> (B, S, A)

    Cut queries, keys and values into heads, let each head attend, scaled by 1/√K, and put the
    results side by side. Keys and values of ``past`` (two arrays (B, H, P, K)) stand before the
    new ones; where there are no new ones (None) they are all there is. ``distances`` (P, K) is the
    table of :func:`relative_position_scores`, and ``of_key`` its switch; the rest is that of
    :func:`scaled_dot_product_attention`.

    Source: Vaswani et al. 2017, section 3.2.2.
    """
    past_key, past_value = (None, None) if past is None else past
    queries = split_heads(query, size=head_size)
    keys = past_key if key is None else extend(past_key, split_heads(key, size=head_size))
    values = past_value if value is None else extend(past_value, split_heads(value, size=head_size))
    of_positions = None
    if distances is not None:
        of_positions = relative_position_scores(queries, keys, distances, of_key=of_key)
    result = scaled_dot_product_attention(
        queries,
        keys,
        values,
        mask=mask,
        scale=1.0 / math.sqrt(head_size),
        position_scores=of_positions,
        head_mask=head_mask,
        softmax=softmax,
    )
    context = merge_heads(result.context)
    return MultiHeadAttention(context, *result[1:], (keys, values))
