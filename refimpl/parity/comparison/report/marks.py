"""How numbers, statuses and names are put into the page. All text from outside is escaped here."""

from __future__ import annotations

import html
import math
import re

from refimpl.parity.compare import DIFF, DTYPE, MISSING, NAN, OK, SHAPE
from refimpl.parity.comparison.verdict import ROUNDING, Verdict

DOCS = "https://refimpl.readthedocs.io/"
LONGEST = 300  # characters of one text from outside

GLYPHS = {OK: "·", ROUNDING: "≈", DIFF: "✕", SHAPE: "S", DTYPE: "T", NAN: "N", MISSING: "–"}
MEANINGS = {
    OK: "within the error of honest runs",
    ROUNDING: "more than that, and still no mistake",
    DIFF: "more than rounding explains",
    SHAPE: "of another shape",
    DTYPE: "of another kind of number",
    NAN: "not finite where the reference is",
    MISSING: "not in the candidate's dump",
}

# Upper bounds of the steps of the colour scale: the first three in floor units, the others times
# the multiplier.
FLOOR_STEPS = (0.1, 0.3, 1.0)
LIMIT_STEPS = (1.0, 10.0, 100.0, 1000.0, 1e4)
STEPS = len(FLOOR_STEPS) + len(LIMIT_STEPS) + 1


def text(value: object, longest: int = LONGEST) -> str:
    """Escape a text for HTML, in and out of attributes; cut it where it is very long.

    >>> text('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    plain = "".join(c if c.isprintable() else "�" for c in str(value))
    return html.escape(plain if len(plain) <= longest else plain[: longest - 1] + "…")


def broken(value: object, longest: int = LONGEST) -> str:
    """A text with dotted names in it, escaped, where the browser may break the names.

    >>> broken("5.4 at layer.0.query.")
    '5.4 at layer.<wbr>0.<wbr>query.'
    """
    letter = r"[^\W\d]"
    dot = rf"(?<={letter})\.(?=\w)|(?<=\d)\.(?={letter})"
    return re.sub(dot, ".<wbr>", text(value, longest))


def decisive(verdict: Verdict) -> float | None:
    """The error by which a value is shaded: in floor units, the larger of all and its own part.

    What parts without a number (another shape, other ids) is off by infinitely much, ids that
    are right by nothing.
    """
    errors = [x for x in (verdict.units, verdict.introduced) if x is not None]
    if errors:
        return max(errors)
    return math.inf if verdict.parts else 0.0 if verdict.status == OK else None


def step(units: float | None, multiplier: float) -> str:
    """The class of a colour: "c0" for the least error, "c8" for the largest, "cx" for unknown.

    >>> step(0.05, 2.0), step(1.5, 2.0), step(2.1, 2.0), step(float("inf"), 2.0), step(None, 2.0)
    ('c0', 'c3', 'c4', 'c8', 'cx')
    """
    if units is None or math.isnan(units):
        return "cx"
    bounds = (*FLOOR_STEPS, *(multiplier * x for x in LIMIT_STEPS))
    return f"c{sum(units > bound for bound in bounds)}"


def short(units: float | None) -> str:
    """Floor units in at most four characters.

    >>> [short(x) for x in (None, 0.0, 0.04, 0.44, 9.96, 412.3, 41234.0, float("inf"))]
    ['', '0', '<.1', '0.4', '10', '412', '4e4', '∞']
    """
    if units is None or math.isnan(units):
        return ""
    if units in (0.0, math.inf):
        return "∞" if units else "0"
    if units < 0.095:
        return "<.1"
    if units < 999.5:
        return f"{units:.1f}" if units < 9.95 else f"{units:.0f}"
    mantissa, exponent = f"{units:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def number(x: float | None) -> str:
    """A number with three digits or all in front of the point; nothing where there is none.

    >>> number(1234.5), number(0.000012345), number(float("inf")), number(None)
    ('1,234', '1.23e-05', '∞', '')
    """
    if x is None:
        return ""
    if math.isinf(x):
        return "∞"
    return f"{x:,.0f}" if 1000.0 <= abs(x) < 1e6 else f"{x:.3g}"


def count(n: int, singular: str) -> str:
    """A number of things.

    >>> count(1, "tap"), count(2000, "tap")
    ('1 tap', '2,000 taps')
    """
    return f"{n:,} {singular}" if n == 1 else f"{n:,} {singular}s"
