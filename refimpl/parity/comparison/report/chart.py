"""The error along the computation, drawn: in floor units, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from refimpl.parity.comparison.report.layout import split
from refimpl.parity.comparison.report.marks import broken, number
from refimpl.parity.comparison.verdict import INPUT, ComparisonReport, Verdict

WIDTH, HEIGHT = 960, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 26, 48
LOWEST, HIGHEST = -2.0, 9.0  # decades; what lies outside is drawn at the edge
DOTS = 80  # with more points than that the lines go without
LABELS = 24  # numbers of layers along the axis at most


def growth(report: ComparisonReport) -> str:
    """The chart, with what it shows in words."""
    shown = [v for v in report.verdicts if v.kind != INPUT and v.units is not None]
    if not shown:
        return "<p>No value could be measured.</p>"
    top = max(_decade(x) for v in shown for x in (v.units, v.introduced) if x is not None)
    axes = _Axes(len(shown), max(1.0, math.ceil(top), math.log10(report.floors.multiplier)))
    lines = _line("total", [v.units for v in shown], axes)
    lines += _line("introduced", [v.introduced for v in shown], axes)
    drawn = _bands(report.floors.multiplier, axes) + _scale(axes) + _layers(shown, axes) + lines
    if report.first in shown:
        drawn += _mark(shown.index(report.first), axes)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Chart, scrolls sideways">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="growth-words">'
        f"{drawn}</svg></div>"
        '<ul class="lines"><li><svg viewBox="0 0 40 10" width="40" height="10" aria-hidden="true">'
        '<path class="total" d="M0 5H40"/></svg> error so far</li>'
        '<li><svg viewBox="0 0 40 10" width="40" height="10" aria-hidden="true">'
        '<path class="introduced" d="M0 5H40"/></svg> introduced at the tap</li></ul>'
        f'<p id="growth-words">{_words(shown)}</p>'
    )


class _Axes:
    """From values to places in the drawing."""

    def __init__(self, points: int, top: float) -> None:
        self.points = points
        self.top = top

    def x(self, i: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (i + 0.5) / self.points

    def y(self, decade: float) -> float:
        share = (decade - LOWEST) / (self.top - LOWEST)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _decade(units: float) -> float:
    """The logarithm, within what is drawn."""
    if units <= 0.0:
        return LOWEST
    return min(HIGHEST, max(LOWEST, math.log10(units))) if math.isfinite(units) else HIGHEST


def _line(kind: str, values: Sequence[float | None], axes: _Axes) -> str:
    """A line through all values that are there, with a gap where one is not."""
    path, dots, pen_down = [], [], False
    for i, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        x, y = f"{axes.x(i):.1f}", f"{axes.y(_decade(value)):.1f}"
        path.append(f"{'L' if pen_down else 'M'}{x} {y}")
        dots.append(f'<circle cx="{x}" cy="{y}" r="3"/>')
        pen_down = True
    drawn = f'<path class="{kind}" d="{"".join(path)}"/>' if path else ""
    return drawn + (f'<g class="{kind}">{"".join(dots)}</g>' if len(values) <= DOTS else "")


def _bands(multiplier: float, axes: _Axes) -> str:
    limit = math.log10(multiplier)
    return _band("floor", LOWEST, 0.0, axes) + _band("rounding", 0.0, limit, axes)


def _band(kind: str, low: float, high: float, axes: _Axes) -> str:
    top, height = axes.y(high), axes.y(low) - axes.y(high)
    return (
        f'<rect class="{kind}" x="{LEFT}" y="{top:.1f}" width="{WIDTH - LEFT - RIGHT}" '
        f'height="{height:.1f}"/>'
    )


def _scale(axes: _Axes) -> str:
    step = max(1, math.ceil((axes.top - LOWEST) / 8))
    drawn = f'<text x="{LEFT - 56}" y="16">floor units</text>'
    for decade in range(int(LOWEST), math.floor(axes.top) + 1, step):
        y = axes.y(decade)
        label = f"{10.0**decade:g}" if abs(decade) < 4 else f"1e{decade}"
        label = f"≤ {label}" if decade == LOWEST else label
        drawn += f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        drawn += f'<text class="y" x="{LEFT - 8}" y="{y + 4:.1f}">{label}</text>'
    return drawn


def _layers(shown: Sequence[Verdict], axes: _Axes) -> str:
    """Where each layer begins, and its number."""
    layers = [split(v.name)[1] if v.kind == "tap" else None for v in shown]
    begins = [
        (i, layer)
        for i, layer in enumerate(layers)
        if layer is not None and (i == 0 or layers[i - 1] != layer)
    ]
    every = max(1, math.ceil(len(begins) / LABELS))
    drawn = ""
    for n, (i, layer) in enumerate(begins):
        x = axes.x(i - 0.5)
        drawn += f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM + 4}"/>'
        if n % every == 0:
            drawn += f'<text x="{x + 3:.1f}" y="{HEIGHT - BOTTOM + 16}">{layer}</text>'
    title = "layers, in the order of the computation" if begins else "in the order of computation"
    return drawn + f'<text class="x" x="{WIDTH - RIGHT}" y="{HEIGHT - 10}">{title}</text>'


def _mark(i: int, axes: _Axes) -> str:
    x = axes.x(i)
    side = "end" if x > WIDTH / 2 else "start"
    at = x - 5 if side == "end" else x + 5
    return (
        f'<path class="first" d="M{x:.1f} {TOP - 4}V{HEIGHT - BOTTOM}"/>'
        f'<text class="first {side}" x="{at:.1f}" y="{TOP - 6}">first that parts</text>'
    )


def _words(shown: Sequence[Verdict]) -> str:
    """The chart in a sentence or two."""
    worst = max(shown, key=lambda v: v.units or 0.0)
    said = (
        f"The error is largest at <code>{broken(worst.name)}</code>: {number(worst.units)} floor "
        "units."
    )
    made = [v for v in shown if v.introduced is not None]
    if made:
        most = max(made, key=lambda v: v.introduced or 0.0)
        said += (
            f" Most is introduced at <code>{broken(most.name)}</code>: {number(most.introduced)} "
            "floor units."
        )
    return said + " The dark band is within one floor, the light one within rounding."
