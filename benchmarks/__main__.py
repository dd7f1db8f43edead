"""Measure the figures of docs/performance.md.

    python -m benchmarks [NAME ...] [--tables]

Each NAME is a study of this package; without one, all are run, one after another: about half an
hour of a machine that does nothing else. What a study measures goes to
``benchmarks/results/NAME.json``, every turn of every side, with the machine, the versions, the
date, and how busy the machine was before and after. The tables of ``docs/performance.md``, between
``<!-- NAME -->`` and ``<!-- end -->``, are written from all that is there. ``--tables`` measures
nothing and only writes the tables. A study that needs what this machine lacks says so, and leaves
no figures.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from refimpl.bench.measuring import machine  # noqa: E402
from refimpl.errors import MissingExtra  # noqa: E402
from tools.measured_tables import write_tables  # noqa: E402

RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "performance.md"
STUDIES = ("forward", "padded", "kernels", "profiles", "sides", "cold", "gpu")


def measure(name: str) -> None:
    """Run a study, and keep its figures with what they depend on."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    about, begun = machine(), time.monotonic()
    try:
        figures = import_module(f"benchmarks.{name}").measure()
    except (MissingExtra, RuntimeError) as error:
        print(f"{name}: not measured: {error}", file=sys.stderr)
        return
    kept = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seconds": round(time.monotonic() - begun),
        "machine": {**about, **figures.pop("machine", {})},
        "load_after": [round(x, 2) for x in os.getloadavg()],
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")


def table_of(name: str) -> str:
    """The figures of a study in Markdown, with where and when; or that there are none."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return f"Not measured yet: `python -m benchmarks {name}`."
    figures = json.loads(file.read_text(encoding="utf-8"))
    table: str = import_module(f"benchmarks.{name}").table(figures)
    return f"{table.strip()}\n\n{where(figures)}"


def where(figures: dict[str, Any]) -> str:
    """One line of what the figures depend on.

    >>> where({"date": "2026-01-01", "load_after": [0.1, 0, 0], "machine": {
    ...     "processor": "EPYC", "cores": 2, "threads": "all", "load": [0.2, 0, 0], "numpy": "2.4",
    ...     "blas": "OpenBLAS 0.3"}})
    '2026-01-01, EPYC, 2 cores (all used), load 0.2 before and 0.1 after; numpy 2.4, OpenBLAS 0.3.'
    """
    on = figures["machine"]
    device = on.get("gpu") or f"{on['processor']}, {on['cores']} cores ({on['threads']} used)"
    packages = ("numpy", "torch", "transformers", "cupy-cuda13x", "cupy-cuda12x")
    versions = [f"{name} {on[name]}" for name in packages if name in on]
    return (
        f"{figures['date']}, {device}, load {on['load'][0]} before and {figures['load_after'][0]} "
        f"after; {', '.join([*versions, on['blas']])}."
    )


def main() -> None:
    """Measure the figures that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    given = parser.parse_args()
    for name in given.names:
        if name not in STUDIES:
            parser.error(f"NAME: expected one of {', '.join(STUDIES)}, got {name!r}")
    for name in () if given.tables else given.names or STUDIES:
        measure(name)
    write_tables(PAGE, {name: table_of(name) for name in STUDIES})


if __name__ == "__main__":
    main()
