"""A checkpoint folder in Hugging Face layout: config.json and weights in one file or in shards."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.pytorch.file import TorchFile
from refimpl.checkpoints.pytorch.pickled import describe
from refimpl.checkpoints.safetensors_file import Place, SafetensorsFile
from refimpl.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_SINGLE = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"

LARGEST_JSON = 4 * 2**20  # bytes; a config has thousands, an index some hundred for each tensor
LONGEST_NAME = 255  # of a file

TensorFile = SafetensorsFile | TorchFile


class Tensors(Mapping[str, numpy.ndarray]):
    """All tensors of a checkpoint by their published names, whichever file they are in."""

    def __init__(self, file_of: Mapping[str, TensorFile]) -> None:
        self._file_of = file_of

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self._file_of[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without touching its bytes."""
        return self._file_of[name].shape(name)

    def dtype(self, name: str) -> str:
        """Return a tensor's dtype as safetensors files name it: "F32", "BF16", "I64"."""
        return self._file_of[name].dtype(name)

    def stored(self, name: str) -> numpy.ndarray:
        """Return a tensor as it is stored: of a bfloat16 the bits, as uint16."""
        return self._file_of[name].stored(name)

    def first_name(self, name: str) -> str:
        """Return the first of the names that a file has for the same numbers: tied weights."""
        file = self._file_of[name]
        first = file.first_name(name)
        return first if self._file_of.get(first) is file else name

    def place(self, name: str) -> Place:
        """Return where a tensor lies, in whichever file."""
        return self._file_of[name].place(name)


def find_folder(path: str | os.PathLike[str]) -> Path:
    """Return the local folder of a checkpoint: ``path`` itself, or where a hub id is cached.

    A hub id (``FacebookAI/xlm-roberta-base``, or an older one such as ``xlm-roberta-base``) is
    looked up in huggingface_hub's cache, and downloaded if it is not there. Raises
    ``CheckpointError`` where there is neither folder nor such an id, ``MissingExtra`` where
    huggingface_hub is needed and not installed.
    """
    from refimpl.checkpoints.hub import fetch
    from refimpl.checkpoints.registry import read_registry

    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{path}: expected a checkpoint folder, got a file")
    published = read_registry().find(str(path))
    hub_id = published.id if published else str(path)
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", hub_id):
        raise CheckpointError(f"{path}: no such folder")
    return fetch(hub_id)


def size_of(path: Path) -> int:
    """Return how many bytes a file has; ``CheckpointError`` for what is no file of bytes.

    A pipe, or a device, might never end.
    """
    try:
        if not path.is_file():
            said = "expected a file of bytes" if path.exists() else "no such file"
            raise CheckpointError(f"{path}: {said}")
        return path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


def read_json(path: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Return the object in a JSON file; ``CheckpointError`` if there is none.

    A file of more than ``largest`` bytes is not read: as objects it takes up to forty times that.
    """
    try:
        size = size_of(path)
        if size > largest:
            raise CheckpointError(f"{path}: expected up to {largest} bytes of JSON, found {size}")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a JSON file: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def open_tensors(folder: Path) -> Tensors:
    """Map the weights of a checkpoint folder.

    They are, the first that is there: ``model.safetensors``, the shards of its index,
    ``pytorch_model.bin``, the shards of its index.

    Raises ``CheckpointError`` for a missing or broken file, an index that names a tensor which its
    shard does not hold, and a shard outside the folder.
    """
    path, open_file = find_weights(folder)
    if path.name in (INDEX, TORCH_INDEX):
        return _open_shards(path, open_file)
    file = open_file(path)
    return Tensors(dict.fromkeys(file, file))


def find_weights(folder: Path) -> tuple[Path, Callable[[Path], TensorFile]]:
    """Return the file with the weights, or the index of its shards; and what opens such files.

    Raises ``CheckpointError`` where there is none.
    """
    kinds: dict[str, Callable[[Path], TensorFile]] = {
        SINGLE: SafetensorsFile,
        INDEX: SafetensorsFile,
        TORCH_SINGLE: TorchFile,
        TORCH_INDEX: TorchFile,
    }
    for name, open_file in kinds.items():
        if (folder / name).exists():
            return folder / name, open_file
    raise CheckpointError(f"{folder}: expected one of {', '.join(kinds)}, found none")


def _open_shards(index: Path, open_file: Callable[[Path], TensorFile]) -> Tensors:
    """Map the shards that an index names."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: expected a weight_map of tensor names to files")
    for shard in weight_map.values():
        if not isinstance(shard, str) or Path(shard).name != shard or len(shard) > LONGEST_NAME:
            got = describe(shard)
            raise CheckpointError(f"{index}: expected a file name in this folder, got {got}")
    shards = {shard: open_file(index.parent / shard) for shard in set(weight_map.values())}
    lost = [name for name, shard in weight_map.items() if name not in shards[shard]]
    if lost:
        names = ", ".join(lost[:20]) + (", ..." if len(lost) > 20 else "")
        raise CheckpointError(f"{index}: not in the shard it names: {names}")
    return Tensors({name: shards[shard] for name, shard in weight_map.items()})
