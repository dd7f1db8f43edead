"""What is in a checkpoint: its class, its switches, every tensor with its values, what is wrong.

    config.json  -> class, config        sizes and switches, the published checkpoints it is like
    weights      -> names, shapes        missing, unexpected, misshapen, tied
                 -> values, in pieces    smallest, largest, mean, NaN, infinite

Nothing is loaded: a tensor is looked through in pieces, and what is wrong with a file is reported,
not raised, so that one look shows all of it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy

from refimpl.checkpoints.folder import Tensors, find_folder, open_tensors, read_json
from refimpl.checkpoints.names import Shape, compare_names
from refimpl.checkpoints.registry import Published, Registry, read_registry
from refimpl.checkpoints.safetensors_file import widen_bfloat16
from refimpl.errors import CheckpointError
from refimpl.models.architecture import Architecture
from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES

PIECE = 2**18  # elements that are looked at together: as many as a processor's cache holds

TOKENIZER_FILES = (
    "sentencepiece.bpe.model", "vocab.json", "merges.txt", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip

# Each family's encoder, and how its config.json calls the family.
ENCODERS = {
    "xlm": "XLMModel",
    "xlm_roberta": "XLMRobertaModel",
    "xlm_roberta_xl": "XLMRobertaXLModel",
    "xmod": "XmodModel",
}

SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "emb_dim", "n_layers", "n_heads", "n_langs", "languages", "id2label",
)  # fmt: skip

# What a config may set without being another model: what a call returns, and the labels of a head.
NO_DIFFERENCE = {
    "output_hidden_states", "output_attentions", "use_cache", "num_labels", "id2label",
    "problem_type", "default_language",
}  # fmt: skip

Result = TypeVar("Result")


class Tensor(NamedTuple):
    """A tensor of a file. Smallest, largest and mean are those of its finite values.

    Values are None where they were not read; smallest, largest and mean also where none is finite.
    """

    name: str
    shape: Shape
    dtype: str  # as safetensors calls it: F32, BF16, I64, ...
    bytes: int
    smallest: float | None = None
    largest: float | None = None
    mean: float | None = None
    nans: int | None = None
    infinite: int | None = None
    problem: str = ""  # why its values could not be read


class Match(NamedTuple):
    """A published checkpoint that this one is like in the names and shapes of tensors."""

    id: str
    part: str  # in which part they are alike: "checkpoint", or "encoder"
    differing: dict[str, tuple[Any, Any]]  # values of the config: here, there

    @property
    def whole(self) -> bool:
        """Whether config and tensor shapes are those of the published checkpoint."""
        return self.part == "checkpoint" and not self.differing


@dataclass(frozen=True)
class Inspection:
    """What is in a checkpoint folder. What could not be read is empty, and a problem says why."""

    folder: Path
    family: str = ""
    architecture: str = ""  # the class that config.json names
    sizes: dict[str, Any] = field(default_factory=dict)
    switches: dict[str, tuple[Any, Any]] = field(default_factory=dict)  # value, usual value
    parameters: int | None = None  # of the class, what is tied once
    tensors: tuple[Tensor, ...] = ()  # of the files, in their order
    missing: tuple[str, ...] = ()  # names that the class reads and the files lack
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    ties: dict[str, str] = field(default_factory=dict)  # name -> that of the same numbers
    tokenizer_files: tuple[str, ...] = ()
    matches: tuple[Match, ...] = ()
    problems: tuple[str, ...] = ()  # one line each

    @property
    def exit_code(self) -> int:
        """0: all of it can be read. 1: there are problems."""
        return 1 if self.problems else 0


def inspect_checkpoint(path: str | os.PathLike[str], values: bool = True) -> Inspection:
    """Look into a checkpoint folder, or that of a hub id; ``values`` also into every tensor.

    Raises ``CheckpointError`` where there is no such folder. What is wrong inside of it stands
    in ``problems``; missing and unexpected tensors are listed and are no problem here.
    """
    found = outline(find_folder(path), read_registry())
    return with_values(found, read_values(found)) if values else found


def outline(folder: Path, registry: Registry) -> Inspection:
    """Look at config and names only: nothing of a tensor is read.

    ``registry`` is what published checkpoints it is compared with.
    """
    problems: list[str] = []
    file = folder / "config.json"
    values = _try(problems, lambda: read_json(file))
    name = None if values is None else _try(problems, lambda: _class_of(file, values))
    entry = ARCHITECTURES[name] if name else None
    config = None
    if entry and values is not None:
        config = _try(problems, lambda: parse_config(entry.config, values, file))
    tensors = _try(problems, lambda: open_tensors(folder))
    found = Inspection(
        folder,
        architecture=name or "",
        tensors=_listed(tensors) if tensors is not None else (),
        ties=_shared(tensors) if tensors is not None else {},
        tokenizer_files=tuple(f for f in TOKENIZER_FILES if (folder / f).exists()),
        problems=tuple(problems),
    )
    if name is None or entry is None or config is None:
        return found
    family = _family_of(entry)
    found = replace(
        found,
        family=family,
        sizes={key: getattr(config, key) for key in SIZES if getattr(config, key, None)},
        switches=_switches(config, family, registry),
        matches=tuple(_matches(name, config, registry)),
    )
    return replace(found, **_names(entry, config, tensors)) if tensors is not None else found


def read_values(found: Inspection) -> Iterator[Tensor]:
    """Look through every tensor, one after another."""
    if not found.tensors:
        return
    tensors = open_tensors(found.folder)
    for tensor in found.tensors:
        try:
            yield _measured(tensors, tensor)
        except CheckpointError as error:
            yield tensor._replace(problem=_one_line(error))


def with_values(found: Inspection, tensors: Iterable[Tensor]) -> Inspection:
    """Take over tensors whose values were read. Values that are no numbers are problems."""
    read, problems = tuple(tensors), list(found.problems)
    for tensor in read:
        wrong = {"NaN": tensor.nans, "infinite": tensor.infinite}
        problems += [f"{tensor.name}: {n} values are {what}" for what, n in wrong.items() if n]
        problems += [tensor.problem] if tensor.problem else []
    return replace(found, tensors=read, problems=tuple(problems))


def _try(problems: list[str], read: Callable[[], Result]) -> Result | None:
    """Return what ``read`` returns; where it cannot, None, and note why in one line."""
    try:
        return read()
    except CheckpointError as error:
        problems.append(_one_line(error))
        return None


def _one_line(error: CheckpointError) -> str:
    return " ".join(str(error).split())


# --- config ---------------------------------------------------------------------------------------


def _class_of(file: Path, values: Mapping[str, Any]) -> str:
    names = values.get("architectures")
    known = [x for x in names if isinstance(x, str)] if isinstance(names, list) else []
    if len(known) != 1 or known[0] not in ARCHITECTURES:
        expected = f"one class of {', '.join(ENCODERS.values())} or with a head"
        raise CheckpointError(f"{file}: architectures: expected {expected}, got {names!r}")
    return known[0]


def _family_of(entry: Architecture) -> str:
    """The file that tells the architecture."""
    return entry.config.__module__.rpartition(".")[2]


def _switches(config: Any, family: str, registry: Registry) -> dict[str, tuple[Any, Any]]:
    """The values of a config that are not the family's usual ones, beside those."""
    usual = usual_values(type(config), family, registry)
    return {
        key: (value, usual[key])
        for key, value in _values(config).items()
        if key not in SIZES and value != usual[key]
    }


