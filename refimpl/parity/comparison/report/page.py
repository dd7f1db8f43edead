"""Puts the page together: one file that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from refimpl.parity.comparison.report import tables
from refimpl.parity.comparison.report.cells import Seen
from refimpl.parity.comparison.report.chart import growth
from refimpl.parity.comparison.report.data import data, look
from refimpl.parity.comparison.report.maps import legend, map_tables
from refimpl.parity.comparison.report.marks import DOCS, decisive, text
from refimpl.parity.comparison.report.summary import summary
from refimpl.parity.comparison.verdict import Verdict

if TYPE_CHECKING:
    from refimpl.parity.comparison.verdict import ComparisonReport
    from refimpl.parity.diagnosis import Diagnosis

LIMIT = 1_000_000  # bytes of a report
_SPARE = 1000


class _Room(NamedTuple):
    """How much of what may be endless is shown."""

    rows: int  # bytes of the table of values
    positions: int  # of the inputs
    names: int  # that are not known


_ROOMS = (_Room(500_000, 2048, 200), _Room(150_000, 512, 50), _Room(30_000, 128, 10))


def render(report: ComparisonReport, diagnosis: Diagnosis | None = None) -> str:
    """Return the page: HTML with its style, its script and its data, at most ``LIMIT`` bytes."""
    seen = look(report)
    for room in _ROOMS:
        page = _render(report, diagnosis, seen, room)
        if len(page.encode("utf-8")) <= LIMIT:
            break
    return page


def _render(
    report: ComparisonReport, diagnosis: Diagnosis | None, seen: Mapping[str, Seen], room: _Room
) -> str:
    verdicts, rows = _listed(report, room.rows)
    style, script = _file("page.css"), _file("page.js")
    parts = {
        "policy": _policy(style, script),
        "title": text(f"{report.candidate} against {report.reference}"),
        "style": style,
        "script": script,
        "docs": f"{DOCS}report/",
        "verdict": summary(report, diagnosis),
        "legend": legend(report.floors.multiplier),
        "maps": map_tables(report, verdicts),
        "growth": growth(report),
        "table": tables.value_table(report, rows, room.names),
        "inputs": tables.inputs(report, room.positions),
        "about": tables.about(report),
    }
    page = Template(_file("page.html"))
    taken = len(page.substitute(parts, data="").encode("utf-8"))
    left = LIMIT - _SPARE - taken
    return page.substitute(parts, data=data(report, verdicts, seen, room.positions, left))


def _listed(report: ComparisonReport, room: int) -> tuple[list[Verdict], list[str]]:
    """The values that the page has room for, with their lines: all, but of very many the worst."""
    verdicts, first = report.verdicts, report.first
    kept: list[int] = []
    order = sorted(range(len(verdicts)), key=lambda i: _urgency(verdicts[i], first))
    for i in order:
        room -= len(tables.row(i, verdicts[i], False).encode("utf-8"))
        if room < 0 and kept:
            break
        kept.append(i)
    shown = [verdicts[i] for i in sorted(kept)]
    return shown, [tables.row(i, v, v is first) for i, v in enumerate(shown)]


def _urgency(verdict: Verdict, first: Verdict | None) -> tuple[bool, bool, float]:
    return verdict is not first, not verdict.parts, -(decisive(verdict) or 0.0)


def _policy(style: str, script: str) -> str:
    """Nothing is loaded, and no style or script runs but the page's own."""
    allowed = {"style-src": _digest(style), "script-src": _digest(script)}
    sources = "; ".join(f"{kind} {digest}" for kind, digest in allowed.items())
    return f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"


def _digest(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")
