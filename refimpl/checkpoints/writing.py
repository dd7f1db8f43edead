"""Writing a checkpoint folder: all of it, or nothing that looks like one.

Weights are streamed: the header of a safetensors file needs names, dtypes and shapes only, so one
tensor at a time is read, written and forgotten, whatever the size of the checkpoint. All files go
to a hidden folder beside the one that was asked for, ``config.json`` last; when they are on the
disk, the folder gets its name. A run that is killed leaves no more than the hidden folder
``.NAME.xxxxxxxx.partial``, which may be deleted.

Source of the layout: the format description in the safetensors README; names of shards and of
their index as ``save_pretrained`` of transformers 4.57.6 writes them.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from refimpl.checkpoints.folder import INDEX, SINGLE, open_tensors
from refimpl.checkpoints.pytorch.tensors import item_size
from refimpl.checkpoints.safetensors_file import LARGEST_HEADER, widen_bfloat16
from refimpl.errors import CheckpointError

SHARD_BYTES = 5 * 10**9  # no file is larger, unless a single tensor is: "5GB" in transformers
REAL = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}  # and BF16, which NumPy does not have


class Pending(NamedTuple):
    """A tensor that is yet to be read: what it is, and how to get it."""

    dtype: str  # as safetensors names it: "F32", "F16", "BF16", ...
    shape: tuple[int, ...]
    read: Callable[[], numpy.ndarray]  # its numbers; those of BF16 as the bits of a uint16

    @property
    def size(self) -> int:
        """How many bytes it takes in a file."""
        return item_size(self.dtype) * math.prod(self.shape)


@dataclass
class Checkpoint:
    """A checkpoint in Hugging Face layout that is yet to be written."""

    config: dict[str, Any]  # config.json
    tensors: dict[str, Pending]
    files: dict[str, bytes] = field(default_factory=dict)  # those of the tokenizer
    notes: list[str] = field(default_factory=list)  # what whoever converts should know

    @property
    def architecture(self) -> str:
        """The class whose checkpoint it is."""
        return str(self.config["architectures"][0])

    @property
    def size(self) -> int:
        """How many bytes the weights take."""
        return sum(tensor.size for tensor in self.tensors.values())


def in_dtype(tensors: Mapping[str, Pending], dtype: str) -> dict[str, Pending]:
    """Return tensors whose real numbers will be "F32" or "F16"; integers stay what they are.

    Reading one raises ``CheckpointError`` where a number is too large for float16.
    """
    return {
        name: _converted(name, tensor, dtype) if tensor.dtype in (*REAL, "BF16") else tensor
        for name, tensor in tensors.items()
    }


def _converted(name: str, tensor: Pending, dtype: str) -> Pending:
    def read() -> numpy.ndarray:
        x = tensor.read()
        x = widen_bfloat16(x) if tensor.dtype == "BF16" else x
        with numpy.errstate(over="ignore"):  # it is looked for, and named, in the next line
            y = x.astype(REAL[dtype])
        if dtype == "F16" and numpy.isinf(y).sum() > numpy.isinf(x).sum():
            raise CheckpointError(
                f"{name}: expected numbers up to 65504, the largest of float16, got "
                f"{numpy.abs(x[numpy.isfinite(x)]).max():g}"
            )
        return y

    return tensor if tensor.dtype == dtype else Pending(dtype, tensor.shape, read)


def write_checkpoint(
    dest: Path, checkpoint: Checkpoint, check: Callable[[Path], object] = lambda folder: None
) -> Iterator[str]:
    """Write a checkpoint to the folder ``dest``; yield each tensor's name when it is written.

    ``check`` is called with the finished folder before it gets its name; what it raises, like
    every other error, leaves nothing behind. ``dest`` must not exist, or be an empty folder.

    Raises ``CheckpointError`` for a ``dest`` that is taken and for a disk that is full.
    """
    with new_folder(dest, checkpoint.size) as folder:
        yield from write_weights(folder, checkpoint.tensors, SHARD_BYTES)
        for name, content in checkpoint.files.items():
            write_file(folder / name, content)
        write_file(folder / "config.json", json_bytes(checkpoint.config))
        try:
            check(folder)
        except CheckpointError as error:  # the hidden folder's name would tell nobody anything
            raise CheckpointError(str(error).replace(str(folder), str(dest))) from None


@contextmanager
def new_folder(dest: Path, size: int = 0) -> Iterator[Path]:
    """Give a hidden folder to fill, which becomes ``dest`` when all went well.

    ``size``: how many bytes there must be room for. Raises ``CheckpointError``, naming ``dest``.
    """
    path = dest.resolve()
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        check_free(dest, path, size)
        partial.mkdir()
        yield partial
        sync(partial)
        if path.exists():
            path.rmdir()  # it was empty, or this raises
        partial.rename(path)
        sync(path.parent)
    except OSError as error:
        raise CheckpointError(f"{dest}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(dest: Path, path: Path, size: int) -> None:
    """Raise ``CheckpointError`` unless ``path`` is free, and its disk has room for ``size``."""
    if path.is_dir() and any(path.iterdir()):
        raise CheckpointError(f"{dest}: expected a folder that is new or empty, it holds files")
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{dest}: expected a folder that is new or empty, it is a file")
    if not path.parent.is_dir():
        raise CheckpointError(f"{dest}: there is no folder {path.parent} to write it to")
    room = shutil.disk_usage(path.parent).free
    if room < size:
        raise CheckpointError(
            f"{dest}: expected room for {size / 1e9:.1f} GB on the disk, got {room / 1e9:.1f} GB"
        )


def sync(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do so."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Return an object as the text of a JSON file."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_file(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_weights(folder: Path, tensors: Mapping[str, Pending], limit: int) -> Iterator[str]:
    """Write ``model.safetensors``, or shards of up to ``limit`` bytes and their index.

    Yields each tensor's name when it is written.
    Raises ``CheckpointError`` where what was written reads otherwise.
    """
    shards = plan_shards({name: tensor.size for name, tensor in tensors.items()}, limit)
    count = len(shards)
    files = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    for file, names in zip(files if count > 1 else [SINGLE], shards, strict=True):
        yield from write_safetensors(folder / file, {name: tensors[name] for name in names})
    if count > 1:
        index = {
            "metadata": {"total_size": sum(tensor.size for tensor in tensors.values())},
            "weight_map": {n: f for f, names in zip(files, shards, strict=True) for n in names},
        }
        write_file(folder / INDEX, json_bytes(index))
    written = open_tensors(folder)  # as any reader would: our own header could be wrong
    if {n: written.shape(n) for n in written} != {n: x.shape for n, x in tensors.items()}:
        raise CheckpointError(f"{folder}: does not hold what was written")


def plan_shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Deal tensors out to files, in order, so that no file exceeds ``limit`` if it can be helped.

    >>> plan_shards({"a": 4, "b": 5, "c": 20, "d": 1}, 10)
    [['a', 'b'], ['c'], ['d']]
    """
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= size
    return shards or [[]]


