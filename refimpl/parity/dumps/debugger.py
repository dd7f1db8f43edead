"""What transformers' ``model_addition_debugger_context`` leaves: a tree of modules in JSON.

Each module has its inputs, and one without children its outputs. With ``use_repr=False`` the
numbers are in safetensors files beside the JSON; otherwise they are printed in it, abbreviated
beyond a thousand numbers and with five digits. Printed numbers are taken where they say exactly
what the tensor held, and where they do not they are left out: ``about["left_out"]`` has the reason.

A module's output is called by its path, without the class in front, and what goes into it
``PATH.inputs.0`` or ``PATH.inputs.NAME``. A module that is called again has ``#2`` behind it.

Source: ``model_debugging_utils.py`` of transformers 4.57.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.checkpoints.folder import size_of
from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.numbers import Numbers, dump_of, shown
from refimpl.parity.dumps.printed import parse_printed, why_inexact

FULL, SUMMARY = "_debug_tree_FULL_TENSORS.json", "_debug_tree_SUMMARY.json"
DEEPEST = 64  # modules, and containers in what they are given
FIRST_ARGUMENTS = ("input_ids", "attention_mask")  # of every model of the family


class Found(NamedTuple):
    """A tensor in the tree."""

    kind: str
    name: str
    value: dict[str, Any]  # shape, dtype, value


def is_debugger(value: Any) -> bool:
    """Tell whether a JSON value is a tree of the debugger."""
    return isinstance(value, dict) and isinstance(value.get("module_path"), str)


def find_tree(folder: Path) -> Path | None:
    """Return the tree of a folder that the debugger wrote; None where there is none.

    Raises ``CheckpointError`` where there are several, or only a summary.
    """
    full, summaries = sorted(folder.glob(f"*{FULL}")), sorted(folder.glob(f"*{SUMMARY}"))
    if len(full) > 1:
        raise CheckpointError(
            f"{folder}: expected one tree, found {', '.join(p.name for p in full)}"
        )
    if summaries and not full:
        raise _no_values(summaries[0])
    return full[0] if full else None


def read_debugger(tree: dict[str, Any], path: Path) -> Dump:
    """Return the dump of the tree that stands in the file ``path``, and of the files beside it.

    Raises ``CheckpointError`` for what is no tree, and where it has no values.
    """
    found = list(_walk(tree, path, 0))
    if found and not any("value" in x.value for x in found):
        raise _no_values(path)
    found += _outputs_beside(tree, path)
    left_out: dict[str, str] = {}
    numbers: list[tuple[str, str, Numbers]] = []
    counts: dict[tuple[str, str], int] = {}
    files = {x.value["value"]: i for i, x in enumerate(found) if _is_file(x)}
    for i, (kind, name, value) in enumerate(found):
        counts[kind, name] = counts.get((kind, name), 0) + 1
        if counts[kind, name] > 1:
            name = f"{name}#{counts[kind, name]}"
        reason = _why_inexact(value)
        if _is_file(found[i]) and files[value["value"]] != i:
            reason = "a later call wrote over its file"
        if reason:
            left_out[name] = reason
        else:
            numbers.append((kind, name, _read(value, path, name)))
    if not numbers:
        reason = next(iter(left_out.values()), "there are no tensors")
        raise CheckpointError(
            f"{path}: no tensor can be read from it ({reason}); record with use_repr=False"
        )
    about: dict[str, Any] = {"format": "model_addition_debugger", "made_by": "transformers"}
    return dump_of(numbers, about | ({"left_out": left_out} if left_out else {}), path)


def _no_values(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: a summary holds mean, std, min and max, and no values to compare: "
        f"take the file that ends in {FULL}"
    )


def _walk(node: Any, path: Path, depth: int) -> Iterator[Found]:
    """Give the tensors of a module and of its children, in the order of the calls."""
    if not is_debugger(node):
        raise CheckpointError(f"{path}: expected modules, each with its 'module_path'")
    if depth > DEEPEST:
        raise CheckpointError(f"{path}: expected up to {DEEPEST} modules in one another")
    place = node["module_path"].partition(".")[2]
    given = node.get("inputs") or {}
    for part in ("args", "kwargs"):
        values = given.get(part) if isinstance(given, dict) else None
        for way, value in _tensors(values, (), 0):
            yield _input(place, way, value)
    children = node.get("children") or []
    if not isinstance(children, list):
        raise CheckpointError(f"{path}: {shown(place)}: expected a list 'children'")
    for child in children:
        yield from _walk(child, path, depth + 1)
    for way, value in _tensors(node.get("outputs"), (), 0):
        name = ".".join((place, *way) if place else way)
        yield Found("tap" if place else "output", name or "output", value)


def _input(place: str, way: tuple[str, ...], value: dict[str, Any]) -> Found:
    """Name what goes into a module; the arguments of the model itself are the dump's inputs."""
    if place:
        return Found("tap", ".".join((place, "inputs", *way)), value)
    if len(way) == 1 and way[0] in ("0", "1"):
        return Found("input", FIRST_ARGUMENTS[int(way[0])], value)
    return Found("input", ".".join(way), value)


