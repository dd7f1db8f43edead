"""Questions to a text: the answer is a part of it, or there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.backend import to_numpy
from refimpl.validate import answers, spans
from refimpl.validate.reading import (
    Entry,
    language_of,
    parse_json,
    read_entries,
    read_lines,
    text_of,
)
from refimpl.validate.task import Outcome, Row, Setting, Task, as_it_is, inputs_of, of_languages

COLUMNS = {
    "question": ("question",),
    "context": ("context",),
    "answers": ("answers", "answer"),
    "lang": ("language", "lang"),
    "id": ("id",),
    "is_impossible": ("is_impossible",),
}
KEPT = ("id", "question", "answers", "is_impossible")  # of a question of SQuAD
LENGTH, STRIDE = 384, 128  # of run_qa, where the model takes so many


class Example(NamedTuple):
    """A question, and its answers: none where it cannot be answered."""

    id: str
    question: str
    context: str
    answers: list[str]
    lang: str | None


def read(path: Path, setting: Setting) -> list[Example]:
    """Return the questions of a file: SQuAD's .json, or .jsonl with one question on each line.

    Raises ``ValueError`` for what is none.
    """
    options = setting.options
    if path.suffix == ".json":
        entries = list(_squad(path))
    else:
        entries = read_entries(path, COLUMNS, options.columns)
    examples = [
        Example(
            str(entry.values.get("id", number)),
            text_of(entry, "question").lstrip(),
            text_of(entry, "context"),
            _answers(entry),
            language_of(entry, options.lang),
        )
        for number, entry in enumerate(entries, 1)
    ]
    for example, entry in zip(examples, entries, strict=True):
        if options.normalise == "mlqa" and example.lang not in answers.LANGUAGES:
            known = ", ".join(answers.LANGUAGES)
            raise ValueError(f"{entry.where}: lang: expected one of {known}, got {example.lang!r}")
    return examples


def _squad(path: Path) -> Iterator[Entry]:
    """Give the questions of a file in SQuAD's form: articles of paragraphs of questions."""
    value = parse_json(str(path), "\n".join(read_lines(path)))
    try:
        for article in value["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    where = f"{path}, question {asked['id']!r}"
                    values = {name: asked[name] for name in KEPT if name in asked}
                    yield Entry(where, {"context": paragraph["context"], **values})
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: expected SQuAD's form; there is no {error}") from None


def _answers(entry: Entry) -> list[str]:
    """Return the answers of a row: of SQuAD's list of objects, of columns of lists, of texts."""
    value = entry.values.get("answers")
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, str):
        value = [value]
    if entry.values.get("is_impossible") is True:
        value = []
    if not isinstance(value, list):
        raise ValueError(f"{entry.where}: answers: expected texts, got {value!r:.60}")
    texts: list[Any] = [one.get("text") if isinstance(one, dict) else one for one in value]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{entry.where}: answers: expected texts, got {value!r:.60}")
    return texts


def rows(setting: Setting, examples: Sequence[Example]) -> list[Row]:
    """Return windows of the contexts, each behind its question.

    The note of a row says which characters of the context its tokens are.
    """
    longest = (
        min(LENGTH, setting.longest) if setting.options.max_length is None else setting.longest
    )
    stride = setting.options.stride
    langs = [example.lang for example in examples]
    encoding = setting.tokenizer(
        [example.question for example in examples],
        [example.context for example in examples],
        None if None in langs else [str(lang) for lang in langs],
        truncation="only_second",
        max_length=longest,
        stride=min(STRIDE, longest // 4) if stride is None else stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=setting.options.token_types,
    )
    found = []
    for row, i in enumerate(encoding["overflow_to_sample_mapping"]):
        inputs = inputs_of(setting, encoding, row, langs[i])
        offsets, texts = encoding["offset_mapping"][row], encoding.sequence_ids(row)
        context = {p: offsets[p] for p, text in enumerate(texts) if text == 1}
        if setting.takes("p_mask"):
            inputs["p_mask"] = [int(p not in context and p > 0) for p in range(len(texts))]
            inputs["cls_index"] = 0
        found.append(Row(i, inputs, context))
    return found


def results(setting: Setting, outputs: Any, rows: Sequence[Row]) -> list[Any]:
    """Return for each row the score of "no answer", and the best spans in characters."""
    n_best, longest = setting.options.n_best, setting.options.max_answer
    if _has_beams(setting):
        return [spans.of_beams(outputs, i, row.note, n_best, longest) for i, row in enumerate(rows)]
    start, end = to_numpy(outputs.start_logits), to_numpy(outputs.end_logits)
    return [
        spans.of_logits(start[i, : row.length], end[i, : row.length], row.note, n_best, longest)
        for i, row in enumerate(rows)
    ]


def _has_beams(setting: Setting) -> bool:
    return setting.takes("p_mask")


def outcome(
    setting: Setting, examples: Sequence[Example], found: Sequence[Sequence[tuple[Row, Any]]]
) -> Outcome:
    """Return exact match and F1 over all questions, by language, and by whether they have answers.

    A question may go unanswered where any question of the file has no answer.
    """
    options = setting.options
    may_be_none = any(not example.answers for example in examples)
    predictions = []
    for example, parts in zip(examples, found, strict=True):
        windows = [_window(value) for _, value in parts]
        text, lead = spans.best_answer(
            windows, example.context, may_be_none, options.null_threshold, _has_beams(setting)
        )
        predictions.append(_scored(example, text, lead, options.normalise))
    everything = range(len(examples))
    metrics: dict[str, Any] = _means(predictions, everything)
    if may_be_none:
        for name, wanted in (("answerable", True), ("unanswerable", False)):
            own = [i for i in everything if bool(examples[i].answers) == wanted]
            metrics[name] = {"examples": len(own), **_means(predictions, own)}
    metrics["languages"] = {
        lang: {"examples": len(own), **_means(predictions, own)}
        for lang, own in of_languages([example.lang for example in examples]).items()
    }
    return Outcome(metrics, predictions)


def _window(value: Any) -> spans.Window:
    """Return a window again, as it was before it was written as JSON."""
    null, found = value
    return spans.Window(null, [spans.Span(*span) for span in found])


def _scored(example: Example, text: str, lead: float | None, normalise: str) -> dict[str, Any]:
    rule = "squad" if normalise == "squad" else str(example.lang)
    scored = {
        "id": example.id,
        "prediction": text,
        "answers": example.answers,
        "exact_match": answers.best_over(answers.exact_match, text, example.answers, rule),
        "f1": answers.best_over(answers.f1, text, example.answers, rule),
    }
    return scored if lead is None else {**scored, "no_answer_lead": lead}


def _means(predictions: Sequence[dict[str, Any]], own: Sequence[int]) -> dict[str, float]:
    """Return the mean of both measures over some questions; 0 over none."""
    return {
        name: math.fsum(predictions[i][name] for i in own) / max(len(own), 1)
        for name in ("exact_match", "f1")
    }


QA = Task(
    "qa",
    ("ForQuestionAnswering", "ForQuestionAnsweringSimple"),
    read,
    rows,
    as_it_is,
    results,
    outcome,
)