def write_safetensors(
    path: Path, tensors: Mapping[str, Pending], metadata: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Write one safetensors file; yield each tensor's name when it is written.

    ``metadata`` None says that a checkpoint is for PyTorch, as transformers demands. Raises
    ``ValueError``, and writes nothing, where the header would be longer than readers take.
    """
    # The widest numbers first: so every tensor begins at a multiple of its numbers' size.
    names = sorted(tensors, key=lambda name: -item_size(tensors[name].dtype))
    header: dict[str, Any] = {"__metadata__": metadata or {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + tensors[name].size
        shape = list(tensors[name].shape)
        header[name] = {"dtype": tensors[name].dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"{len(tensors)} tensors: expected up to {LARGEST_HEADER} bytes of names")
    with path.open("xb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            file.write(_bytes_of(name, tensors[name]))
            yield name
        file.flush()
        os.fsync(file.fileno())


def _bytes_of(name: str, tensor: Pending) -> memoryview:
    """Return a tensor's numbers as they stand in a file: row by row, the low byte first."""
    x = tensor.read()
    if x.shape != tensor.shape or x.nbytes != tensor.size:
        raise CheckpointError(
            f"{name}: expected {tensor.dtype} of shape {tensor.shape}, got {x.dtype} of {x.shape}"
        )
    x = numpy.ascontiguousarray(x, dtype=x.dtype.newbyteorder("<")).reshape(-1)
    return x.view(numpy.uint8).data
