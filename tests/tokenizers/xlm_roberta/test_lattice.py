"""The lattice explained: by hand, against all ways, as text and as a figure."""

import doctest
import io
import math
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.errors import MissingExtra
from refimpl.tokenizers.xlm_roberta import lattice as lattice_figure
from refimpl.tokenizers.xlm_roberta.lattice import Node, blocks, explain_lattice
from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine
from tests.oracle.corpus import interesting_text, nasty
from tests.tokenizers.xlm_roberta.toy_models import TOY, make_model

ENGINE = ExplicitEngine(TOY)
FISH = ExplicitEngine(
    make_model({"▁": -2, "f": -3, "i": -3, "s": -3, "h": -3, "fi": -4, "▁fi": -6.5, "sh": -4})
)


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(lattice_figure)
    assert (failed, tried > 4) == (0, True)


# by hand


def test_what_is_explained():
    explained = explain_lattice(FISH, " fix")
    assert (explained.text, explained.normalised) == (" fix", "▁fix")
    assert explained.nodes == [
        Node("▁", 0, 1, -2.0, True),
        Node("▁fi", 0, 3, -6.5, True),
        Node("f", 1, 2, -3.0, True),
        Node("fi", 1, 3, -4.0, True),
        Node("i", 2, 3, -3.0, True),
        Node("x", 3, 4, -16.5, False),
    ]
    assert [node.piece for node in explained.best] == ["▁", "fi", "x"]
    assert [node.piece for node in explained.runner_up] == ["▁fi", "x"]
    assert explained.steps == [0.0, -2.0, -5.0, -6.0, -22.5]
    assert (explained.ways, explained.score, explained.difference) == (3, -22.5, 0.5)


def test_neighbours_that_are_unknown_are_one():
    explained = explain_lattice(FISH, "xyz")
    assert explained.best == [Node("▁", 0, 1, -2.0, True), Node("xyz", 1, 4, -49.5, False)]
    assert (explained.runner_up, explained.difference, explained.ways) == ([], math.inf, 1)


def test_nothing_to_explain():
    explained = explain_lattice(FISH, "  ")
    assert explained[1:] == ("", [], [], [], [0.0], 1)
    assert str(explained).splitlines()[1:3] == [
        "prepared",
        "0 characters, 0 candidates, 1 way",
    ]


@pytest.mark.parametrize("made_of", [TOY, str(TOY), ENGINE.model, ENGINE])
def test_made_of_a_path_a_model_or_an_engine(made_of):
    assert explain_lattice(made_of, "the lamp") == explain_lattice(ENGINE, "the lamp")


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match="got a lone surrogate"):
        explain_lattice(ENGINE, "\ud800")


# against all ways


def all_ways(explained, start=0):
    """Give every way from a position to the end, as (score, nodes)."""
    if start == len(explained.normalised):
        yield 0.0, []
    for node in explained.nodes:
        if node.start == start:
            for rest, nodes in all_ways(explained, node.end):
                yield node.score + rest, [node, *nodes]


@given(st.text("fish x", max_size=9))
def test_the_best_two_of_all(text):
    explained = explain_lattice(FISH, text)
    scores = sorted((score for score, _ in all_ways(explained)), reverse=True)
    assert explained.ways == len(scores)
    assert explained.score == scores[0]
    assert explained.difference == (scores[0] - scores[1] if scores[1:] else math.inf)


@given(interesting_text())
def test_the_explanation_holds(text):
    explained = explain_lattice(ENGINE, text)
    assert [node.piece for node in explained.best] == ENGINE.tokenize(text)
    for way in (explained.best, explained.runner_up):
        assert all(one.end == two.start for one, two in pairwise(way))
        assert "".join(node.piece for node in way) == (explained.normalised if way else "")
    assert len(explained.steps) == len(explained.normalised) + 1
    assert all(explained.normalised[n.start : n.end] == n.piece for n in explained.nodes)
    assert explained.runner_up != explained.best or not explained.best


# as text

DRAWN = """\
text      fish, ﬁsh
prepared  ▁fish,▁ﬁsh
10 characters, 14 candidates, 12 ways

   ▁ f i s h , ▁ ﬁ s h    score  so far
 * ▁                      -2.00   -2.00
   ▁ f i                  -6.50
     f                    -3.00
 *   f i                  -4.00   -6.00
       i                  -3.00
         s                -3.00
 *       s h              -4.00  -10.00
           h              -3.00
 *           ,           -16.50  -26.50  unknown
 *             ▁          -2.00  -28.50
 *               ﬁ       -16.50  -45.00  unknown
                   s      -3.00
 *                 s h    -4.00  -49.00
                     h    -3.00

best         -49.00  ▁ fi sh , ▁ ﬁ sh
runner-up    -49.50  ▁fi sh , ▁ ﬁ sh
behind by      0.50  1.6 times less probable"""


