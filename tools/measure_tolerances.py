"""Measures the rows of ``refimpl/parity/tolerances.toml``: ``python tools/measure_tolerances.py``.

For each kind of tap (query, probs, LayerNorm, ...) and dtype, the largest relative error against
the original's float64 values over the bundled goldens, in honest runs: refimpl on NumPy, and in
float32 further implementations that round in other orders (``refimpl.parity.floors``). A tolerance
is MARGIN times the measured error, because runs with other matrix libraries round in another order
still. In float64 the project's norm of 1e-12 holds for all kinds; what was measured stands beside
it. Values that are only looked up (embeddings) are exact in float32; their tolerance is 0.

Goldens whose weights bring rounding to its edges (``weights`` in their golden.json) do not count.
Where one of them is further off than the others allow, it has a row of its own.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy

from refimpl.models.model import load
from refimpl.parity.compare import relative_error
from refimpl.parity.floors import ARITHMETICS, draw_implementation, run_honest
from refimpl.parity.goldens import Golden, bundled, find_goldens, read_golden
from refimpl.parity.tolerances import role
from refimpl.parity.verify import flatten
from refimpl.taps import record

MARGIN = 4
RUNS = 8
NORM = {"float64": 1e-12}
FILE = Path(__file__).resolve().parents[1] / "refimpl" / "parity" / "tolerances.toml"

Row = tuple[float, str]  # error, where
Key = tuple[str, str, str]  # dtype, role, case or ""


def measure(golden: Golden) -> Iterator[tuple[str, str, Row]]:
    """Yield (dtype, role, (error, where)) for every float of a case in every honest run."""
    truth = {n: x for kind in ("tap", "output") for n, x in golden.part(kind).items()}
    single = load(golden.folder, dtype="float32", kernels="plain")
    for number in range(1, RUNS):
        drawn = draw_implementation(ARITHMETICS["float32"], number)
        other = run_honest(drawn, single, golden.inputs()).values
        for name, x in truth.items():
            yield from _row("float32", f"honest run {number}", golden, name, other[name], x)
    for dtype in ("float64", "float32", "float16"):
        with record() as taps:
            outputs = load(golden.folder, dtype=dtype, kernels="plain")(**golden.inputs())
        ours = {**taps, **flatten(outputs)}
        for name, x in truth.items():
            yield from _row(dtype, "refimpl on NumPy", golden, name, ours[name], x)


def _row(
    dtype: str, who: str, golden: Golden, name: str, actual: numpy.ndarray, truth: numpy.ndarray
) -> Iterator[tuple[str, str, Row]]:
    if truth.dtype.kind == "f":
        finite = numpy.isfinite(truth)
        error = relative_error(actual[finite], truth[finite])
        yield dtype, role(name), (error, f"{who}, {golden.name}, {name}")


def limit(dtype: str, error: float) -> float:
    """The tolerance that follows from a measured error."""
    return NORM.get(dtype, MARGIN * error)


def main() -> None:
    """Measure and write the table."""
    worst: dict[Key, Row] = {}
    for folder in find_goldens(bundled()):
        golden = read_golden(folder)
        case = golden.name if "weights" in golden.description else ""
        for dtype, kind, row in measure(golden):
            key = (dtype, "*" if dtype in NORM else kind, case)
            worst[key] = max(worst.get(key, (0.0, "exact everywhere")), row)
    lines = [
        "# How far off an honest run may be, by kind of value: see tools/measure_tolerances.py,",
        "# which measured and wrote this table. Errors: max|x - truth| / max|truth|.",
        f"# {datetime.date.today()}, NumPy {numpy.__version__}, {platform.machine()}; tolerance ="
        f" {MARGIN} x measured, in float64 the norm.",
    ]
    for (dtype, kind, case), (error, where) in sorted(worst.items()):
        if case and error <= limit(dtype, worst[dtype, kind, ""][0]):
            continue
        lines += [
            "",
            "[[tolerance]]",
            f'dtype = "{dtype}"',
            f'role = "{kind}"',
            *([f'case = "{case}"'] if case else []),
            f"measured = {error:.2g}",
            f'where = "{where}"',
            f"tolerance = {limit(dtype, error):.2g}",
        ]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
