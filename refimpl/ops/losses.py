"""What the heads report when they are given labels: the mean loss over what counts."""

from __future__ import annotations

from refimpl.backend import Array, namespace
from refimpl.ops.norms import log_softmax
from refimpl.replacing import operation


@operation
def negative_log_likelihood(log_probs: Array, labels: Array, *, ignore_index: int) -> Array:
    """(N, C), ids (N) -> ()

    Mean of -log_probs[label] over the rows whose label is not ``ignore_index`` (-100 in this
    family). NaN where every row is ignored, a mean of nothing, as in the original.

    Source: ``torch.nn.NLLLoss``.
    """
    xp = namespace(log_probs, labels)
    counts = labels != ignore_index
    # An ignored label may be no class at all; class 0 stands in, and its row is not summed.
    picked = xp.where(counts, labels, xp.zeros_like(labels))
    rows = -xp.take_along_axis(log_probs, picked[:, None], axis=1)[:, 0]
    total = xp.sum(xp.where(counts, rows, xp.zeros_like(rows)))
    number = xp.sum(xp.astype(counts, log_probs.dtype))
    return xp.where(number > 0, total / xp.maximum(number, 1.0), xp.nan)


@operation
def cross_entropy(logits: Array, labels: Array, *, ignore_index: int) -> Array:
    """(N, C), ids (N) -> ()

    Mean of -log softmax(logits)[label]: see :func:`negative_log_likelihood`.

    Source: ``torch.nn.CrossEntropyLoss``.
    """
    return negative_log_likelihood(log_softmax(logits), labels, ignore_index=ignore_index)


@operation
def mean_squared_error(x: Array, target: Array) -> Array:
    """(...), (...) -> ()

    Mean of (x - target)².

    Source: ``torch.nn.MSELoss``.
    """
    xp = namespace(x, target)
    return xp.mean((x - target) * (x - target))


@operation
def binary_cross_entropy_with_logits(logits: Array, target: Array) -> Array:
    """(...), (...) -> ()

    Mean of -(t log σ(x) + (1 - t) log(1 - σ(x))), written so that neither exp overflows nor log
    meets zero: max(x, 0) - x t + log(1 + exp(-|x|)).

    Source: ``torch.nn.BCEWithLogitsLoss``.
    """
    xp = namespace(logits, target)
    rows = xp.maximum(logits, 0.0) - logits * target + xp.log1p(xp.exp(-xp.abs(logits)))
    return xp.mean(rows)
