"""A folder with ``manifest.json``: a description of a dump, and for each tensor the file it is in.

Raw files (``.bin``: the numbers row by row, the low byte first), ``.npy``, ONNX's ``.pb``, or the
arrays of Polygraphy's JSON: what another program can read, with what its format has no place for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy

from refimpl.checkpoints.folder import size_of
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.description import Described, read_description
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.json_files import read_json_file
from refimpl.parity.dumps.numbers import Numbers, dump_of, shaped, shown
from refimpl.parity.dumps.numpy_files import map_file, read_npy
from refimpl.parity.dumps.onnx_files import read_tensor_file
from refimpl.parity.dumps.polygraphy import read_inputs, read_results

MANIFEST = "manifest.json"


def is_manifest(value: Any) -> bool:
    """Tell whether a JSON value is a manifest of ours."""
    return isinstance(value, dict) and {"format", "about", "tensors"} <= set(value)


def read_manifest_folder(folder: Path) -> Dump:
    """Return the dump in a folder with a manifest.

    Raises ``CheckpointError`` for a file that is missing, outside the folder, or not as described.
    """
    path = folder / MANIFEST
    about, tensors = read_description(read_json_file(path), path)
    read = partial(_read_tensor, folder, cache(_read_arrays))
    found: Iterator[tuple[str, str, Numbers]] = ((x.kind, x.name, read(x)) for x in tensors)
    return dump_of(found, about, path)


def _read_tensor(
    folder: Path, read_arrays: Callable[[Path], dict[str, Numbers]], tensor: Described
) -> Numbers:
    """Return a tensor's numbers; of bfloat16 as which they are described, not as they are kept."""
    file, _, key = tensor.file.partition("#")
    parts = PurePosixPath(file).parts
    if not parts or PurePosixPath(file).is_absolute() or {"..", "\\"} & {*parts, *file}:
        raise CheckpointError(
            f"{folder / MANIFEST}: {shown(tensor.full_name)}: expected a file of the folder, "
            f"got {shown(file)}"
        )
    path = folder / file
    if path.suffix == ".bin":
        return _read_raw(path, tensor)
    if path.suffix == ".npy":
        numbers = read_npy(path)
    elif path.suffix == ".pb":
        numbers = read_tensor_file(path)[1]
    else:
        arrays = read_arrays(path)
        if key not in arrays:
            raise CheckpointError(f"{path}: there is no array {shown(key)}")
        numbers = arrays[key]
    return as_described(numbers, tensor, path)


def as_described(numbers: Numbers, tensor: Described, where: object) -> Numbers:
    """Return numbers as the manifest says; ``CheckpointError`` where they are others."""
    stored = "U16" if tensor.dtype == "BF16" and numbers.dtype == "U16" else tensor.dtype
    if (numbers.dtype, numbers.bits.shape) != (stored, tensor.shape):
        raise CheckpointError(
            f"{where}: {shown(tensor.full_name)}: expected {stored} of shape {tensor.shape}, got "
            f"{numbers.dtype} of {numbers.bits.shape}"
        )
    return Numbers(tensor.dtype, numbers.bits)


def _read_raw(path: Path, tensor: Described) -> Numbers:
    content = map_file(path) if size_of(path) else numpy.empty(0, numpy.uint8)
    return shaped(content, tensor.dtype, tensor.shape, f"{path}: {shown(tensor.full_name)}")


def _read_arrays(path: Path) -> dict[str, Numbers]:
    """Return the arrays of a file of Polygraphy: results, or inputs."""
    value = read_json_file(path)
    if isinstance(value, dict) and isinstance(value.get("lst"), list):
        return read_results(value, "", path)[0]
    if isinstance(value, list):
        return read_inputs(value, "", path)
    raise CheckpointError(f"{path}: expected arrays of Polygraphy")
