"""Hub ids: huggingface_hub's cache on this machine, and the hub behind it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from refimpl.checkpoints.folder import INDEX, SINGLE, TORCH_INDEX, TORCH_SINGLE, read_json
from refimpl.errors import CheckpointError, MissingExtra

# What a checkpoint folder is read for. A file that could run code is fetched only where the same
# weights are not there in a form that cannot.
READ = ("*.json", "*.safetensors", "*.model", "*.txt")
PICKLES = "pytorch_model*.bin"
DEEPER = "*/*"  # other people's conversions: onnx/, openvino/


def fetch(hub_id: str) -> Path:
    """Return the folder of a hub id: from the cache, without network, or downloaded into it.

    What is in the cache counts as it is, even where the hub has a newer revision. A download
    shows huggingface_hub's own progress bars on a terminal, and nothing on a pipe.

    Raises ``CheckpointError`` where the id is neither in the cache nor can be fetched,
    ``MissingExtra`` where huggingface_hub is not installed.
    """
    try:
        import huggingface_hub as hub
    except ImportError:
        raise MissingExtra(
            f"{hub_id}: no such folder; to read it as a hub id, huggingface_hub", "hub"
        ) from None
    cached = _cached(hub, hub_id)
    if cached is not None and holds_weights(cached):
        return cached
    try:
        with _quiet_on_a_pipe():
            patterns = wanted(hub.list_repo_files(hub_id))
            return Path(
                hub.snapshot_download(hub_id, allow_patterns=patterns, ignore_patterns=[DEEPER])
            )
    except Exception as error:  # the hub's client raises many kinds, of its own and of its parts
        if cached is not None:  # a part of it, the tokenizer for instance
            return cached
        said = " ".join(str(error).split())
        raise CheckpointError(
            f"{hub_id}: no such folder, and not found as a hub id: {said}"
        ) from None


def wanted(files: Iterable[str]) -> list[str]:
    """Return the patterns of the files to fetch of those that a repository has.

    >>> wanted(["config.json", "pytorch_model.bin"])[-1]
    'pytorch_model*.bin'
    >>> PICKLES in wanted(["config.json", "pytorch_model.bin", "model.safetensors"])
    False
    """
    safe = any(file.endswith(".safetensors") and "/" not in file for file in files)
    return [*READ] if safe else [*READ, PICKLES]


def holds_weights(folder: Path) -> bool:
    """Say whether a folder has a config and all the files of some weights."""
    if not (folder / "config.json").exists():
        return False
    for single, index in ((SINGLE, INDEX), (TORCH_SINGLE, TORCH_INDEX)):
        if (folder / single).exists():
            return True
        if (folder / index).exists():
            shards = read_json(folder / index).get("weight_map")
            names = shards.values() if isinstance(shards, dict) else [None]
            return all(isinstance(name, str) and (folder / name).exists() for name in names)
    return False


def _cached(hub: Any, hub_id: str) -> Path | None:
    try:
        return Path(hub.snapshot_download(hub_id, local_files_only=True))
    except Exception:  # not there; why it cannot be fetched is said afterwards
        return None


@contextmanager
def _quiet_on_a_pipe() -> Iterator[None]:
    constants = import_module("huggingface_hub.constants")
    utils = import_module("huggingface_hub.utils")
    asked_for = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # by the user, either way
    if asked_for or sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
