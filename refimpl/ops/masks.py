"""Masks: what may be looked at. True (or 1) means attend.

Masks stay boolean until the one place where they meet the scores, :func:`mask_scores`.
"""

from __future__ import annotations

from refimpl.backend import Array, arange, namespace
from refimpl.replacing import operation


@operation
def broadcast_mask(attention_mask: Array) -> Array:
    """mask (B, T) -> mask (B, 1, 1, T)

    Give an ``attention_mask`` of keys (B, T), or of keys for each query (B, S, T), the axes that
    broadcast against attention scores (B, H, S, T), as booleans.

    Source: ``get_extended_attention_mask`` of transformers.
    """
    xp = namespace(attention_mask)
    allowed = xp.astype(attention_mask, xp.bool)
    return allowed[:, None, None, :] if allowed.ndim == 2 else allowed[:, None, :, :]


@operation
def causal_mask(queries: int, keys: int, *, like: Array) -> Array:
    """-> mask (S, T)

    Let each of S queries look at itself and what stands before it among T keys. The queries are
    the last S of the T places, as they are when earlier keys come from a cache.

    Source: Vaswani et al. 2017, section 3.2.3; ``get_masks`` of XLM.
    """
    place = arange(keys, like=like)
    return place[None, :] <= place[keys - queries :, None]


@operation
def length_mask(lengths: Array, *, places: int) -> Array:
    """ids (B) -> mask (B, S)

    Let the first ``lengths[i]`` of ``places`` places of row i be looked at.

    Source: ``get_masks`` of XLM.
    """
    return arange(places, like=lengths)[None, :] < lengths[:, None]


@operation
def attention_mask_for(x: Array, attention_mask: Array | None, *, past: int, causal: bool) -> Array:
    """(B, S, D), mask (B, T) -> mask (B, 1, S, T)

    The mask that broadcasts against the attention scores of S queries ``x``, which ``past`` earlier
    tokens precede. None lets everything be looked at. A ``causal`` model looks only back, unless
    the mask (B, S, T) already says for each query what it may look at.

    Source: ``get_extended_attention_mask`` of transformers.
    """
    xp = namespace(x)
    length = x.shape[1]
    if attention_mask is None:
        some = xp.ones_like(x[:, :1, 0], dtype=xp.bool)
        attention_mask = xp.broadcast_to(some, (x.shape[0], past + length))
    mask = broadcast_mask(attention_mask)
    if causal and attention_mask.ndim == 2:
        mask = mask & causal_mask(length, past + length, like=x)[None, None, :, :]
    return mask


@operation
def mask_scores(scores: Array, mask: Array) -> Array:
    """(B, H, S, T), mask (B, 1, 1, T) -> (B, H, S, T)

    Put half the dtype's lowest finite number wherever ``mask`` is False, so that softmax gives
    exactly 0 there.

    A query that may look at nothing attends to all keys alike (1/T each): all its scores become
    the same number. That is what the original computes by *adding* the dtype's lowest number,
    beside which a score vanishes. Replacing the score gives the same in float64 and float32, and
    keeps it true in float16, where the sum can reach minus infinity and the softmax NaN; half the
    lowest, because softmax then subtracts the row's maximum.

    Source: Vaswani et al. 2017, section 3.2.3 (there: minus infinity).
    """
    xp = namespace(scores, mask)
    return xp.where(mask, scores, float(xp.finfo(scores.dtype).min) / 2)
