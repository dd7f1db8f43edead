"""Map files: what another implementation calls the taps, and how it lays them out.

A map is TOML or JSON: our name on the left, theirs on the right. The built-in maps, in ``maps/``,
are such files; a user's own is read in the same way.

    "encoder.layer.{i}.attention.self.query" = "h.{i}.attn.q"
    "encoder.layer.{i}.attention.self.probs" = {name = "h.{i}.attn.p", layout = "heads first"}
    "encoder.layer.{i}.intermediate.dense" = ["h.{i}.up", "h.{i}.mlp.c_fc"]    # either of them

``{i}`` is a number and ``{language}`` a language, the same on both sides; ``{i+1}`` is the number
after. Any other word in braces stands for whatever they call it. What comes before the encoder of
a model with a head, ``roberta.`` or ``transformer.``, is left out or written, as one likes. The
built-in maps keep the names in a table ``names``; a table ``also`` has further ones, which count
where those do not occur, and a table ``map`` is about all of them.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.checkpoints.folder import size_of
from refimpl.errors import CheckpointError
from refimpl.parity.names.layouts import LAYOUTS

KINDS = ("xlm", "xlm_roberta", "xlm_roberta_xl", "xmod", "xmod_pre_norm")

_HEADER = {
    "about": str,
    "identity": bool,
    "prefixes": list,
    "head_prefixes": list,
    "endings": dict,
    "only": list,
}
_ENTRY = {"name": str, "layout": str, "only": list, "beside": str, "without": str}
_NUMBER = r"\{i([+-]\d)?\}"
_LIMIT = 1 << 22  # bytes of a map file: ten times what names of every tap of the largest would take


class Row(NamedTuple):
    """One name that they have for a tap."""

    tap: str
    theirs: str
    layout: str = "same"  # one of ``layouts.LAYOUTS``
    only: tuple[str, ...] = KINDS  # the kinds of model of which it is true
    beside: str = ""  # true where their dump has this name too
    without: str = ""  # true where it has not


@dataclass(frozen=True)
class NameMap:
    """The names that one implementation has for the taps."""

    rows: tuple[Row, ...]  # the first of several for a tap is the name that it is called by
    also: tuple[Row, ...] = ()  # names that count where those do not occur
    about: str = ""
    identity: bool = False  # whether a tap that has no row is called as ours
    prefixes: tuple[str, ...] = ("",)  # before all but the heads; "{base}" is what we have there
    head_prefixes: tuple[str, ...] = ("",)
    only: tuple[str, ...] = KINDS  # the kinds of model that it has


def read_map(path: str | Path) -> NameMap:
    """Read a map file, JSON where its name ends so, else TOML.

    Raises ``CheckpointError`` where it cannot be read, or says what a map cannot say.
    """
    path = Path(path)
    try:
        if size_of(path) > _LIMIT:
            raise CheckpointError(f"{path}: expected a map of names, at most {_LIMIT} bytes")
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as a map of names: {error}") from None
    if not isinstance(entries, dict):
        raise CheckpointError(
            f"{path}: expected names and what they are, got {type(entries).__name__}"
        )
    try:
        return make_map(entries)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def make_map(entries: Mapping[str, Any]) -> NameMap:
    """Make a map of what a map file holds. Raises ``ValueError`` for what it cannot hold.

    >>> make_map({"encoder.layer.{i}.attention.self.query": "h.{i}.q"}).rows[0].theirs
    'h.{i}.q'
    """
    entries = dict(entries)
    header = entries.pop("map", {})
    if not isinstance(header, dict) or not all(
        isinstance(value, _HEADER.get(key, ())) for key, value in header.items()
    ):
        raise ValueError(f"map: expected a table of {', '.join(_HEADER)}, got {header!r}")
    for names in header.get("endings", {}).values():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"map: endings: expected lists of names, got {names!r}")
    also = entries.pop("also", {}) if _is_table(entries.get("also")) else {}
    names = entries.pop("names") if _is_table(entries.get("names")) else {}
    return NameMap(
        tuple(_rows({**names, **entries}, header)),
        tuple(_rows(also, header)),
        header.get("about", ""),
        header.get("identity", False),
        tuple(map(str, header.get("prefixes", [""]))),
        tuple(map(str, header.get("head_prefixes", [""]))),
        tuple(map(str, header.get("only", KINDS))),
    )


def _is_table(entry: Any) -> bool:
    return isinstance(entry, dict) and "name" not in entry


def _flat(path: str, entries: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield names and entries; a name that was not quoted has become nested tables in TOML."""
    for key, entry in entries.items():
        name = f"{path}{key}"
        if _is_table(entry) and depth < 100:
            yield from _flat(f"{name}.", entry, depth + 1)
        else:
            yield name, entry


