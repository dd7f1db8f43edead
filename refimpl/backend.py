"""Where arrays live: the only file that knows NumPy, CuPy and the strict test namespace.

All other code takes its namespace from the arrays it is given (``xp = namespace(x)``) and uses
only names of the Python array API standard, so the same line runs on a CPU, on a GPU and on
array-api-strict, whose made-up devices prove on any machine that no code mixes devices or leans
on NumPy alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy

from refimpl.errors import MissingExtra

Array = Any  # an array of any backend
Namespace = Any  # a module of array functions

DTYPES = ("float64", "float32", "float16", "bfloat16")

PIECE = 16 * 2**20  # bytes: what goes to a GPU at once

# read(part, first) writes the elements from ``first`` on to ``part``, a NumPy array of one axis.
Read = Callable[[numpy.ndarray, int], None]


@dataclass(frozen=True)
class Backend:
    """A namespace of array functions and the device its arrays live on."""

    name: str
    xp: Namespace
    device: Any

    def dtype(self, name: str) -> Any:
        """Return the namespace's dtype called ``name`` (one of ``DTYPES``), or say who lacks it.

        Raises ``ValueError`` for a name that is none of them, and where the namespace lacks it.
        """
        if name not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {name!r}")
        if name == "bfloat16" and self.name.startswith("cupy"):
            return _bfloat16()
        if not hasattr(self.xp, name):
            raise ValueError(f"dtype: the {self.name} backend has no {name}")
        return getattr(self.xp, name)

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """Bring a list, a NumPy array or an array of this namespace onto this device."""
        if isinstance(x, self.array_type) and x.device == self.device:
            return x if dtype is None or x.dtype == dtype else self.xp.astype(x, dtype)
        if self.xp is numpy:
            return numpy.asarray(to_numpy(x), dtype=dtype)
        if self.name.startswith("cupy"):
            with self.device:
                return self.xp.asarray(to_numpy(x), dtype=dtype)
        return self.xp.asarray(to_numpy(x), dtype=dtype, device=self.device)

    def reserve(self, shape: tuple[int, ...], dtype: str) -> Room:
        """Return room for an array on this device, to be filled later and from any thread."""
        if self.name.startswith("cupy"):
            return GpuRoom(self.xp, self.device, shape, dtype)
        return HostRoom(self, shape, dtype)

    def active(self) -> AbstractContextManager[Any]:
        """Return a block inside which new arrays are made, and kernels run, on this device."""
        cupy = self.name.startswith("cupy")
        return self.device if cupy else contextlib.nullcontext()

    @property
    def array_type(self) -> Any:
        """The class of this namespace's arrays."""
        return self.xp.ndarray if hasattr(self.xp, "ndarray") else type(self.xp.asarray(0))


def get_backend(name: str) -> Backend:
    """Return the backend called ``name``.

    ``"numpy"``; ``"cupy"`` or ``"cupy:1"`` (a CUDA device by number); ``"strict"`` or
    ``"strict:device1"`` (array-api-strict, by the name of one of its devices).

    Raises ``ValueError`` for an unknown name or device, ``MissingExtra`` where the package is not
    installed, ``RuntimeError`` where CuPy finds no GPU.
    """
    kind, _, device = name.partition(":")
    if name == "numpy":
        return Backend("numpy", numpy, "cpu")
    if kind == "cupy":
        return _cupy_backend(name, device or "0")
    if kind == "strict":
        return _strict_backend(name, device or "CPU_DEVICE")
    raise ValueError(
        f"backend: expected 'numpy', 'cupy', 'cupy:N', 'strict' or 'strict:DEVICE', got {name!r}"
    )


def _cupy_backend(name: str, device: str) -> Backend:
    if not device.isdecimal():
        raise ValueError(f"backend: expected a CUDA device number after 'cupy:', got {device!r}")
    try:
        import cupy
    except ImportError:
        raise MissingExtra("cupy", "gpu") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"backend: {name!r} needs a CUDA GPU, and CuPy says: {error}") from None
    if int(device) >= count:
        raise ValueError(f"backend: {name!r} names no device; this machine has {count}")
    return Backend(name, cupy, cupy.cuda.Device(int(device)))


def _bfloat16() -> Any:
    """CuPy's bfloat16 is that of ml_dtypes, which gives NumPy the dtype."""
    try:
        import ml_dtypes
    except ImportError:
        raise MissingExtra("ml_dtypes", "gpu") from None
    return numpy.dtype(ml_dtypes.bfloat16)


def _strict_backend(name: str, device: str) -> Backend:
    try:
        import array_api_strict
    except ImportError:
        raise MissingExtra("array-api-strict", "test") from None
    known = [str(d).split("'")[1] for d in array_api_strict.__array_namespace_info__().devices()]
    if device not in known:
        raise ValueError(f"backend: {name!r} names no device; there are {', '.join(known)}")
    return Backend(name, array_api_strict, array_api_strict.Device(device))


@runtime_checkable
class Table(Protocol):
    """A matrix that is not in memory as a whole: its rows are read when they are needed.

    It has an array's ``shape``, ``dtype``, ``device`` and namespace. The two operations that take
    matrices of any size ask for the rest: an embedding for some rows, a linear map for all of
    them, one block after another.
    """

    def rows(self, ids: Array) -> Array:
        """Return the rows ``ids`` (N) as an array (N, D)."""

    def blocks(self) -> Iterator[Array]:
        """Yield all rows, from the first to the last, some at a time."""


