"""A candidate against the float64 truth: where they part, and whether it matters.

    report = compare("golden/xlm_roberta/padding_left", "mine.safetensors")
    report.held, report.first

``docs/comparing.md`` tells how to read the result.
"""

from refimpl.parity.comparison.comparing import compare
from refimpl.parity.comparison.machine import as_dict, as_junit
from refimpl.parity.comparison.verdict import (
    DIFF,
    DTYPE,
    MISSING,
    NAN,
    OK,
    ROUNDING,
    SHAPE,
    STATUSES,
    ComparisonReport,
    Verdict,
)
from refimpl.parity.comparison.words import rule, sentence

__all__ = [
    "DIFF",
    "DTYPE",
    "MISSING",
    "NAN",
    "OK",
    "ROUNDING",
    "SHAPE",
    "STATUSES",
    "ComparisonReport",
    "Verdict",
    "as_dict",
    "as_junit",
    "compare",
    "rule",
    "sentence",
]
