"""Operation cards: what the originals make of chosen inputs, one operation at a time.

``golden/ops`` holds a safetensors file for each operation (``<case>.input.<name>``,
``<case>.output``), ``cards.json``, which tells what they are, and ``floors.safetensors``, how far
off an honest implementation may be. ``docs/cards.md`` has the whole format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.folder import read_json
from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.errors import CheckpointError
from refimpl.parity.floors import Floor, Floors
from refimpl.parity.goldens import bundled

FORMAT = 1
ARITHMETICS = ("float64", "float32", "float16", "bfloat16")  # the rows of a tensor of floors
FLOORS_FILE, FLOORS_JSON = "floors.safetensors", "floors.json"

Arrays = Mapping[str, numpy.ndarray]


@dataclass(frozen=True)
class CardCase:
    """One call of an operation, and what the original makes of it."""

    name: str  # "layer_norm.eps_dominates"
    what: str
    note: str  # what the original does that a reader would not expect; or ""
    arithmetics: tuple[str, ...]  # those that hold its inputs exactly
    inputs: Arrays
    output: numpy.ndarray  # float64, ids or booleans
    overflows: Arrays = field(
        default_factory=dict
    )  # arithmetic -> the original's output, where it is not finite there

    @property
    def key(self) -> str:
        """The name under which a dump holds its output."""
        return f"{self.name}.output"


@dataclass(frozen=True)
class Card:
    """One operation, or one step of several, with its cases."""

    name: str
    what: str  # in words or as a formula
    ours: str | None  # our function; None for a step of several
    theirs: str  # the original's
    source: str
    uses: tuple[str, ...]  # the cards of the operations that it is made of
    shapes: Mapping[str, str]
    meaning: Mapping[str, str]
    cases: Mapping[str, CardCase]

    def arguments(self, case: CardCase) -> dict[str, Any]:
        """The inputs of a case as a function takes them: arrays, and plain numbers for options."""
        return {
            name: x.item() if self.shapes.get(name) == "()" else x
            for name, x in case.inputs.items()
        }


def cards_folder(path: str | Path | None = None) -> Path:
    """The folder of cards: ``path``, or that of the bundled ones."""
    return bundled() / "ops" if path is None else Path(path)


def read_cards(path: str | Path | None = None) -> dict[str, Card]:
    """Read the cards of a folder, by name; None is the bundled ones.

    Raises ``CheckpointError`` where there are none, or a file is not the one described.

    >>> read_cards()["softmax"].cases["one_key"].output.tolist()
    [[1.0], [1.0], [1.0]]
    """
    return dict(_bundled_cards()) if path is None else _read_cards(Path(path))


@cache
def _bundled_cards() -> dict[str, Card]:
    return _read_cards(cards_folder())  # mapped files, read once


def _read_cards(folder: Path) -> dict[str, Card]:
    description = _described(folder / "cards.json", {"format", "cards"})
    return {name: _card(folder, name, entry) for name, entry in description["cards"].items()}


def _described(file: Path, keys: set[str]) -> dict[str, Any]:
    description = read_json(file)
    missing = keys - set(description)
    if missing or description["format"] != FORMAT:
        got = f"no {', '.join(sorted(missing))}" if missing else f"format {description['format']}"
        raise CheckpointError(f"{file}: expected format {FORMAT}, got {got}")
    return description


def _card(folder: Path, name: str, entry: Mapping[str, Any]) -> Card:
    tensors = _open(folder / entry["file"], entry["sha256"])
    cases = {key: _case(f"{name}.{key}", key, x, tensors) for key, x in entry["cases"].items()}
    parts = {key: entry[key] for key in ("what", "ours", "theirs", "source", "shapes", "meaning")}
    return Card(name, uses=tuple(entry["uses"]), cases=cases, **parts)


def _open(file: Path, digest: str) -> SafetensorsFile:
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
        raise CheckpointError(f"{file}: is not the file that is described beside it")
    return SafetensorsFile(file)


def _case(
    name: str, key: str, entry: Mapping[str, Any], tensors: Mapping[str, numpy.ndarray]
) -> CardCase:
    start = f"{key}.input."
    return CardCase(
        name,
        entry["what"],
        entry.get("note", ""),
        tuple(entry["arithmetics"]),
        {x.removeprefix(start): tensors[x] for x in tensors if x.startswith(start)},
        tensors[f"{key}.output"],
        {a: tensors[f"{key}.output.{a}"] for a in entry["overflows"]},
    )


def read_floors(path: str | Path | None = None) -> dict[str, Floors]:
    """Read how far off honest implementations of each case are, by arithmetic.

    Raises ``CheckpointError`` where that is missing, or was measured on other cards.
    """
    return dict(_bundled_floors()) if path is None else _read_floors(Path(path))


@cache
def _bundled_floors() -> dict[str, Floors]:
    return _read_floors(cards_folder())


def _read_floors(folder: Path) -> dict[str, Floors]:
    about = _described(folder / FLOORS_JSON, {"format", "runs", "multiplier", "cards", "sha256"})
    rows = _open(folder / FLOORS_FILE, about["sha256"])
    listed = read_json(folder / "cards.json").get("cards", {})
    for name, digest in about["cards"].items():
        if listed.get(name, {}).get("sha256") != digest:
            raise CheckpointError(f"{folder / FLOORS_JSON}: was measured on another card {name}")
    return {
        arithmetic: Floors(
            arithmetic,
            about["runs"],
            about["multiplier"],
            {name: Floor(*map(float, rows[name][i])) for name in rows},
            {},
        )
        for i, arithmetic in enumerate(ARITHMETICS)
    }
