"""The registry: which checkpoints were published, and which numbers were published for them.

``registry.json`` is data with sources, to be read by people too; ``registry.safetensors`` holds the
arrays that are too long for it. ``tools/make_registry.py`` writes both. A registry of one's own has
the same form: any JSON file, with a safetensors file of the same stem beside it where a number is
an array.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy

from refimpl.checkpoints.folder import size_of
from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.errors import CheckpointError

FORMAT = 1
TRUST = ("high", "medium", "low")

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Published:
    """A published checkpoint: what is known of its files. ``None`` is not known."""

    id: str  # on the hub
    family: str  # xlm, xlm_roberta, xlm_roberta_xl, xmod
    architecture: str  # the class that its config.json names; "class" in the file
    config: Mapping[str, Any] = field(default_factory=dict)  # values seen in the published file
    inferred: Mapping[str, Any] = field(default_factory=dict)  # values that other sources give
    unknown: list[str] = field(default_factory=list)  # values that no source gives
    aliases: list[str] = field(default_factory=list)  # older hub ids
    original: Mapping[str, Any] | None = None  # the authors' archive: file, url
    tensors: int | None = None  # their number, tied ones once
    parameters: int | None = None  # their elements
    claimed: str | None = None  # the number of parameters that the authors name
    tokenizer: Mapping[str, Any] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Number:
    """A published number (or array, or text): what went in, what came out, and who says so."""

    name: str
    of: str | None  # a checkpoint's id, or a group of them
    kind: str  # hidden, mlm_logits, tokenizer, fill_mask, ...: see refimpl/parity/published.py
    source: str
    trust: str  # how far the source can be trusted: high, medium, low
    inputs: Mapping[str, Any] = field(default_factory=dict)
    value: Mapping[str, Any] = field(default_factory=dict)  # which output, and what of it
    expected: Any = None
    tolerance: Mapping[str, Any] | None = None  # atol, rtol; None is exact
    not_recomputed: str = ""  # why it cannot be, where it cannot
    published: Any = None  # in the source's own form, where it cannot be recomputed
    note: str = ""


@dataclass(frozen=True)
class Registry:
    """Published checkpoints and the numbers published for them."""

    path: Path
    checkpoints: tuple[Published, ...]
    numbers: tuple[Number, ...]
    groups: Mapping[str, list[str]]  # checkpoints that share numbers

    def find(self, name: str) -> Published | None:
        """Return the checkpoint that has ``name`` as its hub id, or as an older one."""
        return next((c for c in self.checkpoints if name in (c.id, *c.aliases)), None)

    def numbers_of(self, hub_id: str) -> list[Number]:
        """Return the numbers published for a checkpoint, alone or in a group."""
        names = {hub_id, *(name for name, ids in self.groups.items() if hub_id in ids)}
        return [number for number in self.numbers if number.of in names]

    def array(self, name: str) -> numpy.ndarray:
        """Return an array of the safetensors file beside the registry.

        Raises ``CheckpointError`` where it has none of this name.
        """
        arrays = SafetensorsFile(self.path.with_suffix(".safetensors"))
        if name not in arrays:
            raise CheckpointError(f"{arrays.path}: expected an array {name!r}, found none")
        return arrays[name]


BUNDLED = Path(__file__).with_name("registry.json")


def read_registry(path: Path = BUNDLED) -> Registry:
    """Read a registry; the one that comes with refimpl where no path is given.

    Raises ``CheckpointError`` for a file that is no registry, naming the entry that is wrong.
    """
    try:
        size_of(path)
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected a registry in JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CheckpointError(f"{path}: expected a registry of format {FORMAT}")
    groups = values.get("groups", {})
    if not isinstance(groups, dict) or not all(isinstance(ids, list) for ids in groups.values()):
        raise CheckpointError(f"{path}: groups: expected names with lists of checkpoints")
    checkpoints = _entries(Published, path, "checkpoints", values)
    numbers = _entries(Number, path, "numbers", values)
    for number in numbers:
        if number.trust not in TRUST:
            raise CheckpointError(
                f"{path}: {number.name}: trust: expected one of {', '.join(TRUST)}, "
                f"got {number.trust!r}"
            )
    return Registry(path, checkpoints, numbers, groups)


_KEYS = {"class": "architecture"}  # a word of Python
_KINDS: dict[str, Any] = {"str": str, "list[str]": list, "int | None": (int, type(None)),
          "str | None": (str, type(None)), "Mapping[str, Any]": dict, "Mapping[str, str]": dict,
          "Mapping[str, Any] | None": (dict, type(None)), "Any": object}  # fmt: skip


def _entries(
    kind: type[Entry], path: Path, name: str, values: Mapping[str, Any]
) -> tuple[Entry, ...]:
    """Make a ``kind`` of every entry of a list, checking its keys and the kinds of its values."""
    listed = values.get(name)
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise CheckpointError(f"{path}: {name}: expected a list of objects")
    return tuple(_entry(kind, f"{path}: {name}[{i}]", entry) for i, entry in enumerate(listed))


def _entry(kind: type[Entry], where: str, entry: Mapping[str, Any]) -> Entry:
    given = {_KEYS.get(key, key): value for key, value in entry.items()}
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    unknown = [key for key in given if key not in known]
    if unknown:
        raise CheckpointError(f"{where}: expected no key {unknown[0]!r}")
    for key, f in known.items():
        needed = f.default is MISSING and f.default_factory is MISSING
        if (needed and key not in given) or (
            key in given and not isinstance(given[key], _KINDS[str(f.type)])
        ):
            got = repr(given[key]) if key in given else "nothing"
            raise CheckpointError(f"{where}: {key}: expected {f.type}, got {got}")
    return kind(**given)
