"""``refimpl validate``: a labelled file through a checkpoint's head, and how well it did."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import (
    Backend,
    Json,
    Kernels,
    errors_are_one_line,
    progress,
    spinner,
    stopping_is_one_line,
)

if TYPE_CHECKING:
    from refimpl.validate import Options, Report

LOWER_IS_BETTER = ("pseudo_perplexity", "bits_per_token", "bits_per_character")
MOST_LABELS = 12  # in a printed table of confusion

Checkpoint = Annotated[str, typer.Argument(help="A checkpoint folder, or a hub id.")]
TaskName = Annotated[str, typer.Option(help="nli, ner, qa or mlm.")]
Data = Annotated[Path, typer.Option(help="The labelled file: .jsonl, .tsv, .json, .txt.")]
Columns = Annotated[
    str | None, typer.Option(help="Which column holds what: text=premise,label=3, ...")
]
Labels = Annotated[
    str | None, typer.Option(help="Which label of the model theirs is: yes=entailment,no=2, ...")
]
Lang = Annotated[str | None, typer.Option(help="The language of rows that name none.")]
Limit = Annotated[int | None, typer.Option(help="Only the first so many examples.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens of a row; else the model's most.")]
Stride = Annotated[int | None, typer.Option(help="Tokens that two windows of a text share.")]
BatchTokens = Annotated[int, typer.Option(help="Places of a batch, padding included.")]
TokenTypes = Annotated[
    bool, typer.Option("--token-types", help="Give the model the tokenizer's token types.")
]
Normalise = Annotated[str, typer.Option(help="qa: compare answers as squad or as mlqa does.")]
MaxAnswer = Annotated[int, typer.Option(help="qa: tokens of an answer.")]
NBest = Annotated[int, typer.Option(help="qa: candidates that are looked at.")]
NullThreshold = Annotated[float, typer.Option(help="qa: how far ahead 'no answer' must be.")]
Class = Annotated[str | None, typer.Option(help="The class to run it as; else the config's.")]
Dtype = Annotated[str, typer.Option(help="float64, float32 or float16.")]
Packing = Annotated[
    bool, typer.Option("--packing/--no-packing", help="Compute no padding (the default).")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write a JSON line for each example.")
]
State = Annotated[
    Path | None,
    typer.Option(help="Keep results here, and go on from them; else OUTPUT.state while it runs."),
]
Require = Annotated[
    list[str] | None,
    typer.Option(help="Exit with 1 unless a metric is as good: accuracy=0.75; repeatable."),
]


def validate(
    checkpoint: Checkpoint,
    task: TaskName,
    data: Data,
    columns: Columns = None,
    labels: Labels = None,
    lang: Lang = None,
    limit: Limit = None,
    max_length: MaxLength = None,
    stride: Stride = None,
    batch_tokens: BatchTokens = 4096,
    token_types: TokenTypes = False,
    normalise: Normalise = "squad",
    max_answer: MaxAnswer = 30,
    n_best: NBest = 20,
    null_threshold: NullThreshold = 0.0,
    architecture: Class = None,
    backend: Backend = "numpy",
    dtype: Dtype = "float32",
    kernels: Kernels = "fused",
    packing: Packing = True,
    state: State = None,
    output: Output = None,
    require: Require = None,
    as_json: Json = False,
) -> None:
    """Run a labelled file through a checkpoint's head and score its answers.

    Accuracy for nli, entity F1 for ner, exact match and F1 for qa, pseudo-perplexity for
    mlm. Exit code 0: done, and what --require asks for holds. 1: it does not hold. 2: it
    could not be run. 130: stopped by Ctrl-C; with --state the same command goes on.
    """
    of_task = {"normalise": normalise, "max_answer": max_answer, "n_best": n_best,
               "null_threshold": null_threshold}  # fmt: skip
    of_rows = {"lang": lang, "limit": limit, "max_length": max_length, "stride": stride,
               "batch_tokens": batch_tokens, "token_types": token_types}  # fmt: skip
    how = {"architecture": architecture, "backend": backend, "dtype": dtype, "kernels": kernels,
           "packed": packing}  # fmt: skip
    kept = state_of(state, output)
    goes_on = f"; {kept} keeps what is done" if kept else ""
    with stopping_is_one_line(goes_on), errors_are_one_line():
        wanted = [parse_requirement(text) for text in require or ()]
        options = make_options(columns, labels, of_rows | of_task)
        report = _run(checkpoint, task, data, options, how, kept)
        _write(report, output, kept if state is None else None)
        missed = [text for text in wanted if not holds(report.metric(text[0]), *text)]
    _tell(report, missed, as_json)
    raise typer.Exit(1 if missed else 0)


def state_of(state: Path | None, output: Path | None) -> Path | None:
    """Return where results are kept: where it is said, else beside the output, if there is one."""
    if state is None and output is not None:
        return output.with_name(f"{output.name}.state")
    return state


def _run(
    checkpoint: str,
    task: str,
    data: Path,
    options: Options,
    how: dict[str, Any],
    state: Path | None,
) -> Report:
    with spinner("loading"):
        from refimpl.validate import validate

    return validate(checkpoint, task, data, options, **how, state=state, track=_track)


def _write(report: Report, output: Path | None, state: Path | None) -> None:
    """Write the output, if any; then a state that nobody asked for has done its duty."""
    from refimpl.validate import write_predictions

    if output is not None:
        write_predictions(output, report)
    if state is not None:
        state.unlink(missing_ok=True)


def _tell(report: Report, missed: list[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        print_report(report)
    for name, bound in missed:
        print(f"refimpl: {name} is {report.metric(name):.6g}, required {bound:g}", file=sys.stderr)


def _track(batches: Iterable[Any], total: int) -> Iterator[Any]:
    return progress(batches, total, "validating")


# --- options --------------------------------------------------------------------------------------


def parse_pairs(name: str, text: str | None) -> dict[str, str]:
    """Return "a=b,c=d" as a dictionary.

    >>> parse_pairs("columns", "text=premise,label=3")
    {'text': 'premise', 'label': '3'}

    Raises ``ValueError`` for what has another form.
    """
    pairs: dict[str, str] = {}
    for part in text.split(",") if text else ():
        key, sign, value = part.partition("=")
        if not (key and sign and value):
            raise ValueError(f"{name}: expected NAME=VALUE, with commas between, got {part!r}")
        pairs[key] = value
    return pairs


def parse_requirement(text: str) -> tuple[str, float]:
    """Return the name and the bound of "accuracy=0.75".

    >>> parse_requirement("languages.sw.accuracy=0.6")
    ('languages.sw.accuracy', 0.6)

    Raises ``ValueError`` for what has another form.
    """
    name, _, bound = text.partition("=")
    try:
        return name, float(bound)
    except ValueError:
        raise ValueError(f"require: expected NAME=NUMBER, got {text!r}") from None


def holds(value: float, name: str, bound: float) -> bool:
    """Say whether a metric is at least as good as a bound.

    >>> holds(0.8, "accuracy", 0.75), holds(12.0, "pseudo_perplexity", 10.0)
    (True, False)
    """
    lower_is_better = name.rpartition(".")[2] in LOWER_IS_BETTER
    return value <= bound if lower_is_better else value >= bound


def make_options(columns: str | None, labels: str | None, rest: dict[str, Any]) -> Options:
    """Return the options of a run; ``ValueError`` for those that no run can have."""
    from refimpl.validate import Options

    return Options(parse_pairs("columns", columns), parse_pairs("labels", labels), **rest)


# --- what is printed ------------------------------------------------------------------------------


def print_report(report: Report) -> None:
    """Print metrics as tables, and how fast it went."""
    from rich.console import Console
    from rich.table import Table

    console, metrics = Console(), report.metrics
    numbers = {name: x for name, x in metrics.items() if not isinstance(x, dict)}
    print(f"{report.architecture}, {report.task}, {report.examples} examples")
    for name, value in numbers.items():
        print(f"  {name:<20} {_number(value)}")
    for name, rows in metrics.items():
        if isinstance(rows, dict) and rows and not _is_too_wide(rows):
            console.print(_table(Table, name, rows))
    speed = report.speed.as_dict()
    if "texts_per_second" in speed:
        print(
            f"  {speed['seconds']:.2f} s: {speed['texts_per_second']:.1f} texts/s, "
            f"{speed['tokens_per_second']:.0f} tokens/s"
        )
    else:
        print("  everything was in the state already")


def _is_too_wide(rows: dict[str, Any]) -> bool:
    return len(rows) > MOST_LABELS and all(name in next(iter(rows.values()), ()) for name in rows)


def _table(kind: Any, name: str, rows: dict[str, Any]) -> Any:
    """Return a table of rows that are dictionaries, or of one row that is a dictionary itself."""
    if not all(isinstance(x, dict) for x in rows.values()):
        rows = {"": rows}
    names = [n for n, x in next(iter(rows.values())).items() if not isinstance(x, dict)]
    table = kind("true \\ predicted" if name == "confusion" else name, *names)
    for row, values in rows.items():
        table.add_row(row, *(_number(values[n]) for n in names))
    return table


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"
