"""Where arrays live: the only file that knows NumPy, CuPy and the strict test namespace.

All other code takes its namespace from the arrays it is given (``xp = namespace(x)``) and uses
only names of the Python array API standard, so the same line runs on a CPU, on a GPU and on
array-api-strict, whose made-up devices prove on any machine that no code mixes devices or leans
on NumPy alone.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy

from refimpl.errors import MissingExtra

Array = Any  # an array of any backend
Namespace = Any  # a module of array functions

DTYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Backend:
    """A namespace of array functions and the device its arrays live on."""

    name: str
    xp: Namespace
    device: Any

    def dtype(self, name: str) -> Any:
        """Return the namespace's dtype called ``name`` (one of ``DTYPES``), or say who lacks it."""
        if name not in DTYPES:
            raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {name!r}")
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


def _strict_backend(name: str, device: str) -> Backend:
    try:
        import array_api_strict
    except ImportError:
        raise MissingExtra("array-api-strict", "test") from None
    known = [str(d).split("'")[1] for d in array_api_strict.__array_namespace_info__().devices()]
    if device not in known:
        raise ValueError(f"backend: {name!r} names no device; there are {', '.join(known)}")
    return Backend(name, array_api_strict, array_api_strict.Device(device))


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
    """Bring an array of any backend (or a list) home as a NumPy array."""
    module = type(x).__module__.partition(".")[0]
    if module == "cupy":
        home: numpy.ndarray = sys.modules["cupy"].asnumpy(x)
        return home
    if module == "array_api_strict":
        return numpy.asarray(x.to_device(sys.modules["array_api_strict"].Device("CPU_DEVICE")))
    return numpy.asarray(x)