def _rows(entries: Mapping[str, Any], header: Mapping[str, Any]) -> Iterator[Row]:
    endings, only = header.get("endings", {}), header.get("only", KINDS)
    for tap, entry in _flat("", entries):
        for one in entry if isinstance(entry, list) else [entry]:
            said = one if isinstance(one, dict) else {"name": one}
            for key, value in said.items():
                if not isinstance(value, _ENTRY.get(key, ())) or value == "":
                    expected = f"a name, a table of {', '.join(_ENTRY)}, or a list of these"
                    raise ValueError(f"{tap}: expected {expected}, got {key} = {value!r}")
            stem, _, word = str(said.get("name", "")).rstrip(">").partition("<")
            for ending in endings.get(word, [word]):
                yield _row(tap, **{"only": only, **said, "name": f"{stem}{ending}"})


def _row(
    tap: str, name: str = "", layout: str = "same", only: Iterable[Any] = KINDS, **others: str
) -> Row:
    if not name:
        raise ValueError(f"{tap}: expected a name")
    if layout not in LAYOUTS:
        known = ", ".join(LAYOUTS)
        raise ValueError(f"{tap}: layout: expected one of {known}, got {layout!r}")
    for kind in only:
        if kind not in KINDS:
            raise ValueError(f"{tap}: only: expected some of {', '.join(KINDS)}, got {kind!r}")
    ours, theirs = (re.findall(r"\{(\w*)[^}]*\}", text) for text in (tap, name))
    for word in ours:
        if word not in ("i", "language", "last"):
            raise ValueError(f"{tap}: expected {{i}} or {{language}}, got {{{word}}}")
    for word in ("i", "language"):
        if ours.count(word) != min(theirs.count(word), 1):
            raise ValueError(f"{tap}: expected {{{word}}} on both sides or on none, got {name!r}")
    return Row(tap, name, layout, tuple(only), **others)


# --- patterns -------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 12)
def tap_pattern(tap: str, last: int) -> re.Pattern[str]:
    """Compile a tap with ``{i}``, ``{language}`` or the number of the last layer in it."""
    text = re.escape(tap).replace(r"\{last\}", str(last)).replace(r"\{i\}", r"(?P<i>\d+)")
    return re.compile(text.replace(r"\{language\}", r"(?P<language>[^.]+)"))


def spell(theirs: str, values: Mapping[str, str]) -> str:
    """Return their name with the numbers and the language of one of our names in it.

    >>> spell("hidden_states.{i+1}", {"i": "3"}), spell("heads.{head}.dense", {})
    ('hidden_states.4', 'heads.{head}.dense')
    """
    if "i" in values:
        number = int(values["i"])
        theirs = re.sub(_NUMBER, lambda found: str(number + int(found[1] or 0)), theirs)
    return theirs.replace("{language}", values.get("language", "{language}"))


def foreign_pattern(spelt: str) -> re.Pattern[str] | None:
    """Compile a spelt name in which a word of theirs is left open; None where none is."""
    if not re.search(r"\{\w+\}", spelt):
        return None
    return re.compile(re.sub(r"\\\{\w+\\\}", r"[^./]+", re.escape(spelt)))
