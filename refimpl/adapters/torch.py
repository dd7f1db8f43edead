"""What a transformers model computes, value by value, under the names of the taps.

    with record(model) as taps:            # any class of the four families, transformers 4.57 or 5
        model(input_ids=ids)
    taps["roberta.encoder.layer.3.attention.self.probs"]

The model runs as it is: nothing is replaced, and no number changes. Modules are watched by hooks;
scores and probabilities, which no module outputs, as the functions that make them are called.
Under ``attn_implementation="sdpa"`` these two are never made, and so they are not there.

Differs: a module of X-MOD that runs for one language after another is one tap, with the rows of
all its calls. Where a layer norm or an embedding is called twice the two are two taps, as here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy

from refimpl.errors import MissingExtra
from refimpl.parity.dumps.dump import Dump

PREFIXES = ("XLM", "XLMRoberta", "XLMRobertaXL", "Xmod")
_FAMILIES = ("modeling_xlm", "modeling_xlm_roberta", "modeling_xlm_roberta_xl", "modeling_xmod")


class Taps(Mapping[str, numpy.ndarray]):
    """What was recorded, by name, in the order of the computation; empty before the model ran."""

    def __init__(self) -> None:
        self._arrays: dict[str, numpy.ndarray] = {}
        self.bfloat16: set[str] = set()  # the names of those that are float32 only here

    def keep(self, name: str, tensor: Any, *, join: bool = False) -> None:
        """Keep a copy of a tensor on the host, or add its rows to those that have the name."""
        array, narrow = as_array(tensor)
        if narrow:
            self.bfloat16.add(name)
        if join and name in self._arrays:
            array = numpy.concatenate([self._arrays[name], array])
        self._arrays[name] = array

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


@contextmanager
def record(model: Any) -> Iterator[Taps]:
    """Record the taps of one forward pass of a transformers model: ``with record(model) as taps``.

    Arrays have the dtype in which they were computed; those in bfloat16, which NumPy does not have,
    are float32, exactly, and their names stand in ``taps.bfloat16``. Names are those of the model
    that is given: record the model with its head, not its encoder, for the names with ``roberta.``.

    Raises ``MissingExtra`` without torch, ``ValueError`` for a model of another family or in
    training mode, and for a second forward pass in one block.
    """
    watching = _package("refimpl.adapters.torch_watch")
    _check(model)
    taps = Taps()
    with watching.watch(model, taps):
        yield taps


def dump(model: Any, **inputs: Any) -> Dump:
    """Run a transformers model; return its inputs, every tap and every output.

    ``inputs`` are the arguments of the call: arrays, lists, tensors, and flags such as
    ``output_attentions=True``. Floats are brought to the model's dtype, all to its device. Raises
    what :func:`record` raises.

    >>> dump("no model", input_ids=[[0, 2]])
    Traceback (most recent call last):
    ValueError: model: expected a transformers model of XLM, XLMRoberta, XLMRobertaXL, Xmod, got str
    """
    _check(model)
    calling = _package("refimpl.adapters.torch_watch")
    call = calling.as_call(model, inputs)
    given = {name: as_array(x) for name, x in calling.flatten(call).items()}
    flags = {name: x for name, x in call.items() if isinstance(x, bool)}
    with record(model) as taps:
        returned = calling.run(model, call)
    outputs = {name: as_array(x) for name, x in calling.flatten(returned).items()}
    parts = {"input": given, "output": outputs}
    narrow = [f"{part}.{n}" for part, found in parts.items() for n, x in found.items() if x[1]]
    narrow += [f"tap.{name}" for name in taps if name in taps.bfloat16]
    about = calling.about(model) | {"flags": flags} | ({"bfloat16": narrow} if narrow else {})
    inputs_, outputs_ = ({n: x for n, (x, _) in part.items()} for part in parts.values())
    return Dump(dict(taps), outputs_, inputs_, about)


def as_array(tensor: Any) -> tuple[numpy.ndarray, bool]:
    """Return a copy of a tensor on the host, and whether it is a bfloat16 in float32."""
    tensor = tensor.detach()
    narrow = str(tensor.dtype) == "torch.bfloat16"
    return numpy.array((tensor.float() if narrow else tensor).cpu().numpy()), narrow


def _check(model: Any) -> None:
    modules = {kind.__module__.rpartition(".")[2] for kind in type(model).__mro__}
    if not modules & set(_FAMILIES):
        known = ", ".join(PREFIXES)
        found = type(model).__name__
        raise ValueError(f"model: expected a transformers model of {known}, got {found}")
    if any(module.training for module in model.modules()):
        raise ValueError("model: expected it in evaluation mode (model.eval()), for dropout is off")
    if getattr(model.config, "chunk_size_feed_forward", 0):
        raise ValueError("model: config.chunk_size_feed_forward: expected 0, one pass for all")


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "torch") from None