def usual_values(kind: Any, family: str, registry: Registry) -> dict[str, Any]:
    """What most published configs of a family say; the class default where none says anything."""
    usual = _values(kind())
    for key in usual:
        said = Counter(
            json.dumps(c.config[key])
            for c in registry.checkpoints
            if c.family == family and key in c.config
        )
        if said:
            usual[key] = json.loads(said.most_common(1)[0][0])
    return usual


def _values(config: Any) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def _matches(name: str, config: Any, registry: Registry) -> Iterator[Match]:
    """Yield the published checkpoints that have the same tensors, or the same in their encoder."""
    entry = ARCHITECTURES[name]
    encoder = ARCHITECTURES[ENCODERS[_family_of(entry)]]
    own, own_encoder = entry.parameters(config), encoder.parameters(config)
    for published in registry.checkpoints:
        other = _config_of(published)
        if not isinstance(other, entry.config) or encoder.parameters(other) != own_encoder:
            continue
        same_class = published.architecture == name and entry.parameters(other) == own
        part = "checkpoint" if same_class else "encoder"
        yield Match(published.id, part, _differing(config, other, published))


def _config_of(published: Published) -> Any:
    """The config of a published checkpoint; None where too little of it is known."""
    entry = ARCHITECTURES.get(published.architecture)
    if entry is None or published.unknown:
        return None
    values = {**published.config, **published.inferred}
    return parse_config(entry.config, values, Path(published.id))