class Room(Protocol):
    """An array that is on its way to its device."""

    def fill(self, read: Read) -> None:
        """Let ``read`` write all elements; return when they have arrived."""

    @property
    def array(self) -> Array:
        """The array, once it is filled."""


class HostRoom:
    """Room for an array in the host's memory."""

    def __init__(self, backend: Backend, shape: tuple[int, ...], dtype: str) -> None:
        self._backend = backend
        self._host = numpy.empty(shape, dtype)

    def fill(self, read: Read) -> None:
        """Let ``read`` write straight to the array."""
        read(self._host.reshape(-1), 0)

    @property
    def array(self) -> Array:
        """The array, once it is filled."""
        return self._backend.asarray(self._host)


class GpuRoom:
    """Room for an array on a GPU, where the copying runs beside the computing.

    CuPy gives out memory again as soon as no array holds it, though the kernels that read it may
    not have run: on one stream the order of enqueueing keeps that right. The copies here run on
    another stream, so they wait for all that was enqueued before the memory was given out.
    """

    def __init__(self, cupy: Namespace, device: Any, shape: tuple[int, ...], dtype: str) -> None:
        self._cupy, self._device = cupy, device
        with device:
            self._array = cupy.empty(shape, dtype)
            self._given = cupy.cuda.get_current_stream().record()

    def fill(self, read: Read) -> None:
        """Let ``read`` write to one of two pinned pieces while the other is copied."""
        flat, step = self._array.reshape(-1), PIECE // self._array.dtype.itemsize
        cuda = self._cupy.cuda
        with self._device:
            copies = cuda.Stream(non_blocking=True)
            copies.wait_event(self._given)
            # Always of one size: the pool of pinned memory keeps what it gave, size by size.
            pinned = [cuda.alloc_pinned_memory(PIECE) for _ in range(2)]
            free, busy = (numpy.frombuffer(memory, flat.dtype, step) for memory in pinned)
            copied = None
            try:
                for first in range(0, flat.size, step):
                    part = free[: min(step, flat.size - first)]
                    read(part, first)
                    if copied is not None:
                        copied.synchronize()  # of the other piece, which is read into next
                    flat[first : first + part.size].set(part, stream=copies)
                    copied = copies.record()
                    free, busy = busy, free
            finally:
                copies.synchronize()  # before the pieces are given back, whatever happened

    @property
    def array(self) -> Array:
        """The array, once it is filled."""
        return self._array


def namespace(*arrays: Array) -> Namespace:
    """Return the one namespace that all of ``arrays`` belong to.

    Raises ``TypeError`` for a thing that is no array, and where two namespaces meet.
    """
    found = {_namespace_of(x) for x in arrays}
    if len(found) != 1:
        names = ", ".join(sorted(xp.__name__ for xp in found))
        raise TypeError(f"expected arrays of one namespace, got {names}")
    return found.pop()


def _namespace_of(x: Array) -> Namespace:
    if isinstance(x, (numpy.ndarray, numpy.generic)):
        return numpy
    if type(x).__module__.partition(".")[0] == "cupy":
        return sys.modules["cupy"]  # CuPy's arrays have no __array_namespace__
    if hasattr(x, "__array_namespace__"):
        return x.__array_namespace__()
    raise TypeError(f"expected an array, got {type(x).__name__}")


def arange(n: int, *, like: Array) -> Array:
    """Return 0, 1, ..., n - 1 (int64) on the device of ``like``."""
    xp = namespace(like)
    if xp.__name__ == "cupy":
        with like.device:
            return xp.arange(n, dtype=xp.int64)
    return xp.arange(n, dtype=xp.int64, device=like.device)


def ids_beside(ids: numpy.ndarray, x: Array) -> Array:
    """Bring integers from the host to the device of ``x``."""
    xp = namespace(x)
    if xp.__name__ == "cupy":
        with x.device:
            return xp.asarray(ids)
    return xp.asarray(ids, device=x.device)


def descending_order(x: Array) -> Array:
    """(..., N) -> ids (..., N): the places of the last axis, largest first, equals in order.

    Here because the namespaces spell a stable sort differently.
    """
    xp = namespace(x)
    if hasattr(xp, "__array_namespace_info__") and xp is not numpy:
        return xp.argsort(-x, axis=-1, stable=True)
    return xp.argsort(-x, axis=-1, kind="stable")


def to_numpy(x: Any) -> numpy.ndarray:
    """Bring an array of any backend (or a list) home as a NumPy array.

    bfloat16, which NumPy has not, comes home as float32, which holds it exactly.
    """
    module = type(x).__module__.partition(".")[0]
    if module == "cupy":
        home: numpy.ndarray = sys.modules["cupy"].asnumpy(x)
        return home.astype(numpy.float32) if home.dtype.name == "bfloat16" else home
    if module == "array_api_strict":
        return numpy.asarray(x.to_device(sys.modules["array_api_strict"].Device("CPU_DEVICE")))
    return numpy.asarray(x)
