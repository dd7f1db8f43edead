"""Tables that are written into a page from what was measured, between marks in its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def write_tables(page: Path, tables: Mapping[str, str]) -> None:
    """Put each table between ``<!-- NAME -->`` and ``<!-- end -->`` of a page."""
    text = page.read_text(encoding="utf-8")
    for name, table in tables.items():
        between = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text = between.sub(lambda found, t=table: f"{found[1]}\n{t}\n\n{found[2]}", text)
    page.write_text(text, encoding="utf-8")