def _differing(config: Any, other: Any, published: Published) -> dict[str, tuple[Any, Any]]:
    """The values that differ: what was only inferred of the published config does not count."""
    ignored = NO_DIFFERENCE | set(published.inferred)
    theirs = _values(other)
    return {
        key: (value, theirs[key])
        for key, value in _values(config).items()
        if key not in ignored and value != theirs[key]
    }


# --- tensors --------------------------------------------------------------------------------------


def _listed(tensors: Tensors) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name, tensors.shape(name), dtype, math.prod(tensors.shape(name)) * item_size(dtype))
        for name, dtype in ((name, tensors.dtype(name)) for name in tensors)
    )


def _shared(tensors: Tensors) -> dict[str, str]:
    """The names for numbers that stand in the file under an earlier name, as PyTorch's may."""
    firsts = {name: tensors.first_name(name) for name in tensors}
    return {name: first for name, first in firsts.items() if name != first}


def item_size(dtype: str) -> int:
    """Return the bytes of one element.

    >>> [item_size(dtype) for dtype in ("F32", "BF16", "BOOL")]
    [4, 2, 1]
    """
    bits = re.sub(r"\D", "", dtype)
    return int(bits) // 8 if bits else 1


def _names(entry: Architecture, config: Any, tensors: Tensors) -> dict[str, Any]:
    """Compare the names and shapes of the files with those that the class reads.

    What loading refuses (``match_names``), listed.
    """
    names = compare_names(tensors, entry.parameters(config), entry.rules(config))
    own = [shape for name, shape in names.wanted.items() if name not in names.ties]
    return {
        "parameters": sum(map(math.prod, own)),
        "missing": tuple(names.missing),
        "unexpected": tuple(names.unexpected),
        "misshapen": tuple(names.misshapen(tensors)),
        "ties": {**_shared(tensors), **names.ties},
    }


def _measured(tensors: Tensors, tensor: Tensor) -> Tensor:
    """Look through one tensor in pieces."""
    smallest, largest, mean = math.inf, -math.inf, 0.0
    nans = infinite = finite = 0
    for piece in _pieces(tensors, tensor):
        sound = numpy.isfinite(piece)
        numbers = piece
        if not sound.all():
            missing = int(numpy.isnan(piece).sum())
            numbers = piece[sound]
            nans += missing
            infinite += piece.size - missing - numbers.size
        if numbers.size:
            finite += numbers.size
            smallest = min(smallest, float(numbers.min()))
            largest = max(largest, float(numbers.max()))
            share = numbers.size / finite
            mean = mean * (1 - share) + _mean(numbers) * share
    tensor = tensor._replace(nans=nans, infinite=infinite)
    return tensor._replace(smallest=smallest, largest=largest, mean=mean) if finite else tensor


def _mean(numbers: numpy.ndarray) -> float:
    """The mean, in float64."""
    with numpy.errstate(over="ignore"):
        mean = float(numbers.sum(dtype=numpy.float64)) / numbers.size
    if math.isfinite(mean):
        return mean
    with numpy.errstate(over="ignore"):  # float64s whose sum is none: rounding may pass the largest
        shared = (numbers / numbers.size).sum()
    return float(numpy.clip(shared, numbers.min(), numbers.max()))


def _pieces(tensors: Tensors, tensor: Tensor) -> Iterator[numpy.ndarray]:
    """Yield the values of a tensor, a piece at a time: what is mapped is read in passing."""
    stored = tensors.stored(tensor.name)
    for piece in numpy.nditer(
        stored, flags=["external_loop", "buffered", "zerosize_ok"], buffersize=PIECE
    ):
        bits = numpy.asarray(piece)
        yield widen_bfloat16(bits) if tensor.dtype == "BF16" else bits
