"""``refimpl inspect``: what is in a checkpoint."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import Json, errors_are_one_line, progress

if TYPE_CHECKING:
    from refimpl.inspection import Inspection, Match, Tensor

HEADINGS = ("tensor", "shape", "dtype", "bytes", "min", "max", "mean", "NaN", "inf")


def inspect(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint folder, or a hub id.")],
    values: Annotated[
        bool, typer.Option(help="Look through every tensor: min, max, mean, NaN.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Tell what is in a checkpoint: class, switches, every tensor, and what is wrong.

    Smallest, largest and mean are those of a tensor's finite values.

    Exit code 0: all of it can be read; missing and unexpected tensors are listed
    and do not count. 1: there are problems. 2: there is no such checkpoint.
    """
    with errors_are_one_line():
        from refimpl.checkpoints.folder import find_folder
        from refimpl.checkpoints.registry import read_registry
        from refimpl.inspection import outline, read_values, with_values

        found = outline(find_folder(checkpoint), read_registry())
        if values:
            tensors = progress(read_values(found), len(found.tensors), "reading")
            found = with_values(found, tensors)
    if as_json:
        print(json.dumps(as_dict(found), ensure_ascii=False))
    else:
        _print_facts(list(_facts(found)))
        _print_tensors([_row(tensor, values) for tensor in found.tensors], values)
    raise typer.Exit(found.exit_code)


def as_dict(found: Inspection) -> dict[str, Any]:
    """An inspection in JSON's types."""
    return {
        **asdict(found),
        "folder": str(found.folder),
        "tensors": [tensor._asdict() for tensor in found.tensors],
        "matches": [{**match._asdict(), "whole": match.whole} for match in found.matches],
        "exit_code": found.exit_code,
    }


def _facts(found: Inspection) -> Iterable[tuple[str, str]]:
    """What there is to say before the table, one line each."""
    yield "folder", str(found.folder)
    yield "family", found.family or "unknown"
    yield "class", found.architecture or "unknown"
    if found.sizes:
        yield "sizes", ", ".join(f"{key} {_short(x)}" for key, x in found.sizes.items())
    for key, (value, usual) in found.switches.items():
        yield "switch", f"{key} {json.dumps(value)} (usually {json.dumps(usual)})"
    held = sum(tensor.bytes for tensor in found.tensors)
    if found.parameters is not None:
        yield "parameters", f"{found.parameters:,} in the class, tied ones counted once"
    yield "weights", f"{len(found.tensors):,} tensors, {held:,} bytes"
    for name, other in found.ties.items():
        yield "tied", f"{name} is {other}"
    yield "tokenizer", ", ".join(found.tokenizer_files) or "no files"
    for match in found.matches:
        yield "match", describe(match)
    for key in ("missing", "unexpected", "misshapen"):
        for name in getattr(found, key):
            yield key, _printable(name)
    for problem in found.problems:
        yield "problem", problem


def describe(match: Match) -> str:
    """Say in words in how far a checkpoint is like a published one."""
    if match.whole:
        return f"config and tensor shapes are those of {match.id}"
    what = "tensor shapes are" if match.part == "checkpoint" else "its encoder's tensor shapes are"
    parts = [f"{key} is {a!r}, there {b!r}" for key, (a, b) in match.differing.items()]
    return "; ".join([f"{what} those of {match.id}", *parts])


def _printable(name: str) -> str:
    """A name out of a file, which might hold a line feed or what a terminal obeys."""
    return name if name.isprintable() else ascii(name)


def _short(value: Any) -> str:
    """A size; of many names only how many there are."""
    return str(len(value)) if isinstance(value, (list, dict)) else str(value)


def _row(tensor: Tensor, values: bool) -> list[str]:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    row = [_printable(tensor.name), shape, tensor.dtype, f"{tensor.bytes:,}"]
    if not values:
        return row
    numbers = (tensor.smallest, tensor.largest, tensor.mean)
    row += ["-" if x is None else f"{x:.4g}" for x in numbers]
    return row + ["-" if x is None else str(x) for x in (tensor.nans, tensor.infinite)]


def _print_facts(facts: list[tuple[str, str]]) -> None:
    if not sys.stdout.isatty():
        for key, text in facts:
            print(f"{key:11} {text}")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for key, text in facts:
        style = "red" if key in ("problem", "missing", "unexpected", "misshapen") else ""
        grid.add_row(Text(key, "bold"), Text(text, style))
    Console().print(grid)


def _print_tensors(rows: list[list[str]], values: bool) -> None:
    """A table as wide as the terminal; on a pipe one that cuts nothing off."""
    headings = list(HEADINGS if values else HEADINGS[:4])
    if not rows:
        return
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        for row in [headings, *rows]:
            first, *rest = [(x, w) for x, w in zip(row, widths, strict=True)]
            print(f"{first[0]:{first[1]}}", *(f"{x:>{w}}" for x, w in rest))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
