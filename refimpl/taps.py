"""Taps: every named intermediate result of a forward pass, in order.

A layer passes each result through ``tap(name, x)``, which gives ``x`` back. While
:func:`record` is open, the result is also kept under its name, the path of the module that
makes it in the published checkpoint (``roberta.encoder.layer.0.attention.self.query``).
Values that no module outputs carry one more word (``.scores``, ``.probs``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from refimpl.backend import Array

_recorder: ContextVar[dict[str, Array] | None] = ContextVar("recorder", default=None)


def tap(name: str, x: Array) -> Array:
    """Return ``x``; while a recorder is open, keep it there under ``name``.

    A name that comes twice in one recording is an error: two places would share one golden.
    """
    taps = _recorder.get()
    if taps is not None:
        if name in taps:
            raise ValueError(f"tap {name!r} is already recorded: record one forward pass at a time")
        taps[name] = x
    return x


@contextmanager
def record() -> Iterator[dict[str, Array]]:
    """Record the taps of the forward pass run inside: ``with record() as taps: model(...)``.

    The dictionary keeps them in the order in which they were computed, on their backend.
    """
    taps: dict[str, Array] = {}
    token = _recorder.set(taps)
    try:
        yield taps
    finally:
        _recorder.reset(token)
