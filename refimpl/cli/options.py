"""What the commands share: their options, one line for an error, progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar

import typer

from refimpl.errors import CheckpointError, MissingExtra

Backend = Annotated[str, typer.Option(help="numpy, cupy, cupy:N, strict or strict:DEVICE.")]
Kernels = Annotated[str, typer.Option(help="plain (as written) or fused (faster twins).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

Item = TypeVar("Item")


@contextmanager
def errors_are_one_line() -> Iterator[None]:
    """Turn the errors of bad input into one line on standard error and exit code 2."""
    try:
        yield
    except (CheckpointError, MissingExtra, ValueError, TypeError, RuntimeError) as error:
        _say(str(error))
        raise typer.Exit(2) from None
    except OverflowError as error:  # a number of runs, or of cases, that no memory has room for
        _say(f"expected a smaller number: {error}")
        raise typer.Exit(2) from None
    except BrokenPipeError:  # the reader has enough, and no error is to be told
        raise
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        _say(f"{where}cannot be read or written: {error.strerror or error}")
        raise typer.Exit(2) from None


def _say(error: str) -> None:
    """Print an error; names of files may hold a line feed, or what a terminal obeys."""
    line = "".join(x if x.isprintable() else ascii(x)[1:-1] for x in error)
    print(f"refimpl: {line}", file=sys.stderr)


@contextmanager
def stopping_is_one_line(kept: str = "") -> Iterator[None]:
    """Turn Ctrl-C into one line, which says what is ``kept``, and exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"refimpl: stopped{kept}", file=sys.stderr)
        raise typer.Exit(130) from None


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Show a progress bar on a terminal; nothing on a pipe."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show that something is under way on a terminal; nothing on a pipe."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
