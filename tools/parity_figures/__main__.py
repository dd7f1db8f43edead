"""Measure the figures of docs/parity.md.

    python -m tools.parity_figures [NAME ...] [--tables]

Each NAME is a module of this package; without one, all are run, one after another: an hour or two.
What a module measures goes to ``docs/parity-figures/NAME.json``, and the tables of
``docs/parity.md``, between ``<!-- NAME -->`` and ``<!-- end -->``, are written from all that is
there. ``--tables`` measures nothing and only writes the tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.measured_tables import write_tables  # noqa: E402

FIGURES, PAGE = ROOT / "docs" / "parity-figures", ROOT / "docs" / "parity.md"
STUDIES = (
    "false_alarms",
    "detection",
    "strength",
    "identification",
    "cards",
    "maps",
    "recognition",
    "report_page",
    "speed",
)


def progress(items: Iterable[Any], total: int | None = None) -> Iterable[Any]:
    """Show how far a study is, on a terminal."""
    from rich.progress import track

    return track(items, "measuring", total=total, disable=not sys.stderr.isatty())


def measure(name: str) -> None:
    """Run a study, and keep its figures."""
    begun = time.monotonic()
    figures = import_module(f"tools.parity_figures.{name}").measure(progress)
    figures["seconds"] = round(time.monotonic() - begun)
    FIGURES.mkdir(exist_ok=True)
    text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    (FIGURES / f"{name}.json").write_text(text, encoding="utf-8")


def table_of(name: str) -> str:
    """The figures of a study in Markdown, or that there are none."""
    file = FIGURES / f"{name}.json"
    if not file.exists():
        return f"Not measured yet: `python -m tools.parity_figures {name}`."
    figures = json.loads(file.read_text(encoding="utf-8"))
    table: str = import_module(f"tools.parity_figures.{name}").table(figures)
    return table.strip()


def main() -> None:
    """Measure the figures that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    given = parser.parse_args()
    for name in () if given.tables else given.names or STUDIES:
        if name not in STUDIES:
            parser.error(f"NAME: expected one of {', '.join(STUDIES)}, got {name!r}")
        measure(name)
    write_tables(PAGE, {name: table_of(name) for name in STUDIES})


if __name__ == "__main__":
    main()
