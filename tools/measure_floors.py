"""Measure the floors of goldens, and write them beside these: ``floors.safetensors``.

    python tools/measure_floors.py [FOLDER ...]

Without a folder those of all bundled goldens: some minutes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.progress import track

from refimpl import load
from refimpl.parity.floors import RUNS, measure_floors
from refimpl.parity.floors.stored import STORED, write_floors
from refimpl.parity.goldens import find_goldens, read_golden


def measure(folder: Path) -> None:
    """Measure and write the floors of one case."""
    golden = read_golden(folder)
    model = load(folder, dtype="float64", kernels="plain")
    write_floors(golden, [measure_floors(model, golden.inputs(), how, RUNS) for how in STORED])


def main() -> None:
    """Measure the floors of the folders that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path)
    folders = [f for root in parser.parse_args().folders or [None] for f in find_goldens(root)]
    for folder in track(folders, "measuring", disable=not sys.stderr.isatty()):
        measure(folder)


if __name__ == "__main__":
    main()
