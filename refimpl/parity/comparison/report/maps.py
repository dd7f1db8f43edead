"""The maps of the report: what is wrong where, layers side by side, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence

from refimpl.parity.compare import DIFF, OK
from refimpl.parity.comparison.report.layout import Map, maps
from refimpl.parity.comparison.report.marks import (
    FLOOR_STEPS,
    GLYPHS,
    LIMIT_STEPS,
    MEANINGS,
    STEPS,
    broken,
    decisive,
    number,
    short,
    step,
    text,
)
from refimpl.parity.comparison.verdict import ROUNDING, ComparisonReport, Verdict

WIDE = 16  # with more layers than that a cell shows the status only


def legend(multiplier: float) -> str:
    """The colours with their floor units, the signs with their meanings."""
    bounds = [*FLOOR_STEPS, *(multiplier * x for x in LIMIT_STEPS)]
    labels = [f"≤ {bound:g}" for bound in bounds] + ["more"]
    colours = "".join(
        f'<li class="c{i}"><span>{labels[i]}</span></li>'
        for i in range(STEPS)
        if i == 0 or labels[i] != labels[i - 1]
    )
    signs = "".join(
        f'<li><b class="sign" aria-hidden="true">{GLYPHS[status]}</b> '
        f"<b>{status}</b> {MEANINGS[status]}</li>"
        for status in GLYPHS
    )
    return (
        '<p id="scale">A column is a layer, a row a place in it, in the order of the computation. '
        "Errors are in floor units: 1 is the largest error of an honest run; up to "
        f"{number(multiplier)} is rounding.</p>"
        f'<ol class="scale" aria-label="Colours, in floor units">{colours}</ol>'
        f'<details class="signs"><summary>Signs</summary><ul>{signs}</ul></details>'
    )


def map_tables(report: ComparisonReport, verdicts: Sequence[Verdict]) -> str:
    """All maps. Every cell leads to the value's line in the table."""
    drawn = [_table(m, report, verdicts) for m in maps(verdicts)]
    return f'<div class="maps">{"".join(drawn)}</div>'


def _table(m: Map, report: ComparisonReport, verdicts: Sequence[Verdict]) -> str:
    wide = len(m.columns) > WIDE
    first = report.first
    heads = "".join(f'<th scope="col">{"" if c is None else c}</th>' for c in m.columns)
    body = []
    for row in m.rows:
        cells = []
        for column in m.columns:
            i = m.at.get((row, column))
            verdict = None if i is None else verdicts[i]
            cells.append(_cell(i, verdict, report.floors.multiplier, verdict is first, wide))
        body.append(f'<tr><th scope="row">{_label(row)}</th>{"".join(cells)}</tr>')
    prefix = f" <code>{text(m.prefix)}</code>" if m.prefix else ""
    head = f"<thead><tr><td></td>{heads}</tr></thead>" if m.columns != (None,) else ""
    size = "map wide-map" if wide else "map"
    return (
        f'<div class="stretch"><h3>{m.title}{prefix}</h3><div class="wide">'
        f'<table class="{size}" aria-label="{m.title}, floor units" aria-describedby="scale">'
        f"{head}<tbody>{''.join(body)}</tbody></table>"
        "</div></div>"
    )


def _label(row: str) -> str:
    return broken(row).replace("_", "_<wbr>")


def _cell(i: int | None, verdict: Verdict | None, limit: float, first: bool, wide: bool) -> str:
    if verdict is None:
        return "<td></td>"
    shade = step(decisive(verdict), limit)
    mark = " first" if first else ""
    return f'<td class="{shade}{mark}"><a href="#t{i}">{_inside(verdict, wide)}</a></td>'


def _inside(verdict: Verdict, wide: bool) -> str:
    """What a cell says: its sign, and its error where there is room."""
    glyph, units = GLYPHS[verdict.status], short(decisive(verdict))
    if wide or not units:
        return glyph
    if verdict.status == OK:
        return units
    return f"{glyph}{units}" if verdict.status in (ROUNDING, DIFF) else glyph
