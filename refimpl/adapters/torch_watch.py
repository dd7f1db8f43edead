"""Watching a torch model: what :mod:`refimpl.adapters.torch` does once torch is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy
import torch
import transformers
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache

from refimpl.adapters.torch import Taps

# Modules whose output is a tap, beside all embeddings, linear maps and layer norms.
_OUTPUT_IS_TAP = ("Intermediate", "Pooler", "SequenceSummary")
# What shows in the very next tap: the inside of an adaptive softmax, vectors of distances.
_INNER = (".proj.", "distance_embedding")
_ATTENTION = ("SelfAttention", "CrossAttention", "MultiHeadAttention")
_SCALES = ("div", "__truediv__", "mul", "__mul__", "__rmul__")
# The end of a module's path -> the tap that is what this module is given.
_INPUT_IS_TAP = {
    "position_embeddings": "position_ids",
    "out_lin": "context",
    "lin2": "activation",
    "lm_head.layer_norm": "activation",
    "classifier.out_proj": "activation",
}


@contextmanager
def watch(model: nn.Module, taps: Taps) -> Iterator[None]:
    """Keep the taps of one forward pass of the model in the block."""
    with ExitStack() as stack:
        watcher = stack.enter_context(_Watcher(model, taps))
        for path, module in model.named_modules():
            for handle in watcher.hooks(path, module):
                stack.callback(handle.remove)
        yield


class _Watcher(TorchFunctionMode):
    """Hooks for modules, and a look at each function of torch that attention calls."""

    def __init__(self, model: nn.Module, taps: Taps) -> None:
        super().__init__()
        self._model = model
        self._taps = taps
        self._ran = False
        self._words_given = False  # word embeddings are an argument of the call
        self._attention: list[str] = []  # the attention that runs, innermost last
        self._scores: torch.Tensor | None = None  # of that attention, as far as they are known
        self._scales: tuple[str, ...] = ()  # functions whose result are the scores in their place
        self._in_output = False  # of X-MOD, where a layer norm is used again

    def hooks(self, path: str, module: nn.Module) -> Iterator[Any]:
        """Watch a module, in each way that shows a tap."""
        kind, end = type(module).__name__, path.rpartition(".")[2]
        if module is self._model:
            yield module.register_forward_pre_hook(self._once)
        if kind == "XLMModel":
            yield module.register_forward_pre_hook(self._note_words, with_kwargs=True)
        plain = isinstance(module, nn.Embedding | nn.Linear | nn.LayerNorm)
        if (plain or kind.endswith(_OUTPUT_IS_TAP)) and not any(x in path for x in _INNER):
            yield module.register_forward_hook(self._keep_output(path))
        for suffix, word in _INPUT_IS_TAP.items():
            if f".{path}".endswith(f".{suffix}"):
                name = path.removesuffix(end) + word
                yield module.register_forward_pre_hook(self._keep_input(name))
        if end == "adapter_act_fn":
            yield module.register_forward_hook(
                self._keep_output(path.removesuffix(end) + "activation")
            )
        if kind == "XmodOutput":
            yield module.register_forward_pre_hook(self._enter_output)
            yield module.register_forward_hook(self._leave_output)
        if kind.endswith(_ATTENTION):
            yield module.register_forward_pre_hook(self._enter_attention(path))
            yield module.register_forward_hook(self._leave_attention(path))

    # --- modules ----------------------------------------------------------------------------------

    def _once(self, module: nn.Module, args: Any) -> None:
        if self._ran:
            raise ValueError("record one forward pass at a time: this is the second in the block")
        self._ran = True

    def _note_words(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        self._words_given = kwargs.get("inputs_embeds") is not None

    def _keep_input(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            self._taps.keep(name, args[0])

        return hook

    def _keep_output(self, path: str) -> Callable[..., None]:
        of_language = ".adapter_modules." in path

        def hook(module: nn.Module, args: Any, out: torch.Tensor) -> None:
            name = path
            if self._in_output and path.endswith("output.LayerNorm"):
                name = f"{path}.before_adapter"
            elif self._are_token_types(path, module):
                name = f"{path}.token_types"
            if not of_language or out.shape[0]:  # transformers 5 calls an adapter for no rows too
                self._taps.keep(name, out, join=of_language)

        return hook

    def _are_token_types(self, path: str, module: nn.Module) -> bool:
        """Whether XLM looks up token types here: it does so in its table of words, after these."""
        words = isinstance(module, nn.Embedding) and path.rpartition(".")[2] == "embeddings"
        return words and (self._words_given or path in self._taps)

    def _enter_output(self, module: nn.Module, args: Any) -> None:
        self._in_output = True

    def _leave_output(self, module: nn.Module, args: Any, out: Any) -> None:
        self._in_output = False

    # --- attention --------------------------------------------------------------------------------

    def _enter_attention(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._attention.append(path)
            self._scores, self._scales = None, ()

        return hook

    def _leave_attention(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            self._attention.pop()
            if f"{path}.context" not in self._taps:
                self._taps.keep(f"{path}.context", out[0])

        return hook

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function; keep scores and probabilities where attention makes them."""
        result = func(*args, **(kwargs or {}))
        if self._attention:
            self._look(getattr(func, "__name__", ""), result)
        return result

    def _look(self, function: str, result: Any) -> None:
        """Tell scores and probabilities from the other results inside an attention.

        Scores are the product of queries and keys, scaled where it is scaled behind it (XLM scales
        the queries). That they are scores is sure once their softmax is taken; a mask is added to
        them before, or written into them where they lie, so that a copy is taken at once.
        """
        name = f"{self._attention[-1]}.probs"
        if name in self._taps:
            return
        if function == "softmax":
            if self._scores is not None:
                self._taps.keep(name.removesuffix("probs") + "scores", self._scores)
            self._taps.keep(name, result)
        elif function == "matmul" if self._scores is None else function in self._scales:
            self._scales = _SCALES if function == "matmul" else ()
            self._scores = result.detach().clone()


