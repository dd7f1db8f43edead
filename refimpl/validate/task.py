"""What a task is, and what all tasks need: the setting that they run in, rows for the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.models.model import ARCHITECTURES, Model
from refimpl.tokenizers.tokenizer import Tokenizer
from refimpl.validate.labels import Labels


@dataclass(frozen=True)
class Options:
    """How a file is read and run; what a task has no use for, it passes over."""

    columns: Mapping[str, str] = field(default_factory=dict)  # what the task reads -> its column
    labels: Mapping[str, str] = field(default_factory=dict)  # label of the data -> of the model
    lang: str | None = None  # the language of rows that name none
    limit: int | None = None  # only the first so many examples
    max_length: int | None = None  # tokens of a row; None: as many as the model takes
    stride: int | None = None  # tokens that two windows of one text share
    batch_tokens: int = 4096  # places of a batch, padding included
    token_types: bool = False  # give the model token_type_ids, as the tokenizer makes them
    normalise: str = "squad"  # qa: how answers are compared, "squad" or "mlqa"
    max_answer: int = 30  # qa: tokens of an answer
    n_best: int = 20  # qa: candidates that are looked at
    null_threshold: float = 0.0  # qa: how much better "no answer" must be than the best answer

    def __post_init__(self) -> None:
        for name in ("limit", "max_length", "batch_tokens", "max_answer", "n_best"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected a number above 0, got {value}")
        if self.stride is not None and self.stride < 0:
            raise ValueError(f"stride: expected 0 or more, got {self.stride}")
        if self.normalise not in ("squad", "mlqa"):
            raise ValueError(f"normalise: expected squad or mlqa, got {self.normalise!r}")


class Row(NamedTuple):
    """What goes through the model at once: a text, a pair, or a window of one."""

    example: int  # which example it is of
    inputs: Mapping[str, Any]  # of the model, lists without padding
    note: Any = None  # what the task needs to read the answer

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.inputs["input_ids"])


class Outcome(NamedTuple):
    """What a run found."""

    metrics: dict[str, Any]
    predictions: list[dict[str, Any]]  # one for each example


class Setting(NamedTuple):
    """What a task runs in."""

    model: Model
    tokenizer: Tokenizer
    options: Options

    @property
    def longest(self) -> int:
        """The most tokens that a row may have: of the model, or fewer where the options say so.

        Raises ``ValueError`` where they ask for more than there are positions.
        """
        config = self.model.config
        places: int = config.max_position_embeddings
        if not self.model.architecture.startswith("XLM") or "Roberta" in self.model.architecture:
            places -= config.pad_token_id + 1  # positions are counted from there
        asked = self.options.max_length
        if asked is not None and asked > places:
            raise ValueError(f"max_length: expected up to {places}, got {asked}")
        return asked or places

    @property
    def labels(self) -> Labels:
        """The labels of the model."""
        config = self.model.config
        return Labels(config.id2label, config.labels, self.options.labels)

    @property
    def padding(self) -> dict[str, int]:
        """What the rows of a batch are filled up with."""
        return {
            "input_ids": self.tokenizer.pad_token_id,
            "attention_mask": 0,
            "langs": 0,
            "token_type_ids": 0,
            "p_mask": 1,
        }

    def takes(self, name: str) -> bool:
        """Say whether the model's class has an argument."""
        return name in ARCHITECTURES[self.model.architecture].inputs(self.model.config)


class Task(NamedTuple):
    """A kind of benchmark: from a file to rows, from the model's answers to metrics."""

    name: str
    heads: tuple[str, ...]  # how the names of the classes end that can do it
    read: Callable[[Path, Setting], list[Any]]  # the examples of a file
    rows: Callable[[Setting, Sequence[Any]], list[Row]]
    prepare: Callable[[Setting, dict[str, Any], Sequence[Row]], dict[str, Any]]  # a batch's inputs
    results: Callable[[Setting, Any, Sequence[Row]], list[Any]]  # outputs -> JSON, for each row
    outcome: Callable[[Setting, Sequence[Any], Sequence[Sequence[tuple[Row, Any]]]], Outcome]


def as_it_is(setting: Setting, batch: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the inputs of a batch unchanged: most tasks need nothing else."""
    return batch


def inputs_of(setting: Setting, encoding: Any, row: int, lang: str | None) -> dict[str, Any]:
    """Return a row of an encoding as inputs of the model, with its language where there is one."""
    names = ["input_ids", "attention_mask", "langs"]
    names += ["token_type_ids"] if setting.options.token_types else []
    inputs = {name: encoding[name][row] for name in names if name in encoding}
    languages = getattr(setting.model.config, "languages", None)
    if languages is not None and lang is not None:
        inputs["lang_ids"] = language_number(languages, lang)
    return inputs


def language_number(languages: Sequence[str], lang: str) -> int:
    """Return which adapter of X-MOD a language has: by its full name, or without the country.

    >>> language_number(["en_XX", "sw_KE"], "sw"), language_number(["en_XX", "sw_KE"], "en_XX")
    (1, 0)

    Raises ``ValueError`` for a language that the model lacks.
    """
    found = [i for i, name in enumerate(languages) if lang in (name, name.partition("_")[0])]
    if len(found) != 1:
        raise ValueError(f"lang: expected one of {', '.join(languages)}, got {lang!r}")
    return found[0]


def of_languages(languages: Sequence[str | None]) -> dict[str, list[int]]:
    """Return which examples are of each language, in order of the alphabet; none if one has none.

    >>> of_languages(["sw", "en", "sw"])
    {'en': [1], 'sw': [0, 2]}
    """
    named = sorted({lang for lang in languages if lang is not None})
    return {name: [i for i, lang in enumerate(languages) if lang == name] for name in named}
