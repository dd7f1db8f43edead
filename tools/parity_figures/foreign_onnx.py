"""onnxruntime as an honest foreign implementation: an original, exported and run once."""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch

from refimpl.adapters.onnx import dump
from refimpl.parity.dumps.dump import Dump


def run_onnx(
    hf_model: Any,
    inputs: Mapping[str, Any],
    *,
    optimisation: str = "none",
    threads: int = 1,
    dynamo: bool = False,
    opset: int | None = None,
) -> Dump:
    """Return what onnxruntime makes of ``hf_model(**inputs)`` in float32, value by value.

    The taps have the names of the graph; the outputs those of the fields, "hidden_states.1" for
    one of several. ``inputs`` are arrays and flags. ``optimisation`` and ``threads`` are those of
    :func:`refimpl.adapters.onnx.dump`; ``dynamo`` chooses torch's newer exporter, which takes
    seconds and cannot export X-MOD.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        taken = export(hf_model, inputs, path, dynamo=dynamo, opset=opset)
        return dump(path, taken, optimisation=optimisation, threads=threads)


def export(
    hf_model: Any,
    inputs: Mapping[str, Any],
    path: Path,
    *,
    dynamo: bool = False,
    opset: int | None = None,
) -> dict[str, Any]:
    """Write ``hf_model`` as an ONNX file for inputs of these shapes; return the arrays it takes.

    The graph may take fewer: what changes nothing is left out of it.
    """
    flags = {name: x for name, x in inputs.items() if isinstance(x, bool)}
    order = inspect.signature(hf_model.forward).parameters  # the older exporter names by place
    arrays = {
        name: _float32(inputs[name]) for name in order if name in inputs and name not in flags
    }
    options: dict[str, Any] = {"dynamo": dynamo, "opset_version": opset}
    options |= {"verbose": False} if dynamo else {"input_names": list(arrays)}
    with configured(hf_model, flags), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        names = list(_names(hf_model(**arrays)))
        torch.onnx.export(hf_model, (), str(path), kwargs=arrays, output_names=names, **options)
    used = {value.name for value in onnx.load_model(path, load_external_data=False).graph.input}
    return {name: x.numpy() for name, x in arrays.items() if name in used}


def _float32(value: Any) -> torch.Tensor:
    x = torch.tensor(value)
    return x.float() if x.is_floating_point() else x


@contextmanager
def configured(hf_model: Any, flags: Mapping[str, bool]) -> Iterator[None]:
    """Let the flags of a call stand in the config, where an exporter finds them, in the block."""
    before = {name: getattr(hf_model.config, name) for name in flags}
    try:
        for name, flag in flags.items():
            setattr(hf_model.config, name, flag)
        yield
    finally:
        for name, flag in before.items():
            setattr(hf_model.config, name, flag)


def _names(outputs: Any, name: str = "") -> Iterator[str]:
    """Yield the names of all tensors of a model's outputs."""
    if isinstance(outputs, Mapping):
        for field, value in outputs.items():
            yield from _names(value, field)
    elif isinstance(outputs, tuple):
        for i, value in enumerate(outputs):
            yield from _names(value, f"{name}.{i}")
    elif outputs is not None:
        yield name
