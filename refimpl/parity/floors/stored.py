"""Floors that were measured before: a file beside the golden of a case.

``floors.safetensors`` has a tensor (2, N, 3) for each arithmetic: free and forced; the N taps and
outputs of the case, in the order of ``golden.json``; root mean square, cell, worst. Its metadata
says from how many runs, and of which golden (its sha256).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy
from safetensors.numpy import save_file

from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.errors import CheckpointError
from refimpl.parity.floors.floor import Floor, Floors
from refimpl.parity.goldens import Golden

FILE = "floors.safetensors"
STORED = ("float32", "float16", "bfloat16")  # those of the goldens that come with refimpl


def write_floors(golden: Golden, measured: Iterable[Floors]) -> None:
    """Write the floors of a case beside its golden."""
    measured, names = list(measured), value_names(golden)
    rows = {
        one.arithmetic: numpy.asarray([[of[n] for n in names] for of in (one.free, one.forced)])
        for one in measured
    }
    about = {
        "runs": str(measured[0].runs),
        "multiplier": str(measured[0].multiplier),
        "golden": _digest(golden),
    }
    # Rounded up: what was measured is not to be beyond its floor.
    upwards = {name: _float32_from_above(x) for name, x in rows.items()}
    save_file(upwards, golden.folder / FILE, metadata=about)


def read_floors(golden: Golden, arithmetic: str) -> Floors | None:
    """Read the floors of a case in one arithmetic; None where they were not measured.

    Raises ``CheckpointError`` for a file that is broken, or was measured on another golden.
    """
    path = golden.folder / FILE
    if not path.exists():
        return None
    file, names = SafetensorsFile(path), value_names(golden)
    if file.metadata.get("golden") != _digest(golden):
        raise CheckpointError(f"{path}: was measured on another golden than the one beside it")
    if arithmetic not in file:
        return None
    if file.shape(arithmetic) != (2, len(names), 3):
        expected = (2, len(names), 3)
        raise CheckpointError(
            f"{path}: {arithmetic}: expected {expected}, got {file.shape(arithmetic)}"
        )
    try:
        runs, multiplier = int(file.metadata["runs"]), float(file.metadata["multiplier"])
    except (KeyError, ValueError):
        raise CheckpointError(f"{path}: expected runs and multiplier in the metadata") from None
    free, forced = (
        {name: Floor(*map(float, row)) for name, row in zip(names, rows, strict=True)}
        for rows in file[arithmetic]
    )
    return Floors(arithmetic, runs, multiplier, free, forced)


def value_names(golden: Golden) -> list[str]:
    """The names of a golden's taps and outputs, in its order."""
    return [*golden.description["taps"], *golden.description["outputs"]]


def _digest(golden: Golden) -> str:
    digest: str = golden.description["sha256"][golden.description["goldens"]["float64"]]
    return digest


def _float32_from_above(x: numpy.ndarray) -> numpy.ndarray:
    y = x.astype(numpy.float32)
    return numpy.where(y < x, numpy.nextafter(y, numpy.float32(numpy.inf)), y)
