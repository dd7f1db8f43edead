"""Multi-head scaled dot-product attention."""

from __future__ import annotations

from typing import NamedTuple

from refimpl.backend import Array, namespace
from refimpl.ops.masks import mask_scores
from refimpl.ops.norms import softmax


class Attention(NamedTuple):
    """What attention computes, in reverse order of computation."""

    context: Array  # (B, H, S, K)
    weights: Array  # (B, H, S, T)  probs, with switched-off heads at zero
    probs: Array  #   (B, H, S, T)  softmax of the masked scores
    scores: Array  #  (B, H, S, T)  scaled dot products, before the mask


def split_heads(x: Array, *, heads: int) -> Array:
    """(B, S, D) -> (B, H, S, K)

    Cut the last axis into H heads of K = D / H features each.
    """
    xp = namespace(x)
    batch, length, width = x.shape
    return xp.permute_dims(xp.reshape(x, (batch, length, heads, width // heads)), (0, 2, 1, 3))


def merge_heads(x: Array) -> Array:
    """(B, H, S, K) -> (B, S, D)

    Undo :func:`split_heads`: the heads' features side by side again.
    """
    xp = namespace(x)
    batch, heads, length, size = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, length, heads * size))


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    mask: Array,
    scale: float,
    head_mask: Array | None = None,
) -> Attention:
    """(B, H, S, K), (B, H, T, K), (B, H, T, K) -> (B, H, S, K)

    softmax(mask(Q Kᵀ scale)) V, for S queries and T keys. ``mask`` is boolean and broadcasts to
    (B, H, S, T); ``head_mask`` (H) multiplies each head's probabilities (1 keeps it, 0 removes
    it). ``scale`` has no default: it is 1/√K in this family.

    Source: Vaswani et al. 2017, equation 1; head_mask: Michel et al. 2019, equation 3.
    """
    xp = namespace(query, key, value)
    scores = xp.matmul(query, xp.matrix_transpose(key)) * scale
    probs = softmax(mask_scores(scores, mask))
    weights = probs if head_mask is None else probs * head_mask[:, None, None]
    return Attention(xp.matmul(weights, value), weights, probs, scores)