def _tensors(
    value: Any, way: tuple[str, ...], depth: int
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Give the tensors in nested lists and objects with the way to them."""
    if depth > DEEPEST:
        raise CheckpointError(f"{shown('.'.join(way))}: expected up to {DEEPEST} containers")
    if isinstance(value, dict):
        if isinstance(value.get("shape"), str) and isinstance(value.get("dtype"), str):
            yield way, value
            return
        for key, x in value.items():
            yield from _tensors(x, (*way, key), depth + 1)
    elif isinstance(value, list):
        for i, x in enumerate(value):
            yield from _tensors(x, (*way, str(i)), depth + 1)


def _outputs_beside(tree: dict[str, Any], path: Path) -> list[Found]:
    """The model's outputs: the tree drops them, their files are there with use_repr=False."""
    if tree.get("outputs"):
        return []
    prefix = f"{tree['module_path']}_outputs_"
    if "/" in prefix or not path.parent.is_dir():
        return []
    files = sorted(f for f in path.parent.iterdir() if f.name.startswith(prefix))
    named = [f for f in files if f.suffix == ".safetensors"]
    return [
        Found("output", _field(f.stem.removeprefix(prefix)), {"value": f"./{f.name}"})
        for f in sorted(named, key=lambda f: _numbered(f.stem))
    ]


def _field(name: str) -> str:
    """Return the name of an output: "hidden_states_2" is the third of "hidden_states"."""
    return re.sub(r"_(?=\d+(_\d+)*$)", ".", name)


def _numbered(text: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", text)
    return [(int(x), "") if x.isdecimal() and len(x) < 19 else (0, x) for x in parts]


def _is_file(found: Found) -> bool:
    return isinstance(found.value.get("value"), str)


def _why_inexact(value: dict[str, Any]) -> str:
    """Return why a tensor cannot be had, although all is well with the tree."""
    if "value" not in value:
        return "it has no values"
    lines = value["value"]
    return why_inexact(_joined(lines), value["dtype"]) if isinstance(lines, list) else ""


def _joined(lines: list[Any]) -> str:
    return "\n".join(line for line in lines if isinstance(line, str))


def _read(value: dict[str, Any], path: Path, name: str) -> Numbers:
    """Return the numbers of a tensor, from its file or as they are printed."""
    stored = value["value"]
    if isinstance(stored, list):
        try:
            return parse_printed(_joined(stored), value["dtype"], value["shape"])
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {shown(name)}: {error}") from None
    file = str(stored).removeprefix("./")
    if not isinstance(stored, str) or set("/\\") & set(file) or file in ("", ".", ".."):
        raise CheckpointError(
            f"{path}: {shown(name)}: expected a file beside it, got {stored!r:.60}"
        )
    size_of(path.parent / file)
    tensors = SafetensorsFile(path.parent / file)
    if list(tensors) != ["data"]:
        raise CheckpointError(f"{path.parent / file}: expected one tensor, 'data'")
    return Numbers(tensors.dtype("data"), tensors.stored("data"))
