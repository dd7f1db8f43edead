"""The arithmetics in which a port may run: how it stores weights, multiplies, and keeps results.

The truth of each is float64 on the weights as that arithmetic stores them. Otherwise the rounding
of the weights, which is no matter of the port's arithmetic, would hide everything smaller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy

from refimpl.backend import Array, Namespace, Table
from refimpl.checkpoints.tables import TabledTensors
from refimpl.checkpoints.weights import DeviceTensors, Weights
from refimpl.models.model import Model
from refimpl.parity.floors.narrow import Narrow, Rounding, narrow, to_bfloat16, to_float16
from refimpl.parity.rounding import tf32


@dataclass(frozen=True)
class Arithmetic:
    """One way to store and compute. None: as it comes, in ``dtype``."""

    name: str
    title: str
    dtype: str = "float32"  # of the arrays that an honest run computes with
    unit: float = 2.0**-24  # the largest relative error of keeping a result
    smallest: float = 0.0  # below this numbers are kept in steps of unit times this
    stored: Rounding | None = None  # what becomes of a weight
    results: Rounding | None = None  # of the result of every step
    factors: Rounding | None = None  # of what matrices are multiplied from
    factor_unit: float = 0.0  # the largest relative error of that

    def store(self, x: numpy.ndarray) -> numpy.ndarray:
        """(...) -> (...): numbers as this arithmetic stores weights, in the dtype they came in."""
        return x if self.stored is None else self.stored(x)

    def represent(self, x: numpy.ndarray) -> numpy.ndarray:
        """(...) -> (...): numbers as this arithmetic keeps results, as float64."""
        kept = x.astype(self.dtype)
        kept = kept if self.results is None else self.results(kept)
        return kept.astype(numpy.float64)

    def keep(self, x: numpy.ndarray) -> numpy.ndarray:
        """(...) -> (...): what goes on from a step: in a narrow arithmetic, narrow from now on."""
        if self.results is None or x.dtype.kind != "f" or isinstance(x, Narrow):
            return x
        return narrow(x, self.results)

    def weights(self, model: Model) -> Model:
        """Return the model with its weights as this arithmetic stores them."""
        arrays = model.weights.arrays
        if self.stored is None or (isinstance(arrays, _Changed) and arrays.change == self.store):
            return model
        return replace(model, weights=Weights(_Changed(arrays, self.store)))

    def computing(self, model: Model) -> Model:
        """Return a model in ``dtype`` whose weights make all its arithmetic narrow, where it is.

        ``model`` is one in float64, or in ``dtype`` already.
        """

        def change(x: numpy.ndarray) -> numpy.ndarray:
            return self.store(x) if self.results is None else narrow(x, self.results)

        arrays = _in_dtype(model.weights.arrays, self.dtype)
        changed = arrays if self.stored is None else _Changed(arrays, change)
        return replace(model, weights=Weights(changed), dtype=self.dtype, kernels="plain")


class _Changed(Mapping[str, Array]):
    """Weights, each changed when it is first used, and kept."""

    def __init__(self, arrays: Mapping[str, Array], change: Rounding) -> None:
        self.change = change
        self._arrays = arrays
        self._kept: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._kept:
            x = self._arrays[name]
            change = self.change
            self._kept[name] = _ChangedTable(x, change) if isinstance(x, Table) else change(x)
        return self._kept[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def in_dtype(self, dtype: str) -> _Changed:
        """The same, of the same weights in another dtype."""
        return _Changed(_in_dtype(self._arrays, dtype), self.change)


class _ChangedTable:
    """A :class:`refimpl.backend.Table`, of which each row is changed when it is used."""

    def __init__(self, table: Any, change: Rounding) -> None:
        self._table, self._change = table, change
        self.shape, self.dtype, self.device = table.shape, table.dtype, table.device

    def rows(self, ids: Array) -> Array:
        """ids (N) -> (N, D)"""
        return self._change(self._table.rows(ids))

    def blocks(self) -> Iterator[Array]:
        """Yield all rows, some at a time."""
        return map(self._change, self._table.blocks())

    def __array_namespace__(self, api_version: str | None = None) -> Namespace:
        return numpy


def _in_dtype(arrays: Mapping[str, Array], dtype: str) -> Mapping[str, Array]:
    """Weights in another dtype; from their files where they are, not from float64 and back."""
    if isinstance(arrays, DeviceTensors | TabledTensors | _Changed):
        return arrays.in_dtype(dtype)
    return _Changed(arrays, lambda x: x.astype(dtype, copy=False))


_ALL = (
    Arithmetic("float64", "double precision", dtype="float64", unit=2.0**-53),
    Arithmetic("float32", "single precision"),
    Arithmetic(
        "tf32",
        "float32, but matrices are multiplied from 11 bits",
        factors=tf32,
        factor_unit=2.0**-11,
    ),
    Arithmetic(
        "float16",
        "half precision, summed in float32",
        unit=2.0**-11,
        smallest=2.0**-14,
        stored=to_float16,
        results=to_float16,
    ),
    Arithmetic(
        "bfloat16",
        "bfloat16, summed in float32",
        unit=2.0**-9,
        stored=to_bfloat16,
        results=to_bfloat16,
    ),
    Arithmetic("float16-weights", "weights in float16, float32 otherwise", stored=to_float16),
    Arithmetic("bfloat16-weights", "weights in bfloat16, float32 otherwise", stored=to_bfloat16),
)
ARITHMETICS: dict[str, Arithmetic] = {arithmetic.name: arithmetic for arithmetic in _ALL}


def find_arithmetic(name: str) -> Arithmetic:
    """Return the arithmetic called ``name``; ``ValueError`` where there is none."""
    if name not in ARITHMETICS:
        raise ValueError(f"arithmetic: expected one of {', '.join(ARITHMETICS)}, got {name!r}")
    return ARITHMETICS[name]
