"""``refimpl compare``: what an implementation computed against what it should have."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import Json, errors_are_one_line, progress

if TYPE_CHECKING:
    from refimpl.parity.comparison import ComparisonReport, Verdict

HEADINGS = ("status", "units", "own", "max abs", "max rel", "rms", "1-cos", "value")
ONLY_WIDE = ("rms", "1-cos")
_WIDE = 110  # columns of a terminal that has room for all of these
_SHOWN = 30  # rows that part, where --all does not ask for more
_UNKNOWN = 10  # unknown names, likewise
_COLOURS = {"OK": "green", "ROUNDING": "green", "MISSING": "dim"}


Reference = Annotated[
    str, typer.Argument(help="A golden case, a checkpoint folder or hub id, a float64 dump.")
]
Candidate = Annotated[Path, typer.Argument(help="What the other implementation computed.")]
Arithmetic = Annotated[
    str | None,
    typer.Option(
        "--arithmetic",
        "--dtype",
        help="float64, float32, tf32, float16, bfloat16, float16-weights or bfloat16-weights; "
        "else told from the numbers.",
    ),
]
Names = Annotated[
    str | None,
    typer.Option(
        help="Whose names: transformers, onnx, fairseq, xlm or transformer_lens; else found."
    ),
]
MapFile = Annotated[Path | None, typer.Option("--map", help="TOML or JSON: our names and theirs.")]
IgnorePadding = Annotated[
    bool, typer.Option("--ignore-padding", help="Do not judge what is computed at padding.")
]
Runs = Annotated[int | None, typer.Option(help="Honest runs from which floors are measured.")]
Show = Annotated[
    bool | None, typer.Option("--all/--first", help="Every value, or the first that parts.")
]
Junit = Annotated[Path | None, typer.Option(help="Also write JUnit's XML here.")]
Report = Annotated[Path | None, typer.Option(help="Also write an HTML report here.")]


def compare(
    reference: Reference,
    candidate: Candidate,
    arithmetic: Arithmetic = None,
    names: Names = None,
    map_file: MapFile = None,
    ignore_padding: IgnorePadding = False,
    runs: Runs = None,
    show: Show = None,
    as_json: Json = False,
    junit: Junit = None,
    report: Report = None,
) -> None:
    """Say where an implementation parts from the reference, and whether it matters.

    CANDIDATE is a dump in any format that is read (docs/dumps.md): a safetensors or
    .npz file, a folder of .npy, ... Its values are compared with the float64 truth, in
    the order of the computation. "units" is how far a value is off, measured in what
    honest runs are off by; "own" is the part of it that arose there, from the
    candidate's own values in front of it.

    Exit code 0: all is within rounding. 1: it parts. 2: nothing could be compared.
    """
    options: dict[str, Any] = {
        "arithmetic": arithmetic,
        "names": names,
        "map_file": map_file,
        "runs": runs,
    }
    with errors_are_one_line():
        from refimpl.parity import comparison
        from refimpl.parity.dumps.own import new_file

        found = comparison.compare(
            reference, candidate, **options, ignore_padding=ignore_padding, track=_track
        )
        if junit is not None:
            with new_file(junit) as partial:
                partial.write_text(comparison.as_junit(found), encoding="utf-8")
        if report is not None:
            from refimpl.parity.comparison.report import write_report

            write_report(found, report)
    if as_json:
        print(json.dumps(comparison.as_dict(found), ensure_ascii=False))
    else:
        _print(found, show)
    raise typer.Exit(found.exit_code)


def _track(runs: Iterable[int]) -> Iterator[int]:
    numbers = list(runs)
    return progress(numbers, len(numbers), "measuring floors")


# --- what is printed ------------------------------------------------------------------------------


def chosen(found: ComparisonReport, show: bool | None) -> list[Verdict]:
    """The verdicts to print: all; the first that parts; or those that part and the last before.

    Where nothing parts, those nearest to parting.
    """
    if show:
        return list(found.verdicts)
    first = found.first
    if show is False:
        return [] if first is None else [first]
    if first is None:
        measured = [v for v in found.compared if v.units is not None]
        return sorted(measured, key=lambda v: -max(v.units or 0.0, v.introduced or 0.0))[:3]
    at = found.verdicts.index(first)
    before = [v for v in found.verdicts[:at] if v.compared][-1:]
    return before + [v for v in found.verdicts[at:] if v.parts]


def _print(found: ComparisonReport, show: bool | None) -> None:
    from refimpl.parity.comparison.words import printable, rule, sentence, unknown_lines

    verdicts = chosen(found, show)
    rows = verdicts if show else verdicts[:_SHOWN]
    if rows:
        wide = sys.stdout.isatty() and shutil.get_terminal_size().columns >= _WIDE
        (_print_rich if wide else _print_plain)(rows)
    if len(rows) < len(verdicts):
        print(f"... and {len(verdicts) - len(rows)} more that part (--all)")
    names = list(unknown_lines(found))
    for line in names if show else names[:_UNKNOWN]:
        print(f"unknown: {line}")
    if not show and len(names) > _UNKNOWN:
        print(f"... and {len(names) - _UNKNOWN} more unknown names (--all)")
    for note in found.notes:
        print(f"note: {printable(note)}")
    counts = ", ".join(f"{count} {status}" for status, count in found.counts().items())
    print("\n".join(filter(None, (counts, rule(found), printable(sentence(found))))))


def _cells(verdict: Verdict) -> list[str]:
    from refimpl.parity.comparison.words import number

    metrics = (verdict.units, verdict.introduced, verdict.max_abs, verdict.max_rel, verdict.rms)
    turned = None if verdict.cosine is None else 1.0 - verdict.cosine
    return [verdict.status, *map(number, (*metrics, turned)), verdict.name]


def _remark(verdict: Verdict) -> str:
    from refimpl.parity.comparison.words import printable

    since = verdict.since and verdict.origin and f"since {verdict.since}"
    origin = " ".join(filter(None, (verdict.origin, since)))
    return printable(", ".join(filter(None, (origin, verdict.where, verdict.note))))


def _print_plain(verdicts: list[Verdict]) -> None:
    """Rows that fit a page, on a pipe: without what only --json has then."""
    kept = [i for i, heading in enumerate(HEADINGS) if heading not in ONLY_WIDE]
    for cells, remark in [(HEADINGS, ""), *((_cells(v), _remark(v)) for v in verdicts)]:
        status, *numbers, name = [cells[i] for i in kept]
        print(f"{status:8}", *(f"{x:>7}" for x in numbers), "", name)
        if remark:
            print(f"{'':10}{remark}")


def _print_rich(verdicts: list[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in HEADINGS:
        side = "left" if heading in ("status", "value") else "right"
        table.add_column(heading, justify=side, overflow="fold", no_wrap=heading == "status")  # type: ignore[arg-type]
    for verdict in verdicts:
        colour = _COLOURS.get(verdict.status, "bold red")
        status, *numbers, name = _cells(verdict)
        remark = _remark(verdict)
        value = Text(name + (f"\n  {remark}" if remark else ""))
        table.add_row(Text(status, colour), *numbers, value)
    Console().print(table)
