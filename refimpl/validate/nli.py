"""Natural language inference, and any other choice of one label for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.backend import to_numpy
from refimpl.validate import accuracy
from refimpl.validate.reading import language_of, read_entries, text_of
from refimpl.validate.task import (
    Outcome,
    Row,
    Setting,
    Task,
    as_it_is,
    inputs_of,
    of_languages,
)

COLUMNS = {
    "text": ("sentence1", "premise", "text"),
    "pair": ("sentence2", "hypothesis", "text_pair", "pair"),
    "label": ("gold_label", "label"),
    "lang": ("language", "lang"),
    "id": ("id", "pairID", "idx"),
}


class Example(NamedTuple):
    """A labelled text or pair."""

    id: str
    text: str
    pair: str | None
    label: int  # of the model
    lang: str | None


def read(path: Path, setting: Setting) -> list[Example]:
    """Return the examples of a .jsonl or .tsv file.

    Raises ``ValueError`` for what is none, and for a model that does not choose one label.
    """
    config, options = setting.model.config, setting.options
    if config.labels < 2 or config.problem_type not in (None, "single_label_classification"):
        raise ValueError("checkpoint: expected one that chooses between labels, one for each text")
    labels, examples = setting.labels, []
    for number, entry in enumerate(read_entries(path, COLUMNS, options.columns), 1):
        label = entry.values.get("label")
        if label is None:
            text_of(entry, "label")  # says what is missing
        examples.append(
            Example(
                str(entry.values.get("id", number)),
                text_of(entry, "text"),
                text_of(entry, "pair") if "pair" in entry.values else None,
                labels.number(entry.where, label),
                language_of(entry, options.lang),
            )
        )
    return examples


def rows(setting: Setting, examples: Sequence[Example]) -> list[Row]:
    """Return a row for each example, cut to what the model takes, from the longer text."""
    if len({example.pair is None for example in examples}) > 1:
        raise ValueError("data: expected pairs or single texts, got both")
    langs = [example.lang for example in examples]
    encoding = setting.tokenizer(
        [example.text for example in examples],
        None if examples[0].pair is None else [str(example.pair) for example in examples],
        None if None in langs else [str(lang) for lang in langs],
        truncation=True,
        max_length=setting.longest,
        return_token_type_ids=setting.options.token_types,
    )
    return [Row(i, inputs_of(setting, encoding, i, lang)) for i, lang in enumerate(langs)]


def results(setting: Setting, outputs: Any, rows: Sequence[Row]) -> list[Any]:
    """Return the scores of all labels for each row."""
    scores: list[Any] = to_numpy(outputs.logits).tolist()
    return scores


def outcome(
    setting: Setting, examples: Sequence[Example], found: Sequence[Sequence[tuple[Row, Any]]]
) -> Outcome:
    """Return accuracy and confusion of all examples, and accuracy by language."""
    names = setting.labels.names
    scores = [parts[0][1] for parts in found]
    truth = [names[example.label] for example in examples]
    chosen = [names[max(range(len(x)), key=x.__getitem__)] for x in scores]
    metrics: dict[str, Any] = {
        "accuracy": accuracy.accuracy(truth, chosen),
        "confusion": accuracy.confusion(truth, chosen, names),
    }
    groups = of_languages([example.lang for example in examples])
    metrics["languages"] = {
        lang: {
            "examples": len(own),
            "accuracy": accuracy.accuracy([truth[i] for i in own], [chosen[i] for i in own]),
        }
        for lang, own in groups.items()
    }
    predictions = [
        {"id": example.id, "label": a, "predicted": b, "scores": dict(zip(names, x, strict=True))}
        for example, a, b, x in zip(examples, truth, chosen, scores, strict=True)
    ]
    return Outcome(metrics, predictions)


NLI = Task("nli", ("ForSequenceClassification",), read, rows, as_it_is, results, outcome)
