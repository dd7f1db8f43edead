"""PyTorch beside us: the same class with the same weights, run by transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy

from refimpl.backend import to_numpy
from refimpl.bench.models import Subject, random_config, random_weights
from refimpl.checkpoints.folder import find_folder
from refimpl.errors import MissingExtra
from refimpl.models.model import Model

ATTENTIONS = ("eager", "sdpa")  # transformers' attn_implementation
Call = tuple[Callable[[], Any], Callable[[], None]]


def torch_models(subject: Subject, model: Model) -> dict[str, Any]:
    """Return the original with each kind of attention that it offers, by "torch eager", ...

    On a GPU where the model is on one. Raises ``MissingExtra`` without torch or transformers, and
    ``RuntimeError`` where the model is on a GPU that PyTorch does not see.
    """
    try:
        import torch
        import transformers
    except ImportError:
        raise MissingExtra("torch and transformers", "oracle") from None
    on_gpu = subject.backend.startswith("cupy")
    if on_gpu and not torch.cuda.is_available():
        raise RuntimeError(
            "against: this PyTorch has no CUDA; on this machine it can be no measure"
        )
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    made = {}
    for attention in ATTENTIONS:
        with suppress(ValueError, ImportError):  # a class without that kind says so like this
            found = _make(transformers, torch, subject, model, attention)
            place = subject.backend.replace("cupy", "cuda") if on_gpu else "cpu"
            made[f"torch {attention}"] = found.to(place).eval()
    return made


def _make(transformers: Any, torch: Any, subject: Subject, model: Model, attention: str) -> Any:
    kind, dtype = getattr(transformers, model.architecture), getattr(torch, subject.dtype)
    if subject.checkpoint is not None:
        return kind.from_pretrained(
            str(find_folder(subject.checkpoint)), dtype=dtype, attn_implementation=attention
        )
    config = kind.config_class(**random_config(subject.size), attn_implementation=attention)
    made = kind(config)
    weights = {name: torch.from_numpy(x) for name, x in random_weights(model.config).items()}
    made.load_state_dict(weights)
    return made.to(dtype)


def torch_call(made: Any, inputs: Mapping[str, numpy.ndarray]) -> Call:
    """Return a forward pass without gradients, and what waits until it is done."""
    import torch

    device = next(made.parameters()).device
    tensors = {name: torch.from_numpy(x).to(device) for name, x in inputs.items()}

    def call() -> Any:
        with torch.inference_mode():
            return made(**tensors)

    return call, torch.cuda.synchronize if device.type == "cuda" else _nothing


def _nothing() -> None:
    """Wait for nothing: a CPU is done when the call is."""


def difference(ours: Any, theirs: Any, inputs: Mapping[str, numpy.ndarray]) -> float:
    """Return the largest difference of the first outputs at tokens, in units of their largest."""
    a = to_numpy(next(x for x in ours if x is not None)).astype(numpy.float64)
    b = theirs[0].detach().cpu().double().numpy()
    if "attention_mask" in inputs and a.shape[:2] == inputs["attention_mask"].shape:
        kept = inputs["attention_mask"].astype(bool)
        a, b = a[kept], b[kept]
    return float(numpy.abs(a - b).max() / numpy.abs(b).max())
