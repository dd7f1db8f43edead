"""Reading goldens: what an original implementation computed, with the checkpoint it ran.

A case is a folder: ``config.json`` and ``model.safetensors`` in Hugging Face layout,
``golden.safetensors`` with the inputs (``input.*``), every tap (``tap.*``) and every output
(``output.*``) in float64, ``golden.json`` with who made them and how. ``docs/goldens.md`` has the
whole format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.folder import read_json
from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.errors import CheckpointError

FORMAT = 1

# What the objects in golden.json hold under each of their names.
_HELD: dict[str, tuple[type, str]] = {
    "made_by": (str, "texts"), "goldens": (str, "texts"), "sha256": (str, "texts"),
    "flags": (bool, "true or false"), "inputs": (dict, "objects"), "taps": (dict, "objects"),
    "outputs": (dict, "objects"),
}  # fmt: skip


@dataclass(frozen=True)
class Golden:
    """One case: a checkpoint, a call of it, and what the original computed."""

    name: str
    folder: Path
    description: dict[str, Any]  # golden.json
    tensors: SafetensorsFile  # in float64

    def part(self, prefix: str) -> dict[str, numpy.ndarray]:
        """The tensors called ``prefix.*``, without the prefix, in golden.json's order.

        ``prefix`` is "input", "tap" or "output".
        """
        names = self.description[f"{prefix}s"]
        return {name: self.tensors[f"{prefix}.{name}"] for name in names}

    def inputs(self) -> dict[str, Any]:
        """The arguments of the call: arrays, tuples of these, flags (``output_attentions``)."""
        return {**join(self.part("input")), **self.description["flags"]}

    def changed_files(self) -> list[str]:
        """The files of the checkpoint that are not those the golden was made with."""
        hashes = self.description["sha256"]
        return [file for file, known in hashes.items() if digest(self.folder / file) != known]


def digest(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal; "missing" where there is none."""
    if not path.is_file():  # a pipe might never end
        return "missing"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def split(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by flat names: what a tuple holds is ``name.0``, ``name.1``, ...

    >>> split({"input_ids": 1, "past_key_values": ((2, 3),)})
    {'input_ids': 1, 'past_key_values.0.0': 2, 'past_key_values.0.1': 3}
    """
    flat: dict[str, Any] = {}
    for name, x in nested.items():
        parts = {f"{name}.{i}": part for i, part in enumerate(x)} if isinstance(x, tuple) else None
        flat |= {name: x} if parts is None else split(parts)
    return flat


def flatten(outputs: Any) -> dict[str, Any]:
    """Return outputs, a named tuple, by flat names; None is no output."""
    return {name: x for name, x in split(outputs._asdict()).items() if x is not None}


def join(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as a call takes them: ``name.0``, ``name.1``, ... become a tuple.

    >>> join({"input_ids": 1, "past_key_values.0.0": 2, "past_key_values.0.1": 3})
    {'input_ids': 1, 'past_key_values': ((2, 3),)}
    """
    nested: dict[str, Any] = {}
    for name, x in flat.items():
        first, *numbers = name.split(".")
        place, key = nested, first
        for number in numbers:
            place, key = place.setdefault(key, {}), number
        place[key] = x
    return {name: _as_tuple(x) for name, x in nested.items()}


def _as_tuple(x: Any) -> Any:
    return tuple(map(_as_tuple, x.values())) if isinstance(x, dict) else x


def bundled() -> Path:
    """The folder of the goldens that come with refimpl: in the wheel, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "goldens"
    return installed if installed.is_dir() else package.parent / "golden"


def find_goldens(path: str | Path | None = None) -> list[Path]:
    """Return the case folders at or under ``path``, in order of name; None is the bundled ones.

    Raises ``CheckpointError`` where there is none.
    """
    root = bundled() if path is None else Path(path)
    folders = sorted(p.parent for p in root.rglob("golden.json"))
    if not folders:
        raise CheckpointError(f"{root}: expected a golden case or a folder of them, found none")
    return folders


def case_name(folder: Path) -> str:
    """The family and the case: "xlm_roberta/padding_left"."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}"


def read_golden(folder: Path) -> Golden:
    """Read a case; ``CheckpointError`` where its golden is missing or not as described.

    That the checkpoint beside it is still the same is not required here: see ``changed_files``.
    """
    description = read_json(folder / "golden.json")
    _check(description, folder / "golden.json")
    file = description["goldens"]["float64"]
    golden = Golden(case_name(folder), folder, description, SafetensorsFile(folder / file))
    described = {
        f"{kind}.{name}" for kind in ("input", "tap", "output") for name in description[f"{kind}s"]
    }
    if file in golden.changed_files() or set(golden.tensors) != described:
        raise CheckpointError(f"{folder / file}: is not the file that golden.json describes")
    return golden


def _check(description: dict[str, Any], where: Path) -> None:
    """Raise ``CheckpointError`` for a description that lacks something or is of other types."""
    missing = {"format", "architecture", *_HELD} - set(description)
    if missing or description["format"] != FORMAT:
        got = f"no {', '.join(sorted(missing))}" if missing else f"format {description['format']!r}"
        raise CheckpointError(f"{where}: expected format {FORMAT}, got {got[:100]}")
    for key, (kind, words) in _HELD.items():
        value = description[key]
        if not isinstance(value, dict) or not all(isinstance(x, kind) for x in value.values()):
            _refuse(where, key, f"an object that holds {words}", value)
    for key, name in (("made_by", "implementation"), ("goldens", "float64")):
        if name not in description[key]:
            _refuse(where, key, f"{name!r} in it", description[key])
    if description["goldens"]["float64"] not in description["sha256"]:
        _refuse(where, "sha256", "the golden's own file in it", description["sha256"])
    if not isinstance(description["architecture"], str):
        _refuse(where, "architecture", "the name of a class", description["architecture"])
    for file in (*description["goldens"].values(), *description["sha256"]):
        if Path(file).name != file or "\\" in file or "\0" in file:
            _refuse(where, "goldens and sha256", "files beside it", file)
    texts = description.get("texts", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        _refuse(where, "texts", "a list of texts", texts)


def _refuse(where: Path, key: str, expected: str, got: Any) -> None:
    raise CheckpointError(f"{where}: {key}: expected {expected}, got {ascii(got)[:60]}")
