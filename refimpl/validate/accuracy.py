"""Classification: how many labels are right, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def accuracy(truth: Sequence[Any], predicted: Sequence[Any]) -> float:
    """Return the share of labels that are right; of none at all, 0.

    >>> accuracy(["yes", "no", "no", "yes"], ["yes", "no", "yes", "yes"])
    0.75

    Raises ``ValueError`` for sequences of two lengths.
    """
    pairs = list(zip(truth, predicted, strict=True))
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 0.0


def confusion(
    truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return how often each true label (outer) was taken for each label (inner).

    >>> confusion(["a", "b", "a"], ["a", "a", "b"], ["a", "b"])
    {'a': {'a': 1, 'b': 1}, 'b': {'a': 1, 'b': 0}}
    """
    counts = {label: dict.fromkeys(labels, 0) for label in labels}
    for a, b in zip(truth, predicted, strict=True):
        counts[a][b] += 1
    return counts
