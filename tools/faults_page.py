"""Writes the catalogue of faults into docs/faults.md, and where each can be seen.

``python tools/faults_page.py`` rewrites what stands between the markers of that page; ``--check``
only says, by its exit code, whether it is up to date. Where a fault can be seen is found by running
the bundled goldens with it, in float64.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

from refimpl.models.model import Model, load
from refimpl.parity.faults import (
    AREAS,
    CATALOGUE,
    FAMILIES,
    LEFT_OUT,
    Fault,
    applies,
    effect,
    first_changed,
    run_faulty,
    shows,
)
from refimpl.parity.goldens import find_goldens, read_golden

PAGE = Path(__file__).resolve().parents[1] / "docs" / "faults.md"
BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"

TITLES = {
    "xlm": "XLM",
    "xlm_roberta": "XLM-R",
    "xlm_roberta_xl": "XL",
    "xmod": "X-MOD",
}


class Golden:
    """A bundled golden: a model, a call of it, and what that gives without faults."""

    def __init__(self, folder: Path) -> None:
        golden = read_golden(folder)
        self.name = golden.name
        self.family = golden.name.partition("/")[0]
        self.inputs: dict[str, Any] = golden.inputs()
        self.model: Model = load(folder, dtype="float64", kernels="plain")
        self.right = run_faulty(self.model, self.inputs, [])

    def first_seen(self, fault: Fault) -> str:
        """The first tap or output that shows a fault; "" where none does."""
        if not applies(fault, self.model, self.inputs):
            return ""
        found = effect(self.right, run_faulty(self.model, self.inputs, [fault]))
        return first_changed(found) if shows(found) else ""


def bundled_goldens() -> list[Golden]:
    """All of them, each family's plainest first."""
    folders = sorted(find_goldens(), key=lambda f: (f.parent.name, f.name != "model", f.name))
    return [Golden(folder) for folder in folders]


def where(fault: Fault, goldens: list[Golden]) -> str:
    """For each family the first golden that shows a fault, and at which tap."""
    seen, unseen = [], []
    for family in fault.families:
        of_family = ((g.name, g.first_seen(fault)) for g in goldens if g.family == family)
        name, tap = next(((name, tap) for name, tap in of_family if tap), ("", ""))
        if tap:
            seen.append(f"`{name}`, from `{tap}` on")
        else:
            unseen.append(TITLES[family])
    if not seen:
        return "No bundled golden shows it."
    none = f" No bundled golden of {' or '.join(unseen)} shows it." if unseen else ""
    return f"{'; '.join(seen)}.{none}"


def families(fault: Fault) -> str:
    """The families of a fault, in words."""
    every = fault.families == FAMILIES
    return "all" if every else ", ".join(TITLES[family] for family in fault.families)


def thread(url: str) -> str:
    """A link to a thread: owner/name#number."""
    name = url.removeprefix("https://github.com/").replace("/issues/", "#")
    return f"[{name}]({url})"


def wrap(paragraph: str) -> str:
    """In lines, as the other pages are."""
    return textwrap.fill(paragraph, 130, break_long_words=False, break_on_hyphens=False)


def section(fault: Fault, goldens: list[Golden]) -> str:
    """One fault, in Markdown."""
    paragraphs = [
        f"### `{fault.name}`",
        f"**{fault.title}.** Families: {families(fault)}.",
        fault.explanation,
        f"*Effect.* {fault.effect}",
    ]
    if fault.equivalent:
        paragraphs.append(f"*No output changes.* {fault.equivalent}")
    else:
        paragraphs.append(f"*Where to see it.* {where(fault, goldens)}")
    paragraphs.append(f"*Mend it.* {fault.mend}")
    notes = []
    if fault.needs:
        notes.append(f"needs {', '.join(need.text for need in fault.needs)}")
    if fault.parameters:
        values = ", ".join(f"`{name}={x}`" for name, x in fault.parameters.items())
        notes.append(f"parameters {values}")
    if fault.known:
        notes.append(f"known as {', '.join(f'no. {n}' for n in fault.known)}")
    if fault.sources:
        notes.append(f"seen in {', '.join(map(thread, fault.sources))}")
    if notes:
        paragraphs.append(f"*Notes.* {'; '.join(notes)}.")
    return "\n\n".join(map(wrap, paragraphs))


def table() -> str:
    """All faults, one row each."""
    rows = ["| Area | Fault | The port | Families |", "|---|---|---|---|"]
    for fault in CATALOGUE.values():
        name = f"[`{fault.name}`](#{fault.name})"
        mark = " (no output changes)" if fault.equivalent else ""
        rows.append(f"| {fault.area} | {name} | {fault.title}{mark} | {families(fault)} |")
    return "\n".join(rows)


def left_out() -> str:
    """The known mistakes that no fault makes."""
    rows = ["| No. | Mistake | Why it is not here | Seen in |", "|---|---|---|---|"]
    for entry in LEFT_OUT:
        seen = " ".join(map(thread, entry.sources))
        rows.append(f"| {entry.number} | {entry.mistake} | {entry.why} | {seen} |")
    return "\n".join(rows)


def text() -> str:
    """What stands between the markers."""
    goldens = bundled_goldens()
    parts = ["## All faults", table()]
    for area in AREAS:
        parts.append(f"## {area.capitalize()}")
        parts += [section(f, goldens) for f in CATALOGUE.values() if f.area == area]
    return "\n\n".join([*parts, "## Known mistakes that are not here", left_out()])


def main() -> int:
    """Rewrite the page, or with --check compare; 0 where it is (now) up to date."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    new = f"{head}{BEGIN}\n{text()}\n{END}{tail}"
    if "--check" in sys.argv[1:]:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
