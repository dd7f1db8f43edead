"""Adaptive softmax: frequent words scored at once, rare ones in clusters behind one score each."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.backend import Array, namespace
from refimpl.ops.linear import linear
from refimpl.ops.norms import log_softmax
from refimpl.replacing import operation


@operation
def adaptive_log_softmax(
    x: Array, head_weight: Array, head_bias: Array, tails: Sequence[tuple[Array, Array]]
) -> Array:
    """(N, D), (C, D), (C) -> (N, V)

    Log-probabilities of all V words. The head scores the frequent words and, in its last places,
    one entry for each cluster of rarer ones; word w of cluster c has
    log p(w) = log p(c) + log p(w | c), where the cluster scores its words after a projection to
    fewer features. ``tails`` holds, for each cluster, the projection (D', D) and the words'
    weights (V', D').

    Source: Grave et al. 2017; ``torch.nn.AdaptiveLogSoftmaxWithLoss``, whose log_prob this is.
    """
    xp = namespace(x, head_weight, head_bias)
    head = log_softmax(linear(x, head_weight, head_bias))
    frequent = head.shape[1] - len(tails)
    parts = [head[:, :frequent]]
    for i, (projection, weight) in enumerate(tails):
        within = log_softmax(linear(linear(x, projection), weight))
        parts.append(head[:, frequent + i, None] + within)
    return xp.concat(parts, axis=1)
