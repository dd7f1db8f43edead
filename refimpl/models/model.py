"""A checkpoint made callable: from a folder to a model, from a call to its outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy

from refimpl.backend import Array, Backend, get_backend
from refimpl.checkpoints.folder import find_folder, open_tensors, read_json
from refimpl.checkpoints.names import match_names
from refimpl.checkpoints.streaming import StreamedTensors
from refimpl.checkpoints.weights import DeviceTensors, Weights
from refimpl.errors import CheckpointError
from refimpl.models import (
    lanes,
    next_token,
    xlm,
    xlm_roberta,
    xlm_roberta_xl,
    xmod,
    xmod_languages,
)
from refimpl.models.architecture import Architecture
from refimpl.models.config import parse_config
from refimpl.models.inputs import check_inputs
from refimpl.models.outputs import KeyValues
from refimpl.ops import fused
from refimpl.replacing import replace as replace_operations
from refimpl.replacing import replaced
from refimpl.taps import watched

ARCHITECTURES: dict[str, Architecture] = {
    **xlm.ARCHITECTURES,
    **xlm_roberta.ARCHITECTURES,
    **xlm_roberta_xl.ARCHITECTURES,
    **xmod.ARCHITECTURES,
}

KERNELS = ("plain", "fused")

Inputs = dict[str, Any]  # arguments by name
Flags = dict[str, bool]  # switches of a call


@dataclass
class Model:
    """A checkpoint and the architecture that runs it. Made by :func:`load`; called with inputs."""

    architecture: str  # the class name, as in config.json
    config: Any
    weights: Weights
    backend: Backend
    dtype: str
    kernels: str
    packed: bool = False  # pass over padding where a call allows it

    def __call__(self, **inputs: Any) -> Any:
        """Run the model: arguments and output fields are those of the class in transformers.

        Inputs may be lists, NumPy arrays or arrays of the model's backend; one without its batch
        axis is a batch of one. Outputs live on the backend; ``refimpl.to_numpy`` brings them home.

        Raises ``TypeError`` for an argument that the class does not take and for numbers of a
        wrong kind, ``ValueError`` for shapes that do not fit and ids out of range.
        """
        entry, checked, flags, kept = self._checked(inputs)
        kept = {name: self._keys_to_device(x) for name, x in kept.items()}
        tokens = None if kept else self._tokens(entry, {**checked, **flags})
        parts = lanes.lanes_of(
            _shape(checked), tokens, self.backend, self._most_lanes({**checked, **kept})
        )
        twins = self._twins(flags["output_attentions"])
        on_host = {name for name, forms in entry.inputs(self.config).items() if forms[0].on_host}
        arrays = {n: x if n in on_host else self._to_device(x) for n, x in checked.items()}
        with self.backend.active(), replace_operations(**twins):
            return entry.forward(self.weights, self.config, lanes=parts, **arrays, **kept, **flags)

    def tokens(self, **inputs: Any) -> numpy.ndarray | None:
        """Return the places that a packed model computes of this call, mask (B, S), on the host.

        None where it computes all of them, padding too. Raises what the call itself raises.
        """
        entry, checked, flags, kept = self._checked(inputs)
        return None if kept else self._tokens(entry, {**checked, **flags})

    def generate(self, input_ids: Any, **options: Any) -> Any:
        """Continue each text of ``input_ids`` (B, S): ids (B*N, T), prompt included, on the host.

        Options and their defaults are those of transformers' ``generate``: ``max_length`` (20) or
        ``max_new_tokens``, ``min_length``, ``num_beams``, ``num_return_sequences``,
        ``length_penalty``, ``early_stopping``, ``repetition_penalty``, ``do_sample`` with
        ``temperature``, ``top_k``, ``top_p`` and ``seed``, ``eos_token_id``, ``pad_token_id``,
        ``use_cache``; ``return_dict_in_generate=True`` also returns the beams' scores. Further
        inputs (``attention_mask``, ``lang_ids``) have a row for each text.

        Raises ``ValueError`` for a class that does not generate and for an impossible option,
        ``TypeError`` for an option that there is not.
        """
        return next_token.generate_with(self, input_ids, **options)

    def set_default_language(self, language: str) -> None:
        """X-MOD: take ``language`` for texts whose call gives no ``lang_ids``.

        Raises ``ValueError`` for a language that the model lacks, or for a model that has none.
        """
        languages = getattr(self.config, "languages", None)
        if languages is None:
            raise ValueError(f"set_default_language: {self.architecture} has no languages")
        if language not in languages:
            raise ValueError(f"language: expected one of {', '.join(languages)}, got {language!r}")
        self.config = replace(self.config, default_language=language)

    def freeze_embeddings_and_language_adapters(self) -> list[str]:
        """X-MOD: the names of the tensors that the paper does not train on a task.

        Source: Pfeiffer et al. 2022, section 4: so what is learned in one language works with the
        adapters of the others.

        Raises ``ValueError`` for a model without language adapters.
        """
        if not hasattr(self.config, "languages"):
            raise ValueError(f"{self.architecture} has no language adapters")
        names = ARCHITECTURES[self.architecture].parameters(self.config)
        return [name for name in names if xmod_languages.is_frozen_for_fine_tuning(name)]

    def _checked(self, inputs: Mapping[str, Any]) -> tuple[Architecture, Inputs, Flags, Inputs]:
        """Check the arguments of a call: inputs, switches, and what an earlier call kept."""
        entry = ARCHITECTURES[self.architecture]
        given = {name: value for name, value in inputs.items() if value is not None}
        forms = entry.inputs(self.config)
        known = [*forms, *entry.flags, *([entry.state] if entry.state else [])]
        _check_names(self.architecture, given, known)
        flags = {name: self._flag(name, given.pop(name, None)) for name in entry.flags}
        kept = {entry.state: given.pop(entry.state)} if entry.state in given else {}
        sizes = entry.sizes(self.config)
        past = _length_of(entry.state, kept[entry.state], sizes["L"]) if kept else 0
        checked = check_inputs(given, forms, sizes, past)
        entry.check(self.config, checked, past)
        return entry, checked, flags, kept

    def _flag(self, name: str, value: Any) -> bool:
        """Return a switch of a call; the config's where the call says nothing."""
        return bool(getattr(self.config, name, False) if value is None else value)

    def _twins(self, attention_wanted: bool) -> Mapping[str, Callable[..., Any]]:
        """Return the faster twins of operations that a call runs with.

        Where somebody replaced an operation there are none: an operation that a twin takes in with
        others would not be called, and the replacement would do nothing.
        """
        if self.kernels == "plain" or replaced():
            return {}
        return fused.twins(self.backend, attention_wanted or watched())

    def _tokens(self, entry: Architecture, asked: Mapping[str, Any]) -> numpy.ndarray | None:
        """Return where a call's tokens are, if it is to be computed without its padding, or None.

        Taps, attention weights and operations that somebody replaced are those of whole batches.
        """
        if not self.packed or asked["output_attentions"] or watched() or replaced():
            return None
        return entry.tokens(self.config, asked)

    def _most_lanes(self, given: Inputs) -> int:
        """Return in how many lanes the texts of a call may go through the encoder.

        In one where taps stand in the order of a single run, where a decoder goes on or looks at
        the states of an encoder, and where the weights are read in the order of their use.
        """
        streamed = isinstance(self.weights.arrays, StreamedTensors)
        kept = ARCHITECTURES[self.architecture].state
        decodes = kept in given or "encoder_hidden_states" in given
        if self.kernels == "plain" or replaced() or watched() or streamed or decodes:
            return 1
        return fused.lanes(self.backend)

    def _to_device(self, x: numpy.ndarray) -> Array:
        real = x.dtype.kind == "f"
        return self.backend.asarray(x, self.backend.dtype(self.dtype) if real else None)

    def _keys_to_device(self, kept: Any) -> KeyValues:
        dtype = self.backend.dtype(self.dtype)
        return tuple(tuple(self.backend.asarray(x, dtype) for x in layer) for layer in kept)


