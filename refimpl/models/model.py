"""A checkpoint made callable: from a folder to a model, from a call to its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from refimpl.backend import Array, Backend, get_backend
from refimpl.checkpoints.folder import find_folder, open_tensors, read_json
from refimpl.checkpoints.names import match_names
from refimpl.checkpoints.weights import DeviceTensors, Weights
from refimpl.errors import CheckpointError
from refimpl.models import xlm_roberta
from refimpl.models.architecture import Architecture
from refimpl.models.config import parse_config
from refimpl.models.inputs import check_inputs

ARCHITECTURES: dict[str, Architecture] = {**xlm_roberta.ARCHITECTURES}

KERNELS = ("plain", "fused")


@dataclass(frozen=True)
class Model:
    """A checkpoint and the architecture that runs it. Made by :func:`load`; called with inputs."""

    architecture: str  # the class name, as in config.json
    config: Any
    weights: Weights
    backend: Backend
    dtype: str
    kernels: str

    def __call__(self, **inputs: Any) -> Any:
        """Run the model: arguments and output fields are those of the class in transformers.

        Inputs may be lists, NumPy arrays or arrays of the model's backend; one without its batch
        axis is a batch of one. Outputs live on the backend; ``refimpl.to_numpy`` brings them home.

        Raises ``TypeError`` for an argument that the class does not take and for numbers of a
        wrong kind, ``ValueError`` for shapes that do not fit and ids out of range.
        """
        architecture = ARCHITECTURES[self.architecture]
        flags = {name: self._flag(name, inputs.pop(name, None)) for name in _FLAGS}
        given = {name: value for name, value in inputs.items() if value is not None}
        forms = architecture.inputs(self.config)
        _check_names(self.architecture, given, [*forms, *_FLAGS])
        checked = check_inputs(given, forms, architecture.sizes(self.config))
        architecture.check(self.config, checked)
        arrays = {name: self._to_device(x) for name, x in checked.items()}
        return architecture.forward(self.weights, self.config, **arrays, **flags)

    def _flag(self, name: str, value: Any) -> bool:
        """Return an output flag of a call; the config's where the call says nothing."""
        return bool(getattr(self.config, name) if value is None else value)

    def _to_device(self, x: numpy.ndarray) -> Array:
        real = x.dtype.kind == "f"
        return self.backend.asarray(x, self.backend.dtype(self.dtype) if real else None)


_FLAGS = ("output_hidden_states", "output_attentions")


def _check_names(architecture: str, given: Mapping[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise TypeError(f"{architecture} takes no {name!r}; it takes {', '.join(known)}")
    if ("input_ids" in given) == ("inputs_embeds" in given):
        got = "both" if "input_ids" in given else "neither"
        raise ValueError(f"expected one of input_ids and inputs_embeds, got {got}")


def load(
    path: str | Path,
    architecture: str | None = None,
    dtype: str = "float32",
    backend: str = "numpy",
    kernels: str = "fused",
) -> Model:
    """Load a checkpoint folder in Hugging Face layout (config.json and safetensors weights).

    ``path`` may also be a hub id. ``architecture`` is the class name to run it as; None takes the
    one that its config.json names. ``dtype`` is "float64", "float32", "float16" or "bfloat16",
    where the backend has it. ``backend``: see :func:`refimpl.backend.get_backend`. ``kernels``:
    "plain" runs the operations as written in ``refimpl.ops``, "fused" their faster twins where
    there are any.

    The weights are mapped, not read: each tensor is read, and converted, when it is first used.

    Raises ``CheckpointError`` for files that are missing, broken or not what the config says,
    ``ValueError`` for an unknown dtype, backend or kernels.
    """
    device = get_backend(backend)
    number = device.dtype(dtype)
    if kernels not in KERNELS:
        raise ValueError(f"kernels: expected one of {', '.join(KERNELS)}, got {kernels!r}")
    folder = find_folder(path)
    values = read_json(folder / "config.json")
    name = architecture or _named_architecture(folder, values)
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(f"{folder}: architecture: expected one of {known}, got {name!r}")
    entry = ARCHITECTURES[name]
    config: Any = parse_config(entry.config, values, folder / "config.json")
    tensors = open_tensors(folder)
    try:
        names = match_names(tensors, entry.parameters(config), entry.rules(config))
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {name}: {error}") from None
    weights = Weights(DeviceTensors(tensors, names, device, number))
    return Model(name, config, weights, device, dtype, kernels)


def _named_architecture(folder: Path, values: Mapping[str, Any]) -> str:
    names = values.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise CheckpointError(
            f"{folder / 'config.json'}: architectures: expected one class name, got {names!r}; "
            "pass architecture="
        )
    return names[0]
