"""Weights that are kept, but for tables, of which a run uses some rows.

A vocabulary has a quarter of a million rows and a call a hundred tokens: to bring the whole table
to another dtype would take longer than the layers do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy

from refimpl.backend import Array
from refimpl.checkpoints.streaming import SteadyFile, Stored, StoredTable, Way, layer_of
from refimpl.checkpoints.weights import DeviceTensors

LARGE = 16 * 2**20  # numbers of a matrix that is a table


class TabledTensors(Mapping[str, Array]):
    """Checkpoint tensors; each large matrix that stands in no layer is a table.

    See :class:`refimpl.backend.Table`. Raises ``CheckpointError`` for one
    that its file stores transposed or packed.
    """

    def __init__(self, kept: DeviceTensors) -> None:
        self._kept = kept
        way = Way(kept.backend, numpy.dtype(kept.dtype).name)
        large = {
            name: kept.tensors.place(of_file)
            for name, of_file in kept.file_names.items()
            if layer_of(name) is None and _is_large(kept.tensors.shape(of_file))
        }
        self._tables = {
            name: StoredTable(Stored(SteadyFile(place.path), place), way)
            for name, place in large.items()
        }

    def in_dtype(self, dtype: str) -> TabledTensors:
        """Return the same tensors in another dtype, each converted from its file."""
        return TabledTensors(self._kept.in_dtype(dtype))

    def __getitem__(self, name: str) -> Array:
        return self._tables[name] if name in self._tables else self._kept[name]

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def _is_large(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and math.prod(shape) >= LARGE
