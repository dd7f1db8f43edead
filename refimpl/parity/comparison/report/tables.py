"""The tables of the report: all values, the inputs, and what was compared. They need no script."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy

from refimpl.parity.comparison.report.marks import GLYPHS, broken, count, number, text
from refimpl.parity.comparison.verdict import STATUSES, ComparisonReport, Verdict
from refimpl.parity.comparison.words import rule
from refimpl.parity.faults import place_of

COLUMNS = (
    "Value",
    "Status",
    "Error so far (floors)",
    "Introduced (floors)",
    "Origin",
    "Where",
    "max abs (floors)",
    "max rel",
    "RMS (floors)",
    "Cosine",
    "Shape",
    "Note",
)
MOST_ABOUT = 40  # entries of what a dump says about itself


def row(i: int, verdict: Verdict, is_first: bool) -> str:
    """The line of one value."""
    status = f'<td class="status">{GLYPHS[verdict.status]} {text(verdict.status)}</td>'
    numbers = [number(verdict.units), number(verdict.introduced)]
    measures = [_measure(verdict, name) for name in ("max_abs", "max_rel", "rms")]
    cosine = "" if verdict.cosine is None else f"{verdict.cosine:.7f}"
    since = f" since {broken(verdict.since)}" if verdict.since and verdict.origin else ""
    shape = "×".join(map(str, verdict.shape))
    words = [f"{text(verdict.origin)}{since}", text(verdict.where)]
    cells = [*numbers, *words, *measures, cosine, shape, text(verdict.note)]
    mark = ' class="first"' if is_first else ""
    return (
        f'<tr id="t{i}"{mark}><th scope="row">{broken(verdict.name)}</th>{status}'
        f"<td>{'<td>'.join(cells)}\n"
    )


def value_table(report: ComparisonReport, rows: Sequence[str], names: int) -> str:
    """All values, the filters by status above them; ``names`` that are not known at most."""
    left_out = len(report.verdicts) - len(rows)
    heads = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    missing = ""
    if left_out:
        missing = (
            f"<p>To keep this file small, {count(left_out, 'value')} with the least error "
            "are left out here and above.</p>"
        )
    return (
        f"{_filters(report)}{missing}"
        '<div class="wide" tabindex="0" role="region" aria-label="All values, scrolls sideways">'
        f'<table class="values"><thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>{_unknown(report.unknown, names)}"
    )


def inputs(report: ComparisonReport, most: int) -> str:
    """Ids with their positions and all that goes with them, row by row, ``most`` at most."""
    table = positions(report)
    if not table:
        return "<p>No ids are known.</p>"
    drawn, left = [], most
    for r, line in enumerate(table):
        shown = {name: values[:left] for name, values in line.items()}
        drawn.append(_row_of_inputs(r, shown))
        left -= len(next(iter(shown.values())))
        if left <= 0:
            drawn.append("<p>What follows is left out.</p>")
            break
    others = [
        f"<li><code>{text(name)}</code> {_brief(x)}</li>"
        for name, x in (report.truth.inputs or report.given.inputs).items()
        if name not in table[0]
    ]
    return "".join(drawn) + (f"<ul>{''.join(others)}</ul>" if others else "")


def positions(report: ComparisonReport) -> list[dict[str, list[Any]]]:
    """For each row of the batch: ids, tokens where they are known, position ids, masks."""
    inputs = report.truth.inputs or report.given.inputs
    ids = inputs.get("input_ids")
    if ids is None or ids.ndim < 2 or not ids.size:
        return []
    known: dict[str, Any] = {"input_ids": ids}
    tokens = report.truth.about.get("tokens") or report.given.about.get("tokens")
    if isinstance(tokens, Sequence) and len(tokens) == ids.size // ids.shape[-1]:
        known["tokens"] = tokens
    known |= {n: x for n, x in inputs.items() if x.shape == ids.shape}
    for name, x in report.truth.taps.items():
        if place_of(name) == "position_ids" and x.shape[-1:] == ids.shape[-1:]:
            known["position_ids"] = numpy.broadcast_to(x, ids.shape) if x.size < ids.size else x
    lines = {n: _lines(x) for n, x in known.items()}
    count_of = ids.size // ids.shape[-1]
    return [{n: x[r] for n, x in lines.items() if r < len(x)} for r in range(count_of)]


def about(report: ComparisonReport) -> str:
    """Names, versions, how it was judged."""
    told: dict[str, object] = {
        "Reference": report.reference,
        "Candidate": report.candidate,
        "Arithmetic": report.arithmetic,
        "Judged as": rule(report) or "not judged",
        "Values": ", ".join(f"{n} {status}" for status, n in report.counts().items()),
        "Versions": f"refimpl {_version()}, numpy {numpy.__version__}, "
        f"Python {platform.python_version()}",
    }
    for side, dump in (("Reference", report.truth), ("Candidate", report.given)):
        told |= {
            f"{side}: {name}": value
            for name, value in list(dump.about.items())[:MOST_ABOUT]
            if name != "tokens" and isinstance(value, (str, int, float, dict, list)) and value != {}
        }
    pairs = "".join(f"<dt>{text(k)}</dt><dd>{text(v)}</dd>" for k, v in told.items())
    return f"<dl>{pairs}</dl>"


def _measure(verdict: Verdict, name: str) -> str:
    """A measure, and what it is in floors."""
    value = getattr(verdict, name)
    units = verdict.in_units.get(name)
    return number(value) + (f" <i>({number(units)})</i>" if units is not None else "")


def _filters(report: ComparisonReport) -> str:
    counts = report.counts()
    boxes = "".join(
        f'<label><input type="checkbox" name="status" value="{status}" checked> '
        f"{GLYPHS[status]} {status} ({counts[status]})</label>"
        for status in STATUSES
        if status in counts
    )
    return (
        '<div class="controls js" hidden><fieldset><legend>Show</legend>'
        f'{boxes}</fieldset><label>Name has <input type="search" id="search"></label>'
        '<p role="status" id="shown"></p></div>'
    )


def _unknown(unknown: Mapping[str, tuple[str, ...]], most: int) -> str:
    """Names of the candidate that are none of the reference."""
    if not unknown:
        return ""
    items = [
        f"<li><code>{text(name)}</code>{_suggested(near)}</li>"
        for name, near in list(unknown.items())[:most]
    ]
    if len(unknown) > most:
        items.append(f"<li>and {count(len(unknown) - most, 'more name')}</li>")
    title = count(len(unknown), "value")
    return (
        f"<details><summary>{title} of the candidate under unknown names</summary>"
        f"<ul>{''.join(items)}</ul></details>"
    )


def _suggested(near: Sequence[str]) -> str:
    return f": nearest {', '.join(f'<code>{text(n)}</code>' for n in near)}" if near else ""


def _row_of_inputs(r: int, line: Mapping[str, Sequence[Any]]) -> str:
    length = len(next(iter(line.values())))
    heads = "".join(f'<th scope="col">{i}</th>' for i in range(length))
    body = "".join(
        f'<tr><th scope="row">{text(name)}</th>'
        + "".join(f"<td>{text(_plain(x))}</td>" for x in values)
        + "</tr>"
        for name, values in line.items()
    )
    return (
        f'<h3>Row {r}</h3><div class="wide" tabindex="0" role="region" '
        f'aria-label="Inputs of row {r}, scrolls sideways"><table class="ids"><thead><tr>'
        f'<th scope="col">position</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _lines(x: Any) -> list[list[Any]]:
    if isinstance(x, numpy.ndarray):
        found: list[list[Any]] = x.reshape(-1, x.shape[-1]).tolist()
        return found
    return [list(line) for line in x]


def _plain(x: Any) -> str:
    return f"{x:.6g}" if isinstance(x, float) else str(x)


def _brief(x: numpy.ndarray) -> str:
    """A small array as it is, a large one by its shape."""
    return text(x.tolist()) if x.size <= 16 else f"{text(x.dtype)} {'×'.join(map(str, x.shape))}"


def _version() -> str:
    try:
        return version("refimpl")
    except PackageNotFoundError:
        return "of a checkout"
