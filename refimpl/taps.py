"""Taps: every named intermediate result of a forward pass, in order.

A layer passes each result through ``tap(name, x)``, which gives ``x`` back. While
:func:`record` is open, the result is also kept under its name, the path of the module that
makes it in the published checkpoint (``roberta.encoder.layer.0.attention.self.query``).
Values that no module outputs carry one more word (``.scores``, ``.probs``).

While :func:`edit` is open, a function may put another array in the result's place, and the forward
pass goes on with that: to feed an operation with known values, or to see what one change does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from refimpl.backend import Array

Editor = Callable[[str, Array], Array]  # the name and the array of a tap -> what takes its place

_recorder: ContextVar[dict[str, Array] | None] = ContextVar("recorder", default=None)
_editor: ContextVar[Editor | None] = ContextVar("editor", default=None)


def tap(name: str, x: Array) -> Array:
    """Return ``x``, or what an editor makes of it; keep ``x`` under ``name`` where one records.

    What is recorded is what was computed here, before the editor. A name that comes twice in one
    recording is an error: two places would share one golden. Raises ``ValueError`` for it.
    """
    taps = _recorder.get()
    if taps is not None:
        if name in taps:
            raise ValueError(f"tap {name!r} is already recorded: record one forward pass at a time")
        taps[name] = x
    editor = _editor.get()
    return x if editor is None else editor(name, x)


def watched() -> bool:
    """Tell whether somebody records or edits taps at this moment."""
    return _recorder.get() is not None or _editor.get() is not None


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


@contextmanager
def edit(editor: Editor) -> Iterator[None]:
    """Let ``editor(name, x)`` say what goes on from each tap in place of ``x``, in the block.

    It returns ``x`` itself where nothing is to change. The innermost of several blocks counts.
    """
    token = _editor.set(editor)
    try:
        yield
    finally:
        _editor.reset(token)
