"""Running a foreign program on golden cases, and judging the dumps it leaves.

The program is started once for each case, or once for all. It is told where the case is and where
its dump goes, in its arguments and in its environment; no shell is involved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from refimpl.errors import CheckpointError
from refimpl.parity.comparison import ComparisonReport, compare, sentence
from refimpl.parity.goldens import case_name

TIMEOUT = 60.0  # seconds
KEPT = 4000  # characters of what a program printed last
HELD, PARTED, ERROR = "held", "DIFF", "error"


@dataclass(frozen=True)
class CaseRun:
    """What became of one case."""

    name: str  # "xmod/mixed_languages"
    folder: Path
    report: ComparisonReport | None = None  # of the dump, where there is one that can be read
    error: str = ""  # why there is none
    printed: str = ""  # what the program printed last, where it failed
    seconds: float = 0.0  # that the program took

    @property
    def status(self) -> str:
        """HELD, PARTED or ERROR."""
        if self.report is None or self.report.exit_code == 2:
            return ERROR
        return HELD if self.report.held else PARTED

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return self.error if self.report is None else sentence(self.report)


@dataclass(frozen=True)
class ForeignReport:
    """What became of a program."""

    cases: tuple[CaseRun, ...]

    @property
    def exit_code(self) -> int:
        """0: all held. 1: some part. 2: some could not be run or judged."""
        found = [case.status for case in self.cases]
        return 2 if ERROR in found or not found else int(PARTED in found)


@dataclass(frozen=True)
class Finished:
    """A program that is done."""

    code: int | None  # None: it was stopped, its time was up
    printed: str
    seconds: float


def run_cases(
    command: Sequence[str],
    folders: Sequence[Path],
    *,
    timeout: float | None = None,
    once: bool = False,
    **judging: Any,
) -> Iterator[CaseRun]:
    """Run ``command`` on golden cases and yield a verdict on each.

    ``{case}`` in a word of the command is the folder of a case and ``{out}`` the path of the dump
    to write (any ending may be added to it); so are REFIMPL_CASE and REFIMPL_OUT in the
    environment. With ``once`` it is started once: ``{cases}`` (REFIMPL_CASES) is a file with a
    folder in each line, ``{out}`` a folder for dumps called ``<family>/<case>``. ``judging`` are
    options of :func:`refimpl.parity.comparison.compare`.

    Raises ``ValueError`` for an empty command, a program that does not exist, or no time.
    """
    if not command:
        raise ValueError("expected a program behind --")
    timeout = TIMEOUT if timeout is None else timeout
    if timeout <= 0:
        raise ValueError(f"timeout: expected more than 0 seconds, got {timeout:g}")
    with tempfile.TemporaryDirectory(prefix="refimpl-") as scratch:
        work = Path(scratch)
        if once:
            yield from _run_once(command, folders, work, timeout, judging)
            return
        for i, folder in enumerate(folders):
            out = work / str(i) / "dump"
            out.parent.mkdir()
            done = run_program(command, {"case": folder.resolve(), "out": out}, timeout)
            yield _judge(folder, done, out, judging)


def _run_once(
    command: Sequence[str],
    folders: Sequence[Path],
    work: Path,
    timeout: float,
    judging: Mapping[str, Any],
) -> Iterator[CaseRun]:
    listed, out = work / "cases.txt", work / "dumps"
    listed.write_text("".join(f"{folder.resolve()}\n" for folder in folders), encoding="utf-8")
    for folder in folders:
        (out / case_name(folder)).parent.mkdir(parents=True, exist_ok=True)
    done = run_program(command, {"cases": listed, "out": out}, timeout)
    for folder in folders:
        yield _judge(folder, done, out / case_name(folder), judging)


def _judge(folder: Path, done: Finished, out: Path, judging: Mapping[str, Any]) -> CaseRun:
    name = case_name(folder)
    if done.code != 0:
        stopped = "the program was stopped, it took too long"
        error = stopped if done.code is None else f"the program: exit code {done.code}"
        return CaseRun(name, folder, None, error, done.printed, done.seconds)
    try:
        report = compare(folder, find_dump(out), **judging)
    except (CheckpointError, ValueError, TypeError) as problem:
        text = str(problem).replace(f"{out.parent}{os.sep}", "")
        return CaseRun(name, folder, None, text, done.printed, done.seconds)
    return CaseRun(name, folder, report, seconds=done.seconds)


def find_dump(out: Path) -> Path:
    """Return what a program left at ``out``, or there with some ending.

    Raises ``CheckpointError`` where there is nothing, or more than one thing.
    """
    found = [out] if out.exists() else sorted(out.parent.glob(f"{out.name}.*"))
    if len(found) != 1:
        got = ", ".join(path.name for path in found) or "nothing"
        raise CheckpointError(f"the program left no dump at {{out}}: expected one, got {got}")
    return found[0]


def run_program(command: Sequence[str], places: Mapping[str, Path], timeout: float) -> Finished:
    """Run a program to its end, or until its time is up; keep what it printed last.

    ``places`` are put in for ``{name}`` in the words of ``command``, and are REFIMPL_NAME in the
    environment. Raises ``ValueError`` where it cannot be started.
    """
    words = [_fill(word, places) for word in command]
    named = {f"REFIMPL_{name.upper()}": str(path) for name, path in places.items()}
    begin = time.monotonic()
    try:
        process = subprocess.Popen(
            words,
            env={**os.environ, **named},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what it starts can be stopped with it
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{words[0]}: cannot be started: {reason}") from None
    assert process.stdout is not None
    last = _Last(process.stdout)
    try:
        code: int | None = process.wait(timeout)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        _stop(process)
    return Finished(code, last.text(), time.monotonic() - begin)


def _fill(word: str, places: Mapping[str, Path]) -> str:
    for name, path in places.items():
        word = word.replace(f"{{{name}}}", str(path))
    return word


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it left running."""
    with suppress(ProcessLookupError, PermissionError):  # it is gone
        if hasattr(os, "killpg"):  # not on Windows
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.wait()


class _Last:
    """Reads what a program prints, and keeps the end of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = b""
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream as stream:
            while chunk := stream.read1(2**16):  # type: ignore[attr-defined]
                self._kept = (self._kept + chunk)[-4 * KEPT :]

    def text(self) -> str:
        """Return the end, when the program is done."""
        self._thread.join(timeout=1.0)
        text = self._kept.decode("utf-8", errors="replace")
        return "".join(x for x in text if x.isprintable() or x == "\n")[-KEPT:].strip()
