"""Weights that are read each time they are used, so that a model may be larger than the memory.

Nothing is kept: a tensor is read from its file when a layer asks for it, and is gone when the
operation that it was for has run. While layer i computes, layer i + 1 is read in the background:
each tensor that is used calls for its twin, which has the same name one layer on. So about one
layer is in memory, and of an X-MOD's layer only the adapters of the languages in use.

A matrix that stands in no layer (the word embeddings, the decoder of a language model) is a table,
which is never in memory as a whole: see :class:`refimpl.backend.Table`.

Files are read here, not mapped. The pages of a mapping count as the process's memory once they are
touched, and a mapped file that is cut short ends the process; a read of it returns too little.

The arithmetic is that of weights that are kept, bit for bit; but a linear map of a table that is
larger than a block is several products, which a matrix library may round in another way.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy

from refimpl.backend import Array, Backend, Namespace, to_numpy
from refimpl.checkpoints.folder import Tensors
from refimpl.checkpoints.safetensors_file import Place, widen_bfloat16
from refimpl.errors import CheckpointError

BLOCK = 64 * 2**20  # bytes of a table, in the dtype of the run; up to three blocks are in memory
ROWS = 64  # a block has a multiple of these: most products then round as the whole one does
CHUNK = 4 * 2**20  # bytes of a file that are converted at a time

_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")  # alone between two dots of a name


class SteadyFile:
    """A file that must stay what it was when the model was loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._absolute = path.absolute()
        self._state = self._look()

    def read(self, start: int, out: numpy.ndarray) -> None:
        """Fill ``out`` (one axis, contiguous) with the bytes from ``start`` on.

        Raises ``CheckpointError`` where the file is gone, or not what it was.
        """
        left = memoryview(out.view(numpy.uint8))  # type: ignore[arg-type]  # an array is a buffer
        try:
            with self._absolute.open("rb", buffering=0) as file:
                file.seek(start)
                while left and (count := file.readinto(left)):
                    left = left[count:]
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read any more: {error}") from None
        if left or self._look() != self._state:
            raise CheckpointError(f"{self.path}: has changed since the model was loaded")

    def _look(self) -> tuple[int, int]:
        """Return what changes when a file does: its length, and when it was last written to."""
        try:
            found = self._absolute.stat()
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read any more: {error}") from None
        return found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, or some rows of one. Nothing is read but by :meth:`read`."""

    file: SteadyFile
    place: Place

    def rows(self, first: int, count: int) -> Stored:
        """Return ``count`` rows from ``first`` on."""
        row = self.place.shape[1:]
        start = self.place.start + first * math.prod(row) * self.place.dtype.itemsize
        return replace(self, place=self.place._replace(shape=(count, *row), start=start))

    def read(self, out: numpy.ndarray, first: int = 0) -> None:
        """Write the elements from ``first`` on to ``out`` (one axis), converted to its dtype."""
        dtype = self.place.dtype
        start = self.place.start + first * dtype.itemsize
        if out.dtype == dtype:
            self.file.read(start, out)
            return
        count = CHUNK // dtype.itemsize
        for i in range(0, out.size, count):
            raw = numpy.empty(min(count, out.size - i), dtype)
            self.file.read(start + i * dtype.itemsize, raw)
            out[i : i + raw.size] = widen_bfloat16(raw) if self.place.is_bfloat16 else raw


@dataclass(frozen=True)
class Way:
    """The way from the files to a device: at once, or in the background."""

    backend: Backend
    dtype: str

    def fetch(self, tensor: Stored) -> Array:
        """Return a tensor as an array on the device."""
        room = self.backend.reserve(tensor.place.shape, self.dtype)
        room.fill(tensor.read)
        return room.array

    def fetch_ahead(self, tensor: Stored) -> Callable[[], Array]:
        """Begin to fetch a tensor; the function that is returned waits for it and returns it."""
        room = self.backend.reserve(tensor.place.shape, self.dtype)
        filled = self._worker.submit(room.fill, tensor.read)

        def arrived() -> Array:
            filled.result()
            return room.array

        return arrived

    @cached_property
    def _worker(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "refimpl-stream")


class StoredTable:
    """A matrix in a file, as operations take it: a :class:`refimpl.backend.Table`.

    ``numpy.asarray`` (and ``refimpl.to_numpy``) read all of it, for those who look at weights.
    """

    def __init__(self, tensor: Stored, way: Way) -> None:
        self._tensor, self._way = tensor, way
        self.shape = tensor.place.shape
        self.dtype = way.backend.dtype(way.dtype)
        self.device = way.backend.device

    def rows(self, ids: Array) -> Array:
        """ids (N) -> (N, D): each row that occurs is read once."""
        wanted, places = numpy.unique(to_numpy(ids), return_inverse=True)
        found = numpy.empty((wanted.size, self.shape[1]), self._way.dtype)
        for i, row in enumerate(wanted.tolist()):
            self._tensor.rows(row, 1).read(found[i])
        xp, asarray = self._way.backend.xp, self._way.backend.asarray
        return xp.take(asarray(found), asarray(places.reshape(-1)), axis=0)

    def blocks(self) -> Iterator[Array]:
        """Yield all rows, some at a time; the next ones are read while these are in use."""
        height, width = self.shape
        fitting = BLOCK // (width * numpy.dtype(self._way.dtype).itemsize)
        count = max(ROWS, fitting // ROWS * ROWS)
        first, *others = (
            self._tensor.rows(i, min(count, height - i)) for i in range(0, height, count)
        )
        coming = self._way.fetch_ahead(first)
        for part in others:
            following = self._way.fetch_ahead(part)
            yield coming()
            coming = following
        yield coming()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        whole = numpy.empty(self.shape, self._way.dtype)
        self._tensor.read(whole.reshape(-1))
        return whole  # NumPy itself converts it where another dtype is asked for

    def __array_namespace__(self, api_version: str | None = None) -> Namespace:
        return self._way.backend.xp


class StreamedTensors(Mapping[str, Array]):
    """Checkpoint tensors as arrays of one backend and dtype, none of them kept; and tables."""

    def __init__(
        self, tensors: Tensors, file_names: Mapping[str, str], backend: Backend, dtype: str
    ) -> None:
        self._way = Way(backend, dtype)
        places = {name: tensors.place(of_file) for name, of_file in file_names.items()}
        files = {path: SteadyFile(path) for path in {place.path for place in places.values()}}
        self._stored = {name: Stored(files[p.path], p) for name, p in places.items()}
        tables = {  # by their place: tied ones are one
            place: StoredTable(self._stored[name], self._way)
            for name, place in places.items()
            if len(place.shape) == 2 and layer_of(name) is None
        }
        self._tables = {name: tables[p] for name, p in places.items() if p in tables}
        self._ahead: dict[str, Callable[[], Array]] = {}

    def __getitem__(self, name: str) -> Array:
        if name in self._tables:
            return self._tables[name]
        self._call_for_twin(name)
        coming = self._ahead.pop(name, None)
        return self._way.fetch(self._stored[name]) if coming is None else coming()

    def _call_for_twin(self, name: str) -> None:
        """Begin to fetch what the next layer has under the same name."""
        layer = layer_of(name)
        if layer is None:
            return
        for other in list(self._ahead):
            if layer_of(other) not in (layer, layer + 1):  # left by a call that was broken off
                self._ahead.pop(other, None)
        next_one = twin(name)
        if next_one in self._stored and next_one not in self._ahead:
            self._ahead[next_one] = self._way.fetch_ahead(self._stored[next_one])

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def layer_of(name: str) -> int | None:
    """Return the number of the layer that a tensor stands in: the first number in its name.

    >>> layer_of("encoder.layer.3.output.dense.weight"), layer_of("layer_norm1.3.weight")
    (3, 3)
    >>> layer_of("pooler.dense.weight") is None
    True
    """
    found = _NUMBER.search(name)
    return None if found is None else int(found[0])


def twin(name: str) -> str:
    """Return the name of a layer's tensor one layer on.

    >>> twin("attentions.9.q_lin.weight")
    'attentions.10.q_lin.weight'
    """
    return _NUMBER.sub(lambda found: str(int(found[0]) + 1), name, count=1)
