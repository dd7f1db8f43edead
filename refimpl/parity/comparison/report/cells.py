"""What the report draws of a tap: its error cell by cell, and how its elements spread.

A cell is what one position holds: a token's features, or one head's share of them. Its error is
the root of the mean square of its elements, in floor units: divided by the largest such error of an
honest run. Everything is written in characters, one for a cell, so that a page stays small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy

from refimpl.parity.floors import Floor, differences

# One character for one of 90 levels: what may stand in a string of JSON inside of HTML as it is.
ALPHABET = "".join(c for c in map(chr, range(32, 127)) if c not in '"\\<>&')
PER_DECADE = 8  # levels
DECADES_BELOW = 4  # the multiplier; there are 7 above it
TOP = len(ALPHABET) - 1

BINS_PER_DECADE = 4
BIN_DECADES = 8  # on either side of 1 floor unit
BINS = 2 * BIN_DECADES * BINS_PER_DECADE
BLOCK = 1 << 20  # elements that are looked at in one go

OF_KEYS = ("scores", "probs")  # (B, H, S, T), and so are these outputs:
OUTPUTS_OF_HEADS = ("attentions", "cross_attentions", "past_key_values")
LIMIT_OF_LIST = 5  # worst cells that are told with their exact error


class Histogram(NamedTuple):
    """How many elements have which error, in units of the largest element's floor."""

    counts: numpy.ndarray  # (BINS), the outermost ones with all that is smaller or larger
    exact: int  # elements without any error
    beyond_floor: int  # above 1 floor unit
    beyond_limit: int  # above the multiplier
    size: int


class Cells(NamedTuple):
    """The error of a tap's cells as a picture: a line for each row (and head), a column each token.

    ``merged`` says how many lines and columns one cell stands for; it holds the largest of them.
    What is finite on one side only is infinitely wrong, and so is an error where the floor is 0.
    """

    units: numpy.ndarray  # (lines, columns)
    part: str  # what several lines of one row are: "head", "part", or "" where there is one
    parts: int  # how many
    along: str  # what a column is: "position", "row" of the batch, or "" for a single number
    merged: tuple[int, int] = (1, 1)

    @property
    def size(self) -> int:
        """How many cells there are."""
        return self.units.size


class Seen(NamedTuple):
    """All that the report draws of one tap."""

    cells: Cells
    histogram: Histogram
    introduced: bool = False  # the error is that which arose here, not all of it
    ids: bool = False  # equal or not


