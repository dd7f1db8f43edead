"""Where in a value it is off: each thing that can be said, and nothing without evidence."""

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.parity.comparison.axes import Axes, Call, call_of, padded_elements, padding
from refimpl.parity.comparison.where import excess, where
from refimpl.parity.goldens import read_golden
from tests.conftest import case_folder

HIDDEN = ("row", "position", "feature")
SQUARE = ("row", "head", "position", "key")
PADDED = numpy.asarray([[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0, 0]], bool)
SHAPE = (3, 7, 12)


def noise(shape=SHAPE):
    """What an honest run is off by, at most 1."""
    return numpy.random.default_rng(3).uniform(0.1, 1.0, shape)


def off(*index, shape=SHAPE, by=1e4):
    error = noise(shape)
    error[index] *= by
    return error


ALL = slice(None)


@pytest.mark.parametrize(
    ("error", "axes", "said"),
    [
        (off(ALL), Axes(HIDDEN), "everywhere"),
        (off(2), Axes(HIDDEN), "row 2 only"),
        (off(ALL, 0), Axes(HIDDEN), "position 0 only"),
        (off(1, 3), Axes(HIDDEN), "row 1, position 3 only"),
        (off(ALL, ALL, 7), Axes(HIDDEN), "feature 7 only"),
        (off(ALL, ALL, [2, 7, 11]), Axes(HIDDEN), "features 2, 7, 11 only"),
        (off(ALL, ALL, [2, 5, 7, 11]), Axes(HIDDEN), "everywhere"),
        (off(0, 4, 9), Axes(HIDDEN), "one element only, [0, 4, 9]"),
        (off(ALL, ALL, slice(4, 8)), Axes(HIDDEN, heads=3), "head 1 only"),
        (off(ALL, 1, shape=(3, 2, 7, 7)), Axes(SQUARE), "head 1 only"),
        (off(ALL, ALL, ALL, 0, shape=(3, 2, 7, 7)), Axes(SQUARE), "key 0 only"),
        (off(PADDED), Axes(HIDDEN, padded=PADDED), "padded positions only"),
        (off(PADDED.any(axis=1)), Axes(HIDDEN, padded=PADDED), "rows with padding only"),
        (
            off([0, 1, 2], [0, 0, 2]),
            Axes(HIDDEN, padded=PADDED),
            "the first token of each row only",
        ),
        (off([0, 1, 2], [6, 3, 6]), Axes(HIDDEN, padded=PADDED), "the last token of each row only"),
        (off(ALL, slice(3, None)), Axes(HIDDEN), "from position 3 on"),
        (off([0, 2], [1, 5]), Axes(HIDDEN), "in 2 of 21 places"),
        (noise(), Axes(HIDDEN), "everywhere"),
        (numpy.zeros(SHAPE), Axes(HIDDEN), ""),
        (numpy.asarray(3.0), Axes(()), ""),
    ],
)
def test_what_is_off_is_said(error, axes, said):
    assert where(error, 1.0, axes) == said


def test_padded_keys_are_told_from_padded_queries():
    error = noise((3, 2, 7, 7))
    error *= numpy.where(PADDED[:, None, None, :], 1e4, 1.0)
    assert where(error, 1.0, Axes(SQUARE, padded=PADDED)) == "padded keys only"


def test_what_grows_along_the_sequence():
    steps = 10.0 ** numpy.linspace(1, 3, 7)[:, None]
    assert where(noise() * steps, 1.0, Axes(HIDDEN)) == "grows along the sequence"
    assert where(noise() * steps[::-1], 1.0, Axes(HIDDEN)) == "everywhere"


@pytest.mark.parametrize(
    ("languages", "error", "said"),
    [
        ([4, 4, 5], off([0, 1]), "language en only"),
        ([4, 4, 5], off(2), "row 2 only, the only one of language de"),
        ([4, 4, 4], off(2), "row 2 only"),
    ],
)
def test_one_language(languages, error, said):
    names = {4: "en", 5: "de"}
    axes = Axes(HIDDEN, languages=numpy.asarray(languages))
    assert where(error, 1.0, axes, names.__getitem__) == said


def test_a_language_of_some_tokens():
    spoken = numpy.asarray([[0, 0, 0, 1, 1, 2, 2]] * 3)
    axes = Axes(HIDDEN, languages=spoken)
    assert where(off(spoken == 1), 1.0, axes) == "language 1 only"


@given(
    axis=st.integers(0, 2),
    index=st.integers(0, 2),
    share=st.floats(0.2, 0.98),
)
def test_less_than_nearly_all_is_not_said(axis, index, share):
    """Of the squared excess a part lies elsewhere: then one index is not to blame."""
    x = numpy.full((3, 3, 3), 10.0)
    rest = (1.0 - share) / share / 2.0  # of each of the two other indices
    others = [i for i in range(3) if i != index]
    x.swapaxes(0, axis)[others] = 10.0 * rest**0.5
    assert "only" not in where(x, 0.0, Axes(HIDDEN))


@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_no_error_makes_it_fail(seed, dimensions):
    rng = numpy.random.default_rng(seed)
    shape = tuple(rng.integers(0, 4, dimensions))
    x = rng.choice([0.0, 1e-300, 1.0, 1e300, numpy.inf, numpy.nan], shape)
    names = Call(2, None, None).axes("x", shape)
    assert isinstance(where(x, 0.5, names), str)


def test_an_infinity_hides_all_else():
    error = noise()
    error[1] = numpy.inf
    assert where(error, 1.0, Axes(HIDDEN)) == "row 1 only"
    assert excess(error, 1.0).sum() == error[1].size


# --- axes -----------------------------------------------------------------------------------------


def test_axes_of_a_golden(model):
    golden = read_golden(case_folder("xmod/mixed_languages"))
    call = call_of(model("xmod/mixed_languages"), golden.inputs())
    layer = "encoder.layer.0"
    truth = golden.part("tap")
    for name, names, heads in (
        (f"{layer}.attention.self.query", HIDDEN, 3),
        (f"{layer}.attention.self.probs", SQUARE, 0),
        (f"{layer}.output.dense", HIDDEN, 0),
        ("pooler", ("row", "feature"), 0),
    ):
        axes = call.axes(name, truth[name].shape)
        assert (axes.names, axes.heads) == (names, heads)
    adapter = call.axes(f"{layer}.output.adapter_modules.sw_KE.dense1", (2, 4, 6))
    assert list(adapter.languages) == [2, 2]
    assert call.language(2) == "sw_KE"
    assert call.language(7) == "7"


@pytest.mark.parametrize("case", ["multiple_choice", "padding_right", "xlm/lengths"])
def test_padding_is_known_of_texts(case, model):
    golden = read_golden(case_folder(case))
    call = call_of(model(case), golden.inputs())
    rows = golden.inputs()["input_ids"].reshape(-1, golden.inputs()["input_ids"].shape[-1])
    assert call.padded.shape == rows.shape


def test_no_padding_is_none():
    assert padding({"input_ids": numpy.ones((2, 3)), "attention_mask": numpy.ones((2, 3))}) is None
    assert (
        padding({"attention_mask": numpy.zeros((2, 3, 3)), "input_ids": numpy.ones((2, 3))}) is None
    )


def test_padded_elements_are_queries_and_keys():
    axes = Axes(SQUARE, padded=numpy.asarray([[False, True]]))
    found = padded_elements(axes, (1, 1, 2, 2))
    assert found.tolist() == [[[[False, True], [True, True]]]]
