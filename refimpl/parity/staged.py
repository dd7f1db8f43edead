"""Attention in three stages, each result offered to somebody before the next stage takes it.

The architectures tap scores, probabilities and context when all three are there. Who wants to put
a value in the place of one, so that the next is computed from it, needs them one after another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.ops import Attention

Put = Callable[[str, Array], Array]  # "scores" or "probs", as computed -> what goes on


class Stages(NamedTuple):
    """How each stage is computed: see :func:`refimpl.ops.scaled_dot_product_attention`."""

    scores: Callable[[Array, Array, Array | None, float], Array]
    probs: Callable[[Array, Array, Callable[[Array], Array]], Array]
    context: Callable[[Array, Array], Array]


def _scores(query: Array, key: Array, position_scores: Array | None, scale: float) -> Array:
    """(B, H, S, K), (B, H, T, K) -> (B, H, S, T)"""
    xp = namespace(query, key)
    products = xp.matmul(query, xp.matrix_transpose(key))
    return (products if position_scores is None else products + position_scores) * scale


def _probs(scores: Array, mask: Array, softmax: Callable[[Array], Array]) -> Array:
    """(B, H, S, T), mask (B, 1, 1, T) -> (B, H, S, T)"""
    return softmax(ops.mask_scores(scores, mask))


def _context(weights: Array, value: Array) -> Array:
    """(B, H, S, T), (B, H, T, K) -> (B, H, S, K)"""
    return namespace(weights, value).matmul(weights, value)


AS_WRITTEN = Stages(_scores, _probs, _context)


def attention_in(stages: Stages, put: Put) -> Callable[..., Attention]:
    """Return a twin of ``ops.scaled_dot_product_attention`` that shows each stage to ``put``.

    Its result holds each value as it was computed, before ``put``.
    """

    def attend(
        query: Array,
        key: Array,
        value: Array,
        *,
        mask: Array,
        scale: float,
        position_scores: Array | None = None,
        head_mask: Array | None = None,
        softmax: Callable[[Array], Array] = ops.softmax,
    ) -> Attention:
        scores = stages.scores(query, key, position_scores, scale)
        probs = stages.probs(put("scores", scores), mask, softmax)
        onward: Any = put("probs", probs)
        weights = onward if head_mask is None else onward * head_mask[:, None, None]
        return Attention(stages.context(weights, value), weights, probs, scores)

    return attend
