"""The same operations, faster: for each backend a table of twins of :mod:`refimpl.ops`.

Here speed is bought, and nowhere else. A model that runs ``kernels="fused"`` puts the twins in the
places of the plain operations for the length of a call (:func:`refimpl.replacing.replace`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from refimpl.backend import Backend


def twins(backend: Backend, attention_wanted: bool) -> Mapping[str, Callable[..., Any]]:
    """Return the twins of a backend's operations by name; the strict backend has none.

    ``attention_wanted`` tells whether somebody wants the scores and weights of attention. Where
    nobody does, they are not made, and their places are None.
    """
    if backend.name == "numpy":
        from refimpl.ops.fused import numpy

        return numpy.twins(attention_wanted)
    if backend.name.startswith("cupy"):
        from refimpl.ops.fused import cupy

        return cupy.twins(attention_wanted)
    return {}


def lanes(backend: Backend) -> int:
    """Return how many parts of a batch a backend computes side by side, a thread for each."""
    if backend.name != "numpy":
        return 1
    from refimpl.ops.fused import threads

    return threads.count()
