"""What the script of the page draws: the cells and histograms of all taps, in little room."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy

from refimpl.parity.comparison.axes import POSITION, call_of
from refimpl.parity.comparison.judge import INTRODUCED
from refimpl.parity.comparison.report import cells, tables
from refimpl.parity.comparison.report.cells import Seen
from refimpl.parity.comparison.report.marks import FLOOR_STEPS, GLYPHS, LIMIT_STEPS, decisive
from refimpl.parity.comparison.verdict import INPUT, ComparisonReport, Verdict
from refimpl.parity.floors import Floor, measure_errors

MOST_CELLS = 6144  # of one tap: a browser draws that many at once without a pause


def look(report: ComparisonReport) -> dict[str, Seen]:
    """What there is to draw of each value: nothing where two arrays cannot be subtracted."""
    found = {v.name: _seen(report, v) for v in report.verdicts if v.kind != INPUT}
    return {name: seen for name, seen in found.items() if seen is not None}


def data(
    report: ComparisonReport,
    verdicts: Sequence[Verdict],
    looks: Mapping[str, Seen],
    positions: int,
    room: int,
) -> str:
    """The data as JSON that may stand inside of HTML: about ``room`` bytes, if that is enough."""
    seen = [None if v.kind == INPUT else looks.get(v.name) for v in verdicts]
    reported = report.first
    first = next((i for i, v in enumerate(verdicts) if v is reported), None)
    frame = {
        "glyphs": GLYPHS,
        "steps": [*FLOOR_STEPS, *(report.floors.multiplier * x for x in LIMIT_STEPS)],
        "multiplier": report.floors.multiplier,
        "levels": [cells.ALPHABET, cells.PER_DECADE, cells.DECADES_BELOW],
        "bins": [cells.BINS_PER_DECADE, cells.BIN_DECADES],
        "first": first,
        "status": [v.status for v in verdicts],
        "worse": [_rounded(decisive(v)) for v in verdicts],
        "total": [_rounded(v.units) for v in verdicts],
        "introduced": [_rounded(v.introduced) for v in verdicts],
        "positions": _labels(report, positions),
    }
    bare = _json({**frame, "taps": [_entry(s, 0, report.floors.multiplier) for s in seen]})
    limits = share(
        [0 if s is None else min(s.cells.size, MOST_CELLS) for s in seen],
        max(0, room - len(bare.encode("utf-8"))),
        first=first,
    )
    entries = [
        _entry(s, limit, report.floors.multiplier) for s, limit in zip(seen, limits, strict=True)
    ]
    return _json({**frame, "taps": entries})


def share(wanted: Sequence[int], room: int, first: int | None = None) -> list[int]:
    """Share the room for cells: who wants little gets it, the others the same; ``first`` all.

    >>> share([10, 100, 300, 1000], 1010), share([10, 100, 300, 1000], 1310, first=3)
    ([10, 100, 300, 600], [10, 100, 200, 1000])
    """
    given = [0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda i: (i != first, wanted[i]))
    for n, i in enumerate(order):
        part = room if i == first else room // (len(order) - n)
        given[i] = min(wanted[i], part)
        room -= given[i]
    return given


def _seen(report: ComparisonReport, verdict: Verdict) -> Seen | None:
    """What there is to draw of a value: nothing where the two cannot be subtracted."""
    given = report.given.values.get(verdict.name)
    own = _own_part(report, verdict, given)
    expected = report.truth.values.get(verdict.name) if own is None else own[0]
    if given is None or expected is None or expected.shape != given.shape or not given.size:
        return None
    if expected.dtype.kind not in "fiub" or given.dtype.kind not in "fiub":
        return None
    exact = Floor(0.0, 0.0, 0.0)
    floor = report.floors.free.get(verdict.name, exact) if own is None else own[1]
    heads = _heads(report, verdict.name, expected.shape)
    if call_of(None, {}).axes(verdict.name, expected.shape).names[-1:] == (POSITION,):
        given, expected = given[..., None], expected[..., None]  # a position is a single number
    seen = cells.look_at(verdict.name, given, expected, floor, report.floors.multiplier, heads)
    return seen._replace(introduced=own is not None, ids=expected.dtype.kind != "f")


def _own_part(
    report: ComparisonReport, verdict: Verdict, given: numpy.ndarray | None
) -> tuple[numpy.ndarray, Floor] | None:
    """What a value that is off by its own mistake should be, given what came before it; its floor.

    The verdict's floor grows with the values (see ``judge``), so it is taken from the verdict.
    """
    expected = None if report.forced is None else report.forced.values.get(verdict.name)
    units = verdict.introduced
    if given is None or expected is None or expected.shape != given.shape:
        return None
    if verdict.origin != INTRODUCED or units is None or not math.isfinite(units):
        return None
    floor = (report.floors.free if verdict.since else report.floors.forced)[verdict.name]
    error = measure_errors(given, expected)
    off = max((e / f for e, f in zip(error, floor, strict=True) if f), default=0.0)
    return expected, Floor(*(f * off / units for f in floor))


def _heads(report: ComparisonReport, name: str, shape: tuple[int, ...]) -> int:
    """How many heads stand side by side in a value; 1 where there are none."""
    module, _, role = name.rpartition(".")
    scores = report.truth.taps.get(f"{module}.scores")
    if scores is None or role.endswith("out_lin") or len(shape) != 3 or scores.ndim != 4:
        return 1
    heads = scores.shape[1]
    return heads if shape[-1] % heads == 0 else 1


def _entry(seen: Seen | None, limit: int, multiplier: float) -> list[Any] | None:
    """One tap: cells, how they lie, the worst of them, histogram. With a limit of 0 no cells."""
    if seen is None:
        return None
    full, spread = seen.cells, seen.histogram
    small = cells.shrunk(full, max(limit, 1))
    tallies = [spread.exact, spread.beyond_floor, spread.beyond_limit, spread.size]
    return [
        cells.written(small.units, multiplier) if limit else "",
        [*full.units.shape, *small.merged, full.parts],
        [full.part, full.along, int(seen.introduced), int(seen.ids)],
        [[line, column, _rounded(units)] for line, column, units in cells.worst_cells(full)],
        cells.written_counts(spread.counts),
        tallies,
    ]


def _labels(report: ComparisonReport, left: int) -> list[list[str]]:
    """For each row what is said of each position: id, token, padding."""
    labels = []
    for line in tables.positions(report):
        tokens, masks = line.get("tokens", []), line.get("attention_mask", [])
        said = []
        for i, number in enumerate(line["input_ids"][:left]):
            token = f" {str(tokens[i])[:40]}" if i < len(tokens) else ""
            padded = ", masked" if i < len(masks) and not masks[i] else ""
            said.append(f"id {number}{token}{padded}")
        labels.append(said)
        left -= len(said)
        if left <= 0:
            break
    return labels


def _rounded(x: float | None) -> float | str | None:
    """Three digits; infinity, which JSON does not know, as a word."""
    if x is None or math.isnan(x):
        return None
    return "∞" if math.isinf(x) else float(f"{x:.3g}")


def _json(value: object) -> str:
    """JSON without what HTML might read as markup."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return written
