"""A comparison in words: one sentence that a porter can act on, and the rule behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from refimpl.parity.comparison.verdict import DIFF, INPUT, MISSING, ComparisonReport, Verdict

_NAMED = 3  # further values are named up to so many


def number(x: float | None) -> str:
    """A measure in few characters; "-" where there is none.

    >>> number(12345.6), number(0.98765), number(math.inf), number(None)
    ('1.2e+04', '0.99', 'inf', '-')
    """
    if x is None:
        return "-"
    if math.isfinite(x) and (x == 0.0 or 0.01 <= abs(x) < 1000.0):
        return f"{x:.0f}" if x == 0.0 or abs(x) >= 100.0 else f"{x:.2g}"
    return f"{x:.1e}" if math.isfinite(x) else str(x)


def sentence(report: ComparisonReport) -> str:
    """Say what came out, and where to look."""
    first = report.first
    if first is not None and first.kind == INPUT:
        return f"the inputs part at {first.name}: {first.note}"
    if first is not None:
        return f"first parts at {first.name} ({_what(first)}); {_before(report, first)}"
    if not report.compared:
        return "nothing was compared: the candidate has no value that is known here"
    worst = max(report.compared, key=lambda v: max(v.units or 0.0, v.introduced or 0.0))
    measured = [x for x in (worst.units, worst.introduced) if x is not None]
    most = f" (at most {number(max(measured))} floor units, at {worst.name})" if measured else ""
    return f"held: {_values(len(report.compared))} within rounding{most}{_not_shown(report)}"


def rule(report: ComparisonReport) -> str:
    """Say by which rule values were judged, and which were not; "" where none were."""
    if not report.floors.runs:
        return ""
    left_out = "; what is computed at padding was not judged" if report.ignore_padding else ""
    return report.floors.describe() + left_out


def _what(verdict: Verdict) -> str:
    """What is wrong with a value, in a few words."""
    if verdict.status != DIFF or verdict.max_abs is None:
        status = "" if verdict.status == DIFF else verdict.status
        said = (_origin(verdict), status, verdict.note, verdict.where)
        return ", ".join(filter(None, said))
    size = verdict.introduced if verdict.origin == "introduced" else verdict.units
    if size is not None and math.isinf(size):
        far = f"off by {number(verdict.max_abs)} where every honest run is exact"
    else:
        far = f"{number(size)} floor units"
    return ", ".join(filter(None, (_origin(verdict), far, verdict.where)))


def _origin(verdict: Verdict) -> str:
    if verdict.origin != "introduced":
        return verdict.origin
    if verdict.since:
        return f"introduced between {verdict.since} and it"
    return "introduced there"


def _before(report: ComparisonReport, first: Verdict) -> str:
    names = [v.name for v in report.compared]
    before = names.index(first.name)
    said = f"{_values(before)} in front of it within rounding" if before else "nothing before it"
    return said + _further(report, first)


def _further(report: ComparisonReport, first: Verdict) -> str:
    """Name what parts by a mistake of its own behind the first."""
    more = [v.name for v in report.compared if v.origin == "introduced" and v.parts]
    more = [name for name in more if name != first.name]
    if not more:
        return ""
    rest = f" and {len(more) - _NAMED} more" if len(more) > _NAMED else ""
    return f"; introduced anew at {', '.join(more[:_NAMED])}{rest}"


def _not_shown(report: ComparisonReport) -> str:
    missing = sum(v.status == MISSING and v.kind != INPUT for v in report.verdicts)
    return f"; {_values(missing)} not in the dump" if missing else ""


def _values(count: int) -> str:
    return f"{count} value{'' if count == 1 else 's'}"


def unknown_lines(report: ComparisonReport) -> Iterable[str]:
    """Say of each name that is not known here which of ours is nearest."""
    for name, near in report.unknown.items():
        yield f"{printable(name)}: " + (f"is it {' or '.join(near)}?" if near else "not known")


def printable(name: str) -> str:
    """A name out of a file, which might hold a line feed or what a terminal obeys."""
    return name if name.isprintable() else ascii(name)
