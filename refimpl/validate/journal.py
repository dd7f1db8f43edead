"""The results of a run, batch by batch, in a file that outlives the process.

One JSON object on each line, on the disk before the next batch begins. The first line says what
run it is: who resumes must be the same run, of the same checkpoint, data and options, or the
results of two would be mixed. A line that a killed process left half written is dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = "refimpl validate 1"


class Journal:
    """An open journal: what is done, and a way to add to it. Made by :func:`open_journal`."""

    def __init__(self, file: BinaryIO | None, done: dict[int, list[Any]]) -> None:
        self._file = file
        self.done = done

    def add(self, batch: int, results: list[Any]) -> None:
        """Keep the results of a batch; return when they are on the disk."""
        self.done[batch] = results
        if self._file is not None:
            _write(self._file, {"batch": batch, "results": results})


@contextmanager
def open_journal(path: Path | None, run: Mapping[str, Any]) -> Iterator[Journal]:
    """Open the journal of a run, a new one or one to go on with; None keeps nothing.

    ``run`` is what makes two runs the same: values of JSON by name.

    Raises ``ValueError`` for a file that is no journal, that of another run, or one that another
    process writes to.
    """
    if path is None:
        yield Journal(None, {})
        return
    try:
        file = path.open("a+b")
    except OSError as error:
        raise ValueError(f"state: {path}: {error.strerror}") from None
    with file:
        _lock(path, file)
        yield Journal(file, _begin(path, file, {"format": FORMAT, **run}))


def _begin(path: Path, file: BinaryIO, run: dict[str, Any]) -> dict[int, list[Any]]:
    """Return what a file has of this run, whole lines only; begin it where it has nothing."""
    file.seek(0)
    content = file.read()
    first = _line(run)
    if b"\n" not in content and first.startswith(content):  # new, or killed at its first line
        file.truncate(0)
        _write(file, run)
        return {}
    *lines, _ = content.split(b"\n")
    _check_run(path, lines[:1], json.loads(first))
    done = dict(_batch(path, number, line) for number, line in enumerate(lines[1:], 2))
    file.truncate(sum(len(line) + 1 for line in lines))
    return done


def _check_run(path: Path, first: list[bytes], run: dict[str, Any]) -> None:
    try:
        found = json.loads(first[0])
    except (IndexError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"state: {path}: expected a state of {FORMAT!r}, got another file")
    for name, value in run.items():
        if found.get(name) != value:
            raise ValueError(
                f"state: {path}: is of another run: {name} was {found.get(name)!r}, is {value!r}"
            )


def _batch(path: Path, number: int, line: bytes) -> tuple[int, list[Any]]:
    try:
        value = json.loads(line)
        batch, results = value["batch"], value["results"]
    except (ValueError, TypeError, KeyError):
        batch, results = None, None
    if not isinstance(batch, int) or not isinstance(results, list):
        raise ValueError(f"state: {path}, line {number}: expected the results of a batch")
    return batch, results


def _lock(path: Path, file: BinaryIO) -> None:
    """Keep other processes out for as long as the file is open, where the system can do so."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"state: {path}: another run is writing to it") from None


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _write(file: BinaryIO, value: Mapping[str, Any]) -> None:
    """Write a line; return when it is on the disk."""
    try:
        file.write(_line(value))
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:  # a full disk
        raise ValueError(f"state: {file.name}: {error.strerror}") from None
