"""Pseudo-perplexity of texts: each token masked in turn, its true log-probability summed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.backend import Array, namespace, to_numpy
from refimpl.validate.pseudo_perplexity import Surprise, total
from refimpl.validate.reading import language_of, read_entries, read_lines, text_of
from refimpl.validate.task import Outcome, Row, Setting, Task, inputs_of, of_languages

COLUMNS = {
    "text": ("text", "sentence"),
    "lang": ("language", "lang"),
    "id": ("id",),
}


class Example(NamedTuple):
    """A text."""

    id: str
    text: str
    lang: str | None


def read(path: Path, setting: Setting) -> list[Example]:
    """Return the texts of a file: .jsonl or .tsv with a column, else every line that has any.

    Raises ``ValueError`` for what is none, and for a model that does not fill in blanks.
    """
    options = setting.options
    if getattr(setting.model.config, "causal", False):
        raise ValueError("checkpoint: expected a masked language model, got a causal one")
    if path.suffix in (".jsonl", ".tsv"):
        return [
            Example(
                str(entry.values.get("id", number)),
                text_of(entry, "text"),
                language_of(entry, options.lang),
            )
            for number, entry in enumerate(read_entries(path, COLUMNS, options.columns), 1)
        ]
    lines = enumerate(read_lines(path), 1)
    return [Example(str(number), line, options.lang) for number, line in lines if line.strip()]


def rows(setting: Setting, examples: Sequence[Example]) -> list[Row]:
    """Return a row for each token: its text, in which it is still to be masked at a place.

    A text that is too long is cut into windows, one behind the other. The note of a row is its
    place and the id that stands there.
    """
    langs = [example.lang for example in examples]
    encoding = setting.tokenizer(
        [example.text for example in examples],
        lang=None if None in langs else [str(lang) for lang in langs],
        truncation=True,
        max_length=setting.longest,
        return_overflowing_tokens=True,
        return_token_type_ids=setting.options.token_types,
    )
    found = []
    for row, i in enumerate(encoding["overflow_to_sample_mapping"]):
        inputs = inputs_of(setting, encoding, row, langs[i])
        places = [p for p, text in enumerate(encoding.sequence_ids(row)) if text is not None]
        found += [Row(i, inputs, (place, inputs["input_ids"][place])) for place in places]
    return found


def prepare(setting: Setting, batch: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Mask one token of each row, and ask for the scores of that place alone."""
    for ids, row in zip(batch["input_ids"], rows, strict=True):
        ids[row.note[0]] = setting.tokenizer.mask_token_id
    if setting.takes("logits_at"):
        batch["logits_at"] = [[i, row.note[0]] for i, row in enumerate(rows)]
    return batch


def results(setting: Setting, outputs: Any, rows: Sequence[Row]) -> list[Any]:
    """Return the log-probability of the token that stood at each place."""
    at_places = _at_places(outputs.logits, rows)
    return [
        _log_probability(scores, row.note[1]) for scores, row in zip(at_places, rows, strict=True)
    ]


def _at_places(logits: Array, rows: Sequence[Row]) -> Iterator[Array]:
    """Give the scores (V) of each row's place."""
    for i, row in enumerate(rows):
        yield logits[i, :] if logits.ndim == 2 else logits[i, row.note[0], :]


def _log_probability(scores: Array, token: int) -> float:
    """(V) -> the log-softmax of one score, in float64 whatever the scores are in"""
    xp = namespace(scores)
    x = xp.astype(scores, xp.float64)
    x = x - xp.max(x)
    return float(to_numpy(x[token])) - math.log(float(to_numpy(xp.sum(xp.exp(x)))))


def outcome(
    setting: Setting, examples: Sequence[Example], found: Sequence[Sequence[tuple[Row, Any]]]
) -> Outcome:
    """Return pseudo-perplexity and bits over all texts and those of each language."""
    of_text = [
        Surprise(math.fsum(x for _, x in parts), len(parts), len(example.text))
        for example, parts in zip(examples, found, strict=True)
    ]
    metrics = _metrics(of_text)
    metrics["languages"] = {
        lang: {"examples": len(own), **_metrics([of_text[i] for i in own])}
        for lang, own in of_languages([example.lang for example in examples]).items()
    }
    predictions = [
        {"id": example.id, "text": example.text, **_metrics([text])}
        for example, text in zip(examples, of_text, strict=True)
    ]
    return Outcome(metrics, predictions)


def _metrics(texts: Sequence[Surprise]) -> dict[str, Any]:
    found = total(texts)
    return {
        "pseudo_perplexity": found.pseudo_perplexity,
        "bits_per_token": found.bits_per_token,
        "bits_per_character": found.bits_per_character,
        "log_probability": found.log_probability,
        "tokens": found.tokens,
        "characters": found.characters,
    }


MLM = Task("mlm", ("ForMaskedLM", "WithLMHeadModel"), read, rows, prepare, results, outcome)
