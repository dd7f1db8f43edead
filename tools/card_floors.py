"""``python -m tools.card_floors``: measure the floors of the operation cards, and write them.

Run it after ``python -m golden.make.ops``: floors belong to the cards that they were measured on.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

import numpy

from golden.make.write import write_tensors
from refimpl.parity.cards.card import ARITHMETICS, FLOORS_FILE, FLOORS_JSON, FORMAT, read_cards
from refimpl.parity.cards.measuring import measure_card_floors

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "ops"


def write_floors(folder: Path = FOLDER) -> None:
    """Measure, and write ``floors.safetensors`` and ``floors.json``."""
    floors = measure_card_floors(read_cards(folder))
    some = floors["float32"]
    missing = (numpy.nan,) * 3
    rows = {
        name: numpy.asarray([floors[a].free.get(name, missing) for a in ARITHMETICS])
        for name in some.free
    }
    write_tensors(folder / FLOORS_FILE, rows)
    (folder / FLOORS_FILE).chmod(0o644)
    listed = json.loads((folder / "cards.json").read_text("utf-8"))["cards"]
    about = {
        "format": FORMAT,
        "what": "rows: float64, float32, float16, bfloat16; columns: rms, cell, worst; the largest "
        "error of an honest implementation, in the units of the output; NaN: no such case",
        "runs": some.runs,
        "multiplier": some.multiplier,
        "numpy": numpy.__version__,
        "machine": platform.machine(),
        "sha256": hashlib.sha256((folder / FLOORS_FILE).read_bytes()).hexdigest(),
        "cards": {name: entry["sha256"] for name, entry in listed.items()},
    }
    (folder / FLOORS_JSON).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_floors(*map(Path, sys.argv[1:2]))
