"""``refimpl verify --ops DUMP`` and ``refimpl verify -- CMD``: what others computed, judged."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refimpl.cli.options import progress

if TYPE_CHECKING:
    from refimpl.parity.cards import CardReport, CaseVerdict
    from refimpl.parity.foreign import CaseRun, ForeignReport

_NAMED = 5  # cards that are not in a dump are named up to so many

# --- operation cards ------------------------------------------------------------------------------


def verify_cards(dump: Path, arithmetic: str | None, as_json: bool) -> int:
    """Judge the outputs of operation cards in a dump; return the exit code."""
    from refimpl.parity.cards import judge
    from refimpl.parity.dumps import read_dump

    report = judge(read_dump(dump), arithmetic)
    if as_json:
        print(json.dumps(_cards_as_dict(report), ensure_ascii=False))
    else:
        _print_cards(report)
    return report.exit_code


def _cards_as_dict(report: CardReport) -> dict[str, Any]:
    return {
        "held": report.held,
        "exit_code": report.exit_code,
        "sentence": report.sentence,
        "wrong": [card.name for card in report.wrong],
        "unknown": list(report.unknown),
        "cards": [
            {
                "name": card.name,
                "status": card.status,
                "inherited": list(card.inherited),
                "cases": [_case_as_dict(case) for case in card.cases] if card.given else [],
            }
            for card in report.cards
        ],
    }


def _case_as_dict(case: CaseVerdict) -> dict[str, Any]:
    """JSON has no infinity: it is "inf", as in other commands."""
    units = case.units
    return {**vars(case), "units": units if units is None or math.isfinite(units) else str(units)}


def _print_cards(report: CardReport) -> None:
    from refimpl.parity.comparison.words import number, printable

    for card in report.judged:
        units = [case.units for case in card.cases if case.units is not None]
        most = f", at most {number(max(units))} floor units" if units and card.held else ""
        print(f"{card.status:8} {card.name:34} {len(card.cases)} cases{most}")
        for case in card.cases:
            if not case.held:
                off = "" if case.units is None else f"{number(case.units)} floor units"
                said = ", ".join(filter(None, (case.what, off, case.note)))
                print(f"{'':9}{case.status:8} {case.name}: {said}")
        if card.inherited and not card.held:
            print(f"{'':9}it uses {', '.join(card.inherited)}")
    absent = [card.name for card in report.cards if not card.given]
    if absent and report.judged:
        names = ", ".join(absent) if len(absent) <= _NAMED else f"{len(absent)} cards"
        print(f"not in the dump: {names}")
    for name in report.unknown[:10]:
        print(f"unknown: {printable(name)}")
    print(report.sentence)


# --- a foreign program ----------------------------------------------------------------------------


def verify_program(
    command: Sequence[str],
    path: Path | None,
    choice: tuple[str | None, int | None],
    running: dict[str, Any],
    as_json: bool,
) -> int:
    """Run a program on golden cases and judge what it dumps; return the exit code.

    ``choice`` is a family and a number of cases, None for all; ``running`` are options of
    :func:`refimpl.parity.foreign.run_cases`.
    """
    from refimpl.parity.foreign import ForeignReport, run_cases
    from refimpl.testing import find_cases

    family, limit = choice
    folders = [case.folder for case in find_cases(family, limit, path)]
    runs = []
    for run in progress(run_cases(command, folders, **running), len(folders), "running"):
        runs.append(run)
        if not as_json:
            _print_run(run)
    report = ForeignReport(tuple(runs))
    if as_json:
        print(json.dumps(_runs_as_dict(report), ensure_ascii=False))
    else:
        _print_runs(report)
    return report.exit_code


def _runs_as_dict(report: ForeignReport) -> dict[str, Any]:
    from refimpl.parity.comparison import as_dict

    cases = [
        {
            "name": run.name,
            "status": run.status,
            "sentence": run.sentence,
            "printed": run.printed,
            "seconds": round(run.seconds, 3),
            "report": None if run.report is None else as_dict(run.report),
        }
        for run in report.cases
    ]
    return {"exit_code": report.exit_code, "cases": cases}


def _print_run(run: CaseRun) -> None:
    from refimpl.parity.comparison.words import printable

    print(f"{run.status:5} {run.name:40} {printable(run.sentence)}", flush=True)
    for line in run.printed.splitlines() if run.status == "error" else ():
        print(f"{'':6}| {line}")


def _print_runs(report: ForeignReport) -> None:
    from refimpl.parity.comparison.words import rule

    found = [run.status for run in report.cases]
    counts = ", ".join(f"{found.count(x)} {x}" for x in dict.fromkeys(found))
    print(f"{len(found)} cases: {counts}")
    judged = [run.report for run in report.cases if run.report is not None]
    for said in dict.fromkeys(map(rule, judged)):
        print(said)
