"""Recording what an original model computes: every module's result, and what lies between modules.

Modules are watched with forward hooks. Values that no module outputs (attention scores and
probabilities, the activation inside a head) are caught as the functions that make them are called.
A name is the module's path in the published checkpoint, with one more word for such a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# Modules whose output is a tap, beside all embeddings, linear maps and layer norms.
_OUTPUT_IS_TAP = ("Intermediate", "Pooler")
# Class-name ending -> {function called directly inside: word of the tap}.
_FUNCTIONS = {
    "SelfAttention": {"div": "scores", "__truediv__": "scores", "softmax": "probs"},
    "LMHead": {"gelu": "activation"},
    "ClassificationHead": {"tanh": "activation"},
}


def run(model: nn.Module, inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the taps, in order, and the outputs of one forward pass, as tensors by name."""
    with torch.no_grad(), record(model) as taps:
        outputs = model(**inputs)
    return taps, flatten(outputs)


def flatten(outputs: Any) -> dict[str, torch.Tensor]:
    """Return a model's outputs by name; the i-th of a tuple of layers is ``name.i``."""
    flat = {}
    for name, value in outputs.items():
        if isinstance(value, tuple):
            flat |= {f"{name}.{i}": x for i, x in enumerate(value)}
        else:
            flat[name] = value
    return {name: x.detach() for name, x in flat.items()}


@contextmanager
def record(model: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Watch ``model`` while the context is open and collect its taps."""
    taps: dict[str, torch.Tensor] = {}
    inside: list[tuple[str, dict[str, str]]] = []

    def keep(name: str, x: torch.Tensor) -> None:
        taps[name] = x.detach().clone()

    with ExitStack() as hooks:
        for path, module in model.named_modules():
            for handle in _watch(path, module, keep, inside):
                hooks.callback(handle.remove)
        hooks.enter_context(_Functions(keep, inside))
        yield taps


def _watch(path: str, module: nn.Module, keep: Any, inside: list[Any]) -> Iterator[Any]:
    kind = type(module).__name__
    if isinstance(module, (nn.Embedding, nn.Linear, nn.LayerNorm)) or kind.endswith(_OUTPUT_IS_TAP):
        yield module.register_forward_hook(lambda m, args, out: keep(path, out))
    if path.endswith("position_embeddings"):
        name = path.removesuffix("position_embeddings") + "position_ids"
        yield module.register_forward_pre_hook(lambda m, args: keep(name, args[0]))
    functions = next((f for end, f in _FUNCTIONS.items() if kind.endswith(end)), None)
    if functions is not None:
        yield module.register_forward_pre_hook(lambda m, args: inside.append((path, functions)))
        yield module.register_forward_hook(lambda m, args, out: inside.pop() and None)
    if kind.endswith("SelfAttention"):
        yield module.register_forward_hook(lambda m, args, out: keep(f"{path}.context", out[0]))


class _Functions(TorchFunctionMode):
    """Sees every torch function that is called; keeps the results that are taps."""

    def __init__(self, keep: Any, inside: list[Any]) -> None:
        super().__init__()
        self.keep = keep
        self.inside = inside

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.inside:
            path, functions = self.inside[-1]
            word = functions.get(getattr(func, "__name__", ""))
            if word is not None:
                self.keep(f"{path}.{word}", result)
        return result
