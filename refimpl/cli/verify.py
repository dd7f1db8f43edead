"""``refimpl verify``: recompute the goldens, or a checkpoint's published numbers, and judge all;
or judge what another program computes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import Backend, Json, Kernels, errors_are_one_line, progress
from refimpl.cli.program import program_of
from refimpl.cli.verify_others import verify_cards, verify_program

if TYPE_CHECKING:
    from refimpl.parity.compare import Comparison
    from refimpl.parity.published import Finding, PublishedReport
    from refimpl.parity.verify import CaseReport, Report

Goldens = Annotated[
    Path | None, typer.Argument(help="A golden case or a folder of them; else bundled.")
]
Checkpoint = Annotated[
    str | None, typer.Option(help="A checkpoint folder or hub id: recompute its published numbers.")
]
Registry = Annotated[
    Path | None, typer.Option(help="A registry of published numbers; else the bundled one.")
]
As = Annotated[str | None, typer.Option("--as", help="Which checkpoint of the registry it is.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="A folder or hub id with its tokenizer; else its own.")
]
Stream = Annotated[
    bool, typer.Option("--stream", help="Keep no weights of the checkpoint in memory.")
]
Cards = Annotated[Path | None, typer.Option("--ops", help="A dump of operation cards: judge it.")]
Family = Annotated[
    str | None, typer.Option(help="Program: xlm, xlm_roberta, xlm_roberta_xl or xmod.")
]
Limit = Annotated[int | None, typer.Option(help="Program: so many cases.")]
Timeout = Annotated[float | None, typer.Option(help="Program: seconds that it may take; else 60.")]
Once = Annotated[
    bool, typer.Option("--once", help="Program: start it once, with all cases in a list.")
]
Map = Annotated[
    Path | None, typer.Option("--map", help="Program: TOML or JSON, our names and theirs.")
]
Packing = Annotated[
    bool,
    typer.Option("--packing/--no-packing", help="Goldens: compute no padding, where none looks."),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float64, float32 or float16; else float64 and float32, of a checkpoint float32. "
        "Of what others computed: the arithmetic, also bfloat16 and more."
    ),
]


def verify(
    ctx: typer.Context,
    path: Goldens = None,
    checkpoint: Checkpoint = None,
    registry: Registry = None,
    published_as: As = None,
    tokenizer: Tokenizer = None,
    stream: Stream = False,
    cards: Cards = None,
    family: Family = None,
    limit: Limit = None,
    timeout: Timeout = None,
    once: Once = False,
    map_file: Map = None,
    backend: Backend = "numpy",
    dtype: Dtype = None,
    kernels: Kernels = "fused",
    packing: Packing = True,
    as_json: Json = False,
) -> None:
    """Recompute the goldens of the original implementations and judge every value.

    In float64 by one norm, else by what honest runs of the case are off by there: its
    floor, of which 4 are still rounding.

    With --checkpoint, recompute the numbers that were published for a real
    checkpoint (hidden states, scores, token ids, ...) and judge each within its
    publisher's tolerance. Only numbers of high trust decide. Those of medium and
    low trust, whose sources are uncertain, are reported beside them.

    With --ops DUMP, judge another implementation's outputs of the operation cards.

    With -- PROGRAM ..., run another implementation on the goldens and judge what it
    dumps. In its words {case} is a golden's folder and {out} the path of the dump to
    write; REFIMPL_CASE and REFIMPL_OUT in its environment say the same. With --once,
    {cases} is a file that lists folders, {out} a folder for <family>/<case>.

    Exit code 0: it held. 1: some did not hold. 2: it could not be run, or nothing
    of high trust could be recomputed.
    """
    of_checkpoint = {"registry": registry, "published_as": published_as, "tokenizer": tokenizer,
                     "stream": stream or None}  # fmt: skip
    of_program = {"family": family, "limit": limit, "timeout": timeout, "once": once or None,
                  "map": map_file}  # fmt: skip
    program = program_of(ctx)
    tasks = {"--checkpoint": checkpoint, "--ops": cards, "a program": program}
    with errors_are_one_line():
        _expect_one(path, tasks, {"--checkpoint": of_checkpoint, "a program": of_program})
        if cards is not None:
            code = verify_cards(cards, dtype, as_json)
        elif program is not None:
            running = {"timeout": timeout, "once": once, "map_file": map_file, "arithmetic": dtype}
            code = verify_program(program, path, (family, limit), running, as_json)
        elif checkpoint is None:
            code = _verify_goldens(path, (backend, dtype, kernels, packing), as_json)
        else:
            how = {"backend": backend, "dtype": dtype or "float32", "kernels": kernels}
            code = _verify_checkpoint(checkpoint, {**of_checkpoint, **how}, as_json)
    raise typer.Exit(code)


def _expect_one(
    path: Path | None, tasks: dict[str, Any], options: dict[str, dict[str, Any]]
) -> None:
    """Raise ``ValueError`` for two tasks, and for an option of one that was not asked for."""
    asked = [name for name, task in tasks.items() if task is not None]
    for task, of_task in options.items():
        given = [name.removeprefix("published_") for name, x in of_task.items() if x is not None]
        if given and task not in asked:
            beside = "a program behind --" if task == "a program" else task
            raise ValueError(f"--{given[0]}: expected {beside} beside it")
    if path is not None and asked not in ([], ["a program"]):
        asked = ["goldens", *asked]
    if len(asked) > 1:
        raise ValueError(f"expected {' or '.join(asked)}, got both")


def _verify_goldens(
    path: Path | None, how: tuple[str, str | None, str, bool], as_json: bool
) -> int:
    """Verify goldens: ``how`` is backend, dtype, kernels and packing."""
    from refimpl.parity.goldens import find_goldens
    from refimpl.parity.verify import DTYPES, Report, run_cases

    folders = find_goldens(path)
    total = len(folders) * len(DTYPES if how[1] is None else (how[1],))
    cases = []
    for case in progress(run_cases(folders, *how), total, "verifying"):
        cases.append(case)
        if not as_json:
            _print_case(case)
    report = Report(tuple(cases))
    if as_json:
        print(json.dumps(_as_dict(report), ensure_ascii=False))
    else:
        _print_summary(report)
    return report.exit_code


def _print_case(case: CaseReport) -> None:
    mark = "held" if case.held else "error" if case.error else "DIFF"
    print(f"{mark:5} {case.dtype:7} {case.name:40} {_verdict(case)}")


def _verdict(case: CaseReport) -> str:
    if case.error:
        return case.error
    shown = case.first or case.worst
    if shown is None:
        return "nothing to compare"
    numbers = f"{shown.name}: {shown.error:.1e} ({_allowed(shown)})"
    if case.held:
        return f"{len(case.comparisons)} values, worst {numbers}"
    wrong = sum(not c.ok for c in case.comparisons)
    first = f"{shown.name}: {shown.note}" if shown.note else numbers
    files = "".join(f"; {f} is not the golden's" for f in case.changed_files)
    return f"first {shown.status} at {first}; {wrong} of {len(case.comparisons)} part{files}"


def _allowed(shown: Comparison) -> str:
    from refimpl.parity.comparison.words import number

    if shown.units is None:
        return f"tolerance {shown.tolerance:.1e}"
    return f"{number(shown.units)} floor units, {shown.multiplier:g} allowed"


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
            "first": _plain(case.first) if case.first else None,
            "comparisons": [_plain(c) for c in case.comparisons],
        }
        for case in report.cases
    ]
    return {"held": report.held, "exit_code": report.exit_code, "cases": cases}


def _plain(comparison: Comparison) -> dict[str, Any]:
    from refimpl.parity.comparison.machine import plain

    found: dict[str, Any] = plain(comparison._asdict())
    return found


# --- published numbers ----------------------------------------------------------------------------


def _verify_checkpoint(checkpoint: str, options: dict[str, Any], as_json: bool) -> int:
    from refimpl.parity.published import as_dict, verify_checkpoint

    given = {name: value for name, value in options.items() if value is not None}
    watch = _watch_quietly if as_json else _watch_and_print
    report = verify_checkpoint(checkpoint, **given, watch=watch)
    if as_json:
        print(json.dumps(as_dict(report), ensure_ascii=False))
    else:
        _print_published(report)
    return report.exit_code


def _watch_quietly(findings: Iterator[Finding], total: int) -> Iterator[Finding]:
    return progress(findings, total, "verifying")


def _watch_and_print(findings: Iterator[Finding], total: int) -> Iterator[Finding]:
    for finding in progress(findings, total, "verifying"):
        _print_finding(finding)
        yield finding


def _print_finding(finding: Finding) -> None:
    number = finding.number
    print(f"{finding.status:14} {number.trust:6} {number.name:28} {_said(finding)}")
    print(f"{'':22}{number.kind}, of {number.source}")
    if number.note and finding.status != "held":
        print(f"{'':22}{number.note}")


def _said(finding: Finding) -> str:
    """The verdict in numbers: the error against its tolerance, or what came instead."""
    worst = finding.worst
    if worst is None:
        return finding.reason
    if worst.note:
        return f"{worst.name}: {worst.note}"
    if not worst.tolerance and not worst.error:
        return f"{finding.values} equal"
    return f"error {worst.error:.1e} (tolerance {worst.tolerance:.1e})"


def _print_published(report: PublishedReport) -> None:
    """How many numbers of each trust held; and the verdict, which those of high trust give."""
    for trust in ("high", "medium", "low"):
        of_trust = [f.status for f in report.findings if f.number.trust == trust]
        counts = [f"{of_trust.count(x)} {x}" for x in dict.fromkeys(of_trust)]
        if counts:
            print(f"{trust} trust: {', '.join(counts)}")
    verdicts = ["held", "not held", "nothing of high trust could be recomputed"]
    failed = any(f.decides and f.status == "failed" for f in report.findings)
    print(f"{report.id}: {'failed' if failed else verdicts[report.exit_code]}")
