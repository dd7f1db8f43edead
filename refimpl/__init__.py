"""refimpl: the XLM family of multilingual transformers in explicit array code.

The front door: :func:`load` a checkpoint, :func:`load_tokenizer`, :func:`record` what happens
inside a forward pass, :func:`verify` against the goldens of the original implementation; look
into a checkpoint with :func:`inspect_checkpoint`, and :func:`verify_checkpoint` it against the
numbers published for it; :func:`compare` what another implementation computed with what it should
have, and :func:`diagnose` its mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refimpl.backend import to_numpy
from refimpl.errors import CheckpointError, MissingExtra
from refimpl.taps import record

if TYPE_CHECKING:
    from refimpl.inspection import inspect_checkpoint
    from refimpl.models.model import Model, load
    from refimpl.parity.comparison import compare
    from refimpl.parity.diagnosis import diagnose
    from refimpl.parity.published import verify_checkpoint
    from refimpl.parity.verify import verify
    from refimpl.tokenizers import load_tokenizer

__version__ = "0.1.0"

__all__ = [
    "CheckpointError",
    "MissingExtra",
    "Model",
    "compare",
    "diagnose",
    "inspect_checkpoint",
    "load",
    "load_tokenizer",
    "record",
    "to_numpy",
    "verify",
    "verify_checkpoint",
]

# What takes longer to import than it may never be needed is imported on first use.
_HOMES = {
    "Model": "refimpl.models.model",
    "compare": "refimpl.parity.comparison",
    "diagnose": "refimpl.parity.diagnosis",
    "inspect_checkpoint": "refimpl.inspection",
    "load": "refimpl.models.model",
    "load_tokenizer": "refimpl.tokenizers",
    "verify": "refimpl.parity.verify",
    "verify_checkpoint": "refimpl.parity.published",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'refimpl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
