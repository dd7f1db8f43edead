"""A checkpoint folder in Hugging Face layout: config.json and weights in one file or in shards."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.errors import CheckpointError, MissingExtra

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Tensors(Mapping[str, numpy.ndarray]):
    """All tensors of a checkpoint by their published names, whichever file they are in."""

    def __init__(self, file_of: Mapping[str, SafetensorsFile]) -> None:
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


def find_folder(path: str | os.PathLike[str]) -> Path:
    """Return the local folder of a checkpoint: ``path`` itself, or where a hub id is cached.

    A hub id (``FacebookAI/xlm-roberta-base``) is looked up, and downloaded if need be, by
    huggingface_hub. Raises ``CheckpointError`` where there is neither folder nor such an id.
    """
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{path}: expected a checkpoint folder, got a file")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(path)):
        raise CheckpointError(f"{path}: no such folder")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtra(
            f"{path}: no such folder; to read it as a hub id, huggingface_hub", "hub"
        ) from None
    try:
        return Path(
            snapshot_download(str(path), allow_patterns=["*.json", "*.safetensors", "*.model"])
        )
    except Exception as error:  # the hub's client raises many kinds, of its own and of its parts
        raise CheckpointError(
            f"{path}: no such folder, and not found as a hub id: {error}"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; ``CheckpointError`` if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a JSON file: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def open_tensors(folder: Path) -> Tensors:
    """Map the weights of a checkpoint folder: ``model.safetensors``, or the shards of its index.

    Raises ``CheckpointError`` for a missing or broken file, an index that names a tensor which its
    shard does not hold, and a shard outside the folder.
    """
    if (folder / SINGLE).exists():
        file = SafetensorsFile(folder / SINGLE)
        return Tensors(dict.fromkeys(file, file))
    if not (folder / INDEX).exists():
        raise CheckpointError(f"{folder}: expected {SINGLE} or {INDEX}, found neither")
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{folder / INDEX}: expected a weight_map of tensor names to files")
    for shard in weight_map.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(
                f"{folder / INDEX}: expected a file name in this folder, got {shard!r}"
            )
    shards = {shard: SafetensorsFile(folder / shard) for shard in set(weight_map.values())}
    lost = [name for name, shard in weight_map.items() if name not in shards[shard]]
    if lost:
        raise CheckpointError(f"{folder / INDEX}: not in the shard it names: {', '.join(lost)}")
    return Tensors({name: shards[shard] for name, shard in weight_map.items()})
