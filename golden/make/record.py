"""Recording what an original model computes: every module's result, and what lies between modules.

Modules are watched with forward hooks. Values that no module outputs (attention scores and
probabilities, the activation inside a head) are caught as the functions that make them are called.
A name is the module's path in the published checkpoint, with one more word for such a value, and
for a module that is called a second time with another meaning.

Two places of the originals cast to float32 whatever the model's dtype: XLM's softmax, and the
causal language modelling loss. Run in float64 they would be exact to 1e-7 only, and no truth, so
that cast is a no-op on float64 here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.cache_utils import DynamicCache

# Modules whose output is a tap, beside all embeddings, linear maps and layer norms.
_OUTPUT_IS_TAP = ("Intermediate", "Pooler", "SequenceSummary")
# What shows in the very next tap: the inside of an adaptive softmax, vectors of distances.
_INNER = (".proj.", "distance_embedding")
# Class-name ending -> {function called directly inside: word of the tap}; the first call counts.
_FUNCTIONS = {
    "SelfAttention": {"div": "scores", "__truediv__": "scores", "softmax": "probs"},
    "MultiHeadAttention": {"matmul": "scores", "softmax": "probs"},
    "LMHead": {"gelu": "activation"},
    "ClassificationHead": {"tanh": "activation"},
    "TransformerFFN": {"gelu": "activation", "relu": "activation"},
    "XmodOutput": {},
}


def run(model: nn.Module, inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the taps, in order, and the outputs of one forward pass, as tensors by name."""
    if isinstance(kept := inputs.get("past_key_values"), tuple):
        # Anew for each call, which adds its own to them.
        inputs = {**inputs, "past_key_values": DynamicCache.from_legacy_cache(kept)}
    with torch.no_grad(), _float64_stays(), Recorder(model) as recorder:
        outputs = model(**inputs)
    return recorder.taps, flatten(outputs)


def flatten(outputs: Any) -> dict[str, torch.Tensor]:
    """Return a model's outputs, or inputs, by name; the i-th of a tuple is ``name.i``."""
    flat: dict[str, torch.Tensor] = {}

    def add(name: str, value: Any) -> None:
        if hasattr(value, "to_legacy_cache"):
            value = value.to_legacy_cache()
        if isinstance(value, tuple):
            for i, x in enumerate(value):
                add(f"{name}.{i}", x)
        elif value is not None:
            flat[name] = value.detach()

    for name, value in outputs.items():
        add(name, value)
    return flat


@contextmanager
def _float64_stays() -> Iterator[None]:
    cast = torch.Tensor.float
    keep = lambda x: x if x.dtype == torch.float64 else cast(x)  # noqa: E731
    with mock.patch.object(torch.Tensor, "float", keep):
        yield


class Recorder(TorchFunctionMode):
    """Watches a model while it is open; ``taps`` holds what was computed, in order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.taps: dict[str, torch.Tensor] = {}
        self._model = model
        self._inside: list[tuple[str, dict[str, str]]] = []
        self._hooks = ExitStack()

    def __enter__(self) -> Recorder:
        for path, module in self._model.named_modules():
            for handle in self._watch(path, module):
                self._hooks.callback(handle.remove)
        super().__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._hooks.close()

    def keep(self, name: str, x: torch.Tensor) -> None:
        """Keep a value. X-MOD calls an adapter once for each run of its language: rows join."""
        x = x.detach().clone()
        if name in self.taps and ".adapter_modules." in name:
            x = torch.cat([self.taps[name], x])
        self.taps[name] = x

    def _watch(self, path: str, module: nn.Module) -> Iterator[Any]:
        kind = type(module).__name__
        plain = isinstance(module, (nn.Embedding, nn.Linear, nn.LayerNorm))
        if (plain or kind.endswith(_OUTPUT_IS_TAP)) and not any(x in path for x in _INNER):
            yield module.register_forward_hook(self._keep_output(path))
        if path.endswith("adapter_act_fn"):
            name = path.removesuffix("adapter_act_fn") + "activation"
            yield module.register_forward_hook(self._keep_output(name))
        if path.endswith("position_embeddings"):
            name = path.removesuffix("position_embeddings") + "position_ids"
            yield module.register_forward_pre_hook(lambda m, args: self.keep(name, args[0]))
        if path.endswith("out_lin"):
            name = path.removesuffix("out_lin") + "context"
            yield module.register_forward_pre_hook(lambda m, args: self.keep(name, args[0]))
        functions = next((f for end, f in _FUNCTIONS.items() if kind.endswith(end)), None)
        if functions is not None:
            entry = (path, functions)
            yield module.register_forward_pre_hook(lambda m, args: self._inside.append(entry))
            yield module.register_forward_hook(lambda m, args, out: self._inside.pop() and None)
        if kind.endswith("SelfAttention"):
            yield module.register_forward_hook(
                lambda m, args, out: self.keep(f"{path}.context", out[0])
            )

    def _keep_output(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: torch.Tensor) -> None:
            name = path
            if path.endswith("output.LayerNorm") and self._inside:  # X-MOD's, used again
                name = f"{path}.before_adapter"
            elif isinstance(module, nn.Embedding) and path in self.taps:  # XLM's token types
                name = f"{path}.token_types"
            self.keep(name, out)

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._inside:
            path, functions = self._inside[-1]
            word = functions.get(getattr(func, "__name__", ""))
            if word is not None and f"{path}.{word}" not in self.taps:
                self.keep(f"{path}.{word}", result)
        return result
