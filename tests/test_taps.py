"""Taps give back what they are given, and remember it only while somebody listens."""

from contextlib import suppress

import numpy
import pytest

from refimpl import record
from refimpl.taps import edit, tap


def test_a_tap_returns_its_array_itself():
    x = numpy.zeros(3)
    assert tap("x", x) is x
    with record():
        assert tap("x", x) is x


def test_taps_are_recorded_in_order_without_a_copy():
    x, y = numpy.zeros(3), numpy.ones(2)
    with record() as taps:
        tap("layer.1", x)
        tap("layer.0", y)
    assert list(taps) == ["layer.1", "layer.0"]
    assert taps["layer.1"] is x
    assert taps["layer.0"] is y


def test_nothing_is_recorded_outside():
    with record() as taps:
        pass
    tap("x", numpy.zeros(3))
    assert taps == {}


def test_nothing_is_recorded_after_an_error():
    with suppress(RuntimeError), record() as taps:
        tap("before", numpy.zeros(3))
        raise RuntimeError
    tap("after", numpy.zeros(3))
    assert list(taps) == ["before"]


def test_the_innermost_recorder_listens():
    x = numpy.zeros(3)
    with record() as outer:
        tap("a", x)
        with record() as inner:
            tap("a", x)  # no clash: it is another recording
            tap("b", x)
        tap("c", x)
    assert list(outer) == ["a", "c"]
    assert list(inner) == ["a", "b"]


def test_a_name_that_comes_twice_is_an_error():
    with record() as taps:
        tap("x", numpy.zeros(3))
        with pytest.raises(ValueError, match="tap 'x' is already recorded"):
            tap("x", numpy.ones(3))
    assert taps["x"].sum() == 0


def test_an_editor_puts_something_else_in_the_place_of_a_tap():
    x, y = numpy.zeros(3), numpy.ones(3)
    with edit(lambda name, value: y if name == "a" else value), record() as taps:
        assert tap("a", x) is y
        assert tap("b", x) is x
    assert taps["a"] is x  # what was computed, not what went on
    assert tap("a", x) is x


def test_the_innermost_editor_edits():
    with edit(lambda name, x: x + 1), edit(lambda name, x: x + 10):
        assert tap("a", 0) == 10


def test_nothing_is_edited_after_an_error():
    with suppress(RuntimeError), edit(lambda name, x: x + 1):
        raise RuntimeError
    assert tap("a", 0) == 0
