"""Writes the report: the whole file or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refimpl.parity.comparison.report.page import render
from refimpl.parity.dumps.own import new_file

if TYPE_CHECKING:
    from refimpl.parity.comparison.verdict import ComparisonReport
    from refimpl.parity.diagnosis import Diagnosis


def write_report(
    report: ComparisonReport, path: str | Path, diagnosis: Diagnosis | None = None
) -> None:
    """Write the report of a comparison to ``path``: one HTML file of at most 1 MB.

    A file of that name is replaced, when the new one is complete. ``diagnosis`` is what
    ``diagnose`` found, if it was asked. Raises ``CheckpointError`` where it cannot be written.
    """
    text = render(report, diagnosis)
    with new_file(Path(path)) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
