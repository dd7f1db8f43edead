"""``refimpl verify``: recompute the goldens and judge every value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import Backend, Json, Kernels, errors_are_one_line, progress

if TYPE_CHECKING:
    from refimpl.parity.verify import CaseReport, Report


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
    with errors_are_one_line():
        from refimpl.parity.goldens import find_goldens
        from refimpl.parity.verify import DTYPES, Report, run_cases

        folders = find_goldens(path)
        total = len(folders) * len(DTYPES if dtype is None else (dtype,))
        cases = []
        for case in progress(run_cases(folders, backend, dtype, kernels), total, "verifying"):
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
