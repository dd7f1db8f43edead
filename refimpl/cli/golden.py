"""``refimpl golden``: score a set of goldens, make a case of one's own, export what is there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import Json, errors_are_one_line, progress, spinner

if TYPE_CHECKING:
    from refimpl.parity.strength import Finding, Fixture, Question, Score

_LARGE = 100_000_000  # bytes of weights, from which a case links to them

Where = Annotated[
    str | None,
    typer.Argument(help="A checkpoint (folder, hub id) or a golden; with --score, goldens."),
]
ToScore = Annotated[
    bool, typer.Option("--score", help="Say which known mistakes the goldens would miss.")
]
Gates = Annotated[bool, typer.Option("--gates", help="With --score: what common gates would miss.")]
Everywhere = Annotated[
    bool, typer.Option("--everywhere", help="With --score: where each shows most; slow.")
]
Texts = Annotated[
    list[str] | None, typer.Option(help="A text to tokenize; once for each of a batch.")
]
Ids = Annotated[
    list[str] | None, typer.Option(help="Ids such as 0,5,6,2; once for each of a batch.")
]
Inputs = Annotated[
    Path | None, typer.Option(help="A dump of any format: take the inputs that are in it.")
]
Langs = Annotated[list[str] | None, typer.Option(help="The language of all texts, or of each.")]
Class = Annotated[str | None, typer.Option(help="The class to run it as; else the config's.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The folder (or file) to write.")
]
What = Annotated[str, typer.Option(help="What the case is for, in one line.")]
Weights = Annotated[
    str | None, typer.Option(help="copy, link or leave; else copy up to 100 MB, then link.")
]
Arithmetics = Annotated[
    list[str] | None,
    typer.Option(help="float32, float16, bfloat16, ...; more than once for floors."),
]
Runs = Annotated[int | None, typer.Option(help="Honest runs that floors are made of.")]
Ops = Annotated[bool, typer.Option("--ops", help="Export the operation cards.")]
Export = Annotated[
    str | None, typer.Option(help="Export a golden: npz, npy, onnx, raw, polygraphy.")
]


def golden(
    path: Where = None,
    score: ToScore = False,
    gates: Gates = False,
    everywhere: Everywhere = False,
    text: Texts = None,
    ids: Ids = None,
    inputs: Inputs = None,
    lang: Langs = None,
    architecture: Class = None,
    output: Output = None,
    what: What = "",
    weights: Weights = None,
    arithmetic: Arithmetics = None,
    runs: Runs = None,
    ops: Ops = False,
    export: Export = None,
    as_json: Json = False,
) -> None:
    """Make golden cases, score them, export them.

    refimpl golden CHECKPOINT --text "..." -o DIR makes a case: what the checkpoint
    computes in float64, how far off honest runs are, and where the weights are.
    refimpl verify DIR checks it again.

    refimpl golden --score [PATH] commits every known porting mistake and says which
    of them the goldens at PATH (else the bundled ones) would not notice. Exit code
    0: they would notice all. 1: they would miss some. 2: it could not be run.

    refimpl golden --ops -o DIR exports the operation cards, refimpl golden CASE
    --export FORMAT -o DIR one golden.
    """
    making = {"text": text, "ids": ids, "inputs": inputs, "lang": lang,
              "architecture": architecture}  # fmt: skip
    code = 0
    with errors_are_one_line():
        _check_options(score, ops, export, {**making, "gates": gates, "everywhere": everywhere})
        if score:
            code = _score(path, arithmetic or ["float32"], gates, everywhere, runs, as_json)
        elif output is None:
            raise ValueError("output: expected a folder to write (-o DIR), or --score")
        elif ops:
            _export_ops(output)
        elif path is None:
            raise ValueError("path: expected a checkpoint or a golden")
        elif export is not None:
            _export(path, export, output)
        else:
            how = {"what": what, "weights": weights, "arithmetic": arithmetic, "runs": runs}
            _make(path, making, output, how, as_json)
    raise typer.Exit(code)


def _check_options(score: bool, ops: bool, export: str | None, given: dict[str, Any]) -> None:
    """Raise ``ValueError`` where options of two tasks stand together."""
    tasks = [name for name, on in (("score", score), ("ops", ops), ("export", export)) if on]
    if len(tasks) > 1:
        raise ValueError(f"expected one of --score, --ops and --export, got --{', --'.join(tasks)}")
    of_score = {"gates", "everywhere"}
    wrong = [
        n for n, x in given.items() if x and ((n in of_score) != score or (tasks and not score))
    ]
    if wrong:
        beside = f"--{tasks[0]}" if tasks else "a checkpoint"
        raise ValueError(f"--{wrong[0]}: has no meaning beside {beside}")


# --- the score ------------------------------------------------------------------------------------


def _score(
    path: str | None,
    arithmetics: list[str],
    gates: bool,
    everywhere: bool,
    runs: int | None,
    as_json: bool,
) -> int:
    """Score the goldens in each arithmetic, and print the results; return the exit code."""
    results = []
    for name in arithmetics:
        fixtures, asked, found = _score_one(path, name, everywhere, runs)
        result = _as_dict(found)
        if gates:
            result["gates"] = _gates(asked, found, fixtures)
        if not as_json:
            _print_score(found, result)
        results.append(result)
    if as_json:
        print(json.dumps({"scores": results}, ensure_ascii=False))
    return max(int(result["exit_code"]) for result in results)


def _score_one(
    path: str | None, arithmetic: str, everywhere: bool, runs: int | None
) -> tuple[list[Fixture], list[Question], Score]:
    from refimpl.parity.floors import MULTIPLIER, find_arithmetic
    from refimpl.parity.goldens import find_goldens
    from refimpl.parity.strength import Score, questions, read_fixtures, score

    find_arithmetic(arithmetic)
    fixtures = list(read_fixtures(find_goldens(path), arithmetic, runs))
    asked = questions(fixtures)
    answers = progress(score(asked, everywhere), len(asked), f"mistakes in {arithmetic}")
    return fixtures, asked, Score(arithmetic, MULTIPLIER, tuple(answers))


def _gates(asked: list[Question], found: Score, fixtures: list[Fixture]) -> list[dict[str, Any]]:
    from refimpl.parity.strength import score_gates

    pairs = list(zip(asked, found.findings, strict=True))
    tried = score_gates(progress(pairs, len(pairs), "common gates"), fixtures)
    return [one._asdict() for one in tried]


def _as_dict(found: Score) -> dict[str, Any]:
    counts = {status: len(found.of(status)) for status in ("caught", "missed", "equivalent")}
    return {
        "arithmetic": found.arithmetic,
        "multiplier": found.multiplier,
        "share": found.share,
        **counts,
        "exit_code": found.exit_code,
        "findings": [finding._asdict() for finding in found.findings],
    }


def _print_score(found: Score, result: dict[str, Any]) -> None:
    for finding in found.of("missed"):
        print(f"missed      {finding.fault:32} {finding.family:15} {_why(finding)}")
    for finding in _once(found.of("equivalent")):
        print(f"equivalent  {finding.fault:32} {finding.family:15} {finding.note}")
    caught, missed = result["caught"], result["missed"]
    print(
        f"{found.arithmetic}: {caught} of {caught + missed} mistakes noticed ({found.share:.1%}), "
        f"{result['equivalent']} change nothing"
    )
    if found.weakest is not None:
        weakest = found.weakest
        print(
            f"the weakest: {weakest.fault} of {weakest.family}, {weakest.units:.3g} floors at "
            f"{weakest.case}, {weakest.value} (beyond {found.multiplier:g} is no rounding)"
        )
    for gate in result.get("gates", ()):
        print(
            f"gate {gate['gate']:14} {gate['caught']} of {gate['asked']} noticed; "
            f"{gate['alarms']} of {gate['honest']} honest runs refused"
        )


def _why(finding: Finding) -> str:
    """Why a mistake is missed, in a few words."""
    if finding.note:
        return f"no golden has what it takes: {finding.note}"
    if finding.case:
        return f"at most {finding.units:.2g} floors, at {finding.case}, {finding.value}"
    return "changes nothing here"


def _once(findings: list[Finding]) -> Iterator[Finding]:
    """One finding for each fault, with all its families."""
    families: dict[str, list[str]] = {}
    for finding in findings:
        families.setdefault(finding.fault, []).append(finding.family)
    seen = {finding.fault: finding for finding in reversed(findings)}
    for name, of in families.items():
        yield seen[name]._replace(family=of[0] if len(of) == 1 else f"{len(of)} families")


# --- making and exporting -------------------------------------------------------------------------


def _make(
    path: str, making: dict[str, Any], output: Path, how: dict[str, Any], as_json: bool
) -> None:
    from refimpl.checkpoints.folder import find_folder
    from refimpl.cli.trace import read_call as call_of
    from refimpl.models.model import load
    from refimpl.parity.floors import RUNS
    from refimpl.parity.strength import make_case
    from refimpl.parity.strength.case import COPY, LINK, weight_files

    folder = find_folder(path)
    architecture = making["architecture"]
    model = load(folder, architecture, dtype="float64")
    call = call_of(model, folder, *(making[name] for name in ("text", "ids", "inputs", "lang")))
    size = sum(file.stat().st_size for file in weight_files(folder))
    made = make_case(
        folder,
        call,
        output,
        architecture=architecture,
        what=how["what"],
        weights=how["weights"] or (COPY if size <= _LARGE else LINK),
        arithmetics=how["arithmetic"] or ["float32"],
        runs=how["runs"] or RUNS,
        track=_track,
    )
    about = {"folder": str(output), "taps": len(made.description["taps"]),
             "outputs": len(made.description["outputs"])}  # fmt: skip
    if as_json:
        print(json.dumps(about, ensure_ascii=False))
    else:
        print(f"{output}: {about['taps']} taps, {about['outputs']} outputs; "
              f"refimpl verify {output} checks it")  # fmt: skip


def _track(runs: Iterable[int]) -> Iterator[int]:
    numbers = list(runs)
    return progress(numbers, len(numbers), "measuring floors")


def _export(path: str, form: str, output: Path) -> None:
    from refimpl.parity.dumps import FORMATS, export_dump, read_dump

    if form not in FORMATS:
        raise ValueError(f"export: expected one of {', '.join(FORMATS)}, got {form!r}")
    with spinner("writing"):
        export_dump(read_dump(path), output, form)
    print(f"{output}: {path} as {form}")


def _export_ops(output: Path) -> None:
    from refimpl.parity.cards import export_cards

    with spinner("writing"):
        names = export_cards(output)
    print(f"{output}: {len(names)} operation cards")
