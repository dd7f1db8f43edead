"""Which rows are computed together: those of nearly one length, as many as a bound allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def make_batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Return the numbers of all rows in batches, the longest first.

    A batch has at most ``tokens`` places, padding included; a row that is longer is alone. Equal
    lengths stay in order, so that the same rows give the same batches.

    >>> make_batches([3, 9, 2, 3], 6)
    [[1], [0, 3], [2]]

    Raises ``ValueError`` for a bound below 1.
    """
    if tokens < 1:
        raise ValueError(f"batch_tokens: expected a number above 0, got {tokens}")
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or lengths[batches[-1][0]] * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches


def padded(rows: Sequence[Mapping[str, Any]], fill: Mapping[str, int]) -> dict[str, Any]:
    """Return rows of a model's inputs as one batch: lists filled up to the longest.

    >>> padded([{"input_ids": [0, 5, 2], "lang_ids": 1}, {"input_ids": [0, 2], "lang_ids": 0}],
    ...        {"input_ids": 1})
    {'input_ids': [[0, 5, 2], [0, 2, 1]], 'lang_ids': [1, 0]}
    """
    batch: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in fill:
            width = max(map(len, values))
            values = [[*value, *[fill[name]] * (width - len(value))] for value in values]
        batch[name] = values
    return batch
