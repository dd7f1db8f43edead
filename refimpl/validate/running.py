"""A labelled file through a checkpoint's head: bucketed by length, resumable, scored."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.folder import find_folder
from refimpl.models.model import load
from refimpl.tokenizers import load_tokenizer
from refimpl.validate.batches import make_batches, padded
from refimpl.validate.fingerprint import file_hash, folder_hash
from refimpl.validate.journal import Journal, open_journal
from refimpl.validate.mlm import MLM
from refimpl.validate.ner import NER
from refimpl.validate.nli import NLI
from refimpl.validate.qa import QA
from refimpl.validate.task import Options, Outcome, Row, Setting, Task

TASKS = {task.name: task for task in (NLI, NER, QA, MLM)}
Track = Callable[[Iterable[Any], int], Iterable[Any]]  # items, how many -> the same, shown


@dataclass(frozen=True)
class Speed:
    """How fast this process went; what an earlier one computed is not counted."""

    seconds: float
    examples: float  # a share of one, where only some of its rows were computed here
    rows: int
    tokens: int  # without padding

    def as_dict(self) -> dict[str, float]:
        """Return the numbers, and each for a second."""
        values: dict[str, float] = dataclasses.asdict(self)
        if self.seconds > 0 and self.rows:
            values["texts_per_second"] = self.examples / self.seconds
            values["tokens_per_second"] = self.tokens / self.seconds
        return values


@dataclass(frozen=True)
class Report:
    """What a validation found: metrics by name, and a prediction for each example."""

    task: str
    architecture: str
    examples: int
    metrics: dict[str, Any]
    predictions: list[dict[str, Any]]
    speed: Speed

    def as_dict(self) -> dict[str, Any]:
        """Return all but the predictions, as JSON has it."""
        return {
            "task": self.task,
            "architecture": self.architecture,
            "examples": self.examples,
            "metrics": self.metrics,
            "speed": self.speed.as_dict(),
        }

    def metric(self, name: str) -> float:
        """Return a metric by its name, with dots where it is in another: "languages.sw.accuracy".

        Raises ``ValueError`` for a name that there is not.
        """
        value: Any = self.metrics
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, (int, float)):
            known = ", ".join(n for n, x in self.metrics.items() if not isinstance(x, dict))
            raise ValueError(f"metric: expected one of {known}, got {name!r}")
        return value


def validate(
    checkpoint: str | os.PathLike[str],
    task: str,
    data: str | os.PathLike[str],
    options: Options | None = None,
    *,
    architecture: str | None = None,
    dtype: str = "float32",
    backend: str = "numpy",
    kernels: str = "fused",
    packed: bool = True,
    state: str | os.PathLike[str] | None = None,
    track: Track = lambda items, total: items,
) -> Report:
    """Run a labelled file through a checkpoint's head and score its answers.

    ``task``: "nli", "ner", "qa" or "mlm"; ``data``: the file, in one of the forms that
    ``docs/validating.md`` tells; ``options``: see :class:`Options`; ``architecture`` to ``packed``
    as :func:`refimpl.load` has them. With ``state`` the results of every batch are kept in that
    file, and a run that was killed goes on where it stopped, to the same result. ``track`` is
    given the batches and their number and shows how far it is.

    Raises ``ValueError`` for a task, a file, a label or an option that does not fit, and what
    :func:`refimpl.load` and :func:`refimpl.load_tokenizer` raise.
    """
    if task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {task!r}")
    kind, options, path = TASKS[task], options or Options(), Path(data)
    folder = find_folder(checkpoint)
    run = {
        "numpy": numpy.__version__,
        "task": task,
        "data": file_hash(path),
        "checkpoint": folder_hash(folder),
        "options": dataclasses.asdict(options),
        "model": [architecture, dtype, backend, kernels, packed],
    }
    model = load(folder, architecture, dtype, backend, kernels, packed=packed)
    _check_head(kind, model.architecture)
    setting = Setting(model, load_tokenizer(folder), options)
    examples = kind.read(path, setting)[: options.limit]
    if not examples:
        raise ValueError(f"data: {path}: expected at least one example, found none")
    rows = kind.rows(setting, examples)
    with open_journal(None if state is None else Path(state), run) as journal:
        results, speed = _run(setting, kind, rows, journal, track, len(examples))
    found = _outcome(setting, kind, examples, rows, results)
    return Report(task, model.architecture, len(examples), *found, speed)


def _check_head(task: Task, architecture: str) -> None:
    if not architecture.endswith(task.heads):
        wanted = " or ".join(f"...{head}" for head in task.heads)
        raise ValueError(f"checkpoint: task {task.name} expects {wanted}, got {architecture}")


def _run(
    setting: Setting,
    task: Task,
    rows: Sequence[Row],
    journal: Journal,
    track: Track,
    examples: int,
) -> tuple[list[Any], Speed]:
    """Return the result of each row, those from the journal and those computed now."""
    batches = make_batches([row.length for row in rows], setting.options.batch_tokens)
    wrong = [
        i for i, done in journal.done.items() if [len(done)] != [*map(len, batches[i : i + 1])]
    ]
    if wrong:
        raise ValueError(f"state: expected results of this run's batches, got others for {wrong}")
    new = [i for i in range(len(batches)) if i not in journal.done]
    begun = time.perf_counter()
    for i in track(new, len(new)):
        journal.add(i, _results(setting, task, [rows[row] for row in batches[i]]))
    seconds = time.perf_counter() - begun
    results: list[Any] = [None] * len(rows)
    for i, batch in enumerate(batches):
        for row, result in zip(batch, journal.done[i], strict=True):
            results[row] = result
    computed = [rows[row] for i in new for row in batches[i]]
    share = examples * len(computed) / max(len(rows), 1)
    return results, Speed(seconds, share, len(computed), sum(row.length for row in computed))


def _results(setting: Setting, task: Task, rows: Sequence[Row]) -> list[Any]:
    batch = padded([row.inputs for row in rows], setting.padding)
    return task.results(setting, setting.model(**task.prepare(setting, batch, rows)), rows)


def _outcome(
    setting: Setting,
    task: Task,
    examples: Sequence[Any],
    rows: Sequence[Row],
    results: Sequence[Any],
) -> Outcome:
    """Bring the results of rows to their examples, in order, and score them."""
    of_example: list[list[tuple[Row, Any]]] = [[] for _ in examples]
    for row, result in zip(rows, results, strict=True):
        of_example[row.example].append((row, result))
    return task.outcome(setting, examples, of_example)


def write_predictions(path: Path, report: Report) -> None:
    """Write a JSON line for each example, the whole file or nothing.

    Raises ``ValueError`` for a place that cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("x", encoding="utf-8") as file:
            for prediction in report.predictions:
                file.write(json.dumps(prediction, ensure_ascii=False) + "\n")
        partial.replace(path)
    except OSError as error:
        raise ValueError(f"output: {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
