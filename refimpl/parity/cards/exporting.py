"""The cards in other formats, for whoever has no reader of safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy

from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.checkpoints.writing import new_folder
from refimpl.parity.cards.card import FLOORS_FILE, FLOORS_JSON, cards_folder, read_cards
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.dumps.exporting import FORMATS, export_dump

ENDINGS = {"safetensors": ".safetensors", "npz": ".npz"}  # of the formats that are one file
COPIED = ("cards.json", FLOORS_FILE, FLOORS_JSON)


def export_cards(
    dest: str | os.PathLike[str], format: str = "safetensors", path: str | Path | None = None
) -> list[str]:
    """Write all cards to the folder ``dest``, which must be new or empty; return their names.

    Formats are those of :func:`refimpl.parity.dumps.export_dump`: one file for each card
    ("safetensors" as they are, "npz") or one folder ("npy", "raw", "onnx", "polygraphy"), in which
    ``<case>.input.<name>`` is an input called ``<case>.<name>``, ``<case>.output`` an output
    called ``<case>``. ``cards.json`` and the floors come with them.

    Raises ``ValueError`` for an unknown format, ``CheckpointError`` where it cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    source, cards = cards_folder(path), read_cards(path)
    with new_folder(Path(dest)) as folder:
        for name in COPIED:
            (folder / name).write_bytes((source / name).read_bytes())
        for name in cards:
            file = source / f"{name}.safetensors"
            if format == "safetensors":
                (folder / file.name).write_bytes(file.read_bytes())
            else:
                export_dump(
                    _as_dump(name, SafetensorsFile(file)),
                    folder / f"{name}{ENDINGS.get(format, '')}",
                    format,
                )
    return list(cards)


def _as_dump(card: str, tensors: Mapping[str, numpy.ndarray]) -> Dump:
    """A card's tensors, sorted by what they are."""
    inputs: dict[str, numpy.ndarray] = {}
    outputs: dict[str, numpy.ndarray] = {}
    for name in tensors:
        case, _, rest = name.partition(".")
        kind, _, last = rest.partition(".")
        into = inputs if kind == "input" else outputs
        into[f"{case}.{last}" if last else case] = tensors[name]
    about = {"made_by": "the originals", "card": card}
    return Dump({}, outputs, inputs, about)
