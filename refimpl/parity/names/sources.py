"""The implementations whose names are known, and how each calls the taps of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from refimpl.parity.names.name_map import NameMap, Row, read_map, spell, tap_pattern

# As published, then by how many dumps come from them.
SOURCES = ("transformers", "onnx", "onnx_dynamo", "fairseq", "xlm", "transformer_lens")
OUTPUTS = "outputs"  # taps that are given out, whoever runs the model
BASES = ("roberta.", "transformer.")


class Called(NamedTuple):
    """A tap, as one implementation calls it."""

    theirs: str
    canonical: str
    layout: str
    rank: int  # 0 is the first choice among its names
    beside: str = ""  # what the dump must have too, where this name means this tap
    without: str = ""  # what it must not have


def known_map(source: str) -> NameMap:
    """Return a built-in map. Raises ``ValueError`` for a source that is not known."""
    if source not in (*SOURCES, OUTPUTS):
        raise ValueError(f"source: expected one of {', '.join(SOURCES)}, got {source!r}")
    return _built_in(source)


@lru_cache
def _built_in(source: str) -> NameMap:
    return read_map(Path(__file__).parent / "maps" / f"{source}.toml")


def base_of(expected: Iterable[str]) -> str:
    """What stands in front of an encoder's names: "roberta.", "transformer." or nothing."""
    return next((b for name in expected for b in BASES if name.startswith(b)), "")


def kind_of(expected: Iterable[str]) -> str:
    """The kind of model that has these taps: one of ``name_map.KINDS``."""
    names = list(expected)
    if any(re.search(r"(^|\.)(attentions\.\d+\.|ffns\.|layer_norm_emb$)", name) for name in names):
        return "xlm"
    if any(".adapter_modules." in name for name in names):
        final = any(re.fullmatch(r"(roberta\.)?encoder\.LayerNorm", name) for name in names)
        return "xmod_pre_norm" if final else "xmod"
    is_xl = any(name.endswith("self_attn_layer_norm") for name in names)
    return "xlm_roberta_xl" if is_xl else "xlm_roberta"


def called(expected: Iterable[str], names: NameMap) -> Iterator[Called]:
    """Yield every name that a map knows for the ``expected`` taps and outputs, with its rank."""
    expected = list(expected)
    base, kind = base_of(expected), kind_of(expected)
    layers = [int(n) for name in expected for n in re.findall(r"\blayer\.(\d+)\.", name)]
    top = max(layers, default=0)
    last = len(names.rows)  # the rank of a tap's own name
    ranked = [*enumerate(names.rows), *enumerate(names.also, start=last + 1)]
    patterns = [
        (rank, row, tap_pattern(_bare(row.tap, base), top))
        for rank, row in ranked
        if kind in row.only
    ]
    identity = names.identity and kind in names.only
    for canonical in expected:
        bare = canonical.removeprefix(base)
        of_head = bool(base) and bare == canonical
        prefixes = names.head_prefixes if of_head else names.prefixes
        for rank, row, values in _rows_of(bare, last, identity, patterns):
            for i, prefix in enumerate(prefixes):
                before = _prefix(prefix, base)
                theirs, *others = (
                    before + spell(name, values) if name else ""
                    for name in (row.theirs, row.beside, row.without)
                )
                yield Called(theirs, canonical, row.layout, rank * len(prefixes) + i, *others)


def _prefix(prefix: str, base: str) -> str:
    return prefix.replace("{base}", base).replace("{base/}", base.replace(".", "/"))


def _bare(tap: str, base: str) -> str:
    for prefix in BASES if base else ():
        tap = tap.removeprefix(prefix)
    return tap


def _rows_of(
    bare: str, last: int, identity: bool, patterns: Iterable[tuple[int, Row, re.Pattern[str]]]
) -> Iterator[tuple[int, Row, dict[str, str]]]:
    """Yield the rows for a tap, with their rank and its number and language."""
    if identity:
        yield last, Row(bare, bare), {}
    for rank, row, pattern in patterns:
        found = pattern.fullmatch(bare)
        if found:
            yield rank, row, found.groupdict()


def foreign_names(expected: Iterable[str], source: str) -> dict[str, str]:
    """Return what a source calls each of these taps; one that it has no name for is left out.

    ``expected`` are all taps of a model: which model it is, is told from them. A word in braces in
    a name is chosen by whoever runs it. Raises ``ValueError`` for a source that is not known.

    >>> foreign_names(["roberta.encoder.layer.3.attention.self.query"], "fairseq")
    {'roberta.encoder.layer.3.attention.self.query': \
'encoder.sentence_encoder.layers.3.self_attn.q_proj'}
    """
    return {tap: one.theirs for tap, one in first_names(expected, source).items()}


def first_names(expected: Iterable[str], source: str) -> dict[str, Called]:
    """Return the first of a source's names for each of these taps, with its conditions."""
    best: dict[str, Called] = {}
    for one in called(expected, known_map(source)):
        if one.canonical not in best or one.rank < best[one.canonical].rank:
            best[one.canonical] = one
    return best


def foreign_name(canonical: str, source: str) -> str | None:
    """Return what a source calls one tap, or None where it has no name for it.

    >>> foreign_name("encoder.layer.3.intermediate.dense", "fairseq")
    'encoder.sentence_encoder.layers.3.fc1'
    """
    return foreign_names([canonical], source).get(canonical)


def user_map(extra: Mapping[str, str]) -> NameMap:
    """Make a map of a plain mapping, ours to theirs."""
    return NameMap(tuple(Row(tap, theirs) for tap, theirs in extra.items()))
