"""Where in a value it is off: in one head, in one row, at padding, growing along the sequence.

Each function looks at one thing, and says so in words only where the evidence is clear: where it
holds at least ``SHARE`` of the squared excess, the error beyond what an honest run may have.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy

from refimpl.parity.comparison.axes import FEATURE, HEAD, KEY, POSITION, ROW, Axes

SHARE = 0.99
FEW = 3  # single features are named up to so many
EVERYWHERE = 0.9  # of all cells

Language = Callable[[int], str]


def where(error: numpy.ndarray, allowed: float, axes: Axes, language: Language = str) -> str:
    """Say where ``error`` (absolute) is beyond ``allowed``; "" where nothing clear can be said.

    >>> error = numpy.zeros((2, 4, 6))
    >>> error[1] = 0.5
    >>> where(error, 0.01, Axes(("row", "position", "feature")))
    'row 1 only'
    """
    x = excess(error, allowed)
    if not x.any() or x.size == 1:
        return ""
    if (x > 0).sum() == 1:
        at = numpy.unravel_index(int(x.argmax()), x.shape)
        return f"one element only, [{', '.join(map(str, at))}]"
    special = of_padding(x, axes) or of_language(x, axes, language) or of_padded_rows(x, axes)
    if special:
        return special
    single = [of_head(x, axes), of_row(x, axes), of_position(x, axes), of_features(x, axes)]
    said = ", ".join(words for words in single if words)
    if said:
        return f"{said} only"
    return of_keys(x, axes) or growing(x, axes) or from_position(x, axes) or spread(x)


def excess(error: numpy.ndarray, allowed: float) -> numpy.ndarray:
    """The squares of the errors beyond ``allowed``; of all errors, where none is."""
    finite = numpy.nan_to_num(numpy.abs(error.astype(numpy.float64)), posinf=numpy.inf)
    largest = float(finite.max()) if finite.size else 0.0
    if not numpy.isfinite(largest):
        return numpy.where(numpy.isinf(finite), 1.0, 0.0)
    if largest == 0.0:
        return numpy.zeros_like(finite)
    beyond = numpy.where(finite > allowed, finite, 0.0)
    squares: numpy.ndarray = numpy.square((beyond if beyond.any() else finite) / largest)
    return squares


def of_padding(x: numpy.ndarray, axes: Axes) -> str:
    """Say "padded positions only", or of keys."""
    padded = axes.padded
    if padded is None or padded.all():
        return ""
    for axis, words in ((POSITION, "padded positions only"), (KEY, "padded keys only")):
        number = axes.number(axis)
        if number is not None and padded.shape == (x.shape[0], x.shape[number]):
            table = _keep(x, (0, number))
            if table[padded].sum() >= SHARE * table.sum():
                return words
    return ""


def of_padded_rows(x: numpy.ndarray, axes: Axes) -> str:
    """Say "rows with padding only", of both kinds that there are."""
    padded = axes.padded
    if padded is None or axes.number(ROW) != 0 or len(padded) != len(x):
        return ""
    having, sums = padded.any(axis=1), _keep(x, (0,))
    if having.all() or sums[having].sum() < SHARE * sums.sum():
        return ""
    return "rows with padding only"


def of_language(x: numpy.ndarray, axes: Axes, language: Language) -> str:
    """Say "language de_DE only", where more than one is spoken; also whose only row it is."""
    spoken = axes.languages
    if spoken is None or len(numpy.unique(spoken)) < 2:
        return ""
    number = axes.number(POSITION)
    table = _keep(x, (0,) if spoken.ndim == 1 or number is None else (0, number))
    if table.shape != spoken.shape:
        return ""
    for one in numpy.unique(spoken):
        here = spoken == one
        if table[here].sum() >= SHARE * table.sum():
            name = language(int(one))
            if spoken.ndim == 1 and here.sum() == 1:
                return f"row {int(here.argmax())} only, the only one of language {name}"
            return f"language {name} only"
    return ""


def of_head(x: numpy.ndarray, axes: Axes) -> str:
    """Say "head 3": one of several, in an axis of their own or side by side in the last."""
    number = axes.number(HEAD)
    if number is not None:
        return _one(_keep(x, (number,)), "head")
    if axes.heads > 1:
        return _one(_keep(x, (x.ndim - 1,)).reshape(axes.heads, -1).sum(axis=1), "head")
    return ""


def of_row(x: numpy.ndarray, axes: Axes) -> str:
    """Say "row 2": one of several texts."""
    number = axes.number(ROW)
    return "" if number is None else _one(_keep(x, (number,)), "row")


def of_position(x: numpy.ndarray, axes: Axes) -> str:
    """Say "position 0", or "the last token of each row"; no word of a sequence of one."""
    number = axes.number(POSITION)
    if number is None:
        return ""
    table = _keep(x, (0, number))
    said = _one(table.sum(axis=0), "position")
    padded = axes.padded
    if said or padded is None or padded.shape != table.shape or padded.all(axis=1).any():
        return said
    rows, last = numpy.arange(len(table)), padded.shape[1] - 1
    first_tokens = padded.argmin(axis=1)
    last_tokens = last - padded[:, ::-1].argmin(axis=1)
    for places, words in ((first_tokens, "first"), (last_tokens, "last")):
        if table[rows, places].sum() >= SHARE * table.sum():
            return f"the {words} token of each row"
    return ""


def of_features(x: numpy.ndarray, axes: Axes) -> str:
    """Say "feature 7", or up to ``FEW`` of them where there are many more."""
    number = axes.number(FEATURE)
    if number is None:
        return ""
    sums = _keep(x, (number,))
    best = numpy.sort(numpy.argsort(sums)[::-1][:FEW])
    said = _one(sums, "feature")
    if said or len(sums) < 4 * FEW or sums[best].sum() < SHARE * sums.sum():
        return said
    return f"features {', '.join(str(i) for i in best if sums[i])}"


def of_keys(x: numpy.ndarray, axes: Axes) -> str:
    """Say "key 0 only": one of the tokens that are looked at."""
    number = axes.number(KEY)
    said = "" if number is None else _one(_keep(x, (number,)), "key")
    return f"{said} only" if said else ""


def growing(x: numpy.ndarray, axes: Axes) -> str:
    """Say "grows along the sequence": nearly every step, and much in all; of six tokens."""
    number = axes.number(POSITION)
    if number is None or x.shape[number] < 6:
        return ""
    size = numpy.sqrt(_keep(x, (number,)))
    ranks = numpy.argsort(numpy.argsort(size)).astype(numpy.float64)
    order = float(numpy.corrcoef(ranks, numpy.arange(len(ranks)))[0, 1])
    quarter = max(1, len(size) // 4)
    much = size[-quarter:].mean() > 3.0 * size[:quarter].mean()
    return "grows along the sequence" if order > 0.95 and much else ""


def from_position(x: numpy.ndarray, axes: Axes) -> str:
    """Say "from position 3 on", where nothing in front of it is off and all behind it is."""
    number = axes.number(POSITION)
    if number is None:
        return ""
    off = _keep(x, (number,)) > 0
    first = int(off.argmax())
    return f"from position {first} on" if first and off[first:].all() else ""


def spread(x: numpy.ndarray) -> str:
    """Say "everywhere", or in how many cells (rows of the last axis), or elements of one cell."""
    cells = (x > 0).any(axis=-1).reshape(-1)
    if len(cells) == 1:
        cells = (x > 0).reshape(-1)
    if cells.mean() >= EVERYWHERE:
        return "everywhere"
    return f"in {int(cells.sum())} of {len(cells)} places"


def _keep(x: numpy.ndarray, axes: tuple[int, ...]) -> numpy.ndarray:
    """Sum over all axes but some."""
    kept: numpy.ndarray = x.sum(axis=tuple(i for i in range(x.ndim) if i not in axes))
    return kept


def _one(sums: numpy.ndarray, what: str) -> str:
    """Name the one index that holds nearly all, of at least two."""
    best = int(sums.argmax())
    clear = len(sums) > 1 and sums[best] >= SHARE * sums.sum()
    return f"{what} {best}" if clear else ""
