"""Where the report puts each value: a map for each stretch of the model, layers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refimpl.parity.comparison.verdict import INPUT, OUTPUT, Verdict

INPUTS, BEFORE, LAYERS, AFTER, OUTPUTS = (
    "Inputs",
    "Before the layers",
    "Layers",
    "After the layers",
    "Outputs",
)


@dataclass(frozen=True)
class Map:
    """One stretch of the model: a row for each place, a column for each layer."""

    title: str
    prefix: str  # what all names begin with
    rows: tuple[str, ...]  # names without prefix, "*" in the place of the layer's number
    columns: tuple[int | None, ...]  # numbers of layers; None: values that belong to no layer
    at: dict[tuple[str, int | None], int]  # row and column -> which verdict


def split(name: str) -> tuple[str, int | None]:
    """A name with "*" in the place of its first number, and the number.

    >>> split("roberta.encoder.layer.3.attention.self.query")
    ('roberta.encoder.layer.*.attention.self.query', 3)
    >>> split("pooler.dense_0")
    ('pooler.dense_0', None)
    """
    words = name.split(".")
    for i, word in enumerate(words):
        if word.isascii() and word.isdecimal():
            return ".".join([*words[:i], "*", *words[i + 1 :]]), int(word)
    return name, None


def maps(verdicts: Sequence[Verdict]) -> list[Map]:
    """Lay out all verdicts, in the order of the computation."""
    stretches: dict[str, list[int]] = {}
    seen_layers = False
    for i, verdict in enumerate(verdicts):
        in_layer = split(verdict.name)[1] is not None
        if verdict.kind == INPUT:
            stretch = INPUTS
        elif verdict.kind == OUTPUT:
            stretch = OUTPUTS
        elif in_layer:
            stretch, seen_layers = LAYERS, True
        else:
            stretch = AFTER if seen_layers else BEFORE
        stretches.setdefault(stretch, []).append(i)
    return [_map(title, verdicts, members) for title, members in stretches.items()]


def _map(title: str, verdicts: Sequence[Verdict], members: Sequence[int]) -> Map:
    places = {i: split(verdicts[i].name) for i in members}
    prefix = common_prefix([row for row, _ in places.values()])
    rows = tuple(dict.fromkeys(row.removeprefix(prefix) for row, _ in places.values()))
    columns = {column for _, column in places.values()}
    return Map(
        title,
        prefix,
        rows,
        tuple(sorted(columns, key=lambda c: -1 if c is None else c)),
        {(row.removeprefix(prefix), column): i for i, (row, column) in places.items()},
    )


def common_prefix(names: Sequence[str]) -> str:
    """The words that all names begin with, up to a dot; every name keeps its last word.

    >>> common_prefix(["a.b.c", "a.b.d.e"]), common_prefix(["a"]), common_prefix(["a.b", "a"])
    ('a.b.', '', '')
    """
    heads = [name.split(".")[:-1] for name in names]
    shared = []
    for words in zip(*heads, strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return "".join(f"{word}." for word in shared)