def _shape(checked: Inputs) -> tuple[int, int]:
    """Return how many texts a call has, each choice being one, and how many places each."""
    ids = checked.get("input_ids")
    places = checked["inputs_embeds"].shape[:-1] if ids is None else ids.shape
    return math.prod(places[:-1]), places[-1]


def _length_of(name: str, kept: Any, layers: int) -> int:
    """Return how many tokens an earlier call kept keys and values of."""
    try:
        found, length = len(kept), int(kept[0][0].shape[2])
    except (TypeError, LookupError, AttributeError):
        raise TypeError(f"{name}: expected what an earlier call returned under this name") from None
    if found != layers:
        raise ValueError(f"{name}: expected keys and values of {layers} layers, got {found}")
    return length


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
    stream: bool = False,
    packed: bool = False,
) -> Model:
    """Load a checkpoint folder in Hugging Face layout (config.json and safetensors weights).

    ``path`` may also be a hub id. ``architecture`` is the class name to run it as; None takes the
    one that its config.json names. ``dtype`` is "float64", "float32", "float16" or "bfloat16",
    where the backend has it. ``backend``: see :func:`refimpl.backend.get_backend`. ``kernels``:
    "plain" runs the operations as written in ``refimpl.ops``, "fused" their faster twins where
    there are any.

    The weights are mapped, not read: each tensor is read, and converted, when it is first used,
    and then it is kept. With ``stream`` none is kept: a call reads the weights again, one layer
    after another, of the word embeddings the rows in use, and a decoder's matrix in blocks. So
    little more than one layer is in memory, whatever the size of the model, and the outputs are
    the same to rounding, with plain kernels to the last bit. See
    :mod:`refimpl.checkpoints.streaming`.

    With ``packed`` a batch of texts of different lengths is computed without its padding. Outputs
    at tokens are those of an unpacked run; at padding hidden states are zero and a head's outputs
    what it makes of zeros. Where the padding takes part in a result, the call runs unpacked:
    decoders and caches, attention weights, taps, and the cases that ``tokens`` of
    :mod:`refimpl.models.roberta` and :mod:`refimpl.models.xlm` tell.

    Raises ``CheckpointError`` for files that are missing, broken or not what the config says,
    ``ValueError`` for an unknown dtype, backend or kernels, ``TypeError`` for a switch that is
    neither True nor False. With ``stream`` a call may raise ``CheckpointError`` too, where a file
    has changed since.
    """
    device = get_backend(backend)
    number = device.dtype(dtype)
    for switch, value in (("stream", stream), ("packed", packed)):
        if not isinstance(value, bool):
            raise TypeError(f"{switch}: expected True or False, got {value!r}")
    if kernels not in KERNELS:
        raise ValueError(f"kernels: expected one of {', '.join(KERNELS)}, got {kernels!r}")
    if dtype == "bfloat16" and kernels == "plain":
        raise ValueError("kernels: expected 'fused' for bfloat16, which no plain operation takes")
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
    if stream:
        weights = Weights(StreamedTensors(tensors, names, device, dtype))
    else:
        weights = Weights(DeviceTensors(tensors, names, device, number))
    return Model(name, config, weights, device, dtype, kernels, packed)


def _named_architecture(folder: Path, values: Mapping[str, Any]) -> str:
    names = values.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise CheckpointError(
            f"{folder / 'config.json'}: architectures: expected one class name, got {names!r}; "
            "pass architecture="
        )
    return names[0]
