"""Where the HTML report puts its mark, for every fault of the catalogue, and how large it gets.

Each fault is committed in float32, on the first bundled goldens of each of its families on which it
shows. Read is the page itself: which value the one marked cell leads to. That is right where it is
a place at which the fault says that it may part first. A port that leaves a step out may not have
the value that it changes first; then a value behind it is marked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from typing import Any, NamedTuple

from refimpl.models.model import load
from refimpl.parity.comparison import compare
from refimpl.parity.comparison.report import LIMIT, render
from refimpl.parity.faults import (
    CATALOGUE,
    Fault,
    effect,
    first_changed,
    run_faulty,
    shows,
    why_not,
)
from refimpl.parity.goldens import Golden, bundled, find_goldens, read_golden
from refimpl.parity.reference import run_reference

Track = Callable[[list[Any]], Iterable[Any]]

MARKED = re.compile(r'<td class="c\d first"><a href="#(t\d+)">')
TRIED = 60  # goldens of a family, at most


class Mark(NamedTuple):
    """What became of one fault in one family."""

    marked: str  # the value that the marked cell leads to; "" where none is marked
    right: bool
    behind: bool  # the port does not compute the value that should be marked
    size: int  # of the page, in bytes


def measure(progress: Track = iter) -> dict[str, Any]:
    """Commit every fault, read the page. JSON: counts, the wrong ones by name, sizes."""
    pairs = [(fault, family) for fault in CATALOGUE.values() for family in fault.families]
    found: dict[str, Mark] = {}
    for fault, family in progress(pairs):
        shown = next(_shown_on(fault, family), None)
        if shown is not None:
            found[f"{fault.name} ({shown[0].name})"] = _mark(fault, *shown)
    sizes = [mark.size for mark in found.values()]
    return {
        "faults": len({name.partition(" ")[0] for name in found}),
        "pages": len(found),
        "right": sum(mark.right for mark in found.values()),
        "behind": _marked(found, behind=True),
        "wrong": _marked(found, behind=False),
        "largest_bytes": max(sizes),
        "limit_bytes": LIMIT,
    }


def _marked(found: dict[str, Mark], behind: bool) -> dict[str, str]:
    marks = {name: mark for name, mark in found.items() if not mark.right}
    return {name: mark.marked for name, mark in marks.items() if mark.behind == behind}


def _shown_on(fault: Fault, family: str) -> Iterator[tuple[Golden, str]]:
    """The goldens on which a float32 port shows the fault, and the value that it changes first."""
    for folder in find_goldens(bundled() / family)[:TRIED]:
        golden = read_golden(folder)
        model, inputs = load(folder, dtype="float64"), golden.inputs()
        if why_not(fault, model, inputs):
            continue
        off = effect(run_faulty(model, inputs, []), run_faulty(model, inputs, [fault]))
        if shows(off):
            yield golden, first_changed(off)


def _mark(fault: Fault, golden: Golden, changed: str) -> Mark:
    port = run_reference(load(golden.folder, dtype="float32"), golden.inputs(), [fault])
    page = render(compare(golden.folder, port))
    cells = MARKED.findall(page)
    name = _name(page, cells[0]) if len(cells) == 1 else ""
    right, behind = bool(name) and fault.may_part_first(name), changed not in port.values
    return Mark(name, right, behind, len(page.encode("utf-8")))


def _name(page: str, row: str) -> str:
    head = page.partition(f'<tr id="{row}"')[2].partition("</th>")[0]
    return unescape(re.sub("<[^>]*>", "", head.rpartition('<th scope="row">')[2]))


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    share = math.floor(1000 * figures["right"] / figures["pages"]) / 10
    rows = [
        (
            "Faults, each in all of its families",
            f"{figures['faults']} faults, {figures['pages']} pages",
        ),
        ("The marked cell is where the fault parts first", f"{figures['right']} ({share:g} %)"),
        ("It is behind, for the port lacks the value", str(len(figures["behind"]))),
        ("Largest page", f"{figures['largest_bytes'] / 1000:.0f} kB"),
    ]
    lines = ["| Report | Measured |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    return "\n".join(lines) + _list("Marked elsewhere", figures["wrong"])


def _list(title: str, marks: dict[str, str]) -> str:
    lines = "".join(f"\n- {name}: `{at}`" for name, at in marks.items())
    return f"\n\n{title}:\n{lines}" if marks else ""
