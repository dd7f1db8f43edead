"""What the axes of a value stand for: rows, heads, positions, features; padding and languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy

from refimpl.models.model import Model
from refimpl.parity.faults.run import family_of, place_of

ROW, HEAD, POSITION, KEY, FEATURE = "row", "head", "position", "key", "feature"

_SQUARES = ("scores", "probs", "attentions", "cross_attentions")  # one number for query and key
_KEPT = "past_key_values"
_OF_HEADS = ("query", "key", "value", "context")  # the heads' features side by side
_ADAPTER = ".adapter_modules."


@dataclass(frozen=True)
class Axes:
    """The axes of one value, and what is known of its rows and positions."""

    names: tuple[str, ...]
    heads: int = 0  # how many stand side by side in the last axis
    padded: numpy.ndarray | None = None  # (rows, positions): True is padding
    languages: numpy.ndarray | None = None  # (rows) or (rows, positions): numbers

    def number(self, name: str) -> int | None:
        """Which axis has a name, if one has."""
        return self.names.index(name) if name in self.names else None


@dataclass(frozen=True)
class Call:
    """What is known of the rows and positions of one call."""

    heads: int
    padded: numpy.ndarray | None  # (B, S)
    languages: numpy.ndarray | None  # (B) or (B, S)
    language_names: tuple[str, ...] = ()  # X-MOD's, in the order of their numbers

    def axes(self, name: str, shape: tuple[int, ...]) -> Axes:
        """What the axes of the tap or output ``name`` stand for."""
        place = place_of(name)
        found = Axes(_names(place, shape))
        if place in _OF_HEADS and shape and self.heads and shape[-1] % self.heads == 0:
            found = replace(found, heads=self.heads)
        rows = self._rows(name)
        return replace(
            found,
            padded=_fit(self.padded, rows, shape, 2) if self._has_positions(found) else None,
            languages=_fit(self.languages, rows, shape, 1),
        )

    def language(self, number: int) -> str:
        """What to call a language."""
        names = self.language_names
        return names[number] if 0 <= number < len(names) else str(number)

    def _has_positions(self, axes: Axes) -> bool:
        return POSITION in axes.names

    def _rows(self, name: str) -> numpy.ndarray | None:
        """The rows that a value has: all (None), of an adapter those in its language."""
        if _ADAPTER not in name or self.languages is None or self.languages.ndim != 1:
            return None
        language = name.partition(_ADAPTER)[2].partition(".")[0]
        if language not in self.language_names:
            return None
        return numpy.flatnonzero(self.languages == self.language_names.index(language))


def call_of(model: Model | None, inputs: Mapping[str, numpy.ndarray]) -> Call:
    """What the inputs tell of rows and positions; without a model nothing of heads."""
    config = None if model is None else model.config
    width = "n_heads" if model is not None and family_of(model) == "xlm" else "num_attention_heads"
    langs, ids = inputs.get("langs"), inputs.get("lang_ids")
    languages = ids if langs is None else texts(numpy.asarray(langs))
    return Call(
        heads=getattr(config, width, 0),
        padded=padding(inputs),
        languages=None if languages is None else numpy.asarray(languages),
        language_names=tuple(getattr(config, "languages", None) or ()),
    )


def padding(inputs: Mapping[str, numpy.ndarray]) -> numpy.ndarray | None:
    """(B, S): where there is padding, after ``attention_mask`` or ``lengths``; None where none is.

    >>> padding({"attention_mask": numpy.asarray([[1, 1, 0]])}).tolist()
    [[False, False, True]]
    """
    mask, lengths, ids = (inputs.get(x) for x in ("attention_mask", "lengths", "input_ids"))
    found = None
    if mask is not None and numpy.ndim(mask) == numpy.ndim(ids if ids is not None else mask):
        found = texts(numpy.asarray(mask)) == 0  # a mask of more axes says nothing of padding
    elif lengths is not None and ids is not None and numpy.ndim(ids) == 2:
        found = numpy.arange(ids.shape[1])[None] >= numpy.asarray(lengths)[:, None]
    return found if found is not None and found.any() else None


def texts(x: numpy.ndarray) -> numpy.ndarray:
    """(S), (B, S), (B, C, S) -> (B, S): a row for each text, also for each choice of a question."""
    return x.reshape(-1, x.shape[-1]) if x.ndim != 2 else x


def _names(place: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    if len(shape) == 4 and place in (*_SQUARES, _KEPT):
        return (ROW, HEAD, POSITION, FEATURE if place == _KEPT else KEY)
    if len(shape) == 2 and place in ("start_logits", "end_logits", "position_ids"):
        return (ROW, POSITION)
    known = {1: (ROW,), 2: (ROW, FEATURE), 3: (ROW, POSITION, FEATURE)}
    return known.get(len(shape), tuple(f"axis {i}" for i in range(len(shape))))


def _fit(
    x: numpy.ndarray | None, rows: numpy.ndarray | None, shape: tuple[int, ...], positions: int
) -> numpy.ndarray | None:
    """Take the rows of ``x`` that a value of a shape has, or None where the two do not fit."""
    if x is None or not shape:
        return None
    x = x if rows is None else x[rows]
    places = shape[2] if len(shape) == 4 else shape[1] if len(shape) > 1 else None
    fits = x.shape[0] == shape[0] and (x.ndim < max(2, positions) or x.shape[1] == places)
    return x if fits else None


def padded_elements(axes: Axes, shape: tuple[int, ...]) -> numpy.ndarray | None:
    """Which elements of a value are at padding, or look at it; None where there is none.

    >>> axes = Axes(("row", "position", "feature"), padded=numpy.asarray([[False, True]]))
    >>> padded_elements(axes, (1, 2, 1)).tolist()
    [[[False], [True]]]
    """
    if axes.padded is None:
        return None
    found = numpy.zeros(shape, bool)
    for number in (axes.number(POSITION), axes.number(KEY)):
        if number is not None and axes.padded.shape == (shape[0], shape[number]):
            sizes = [1] * len(shape)
            sizes[0], sizes[number] = shape[0], shape[number]
            found |= axes.padded.reshape(sizes)
    return found