def test_the_drawing():
    assert str(explain_lattice(FISH, "fish, ﬁsh")) == DRAWN


def test_characters_keep_to_their_columns():
    lines = str(explain_lattice(FISH, "字f\u0301x")).splitlines()[4:9]
    columns = [line.partition("score")[0].partition("-")[0].rstrip() for line in lines]
    assert columns == ["   ▁ 字 f ◌\u0301 x", " * ▁", " *   字", " *      f", " *        ◌\u0301"]


@pytest.mark.parametrize("text", ["the lamp is lit " * 9, "Q🙂Z" * 30, "字" * 70])
def test_a_long_text_is_drawn_in_blocks(text):
    explained = explain_lattice(ENGINE, text)
    found = list(blocks(explained))
    assert len(found) > 1
    assert found[0][0] == 0
    assert found[-1][1] == len(explained.normalised)
    assert all(one[1] == two[0] for one, two in pairwise(found))
    assert all(len(line) < 100 for line in str(explained).splitlines()[4:-4])
    rows = [line for line in str(explained).splitlines() if line.startswith((" * ", "   "))]
    assert len(rows) == len(explained.nodes) + len(found)


@pytest.mark.parametrize("text", ["fish" * 20, "f" + "fish" * 20])
def test_no_candidate_is_cut_in_two(text):
    explained = explain_lattice(FISH, text)
    cuts = {start for start, _ in blocks(explained)}
    assert len(cuts) > 2
    assert not any(cuts & {*range(node.start + 1, node.end)} for node in explained.nodes)


def test_every_nasty_text_can_be_drawn():
    for text in nasty():
        lines = str(explain_lattice(ENGINE, text)).split("\n")
        assert all(line.isprintable() for line in lines), ascii(text)


# as a figure


@pytest.fixture
def figure_of():
    pytest.importorskip("matplotlib")
    return lambda text, dark=False: explain_lattice(ENGINE, text).figure(dark=dark)


def drawn(figure):
    """Return the arcs and the texts of a figure."""
    from matplotlib.patches import Arc

    axes = figure.axes[0]
    return [patch for patch in axes.patches if isinstance(patch, Arc)], axes.texts


@pytest.mark.parametrize("dark", [False, True])
def test_an_arc_for_each_candidate(figure_of, dark):
    from matplotlib.colors import to_hex

    explained = explain_lattice(ENGINE, "the lamp Q")
    arcs, texts = drawn(figure_of("the lamp Q", dark))
    assert len(arcs) == len(explained.nodes)
    look = lattice_figure.DARK if dark else lattice_figure.LIGHT
    taken = [arc for arc in arcs if to_hex(arc.get_edgecolor()) == look.best]
    assert sorted(round(arc.center[0] - arc.width / 2) for arc in taken) == [
        node.start for node in explained.best
    ]
    dashed = [arc for arc in arcs if arc.get_linestyle() not in ("-", "solid")]
    assert len(dashed) == 1  # the Q
    written = [text.get_text() for text in texts]
    assert written.count(f"best  {explained.score:.2f}") == 1
    assert "".join(text for text in written if len(text) == 1) == explained.normalised


@pytest.mark.parametrize(
    "text",
    ["", "$x^2$ _a_", "नमस्ते", "مرحبا", "東京へ🙂", "\u0301\x85\ufffd", "ไทย ខ្មែរ", "a" * 47],
)
def test_every_script_is_drawn_without_a_warning(figure_of, text):
    for dark in (False, True):
        image = io.BytesIO()
        figure_of(text, dark).savefig(image, format="png", dpi=40)
        assert image.getvalue().startswith(b"\x89PNG")


def test_fonts_have_the_characters_that_they_are_taken_for():
    pytest.importorskip("matplotlib")
    found = lattice_figure.fonts("aя\U0001f642\U0010ffff")
    assert (found["a"], found["я"]) == ("DejaVu Sans", "DejaVu Sans")
    assert found["\U0010ffff"] is None  # in no font; matplotlib's "Last Resort" has a box for it


def test_a_long_text_has_no_figure(figure_of):
    with pytest.raises(ValueError, match="text: expected at most 48 characters, got 49"):
        figure_of("a" * 48)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"matplotlib is not installed: pip .*notebooks"):
        explain_lattice(ENGINE, "the lamp").figure()
