"""Making a golden case from any checkpoint: for a port's own tests, with refimpl as the truth."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.folder import INDEX, TORCH_INDEX, find_weights, read_json
from refimpl.checkpoints.writing import (
    Pending,
    json_bytes,
    new_folder,
    write_file,
    write_safetensors,
)
from refimpl.models.model import load
from refimpl.parity.dumps.dump import Arrays
from refimpl.parity.floors import RUNS, Floors, measure_floors, write_floors
from refimpl.parity.goldens import FORMAT, Golden, digest, read_golden, split
from refimpl.parity.reference import run_reference

COPY, LINK, LEAVE = "copy", "link", "leave"
WEIGHTS = {
    COPY: "copied into the case",
    LINK: "linked to where they are",
    LEAVE: "left out; the case has their hash",
}
GOLDEN = "golden.safetensors"
_DTYPES = {"float64": "F64", "int64": "I64", "bool": "BOOL"}

Track = Callable[[Iterable[int]], Iterable[int]]


def make_case(
    checkpoint: Path,
    inputs: Mapping[str, Any],
    dest: Path,
    *,
    architecture: str | None = None,
    what: str = "",
    weights: str = COPY,
    arithmetics: Sequence[str] = ("float32",),
    runs: int = RUNS,
    track: Track = iter,
) -> Golden:
    """Write the case folder ``dest``: what ``checkpoint`` computes of ``inputs`` in float64.

    ``inputs`` are the arguments of the call; ``weights`` one of ``WEIGHTS``. Beside the golden
    stand the floors of each of ``arithmetics``, measured from ``runs`` honest runs.

    Raises ``CheckpointError`` for a checkpoint that cannot be read and a ``dest`` that is taken,
    ``ValueError`` and ``TypeError`` for inputs that the model does not take.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights: expected one of {', '.join(WEIGHTS)}, got {weights!r}")
    checkpoint = checkpoint.resolve()
    model = load(checkpoint, architecture, dtype="float64", kernels="plain")
    call = {name: _as_array(x) for name, x in inputs.items() if x is not None}
    dump = run_reference(model, call)
    floors = [measure_floors(model, call, name, runs, track) for name in arithmetics]
    arrays = split({name: x for name, x in call.items() if not isinstance(x, bool)})
    parts = {"input": arrays, "tap": dump.taps, "output": dump.outputs}
    description = {
        "format": FORMAT,
        "what": what or f"{model.architecture} of {checkpoint.name}",
        "architecture": model.architecture,
        "made_by": _made_by(),
        "goldens": {"float64": GOLDEN},
        "flags": {name: x for name, x in call.items() if isinstance(x, bool)},
        **{f"{kind}s": _describe(part) for kind, part in parts.items()},
    }
    tensors = {f"{kind}.{name}": x for kind, part in parts.items() for name, x in part.items()}
    _write(checkpoint, dest, tensors, description, floors, weights)
    return read_golden(dest)


def _write(
    checkpoint: Path,
    dest: Path,
    tensors: Arrays,
    description: dict[str, Any],
    floors: Sequence[Floors],
    weights: str,
) -> None:
    """Write the folder, or nothing."""
    files = weight_files(checkpoint)
    size = sum(x.nbytes for x in tensors.values())
    size += sum(f.stat().st_size for f in files) if weights == COPY else 0
    config = read_json(checkpoint / "config.json")
    with new_folder(dest, size) as folder:
        hashes = _put_weights(files, folder, weights)
        config["architectures"] = [description["architecture"]]
        write_file(folder / "config.json", json_bytes(config))
        for _ in write_safetensors(folder / GOLDEN, {n: _pending(x) for n, x in tensors.items()}):
            pass
        hashes |= {name: digest(folder / name) for name in ("config.json", GOLDEN)}
        # Not json_bytes, which sorts: the order of the taps is that of the computation.
        text = json.dumps({**description, "sha256": hashes}, indent=1, ensure_ascii=False) + "\n"
        write_file(folder / "golden.json", text.encode())
        write_floors(read_golden(folder), floors)


def weight_files(checkpoint: Path) -> list[Path]:
    """Return the files that hold a checkpoint's weights, and their index where there is one.

    Raises ``CheckpointError`` where there are none.
    """
    path, _ = find_weights(checkpoint)
    if path.name not in (INDEX, TORCH_INDEX):
        return [path]
    shards = set(read_json(path).get("weight_map", {}).values())
    return [path, *(checkpoint / name for name in sorted(shards))]


def _put_weights(files: Sequence[Path], folder: Path, weights: str) -> dict[str, str]:
    """Copy or link the files, or neither; return their hashes."""
    for file in files:
        if weights == COPY:
            shutil.copyfile(file, folder / file.name)
        elif weights == LINK:
            (folder / file.name).symlink_to(file)
    return {file.name: digest(file) for file in files}


def _as_array(x: Any) -> Any:
    """Lists -> arrays, of int64 or float64; flags and tuples of arrays as they are."""
    if isinstance(x, bool | tuple):
        return x
    array = numpy.asarray(x)
    return array.astype(numpy.float64 if array.dtype.kind == "f" else numpy.int64)


def _pending(x: numpy.ndarray) -> Pending:
    return Pending(_DTYPES[x.dtype.name], x.shape, lambda: x)


def _describe(part: Arrays) -> dict[str, Any]:
    return {
        name: {"dtype": "float" if x.dtype.kind == "f" else x.dtype.name, "shape": list(x.shape)}
        for name, x in part.items()
    }


def _made_by() -> dict[str, str]:
    return {
        "implementation": "refimpl, float64, kernels 'plain'",
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
