"""The cells and histograms that the report draws: what they count, and what is lost on the way."""

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from refimpl.parity.comparison.report import cells
from refimpl.parity.comparison.report.data import share
from refimpl.parity.comparison.report.layout import AFTER, BEFORE, LAYERS, OUTPUTS, maps
from refimpl.parity.comparison.verdict import Verdict
from refimpl.parity.floors import Floor, measure_errors

LIMIT = 4.0
ERRORS = st.floats(0.0, 1e12) | st.just(math.inf)


ONE = Floor(1.0, 1.0, 1.0)


def look(error, floor=ONE, name="x", heads=1):
    """What is drawn where the truth is 0."""
    return cells.look_at(name, error, numpy.zeros_like(error), floor, LIMIT, heads)


@pytest.mark.parametrize(
    ("name", "shape", "lines", "columns", "part", "along"),
    [
        ("embeddings.LayerNorm", (2, 5, 12), 2, 5, "", "position"),
        ("encoder.layer.0.attention.self.scores", (2, 3, 5, 7), 6, 5, "head", "position"),
        ("past_key_values.0.1", (2, 3, 5, 4), 6, 5, "head", "position"),
        ("attentions.0", (2, 3, 5, 5), 6, 5, "head", "position"),
        ("qa_outputs.end_logits.dense_0", (2, 5, 3, 9), 6, 5, "part", "position"),
        ("pooler", (2, 12), 1, 2, "", "row"),
        ("labels", (4,), 1, 1, "", ""),
        ("loss", (), 1, 1, "", ""),
    ],
)
def test_a_cell_lies_where_its_row_and_position_are(name, shape, lines, columns, part, along):
    seen = look(numpy.zeros(shape), name=name).cells
    assert seen.units.shape == (lines, columns)
    assert (seen.part, seen.along) == (part, along)


def test_the_error_of_one_head_is_in_one_line():
    error = numpy.zeros((2, 3, 5, 7))
    error[1, 2, 4] = 8.0
    seen = look(error, name="scores").cells
    assert numpy.argwhere(seen.units).tolist() == [[1 * 3 + 2, 4]]
    assert cells.worst_cells(seen) == [(5, 4, 8.0)]


def test_heads_that_stand_side_by_side_are_taken_apart():
    error = numpy.zeros((2, 5, 12))
    error[1, 4, 6:9] = 6.0  # the third head of 4
    seen = look(error, Floor(1.0, 1.0, 9.0), heads=4).cells
    assert numpy.argwhere(seen.units).tolist() == [[1 * 4 + 2, 4]]
    assert seen.units[6, 4] == 6.0 / math.sqrt(4.0)


@given(arrays(float, array_shapes(min_dims=2, max_dims=4, max_side=5), elements=ERRORS))
def test_no_cell_is_beyond_where_the_value_is_not(error):
    floor = measure_errors(error, numpy.zeros_like(error))  # all errors are just honest
    for heads in {1, error.shape[-1] if error.ndim == 3 else 1}:
        units = look(error, floor, heads=heads).cells.units
        assert (units.astype(numpy.float32) <= 1.0).all()
    assert look(error, floor).histogram.beyond_floor == 0


@given(arrays(float, array_shapes(max_dims=4, max_side=5), elements=ERRORS))
def test_every_element_is_counted_once(error):
    spread = look(error).histogram
    assert spread.counts.sum() + spread.exact == spread.size == error.size
    assert spread.beyond_floor == (error > 1.0).sum()
    assert spread.beyond_limit == (error > LIMIT).sum()


def test_large_values_are_looked_at_block_by_block(monkeypatch):
    error = numpy.arange(60.0).reshape(2, 5, 6)
    at_once = look(error)
    monkeypatch.setattr(cells, "BLOCK", 13)
    in_blocks = look(error)
    numpy.testing.assert_array_equal(in_blocks.cells.units, at_once.cells.units)
    numpy.testing.assert_array_equal(in_blocks.histogram.counts, at_once.histogram.counts)


def test_not_finite_on_one_side_is_infinitely_wrong():
    truth, given = numpy.asarray([[1.0, math.inf]]), numpy.asarray([[math.nan, math.inf]])
    seen = cells.look_at("x", given, truth, ONE, LIMIT, 1)
    assert seen.cells.units.tolist() == [[math.inf]]
    assert seen.histogram.exact == 1


@given(arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=ERRORS), st.data())
def test_a_merged_cell_is_the_largest_of_its_neighbours(units, data):
    limit = data.draw(st.integers(1, 100))
    small = cells.shrunk(cells.Cells(units, "", 1, "position"), limit)
    down, across = small.merged
    assert small.size <= max(limit, 1)
    for y, line in enumerate(small.units):
        for x, value in enumerate(line):
            square = units[y * down : (y + 1) * down, x * across : (x + 1) * across]
            assert value == square.max()


@settings(max_examples=200)
@given(st.lists(ERRORS, min_size=1, max_size=20))
def test_a_letter_tells_the_error_within_a_third_and_the_limit_exactly(errors):
    letters = cells.written(numpy.asarray(errors), LIMIT)
    for error, letter in zip(errors, letters, strict=True):
        level = cells.ALPHABET.index(letter)
        assert (level > cells.PER_DECADE * cells.DECADES_BELOW) == (error >= LIMIT)
        if 0 < level < cells.TOP:
            middle = LIMIT * 10 ** ((level - 0.5) / cells.PER_DECADE - cells.DECADES_BELOW)
            assert 0.85 < middle / error < 1.17


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(0, 5000))
def test_room_is_shared_and_never_overdrawn(wanted, room):
    given = share(wanted, room)
    assert sum(given) <= room
    assert all(got <= want for got, want in zip(given, wanted, strict=True))
    if sum(wanted) <= room:
        assert given == wanted


def test_the_maps_follow_the_computation():
    names = ["embeddings.word_embeddings", "layer.0.a.b", "layer.0.a.c", "layer.1.a.b", "head.x"]
    verdicts = [Verdict(name, "tap", "OK") for name in names]
    verdicts += [Verdict(name, "output", "OK") for name in ("logits", "hidden_states.0")]
    drawn = {m.title: m for m in maps(verdicts)}
    assert list(drawn) == [BEFORE, LAYERS, AFTER, OUTPUTS]
    layers = drawn[LAYERS]
    assert (layers.prefix, layers.rows, layers.columns) == ("layer.*.a.", ("b", "c"), (0, 1))
    assert layers.at == {("b", 0): 1, ("c", 0): 2, ("b", 1): 3}
    assert drawn[OUTPUTS].columns == (None, 0)
