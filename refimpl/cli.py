"""The command line: the doors of the package from a shell.

Exit codes: 0 it held (or was done), 1 it did not hold, 2 it could not be run. Results go to
standard output, progress and errors to standard error; on a pipe there is no progress.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.errors import CheckpointError, MissingExtra

if TYPE_CHECKING:
    from refimpl.fill_mask import Filling
    from refimpl.parity.verify import CaseReport, Report

app = typer.Typer(
    help="The XLM family in explicit array code, verified against the originals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Backend = Annotated[str, typer.Option(help="numpy, cupy, cupy:N, strict or strict:DEVICE.")]
Kernels = Annotated[str, typer.Option(help="plain (as written) or fused (faster twins).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.callback()
def _commands() -> None:
    """Have subcommands even where there is one."""


@app.command()
def verify(
    path: Annotated[
        Path | None, typer.Argument(help="A golden case or a folder of them; else the bundled.")
    ] = None,
    backend: Backend = "numpy",
    dtype: Annotated[
        str | None, typer.Option(help="float64, float32 or float16; else float64 and float32.")
    ] = None,
    kernels: Kernels = "fused",
    as_json: Json = False,
) -> None:
    """Recompute the goldens of the original implementations and judge every value."""
    with _errors_are_one_line():
        from refimpl.parity.goldens import find_goldens
        from refimpl.parity.verify import DTYPES, Report, run_cases

        folders = find_goldens(path)
        total = len(folders) * len(DTYPES if dtype is None else (dtype,))
        cases = []
        for case in _progress(run_cases(folders, backend, dtype, kernels), total, "verifying"):
            cases.append(case)
            if not as_json:
                _print_case(case)
        report = Report(tuple(cases))
    if as_json:
        print(json.dumps(_as_dict(report), ensure_ascii=False))
    else:
        _print_summary(report)
    raise typer.Exit(report.exit_code)


def _print_case(case: CaseReport) -> None:
    mark = "held" if case.held else "error" if case.error else "DIFF"
    print(f"{mark:5} {case.dtype:7} {case.name:40} {_verdict(case)}")


def _verdict(case: CaseReport) -> str:
    if case.error:
        return case.error
    shown = case.first or case.worst
    if shown is None:
        return "nothing to compare"
    numbers = f"{shown.name}: {shown.error:.1e} (tolerance {shown.tolerance:.1e})"
    if case.held:
        return f"{len(case.comparisons)} values, worst {numbers}"
    wrong = sum(not c.ok for c in case.comparisons)
    first = f"{shown.name}: {shown.note}" if shown.note else numbers
    files = "".join(f"; {f} is not the golden's" for f in case.changed_files)
    return f"first {shown.status} at {first}; {wrong} of {len(case.comparisons)} part{files}"


def _print_summary(report: Report) -> None:
    held = sum(case.held for case in report.cases)
    values = sum(len(case.comparisons) for case in report.cases)
    print(f"{held} of {len(report.cases)} cases held, {values} values compared")
    for dtype in dict.fromkeys(case.dtype for case in report.cases):
        compared = [c for case in report.cases if case.dtype == dtype for c in case.comparisons]
        if compared:
            worst = max(compared, key=lambda c: c.error)
            print(f"{dtype}: largest relative error {worst.error:.1e}, at {worst.name}")


def _as_dict(report: Report) -> dict[str, Any]:
    cases = [
        {
            "name": case.name,
            "dtype": case.dtype,
            "held": case.held,
            "error": case.error,
            "changed_files": case.changed_files,
            "first": case.first._asdict() if case.first else None,
            "comparisons": [c._asdict() for c in case.comparisons],
        }
        for case in report.cases
    ]
    return {"held": report.held, "exit_code": report.exit_code, "cases": cases}


@app.command("fill-mask")
def fill_mask(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint folder, or a hub id.")],
    text: Annotated[str, typer.Argument(help="A text with one or more <mask>.")],
    top_k: Annotated[int, typer.Option(help="How many candidates for each mask.")] = 5,
    backend: Backend = "numpy",
    dtype: Annotated[str, typer.Option(help="float64, float32 or float16.")] = "float32",
    kernels: Kernels = "fused",
    as_json: Json = False,
) -> None:
    """Print the most probable pieces for each <mask> of a text."""
    with _errors_are_one_line(), _spinner("computing"):
        from refimpl.checkpoints.folder import find_folder
        from refimpl.fill_mask import fill_mask
        from refimpl.models.model import load
        from refimpl.tokenizers import load_tokenizer

        folder = find_folder(checkpoint)
        model = load(folder, dtype=dtype, backend=backend, kernels=kernels)
        fillings = fill_mask(model, load_tokenizer(folder), text, top_k)
    if as_json:
        print(json.dumps([filling._asdict() for filling in fillings], ensure_ascii=False))
    else:
        _print_fillings(fillings)


def _print_fillings(fillings: list[Filling]) -> None:
    from rich.console import Console
    from rich.table import Table

    for mask in dict.fromkeys(filling.mask for filling in fillings):
        table = Table("probability", "id", "piece", "text", title=f"<mask> {mask + 1}")
        for f in fillings:
            if f.mask == mask:
                table.add_row(f"{f.probability:.4f}", str(f.id), f.token, f.text)
        Console().print(table)


@contextmanager
def _errors_are_one_line() -> Iterator[None]:
    """Turn the errors of bad input into one line on standard error and exit code 2."""
    try:
        yield
    except (CheckpointError, MissingExtra, ValueError, TypeError, RuntimeError) as error:
        print(f"refimpl: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _progress(cases: Iterator[CaseReport], total: int, what: str) -> Iterator[CaseReport]:
    """Show a progress bar on a terminal; nothing on a pipe."""
    if not sys.stderr.isatty():
        yield from cases
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(cases, what, total=total, console=Console(stderr=True), transient=True)


@contextmanager
def _spinner(what: str) -> Iterator[None]:
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def main() -> None:
    """Run the command line."""
    app()
