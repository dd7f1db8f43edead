"""Named entities, and any other tagging of words: the tag of a word is that of its first piece."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.backend import to_numpy
from refimpl.validate.accuracy import accuracy
from refimpl.validate.entities import Score, scores
from refimpl.validate.reading import language_of, read_entries, read_lines
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
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "labels"),
    "lang": ("language", "lang"),
    "id": ("id",),
}
NO_PIECE = "O"  # the tag of a word that the tokenizer makes no piece of


class Example(NamedTuple):
    """A sentence and the tags of its words."""

    id: str
    words: list[str]
    tags: list[str]  # the model's names
    lang: str | None


def read(path: Path, setting: Setting) -> list[Example]:
    """Return the sentences of a file: .jsonl with lists, else a word and its tag on each line.

    Raises ``ValueError`` for what is none.
    """
    options, labels = setting.options, setting.labels
    read_file = _jsonl if path.suffix == ".jsonl" else _columns
    return [
        Example(name, words, [labels.names[labels.number(where, tag)] for tag in tags], lang)
        for name, where, words, tags, lang in read_file(path, options.columns, options.lang)
    ]


Sentence = tuple[str, str, list[str], list[Any], str | None]  # id, where, words, tags, language


def _jsonl(path: Path, columns: Mapping[str, str], lang: str | None) -> Iterator[Sentence]:
    for number, entry in enumerate(read_entries(path, COLUMNS, columns), 1):
        words, tags = entry.values.get("tokens"), entry.values.get("tags")
        are_words = isinstance(words, list) and all(isinstance(word, str) for word in words)
        if not are_words or not isinstance(tags, list) or len(words) != len(tags):  # type: ignore[arg-type]
            raise ValueError(f"{entry.where}: expected tokens and tags, two lists of one length")
        name = str(entry.values.get("id", number))
        yield name, entry.where, list(words or []), tags, language_of(entry, lang)


def _columns(path: Path, columns: Mapping[str, str], lang: str | None) -> Iterator[Sentence]:
    """Give the sentences of CoNLL's form: columns, the first the word, the last the tag.

    Columns stand between tabs, or where a line has none, between spaces. An empty line, or one
    that begins with -DOCSTART-, ends a sentence.
    """
    word_at, tag_at = _places(columns)
    words, tags, begun, count = [], [], 1, 0
    for number, line in enumerate([*read_lines(path), ""], 1):
        if line.strip() and not line.startswith("-DOCSTART-"):
            cells = line.split("\t") if "\t" in line else line.split(" ")
            if len(cells) < 2 or max(word_at, tag_at) >= len(cells):
                raise ValueError(
                    f"{path}, line {number}: expected a word and its tag, got {line!r}"
                )
            words.append(cells[word_at])
            tags.append(cells[tag_at])
            continue
        if words:
            count += 1
            yield str(count), f"{path}, lines {begun} to {number - 1}", words, tags, lang
        words, tags, begun = [], [], number + 1


def _places(columns: Mapping[str, str]) -> tuple[int, int]:
    """Return in which columns word and tag stand, from 0; -1 is the last."""
    given = {"tokens": "1", "tags": "0", **columns}
    if set(given) != {"tokens", "tags"} or not all(
        re.fullmatch("[0-9]+", x) for x in given.values()
    ):
        raise ValueError("columns: expected tokens=NUMBER and tags=NUMBER, counted from 1")
    return int(given["tokens"]) - 1, int(given["tags"]) - 1


def rows(setting: Setting, examples: Sequence[Example]) -> list[Row]:
    """Return windows of the sentences: most have one.

    The note of a row says which words begin in it, and at which of its places. Where windows
    overlap, a word belongs to the first.
    """
    found: list[Row] = []
    langs = [example.lang for example in examples]
    longest = setting.longest
    stride = longest // 4 if setting.options.stride is None else setting.options.stride
    encoding = setting.tokenizer(
        [example.words for example in examples],
        lang=None if None in langs else [str(lang) for lang in langs],
        is_split_into_words=True,
        truncation=True,
        max_length=longest,
        stride=stride,
        return_overflowing_tokens=True,
        return_token_type_ids=setting.options.token_types,
    )
    seen: set[tuple[int, int]] = set()
    for row, i in enumerate(encoding["overflow_to_sample_mapping"]):
        begun = []
        for place, word in enumerate(encoding.word_ids(row)):
            if word is not None and (i, word) not in seen:
                seen.add((i, word))
                begun.append((word, place))
        found.append(Row(i, inputs_of(setting, encoding, row, langs[i]), begun))
    return found


def results(setting: Setting, outputs: Any, rows: Sequence[Row]) -> list[Any]:
    """Return the number of the best label at each word that begins in a row."""
    best = to_numpy(outputs.logits).argmax(axis=-1)
    return [[int(best[i, place]) for _, place in row.note] for i, row in enumerate(rows)]


def outcome(
    setting: Setting, examples: Sequence[Example], found: Sequence[Sequence[tuple[Row, Any]]]
) -> Outcome:
    """Return precision, recall and F1 of entities, of each type and language; accuracy of tags."""
    names = setting.labels.names
    truth = [example.tags for example in examples]
    tagged = [
        _tags(len(example.words), parts, names)
        for example, parts in zip(examples, found, strict=True)
    ]
    metrics: dict[str, Any] = _metrics(truth, tagged)
    metrics["languages"] = {
        lang: {"examples": len(own), **_metrics([truth[i] for i in own], [tagged[i] for i in own])}
        for lang, own in of_languages([example.lang for example in examples]).items()
    }
    predictions = [
        {"id": example.id, "tokens": example.words, "tags": example.tags, "predicted": tags}
        for example, tags in zip(examples, tagged, strict=True)
    ]
    return Outcome(metrics, predictions)


def _tags(count: int, parts: Sequence[tuple[Row, Any]], names: Sequence[str]) -> list[str]:
    """Return the tag of each word of a sentence, from what its windows say."""
    tags = [NO_PIECE] * count
    for row, best in parts:
        for (word, _), number in zip(row.note, best, strict=True):
            tags[word] = names[number]
    return tags


def _metrics(truth: list[list[str]], found: list[list[str]]) -> dict[str, Any]:
    over_all, by_type = scores(truth, found)
    words = accuracy(
        [tag for tags in truth for tag in tags], [tag for tags in found for tag in tags]
    )
    types = {kind: _as_dict(score) for kind, score in by_type.items()}
    return {**_as_dict(over_all), "tag_accuracy": words, "types": types}


def _as_dict(score: Score) -> dict[str, Any]:
    return {
        "f1": score.f1,
        "precision": score.precision,
        "recall": score.recall,
        "entities": score.true,
    }


NER = Task("ner", ("ForTokenClassification",), read, rows, as_it_is, results, outcome)
