"""Polygraphy's JSON: results of runners, or inputs, each array a ``.npy`` file in base64.

A file of results holds runners, a runner iterations, an iteration arrays by name. Where there are
several, a path says which: ``out.json#1`` is the second runner, ``out.json#1.2`` its third
iteration.

Source: Polygraphy 0.49 to 0.53, ``json/serde.py`` and ``comparator/struct.py``.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from refimpl.errors import CheckpointError
from refimpl.parity.dumps.numbers import Numbers, shown
from refimpl.parity.dumps.numpy_files import npy_bytes, parse_npy
from refimpl.parity.dumps.torch_files import read_torch

CLASS = "polygraphy_class"


def is_polygraphy(value: Any) -> bool:
    """Tell whether a JSON value is of results of runs, or of inputs."""
    if isinstance(value, dict):
        return isinstance(value.get("lst"), list)
    arrays = (
        value[0].values()
        if isinstance(value, list) and value and isinstance(value[0], dict)
        else ()
    )
    return any(isinstance(x, dict) and CLASS in x for x in arrays)


def read_results(value: Any, part: str, where: object) -> tuple[dict[str, Numbers], str]:
    """Return the arrays of one iteration by name, and the name of its runner.

    ``part`` is "", "RUNNER" or "RUNNER.ITERATION", by number from 0 on. Raises
    ``CheckpointError``, naming ``where``, also where there are several and ``part`` chooses none.
    """
    chosen = re.fullmatch(r"(?:(\d{1,6})(?:\.(\d{1,6}))?)?", part)
    if chosen is None:
        raise CheckpointError(f"{where}: expected #RUNNER or #RUNNER.ITERATION, got #{part[:60]}")
    runners = value["lst"]
    if not all(map(_is_runner, runners)):
        raise CheckpointError(f"{where}: expected runners with their iterations")
    names = [name for name, _ in runners]
    i = _choose(chosen[1], names, f"{where}: runners", "#")
    _, iterations = runners[i]
    j = _choose(
        chosen[2], [""] * len(iterations), f"{where}: iterations of {shown(names[i])}", f"#{i}."
    )
    return _arrays(_object(_object(iterations[j], where).get("outputs"), where), where), names[i]


def read_inputs(value: list[Any], part: str, where: object) -> dict[str, Numbers]:
    """Return the arrays of one iteration of a file of inputs; ``part`` is its number, or ""."""
    if not re.fullmatch(r"\d{0,6}", part):
        raise CheckpointError(f"{where}: expected #ITERATION, got #{part[:60]}")
    i = _choose(part or None, [""] * len(value), f"{where}: iterations", "#")
    return _arrays(_object(value[i], where), where)


def _object(value: Any, where: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected arrays by name")
    return value


def _is_runner(x: Any) -> bool:
    return isinstance(x, list) and len(x) == 2 and isinstance(x[0], str) and isinstance(x[1], list)


def _choose(number: str | None, names: Sequence[str], what: str, prefix: str) -> int:
    """Return the place that a number names, or the only one."""
    if not names:
        raise CheckpointError(f"{what}: there is none")
    if number is None and len(names) > 1:
        known = ", ".join(f"{prefix}{i} {name[:60]}".rstrip() for i, name in enumerate(names[:20]))
        raise CheckpointError(f"{what}: expected one, choose by writing behind the path: {known}")
    chosen = int(number or 0)
    if chosen >= len(names):
        raise CheckpointError(f"{what}: there is no {prefix}{chosen}, they are {len(names)}")
    return chosen


def _arrays(values: Mapping[str, Any], where: object) -> dict[str, Numbers]:
    return {name: _array(x, f"{where}: {shown(name)}") for name, x in values.items()}


def _array(value: Any, where: str) -> Numbers:
    """Return the array of ``{"array": base64}``, or of ``{"values": {"array": base64}}``."""
    if isinstance(value, dict) and "values" in value:
        value = value["values"]
    kind = next((k for k in ("array", "tensor") if isinstance(value, dict) and k in value), None)
    if kind is None or not isinstance(value[kind], str):
        raise CheckpointError(f"{where}: expected an array in base64")
    try:
        content = base64.b64decode(value[kind], validate=True)
    except (binascii.Error, ValueError) as error:
        raise CheckpointError(f"{where}: expected base64: {error}") from None
    if kind == "array":
        return parse_npy(numpy.frombuffer(content, numpy.uint8), where)
    return _torch_tensor(content, where)


def _torch_tensor(content: bytes, where: str) -> Numbers:
    """Return the tensor of a file of torch.save, which is what a runner of PyTorch leaves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensor.pt"
        path.write_bytes(content)
        try:
            found = read_torch(path)
        except CheckpointError as error:
            raise CheckpointError(f"{where}: {str(error).replace(str(path), 'tensor')}") from None
        if list(found) != ["tensor"]:
            raise CheckpointError(f"{where}: expected one tensor")
        dtype, bits = found["tensor"]
        return Numbers(dtype, bits.copy())  # the file goes away


def results_bytes(arrays: Mapping[str, numpy.ndarray], runner: str) -> bytes:
    """Return a file of results: one iteration of one runner."""
    outputs = {name: {"values": _encoded(x), CLASS: "LazyArray"} for name, x in arrays.items()}
    iteration = {
        "outputs": outputs, "runtime": None, "runner_name": runner, CLASS: "IterationResult",
    }  # fmt: skip
    return _text({"lst": [[runner, [iteration]]], CLASS: "RunResults"})


def inputs_bytes(arrays: Mapping[str, numpy.ndarray]) -> bytes:
    """Return a file of inputs, as ``--load-inputs`` reads it: one iteration."""
    return _text([{name: _encoded(x) for name, x in arrays.items()}])


def _encoded(array: numpy.ndarray) -> dict[str, str]:
    return {"array": base64.b64encode(npy_bytes(array)).decode(), CLASS: "ndarray"}


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()
