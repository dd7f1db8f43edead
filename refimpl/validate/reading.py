"""Files of labelled examples, read into one form: rows of named values, each with its place.

By the end of the file's name: ``.jsonl`` has a JSON object on each line, ``.json`` is one JSON
value, ``.tsv`` has columns between tabs, and anything else is lines of text. All are UTF-8.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Names = Mapping[str, Sequence[str]]  # what a task needs -> how columns that hold it are called


class Entry(NamedTuple):
    """One row of a file."""

    where: str  # "dev.tsv, line 3", for errors
    values: Mapping[str, Any]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file without their ends, which are line feeds as a tsv has them.

    Raises ``ValueError`` for a file that cannot be read or is not UTF-8, naming the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"data: {path}: {error.strerror}") from None
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    found = []
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        try:
            found.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number}: expected UTF-8: {error.reason}") from None
    return found


def read_entries(path: Path, names: Names, columns: Mapping[str, str]) -> list[Entry]:
    """Return the rows of a ``.jsonl`` or ``.tsv`` file, with their values as a task names them.

    ``columns`` says which column holds what, by name or (from 1) by number, where it is called
    otherwise. A tsv of which all columns are numbers has no line of names. What no column holds is
    missing in ``values``.

    Raises ``ValueError`` for what is no such file, and a column that is not there.
    """
    unknown = set(columns) - set(names)
    if unknown:
        known = ", ".join(names)
        raise ValueError(f"columns: expected some of {known}, got {', '.join(sorted(unknown))}")
    if path.suffix == ".jsonl":
        rows = _json_rows(path)
    elif path.suffix == ".tsv":
        rows = _tsv_rows(path, bool(columns) and all(c.isdecimal() for c in columns.values()))
    else:
        raise ValueError(f"data: expected a .jsonl or .tsv file, got {path}")
    entries = []
    for where, row in rows:
        held = {name: _column(where, row, columns[name]) for name in columns}
        for name in names:
            usual = next((other for other in names[name] if other in row), None)
            if name not in held and usual is not None:
                held[name] = row[usual]
        entries.append(Entry(where, held))
    return entries


def _column(where: str, row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise ValueError(f"{where}: expected a column {column!r}, got {', '.join(row)}")
    return row[column]


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        value = parse_json(where, line)
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a JSON object, got {line:.40}")
        yield where, value


def parse_json(where: str, text: str) -> Any:
    """Return the value of a JSON text; ``ValueError`` naming where it stands for what is none."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON: {error}") from None


def _tsv_rows(path: Path, by_number: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the rows of a tsv; quotes mean nothing in it, as in the files of XNLI."""
    names: list[str] | None = None
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split("\t")
        if by_number:
            names = [str(i) for i in range(1, len(cells) + 1)]
        elif names is None:
            names = cells
            continue
        if not line.strip():
            continue
        if len(cells) != len(names):
            raise ValueError(
                f"{path}, line {number}: expected {len(names)} columns, got {len(cells)}"
            )
        yield f"{path}, line {number}", dict(zip(names, cells, strict=True))


def text_of(entry: Entry, name: str) -> str:
    """Return a value of a row that is to be a text.

    Raises ``ValueError`` where it is missing or something else.
    """
    if name not in entry.values:
        raise ValueError(f"{entry.where}: expected a {name}, got none (--columns {name}=COLUMN)")
    value = entry.values[name]
    if not isinstance(value, str):
        raise ValueError(f"{entry.where}: {name}: expected a text, got {value!r:.60}")
    return value


def language_of(entry: Entry, usual: str | None) -> str | None:
    """Return the language of a row: its own, else the usual one."""
    return text_of(entry, "lang") if "lang" in entry.values else usual
