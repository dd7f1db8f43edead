"""Writes the report: the whole file or none."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from refimpl.parity.comparison.report.page import render

if TYPE_CHECKING:
    from refimpl.parity.comparison.verdict import ComparisonReport
    from refimpl.parity.diagnosis import Diagnosis


def write_report(
    report: ComparisonReport, path: str | Path, diagnosis: Diagnosis | None = None
) -> None:
    """Write the report of a comparison to ``path``: one HTML file of at most 1 MB.

    A file of that name is replaced, when the new one is complete. ``diagnosis`` is what
    ``diagnose`` found, if it was asked. Raises ``OSError`` where the file cannot be written.
    """
    path = Path(path)
    text = render(report, diagnosis).encode("utf-8")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
