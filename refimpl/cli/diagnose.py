"""``refimpl diagnose``: which known mistake makes the reference equal to a candidate."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.compare import Candidate, MapFile, Names
from refimpl.cli.options import Json, errors_are_one_line, progress

if TYPE_CHECKING:
    from refimpl.parity.diagnosis import Answer, Diagnosis
    from refimpl.parity.faults import Fault

_SHOWN = 5  # explanations that this input does not tell apart


Reference = Annotated[str, typer.Argument(help="A checkpoint folder, a hub id, or a golden case.")]
Arithmetic = Annotated[
    str | None,
    typer.Option(
        "--arithmetic",
        "--dtype",
        help="float64, float32, tf32, float16, bfloat16, float16-weights or bfloat16-weights; "
        "else found out.",
    ),
]
OutputsOnly = Annotated[
    bool, typer.Option("--outputs-only", help="Do not look at intermediate values.")
]


def diagnose(
    checkpoint: Reference,
    candidate: Candidate,
    arithmetic: Arithmetic = None,
    names: Names = None,
    map_file: MapFile = None,
    outputs_only: OutputsOnly = False,
    as_json: Json = False,
) -> None:
    """Say which known mistake, or which two, make the reference equal to a candidate.

    A mistake is named where the reference that makes it agrees with every value of
    the candidate to within rounding; where none does, none is named. Also said is
    which arithmetic ran.

    Exit code 0: no fault. 1: a fault, or a difference without a name. 2: it could
    not be run.
    """
    with errors_are_one_line():
        from refimpl.parity.diagnosis.files import diagnose_files

        found = diagnose_files(
            checkpoint,
            candidate,
            arithmetic=arithmetic,
            names=names,
            map_file=map_file,
            outputs_only=outputs_only,
            track=_track,
        )
    if as_json:
        print(json.dumps(as_dict(found), ensure_ascii=False))
    else:
        print("\n".join(lines(found)))
    raise typer.Exit(found.exit_code)


def _track(tried: Sequence[Any]) -> Iterable[Any]:
    return progress(tried, len(tried), "trying faults")


# --- what is printed ------------------------------------------------------------------------------


def lines(found: Diagnosis) -> Iterator[str]:
    """A diagnosis as lines of text."""
    if found.unknown:
        yield f"{len(found.unknown)} values have names that are not known, as {found.unknown[0]}"
    if not found.answers:
        yield f"no diagnosis: {found.abstained}"
        yield f"arithmetic: {found.arithmetic or 'not told, as nothing explains the values'}"
        return
    if found.right:
        yield f"no fault: {found.values} values agree to within rounding"
    else:
        yield from _answer(found, found.answers[0])
    yield f"arithmetic: {found.arithmetic}"
    others = found.answers[1:]
    if others:
        yield "this input does not tell it from:"
        for other in others[:_SHOWN]:
            yield f"  {' and '.join(other.names) or 'no fault'}"
        if len(others) > _SHOWN:
            yield f"  and {len(others) - _SHOWN} more"


def _answer(found: Diagnosis, answer: Answer) -> Iterator[str]:
    for fault, name in zip(answer.faults, answer.names, strict=True):
        yield f"fault: {name}"
        yield f"  {fault.title}"
        yield f"  mend:  {fault.mend}"
        yield f"  told:  {fault.anchor}"
    yield (
        f"proof: {_number(answer.before)} floor units without, {_number(answer.after)} with, "
        f"the worst of {answer.values} values"
    )
    if found.first:
        yield f"first parts at {found.first}"


def _number(x: float) -> str:
    return f"{x:.1f}" if x < 100.0 else f"{x:.1e}"


def as_dict(found: Diagnosis) -> dict[str, Any]:
    """A diagnosis for machines. What is infinite, which JSON has no number for, is null."""
    return {
        "exit_code": found.exit_code,
        "architecture": found.architecture,
        "arithmetic": found.arithmetic or None,
        "right": found.right,
        "first": found.first or None,
        "before": _finite(found.before),
        "values": found.values,
        "unknown": list(found.unknown),
        "abstained": found.abstained or None,
        "answers": [
            {
                "faults": [_fault(fault) for fault in answer.faults],
                "before": _finite(answer.before),
                "after": _finite(answer.after),
                "values": answer.values,
            }
            for answer in found.answers
        ],
    }


def _fault(fault: Fault) -> dict[str, Any]:
    told = {"title": fault.title, "area": fault.area, "mend": fault.mend, "docs": fault.anchor}
    parameters = {name: _finite(x) for name, x in fault.parameters.items()}
    return {"name": fault.name, "parameters": parameters, **told}


def _finite(x: Any) -> Any:
    return None if isinstance(x, float) and abs(x) == float("inf") else x