# --- calls ----------------------------------------------------------------------------------------


def as_call(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as tensors on the model's device, floats in its dtype; flags as given.

    ``past_key_values`` as tuples, layer by layer, become a cache of the model's own kind.
    """
    first = next(model.parameters())

    def tensor(x: Any) -> torch.Tensor:
        made = x if isinstance(x, torch.Tensor) else torch.from_numpy(numpy.array(x))
        return made.to(first.device, first.dtype if made.is_floating_point() else None)

    call = dict(inputs)
    for name, x in inputs.items():
        if name == "past_key_values" and isinstance(x, tuple | list):
            call[name] = _cache([[tensor(part) for part in layer] for layer in x])
        elif x is not None and not isinstance(x, bool | str | Cache):
            call[name] = tensor(x)
    return call


def _cache(layers: list[list[torch.Tensor]]) -> Cache:
    """Return keys and values, and those of cross-attention behind them, as a cache."""
    own, cross = DynamicCache(), DynamicCache()
    for i, parts in enumerate(layers):
        own.update(parts[0], parts[1], i)
        if len(parts) == 4:
            cross.update(parts[2], parts[3], i)
    return EncoderDecoderCache(own, cross) if len(layers[0]) == 4 else own


def run(model: nn.Module, call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a call returns, by name."""
    with torch.no_grad():
        returned: Mapping[str, Any] = model(**{**call, "return_dict": True})
    return returned


def flatten(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors among arguments or outputs by name; the i-th of a tuple is ``name.i``."""
    flat: dict[str, torch.Tensor] = {}

    def add(name: str, value: Any) -> None:
        value = _layers(value)
        if isinstance(value, tuple | list):
            for i, x in enumerate(value):
                add(f"{name}.{i}", x)
        elif isinstance(value, torch.Tensor):
            flat[name] = value.detach().clone()

    for name, value in values.items():
        add(name, value)
    return flat


def _layers(value: Any) -> Any:
    """A cache as tuples, layer by layer: keys and values, then those of cross-attention."""
    if isinstance(value, EncoderDecoderCache):
        own, cross = _layers(value.self_attention_cache), _layers(value.cross_attention_cache)
        return tuple(a + b for a, b in zip(own, cross, strict=True)) if cross else own
    if isinstance(value, Cache):
        return tuple((x.keys, x.values) for x in value.layers if x.keys is not None)
    return value


def about(model: Any) -> dict[str, Any]:
    """What is known of a model: who computes, which class, in which dtype, how it attends."""
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    return {
        "made_by": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "architecture": type(model).__name__,
        "dtype": dtype,
        "attn_implementation": getattr(model.config, "_attn_implementation", None) or "eager",
    }