def look_at(
    name: str, given: numpy.ndarray, truth: numpy.ndarray, floor: Floor, limit: float, heads: int
) -> Seen:
    """Return what the report draws of a tap of the candidate, of the truth's shape, not empty.

    ``limit`` is how many floors are still rounding. Where a hidden state is to be seen head by
    head, ``heads`` is more than 1: then an honest head may have all the error of its token, so the
    unit is the token's floor times the root of the number of heads, at most the element's.
    """
    shape, cell = truth.shape, floor.cell
    if heads > 1:
        shape = (*shape[:-1], heads, shape[-1] // heads)
        cell = min(cell * math.sqrt(heads), floor.worst)
    rms, counts, tallies = [numpy.empty(0)], numpy.zeros(BINS, numpy.int64), numpy.zeros(3, int)
    for error in _errors(given, truth, shape[-1] if shape else 1):
        with numpy.errstate(over="ignore"):
            rms.append(numpy.sqrt(numpy.mean(error * error, axis=1)))
        elements = in_units(error, floor.worst)
        counts += _counted(elements[elements > 0.0])
        tallies += [(elements == 0.0).sum(), (elements > 1.0).sum(), (elements > limit).sum()]
    units = in_units(numpy.concatenate(rms), cell).reshape(shape[:-1])
    exact, beyond_floor, beyond_limit = map(int, tallies)
    spread = Histogram(counts, exact, beyond_floor, beyond_limit, truth.size)
    return Seen(_arranged(name, units, heads), spread)


def in_units(error: numpy.ndarray, floor: float) -> numpy.ndarray:
    """(...) -> (...): an error in units of its floor.

    Where the floor is 0, any error is infinite; where honest runs overflow, it is at most 1.

    >>> in_units(numpy.asarray([0.0, 1e-6]), 0.0).tolist()
    [0.0, inf]
    """
    if math.isinf(floor):
        return numpy.where(numpy.isinf(error), 1.0, 0.0)
    if floor > 0.0:
        with numpy.errstate(over="ignore"):
            return error / floor
    return numpy.where(error > 0.0, numpy.inf, error)


def shrunk(cells: Cells, limit: int) -> Cells:
    """Return the cells, at most ``limit`` of them: neighbours merged, the largest kept.

    Columns are merged first, so that rows and heads stay apart as long as they can.
    """
    lines, columns = cells.units.shape
    across = max(1, math.ceil(columns / max(1, limit // max(1, lines))))
    left = math.ceil(columns / across)
    down = max(1, math.ceil(lines / max(1, limit // max(1, left))))
    if (down, across) == (1, 1):
        return cells
    units = numpy.maximum.reduceat(cells.units, range(0, lines, down), axis=0)
    units = numpy.maximum.reduceat(units, range(0, columns, across), axis=1)
    return cells._replace(units=units, merged=(down, across))


def written(units: numpy.ndarray, multiplier: float) -> str:
    """One character for each cell: its level, of which there are 8 in a decade.

    The levels are counted from the multiplier, so that a cell beyond it never looks like one
    within it: in ``ALPHABET`` the first is less than 1e-4 multipliers, the last 1e7 and more.

    >>> multiplier = 2.0
    >>> [ALPHABET.index(c) for c in written(numpy.asarray([0.0, 1.99, 2.01, 2e9]), multiplier)]
    [0, 32, 33, 89]
    """
    with numpy.errstate(divide="ignore"):
        levels = numpy.log10(units.reshape(-1) / multiplier) + DECADES_BELOW
    levels = numpy.where(levels < 0.0, 0.0, 1.0 + numpy.floor(PER_DECADE * levels))
    return "".join(ALPHABET[i] for i in numpy.minimum(levels, TOP).astype(int).tolist())


def written_counts(counts: numpy.ndarray) -> str:
    """One character for each count: 3 levels from one power of 2 to the next.

    >>> [ALPHABET.index(c) for c in written_counts(numpy.asarray([0, 1, 3, 2**20 - 1]))]
    [0, 3, 6, 60]
    """
    levels = numpy.minimum(numpy.ceil(3.0 * numpy.log2(counts + 1.0)), len(ALPHABET) - 1)
    return "".join(ALPHABET[i] for i in levels.astype(int).tolist())


def worst_cells(cells: Cells) -> list[tuple[int, int, float]]:
    """The line, the column and the error of the worst cells, the worst first; of none without."""
    flat = cells.units.reshape(-1)
    order = numpy.argsort(-flat, kind="stable")[:LIMIT_OF_LIST]
    columns = cells.units.shape[1]
    found = [(int(i) // columns, int(i) % columns, float(flat[i])) for i in order]
    return [cell for cell in found if cell[2] != 0.0]


def _errors(given: numpy.ndarray, truth: numpy.ndarray, width: int) -> Iterator[numpy.ndarray]:
    """|given - truth| in float64, cell by cell, some thousand cells at a time."""
    actual, expected = given.reshape(-1, width), truth.reshape(-1, width)
    lines = max(1, BLOCK // width)
    for start in range(0, len(expected), lines):
        some = slice(start, start + lines)
        yield numpy.abs(differences(actual[some], expected[some]))


def _counted(units: numpy.ndarray) -> numpy.ndarray:
    with numpy.errstate(over="ignore", divide="ignore"):
        decades = numpy.log10(units.astype(numpy.float32))  # of a bin that is precise enough
    bins = numpy.floor(BINS_PER_DECADE * (decades + BIN_DECADES))
    return numpy.bincount(numpy.clip(bins, 0, BINS - 1).astype(int), minlength=BINS)


def _arranged(name: str, units: numpy.ndarray, heads: int) -> Cells:
    """Lay the cells out: the batch (and heads) down, the positions across."""
    if units.ndim == 0:
        return Cells(units.reshape(1, 1), "", 1, "")
    if units.ndim == 1:
        return Cells(units.reshape(1, -1), "", 1, "row")
    words = name.split(".")
    of_heads = heads > 1 or words[-1] in OF_KEYS or words[0] in OUTPUTS_OF_HEADS
    positions = 1 if heads > 1 or not of_heads else units.ndim - 1
    lines = numpy.moveaxis(units, positions, -1)
    parts = math.prod(lines.shape[1:-1])
    part = "" if parts == 1 and not of_heads else "head" if of_heads else "part"
    return Cells(lines.reshape(-1, lines.shape[-1]), part, parts, "position")
