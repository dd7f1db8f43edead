"""The lattice of a text made visible: every piece that fits, the best way through, the next best.

    explanation = explain_lattice(engine, "The lamp")
    print(explanation)                 each candidate under the characters that it covers
    explanation.figure(dark=True)      the same as arcs over the characters

unigram.py tells what a lattice is, and how the best way through it is found.
"""

from __future__ import annotations

import heapq
import math
import os
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from refimpl.errors import MissingExtra
from refimpl.tokenizers.xlm_roberta.model_file import UNK_PLACE, SentencePieceModel
from refimpl.tokenizers.xlm_roberta.unigram import (
    Edge,
    ExplicitEngine,
    best_path,
    best_ways,
    join_unknown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDEST_BLOCK = 64  # columns of the drawing; it goes on below
LONGEST_FIGURE = 48  # characters; the arcs of a longer text cannot be told apart


class Node(NamedTuple):
    """A candidate: its text, where it begins and ends in the prepared text, its score."""

    piece: str
    start: int
    end: int
    score: float
    known: bool  # False where no piece fits


class LatticeExplanation(NamedTuple):
    """What there was to choose from, and what was chosen."""

    text: str
    normalised: str
    nodes: list[Node]  # by beginning and end; of what is unknown, character by character
    best: list[Node]  # the way taken; neighbours that are unknown are one
    runner_up: list[Node]  # the most probable other way; empty where there is none
    steps: list[float]  # the score of the best way to each position
    ways: int  # how many there are from the beginning to the end

    @property
    def score(self) -> float:
        """The score of the way taken: the natural logarithm of its probability."""
        return total(self.best)

    @property
    def difference(self) -> float:
        """How much lower the runner-up's score is; infinity where there is none."""
        return self.score - total(self.runner_up) if self.runner_up else math.inf

    def __str__(self) -> str:
        lines = [*heading(self), "", *drawing(self), *totals(self)]
        return "\n".join(line.rstrip() for line in lines)

    def figure(self, dark: bool = False) -> Figure:
        """Draw the lattice with matplotlib; ``dark`` is for a dark page.

        The characters stand from left to right as they are read, in every script, and each alone:
        an Arabic word is not joined. One for which no font is installed is its number, in
        hexadecimal.

        Raises ``MissingExtra`` where matplotlib is not installed, and ``ValueError`` for a text
        of more than 48 characters, whose arcs could not be told apart.
        """
        return draw(self, DARK if dark else LIGHT)


def explain_lattice(
    engine: ExplicitEngine | SentencePieceModel | str | os.PathLike[str], text: str
) -> LatticeExplanation:
    """Say how a text is cut into pieces: all candidates, the best way, the next best.

    ``engine`` is an explicit one, or what one is made of: a model, or the path of one.
    Raises ``ValueError`` for a lone surrogate in the text.
    """
    if not isinstance(engine, ExplicitEngine):
        engine = ExplicitEngine(engine)
    normalised = engine.normaliser(text).text
    lattice = best_ways(engine.vocabulary, normalised)
    edges = [
        Edge(start, *found)
        for start in range(len(normalised))
        for found in engine.vocabulary.edges(normalised, start)
    ]
    taken = best_path(lattice)
    others = [way for way in two_best(edges, len(normalised)) if way != taken]
    return LatticeExplanation(
        text=text,
        normalised=normalised,
        nodes=as_nodes(normalised, sorted(edges)),
        best=as_nodes(normalised, join_unknown(taken)),
        runner_up=as_nodes(normalised, join_unknown(others[0])) if others else [],
        steps=list(lattice.scores),
        ways=count_ways(edges, len(normalised)),
    )


def as_nodes(text: str, edges: list[Edge]) -> list[Node]:
    """Return edges with the text that they cover."""
    return [
        Node(text[start:end], start, end, score, place != UNK_PLACE)
        for start, end, place, score in edges
    ]


def total(way: list[Node]) -> float:
    """Return the score of a way: the sum of its pieces'."""
    return math.fsum(node.score for node in way)


def two_best(edges: list[Edge], end: int) -> list[list[Edge]]:
    """Return the most probable way to a position and the next one, where there is one.

    The edges come in the order of their beginnings. A way is its score, its last edge, and the
    way before that.
    """
    ways: list[list[Any]] = [[] for _ in range(end + 1)]
    ways[0] = [(0.0, None, None)]
    for edge in edges:
        new = [(way[0] + edge.score, edge, way) for way in ways[edge.start]]
        ways[edge.end] = heapq.nlargest(2, ways[edge.end] + new, key=lambda way: way[0])
    return [unrolled(way) for way in ways[end]]


def unrolled(way: Any) -> list[Edge]:
    """Return the edges of a way, from the beginning."""
    edges = []
    while way[1] is not None:
        _, edge, way = way
        edges.append(edge)
    return edges[::-1]


def count_ways(edges: list[Edge], end: int) -> int:
    """Return how many ways lead to a position; the edges come in the order of their beginnings."""
    ways = [1] + [0] * end
    for edge in edges:
        ways[edge.end] += ways[edge.start]
    return ways[end]


def covered(way: list[Node]) -> set[tuple[int, int]]:
    """Return where the candidates of a way begin and end; what is unknown, by character."""
    found = {(node.start, node.end) for node in way if node.known}
    unknown = [i for node in way if not node.known for i in range(node.start, node.end)]
    return found | {(i, i + 1) for i in unknown}


# the drawing in characters


def heading(explained: LatticeExplanation) -> list[str]:
    """Say what was cut, and among how much was chosen."""
    counts = (
        f"{len(explained.normalised)} characters, {len(explained.nodes)} candidates, "
        f"{number(explained.ways)} {'way' if explained.ways == 1 else 'ways'}"
    )
    return [
        f"text      {visible(explained.text)}",
        f"prepared  {visible(explained.normalised)}",
        counts,
    ]


def drawing(explained: LatticeExplanation) -> Iterator[str]:
    """Give the lines that draw all candidates, in blocks that no piece reaches out of."""
    taken = covered(explained.best)
    left = list(reversed(explained.nodes))
    for start, end in blocks(explained):
        cells = [cell(char) for char in explained.normalised[start:end]]
        yield f"   {row(cells, 0, len(cells))}   score  so far"
        while left and left[-1].start < end:
            node = left.pop()
            on = (node.start, node.end) in taken
            so_far = f"{explained.steps[node.end]:8.2f}" if on else ""
            note = "" if node.known else "  unknown"
            text = row(cells, node.start - start, node.end - start)
            yield f" {'*' if on else ' '} {text}{node.score:8.2f}{so_far}{note}"
        yield ""


def totals(explained: LatticeExplanation) -> Iterator[str]:
    """Give the lines that name the way taken and the next best."""
    yield f"best      {explained.score:9.2f}  {pieces(explained.best)}"
    if explained.runner_up:
        yield f"runner-up {total(explained.runner_up):9.2f}  {pieces(explained.runner_up)}"
        yield f"behind by {explained.difference:9.2f}  {odds(explained.difference)}"


def odds(difference: float) -> str:
    """Say what a difference of two scores means.

    >>> odds(2.5), odds(0.0)
    ('12 times less probable', 'as probable')
    """
    if difference > 20:
        return f"about 10^{difference / math.log(10):.0f} times less probable"
    times = math.exp(difference)
    if times < 1.05:
        return "as probable"
    return f"{times:,.{0 if times > 10 else 1}f} times less probable"


def pieces(way: list[Node]) -> str:
    """Return the pieces of a way, with spaces in between."""
    return " ".join(visible(node.piece) for node in way)


def blocks(explained: LatticeExplanation) -> Iterator[tuple[int, int]]:
    """Give the stretches to draw together: as wide as fits, cut where no candidate is cut."""
    crossed = {i for node in explained.nodes for i in range(node.start + 1, node.end)}
    start = end = width = 0
    for at in range(1, len(explained.normalised) + 1):
        if at in crossed:
            continue
        new = sum(cell(char)[1] + 1 for char in explained.normalised[end:at])
        if end > start and width + new > WIDEST_BLOCK:
            yield start, end
            start, width = end, 0
        end, width = at, width + new
    if end > start:
        yield start, end


def row(cells: list[tuple[str, int]], start: int, end: int) -> str:
    """Return a line of cells of which only some are written.

    >>> row([("a", 1), ("字", 2), ("b", 1)], 1, 2)
    '  字   '
    """
    return "".join(
        (text if start <= i < end else " " * width) + " " for i, (text, width) in enumerate(cells)
    )


def cell(char: str) -> tuple[str, int]:
    r"""Return how a character is shown on its own, and how many columns that takes.

    >>> cell("a"), cell("字"), cell("\u0301"), cell("\x85")
    (('a', 1), ('字', 2), ('◌́', 1), ('85', 2))
    """
    category = unicodedata.category(char)
    if category in ("Mn", "Me", "Mc"):  # a mark needs something to stand on
        return f"◌{char}", 2 if category == "Mc" else 1
    if category[0] in "CZ":  # nothing to see
        return f"{ord(char):x}", len(f"{ord(char):x}")
    return char, 2 if unicodedata.east_asian_width(char) in "WF" else 1


def visible(text: str) -> str:
    r"""Return a text on one line: controls and separators but the space as escapes.

    >>> print(visible("a b\n"))
    a b\n
    """
    hidden = {char for char in text if unicodedata.category(char)[0] in "CZ" and char != " "}
    return "".join(ascii(char)[1:-1] if char in hidden else char for char in text)


def number(n: int) -> str:
    """Return a number, as a power of ten where it is too large to be read.

    >>> number(1234), number(12 ** 30)
    ('1,234', 'about 10^32')
    """
    return f"{n:,}" if n < 10**9 else f"about 10^{math.log10(n):.0f}"


# the drawing in arcs


class Look(NamedTuple):
    """The colours of a drawing. Blue and orange are told apart by everyone."""

    paper: str
    ink: str  # characters
    arc: str  # candidates
    score: str  # and their scores
    best: str
    runner_up: str


LIGHT = Look("#ffffff", "#1b1f24", "#c9ced6", "#5b6470", "#0b62c4", "#c8590a")
DARK = Look("#14171c", "#e8eaed", "#454d58", "#a2abb6", "#6cb2ff", "#ffa657")
CELL = 0.5  # inches for a character
FONT = "DejaVu Sans"  # the one that comes with matplotlib
NARROWEST = 10  # characters, of a short text's figure
ROWS = (-1.55, -2.6)  # where the two best ways are


def draw(explained: LatticeExplanation, look: Look) -> Figure:
    """Draw an arc for each candidate over its characters, and the two best ways below them.

    Raises ``ValueError`` for a text too long to draw, ``MissingExtra`` without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "notebooks") from None
    n = len(explained.normalised)
    if n > LONGEST_FIGURE:
        raise ValueError(f"text: expected at most {LONGEST_FIGURE} characters, got {n}")
    top = max((height(node) for node in explained.nodes), default=1.0) + 0.5
    bottom, width = ROWS[-1] - 1.0, max(n, NARROWEST) + 1.2
    figure = Figure(figsize=(CELL * width, CELL * (top - bottom)), facecolor=look.paper)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(-0.6, width - 0.6), ylim=(bottom, top))
    axes.axis("off")
    draw_arcs(axes, explained, look)
    families = fonts(explained.normalised)
    for i, char in enumerate(explained.normalised):
        shown, size = (cell(char)[0], 15) if families[char] else (f"{ord(char):x}", 7)
        write(axes, i + 0.5, -0.5, shown, look.ink, size, family=families[char] or FONT)
    draw_way(axes, explained.best, ROWS[0], look.best, "best")
    draw_way(axes, explained.runner_up, ROWS[1], look.runner_up, "runner-up")
    return figure


def height(node: Node) -> float:
    """Return how high an arc is, in characters: the longer the higher, but ever less so."""
    return 0.75 * math.pow(node.end - node.start, 0.8)


def draw_arcs(axes: Axes, explained: LatticeExplanation, look: Look) -> None:
    """Draw half an ellipse for each candidate with its score on top, those taken last."""
    from matplotlib.patches import Arc

    taken, second = covered(explained.best), covered(explained.runner_up)
    for node in explained.nodes:
        start, end = where = node.start, node.end
        if where in taken:
            layer, arc, score, width = 4, look.best, look.best, 2.6
        elif where in second:
            layer, arc, score, width = 3, look.runner_up, look.runner_up, 1.8
        else:
            layer, arc, score, width = 2, look.arc, look.score, 1.2
        style = "-" if node.known else (0, (2, 2))
        middle, high = (start + end) / 2, height(node)
        axes.add_patch(
            Arc(
                (middle, 0.0),
                end - start - 0.12,
                2 * high,
                theta2=180.0,
                color=arc,
                linewidth=width,
                linestyle=style,
                zorder=layer,
            )
        )
        write(axes, middle, high + 0.16, f"{node.score:.1f}", score, 7, paper=look.paper)


def draw_way(axes: Axes, way: list[Node], y: float, color: str, name: str) -> None:
    """Draw a way as a row of bars, one for each piece, with the score of each and of all."""
    for node in way:
        axes.plot([node.start + 0.12, node.end - 0.12], [y, y], color=color, linewidth=5)
        write(axes, (node.start + node.end) / 2, y - 0.38, f"{node.score:.1f}", color, 8)
    if way:
        write(axes, 0.06, y + 0.32, f"{name}  {total(way):.2f}", color, 9, ha="left")


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    color: str,
    size: float,
    paper: str | None = None,
    **how: Any,
) -> None:
    """Write a text, with a rim of paper where it lies over lines."""
    from matplotlib.patheffects import withStroke

    placed: dict[str, Any] = {"ha": "center", "va": "center", "family": FONT, **how}
    written = axes.text(x, y, text, color=color, fontsize=size, **placed)
    if paper is not None:
        written.set(zorder=5, path_effects=[withStroke(linewidth=3, foreground=paper)])


def fonts(text: str) -> dict[str, str | None]:
    """Return the name of an installed font for each character, None where none has it.

    matplotlib's own font has most alphabets. Only for what it lacks are others opened.
    """
    from matplotlib.font_manager import fontManager, get_font

    found: dict[str, str | None] = dict.fromkeys(text)
    files = {entry.fname: entry.name for entry in fontManager.ttflist}
    for file, name in sorted(files.items(), key=lambda item: (item[1] != FONT, item)):
        missing = [char for char in found if found[char] is None]
        if not missing:
            break
        if "Last Resort" in name or "Emoji" in name:  # boxes; colours, which it cannot draw
            continue
        known = get_font(file).get_charmap()
        found |= {char: name for char in missing if ord(char) in known}
    return found
