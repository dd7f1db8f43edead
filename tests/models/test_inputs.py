"""What a call may hold: a wrong argument gets one sentence, a right one comes out checked."""

import re

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl.backend import get_backend
from refimpl.models.inputs import Input, check_inputs
from tests.compare import assert_same

SIZES = {"D": 4, "H": 3, "N": 3}
INPUTS = {
    "input_ids": (Input("ids", ("B S",), below=10),),
    "attention_mask": (Input("mask", ("B T", "B S T")),),
    "position_ids": (Input("ids", ("B S", "1 S"), below=16),),
    "head_mask": (Input("real", ("H",)),),
    "inputs_embeds": (Input("real", ("B S D",)),),
    "choices": (Input("ids", ("B C S",), below=10),),
    "choice": (Input("labels", ("B",), below="C"),),
    "labels": (Input("labels", ("B",), below=3), Input("real", ("B N",))),
    "places": (Input("integers", ("B", "B 1")),),
}
IDS = [[1, 2, 3], [4, 5, 6]]


def check(past=0, **values):
    return check_inputs(values, INPUTS, SIZES, past)


def refuse(error, message, **values):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        check(**values)


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8", "uint8", "uint64"])
def test_ids_become_int64(dtype):
    assert_same(check(input_ids=numpy.asarray(IDS, dtype))["input_ids"], numpy.asarray(IDS))


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint8", "float32"])
def test_masks_become_boolean(dtype):
    mask = numpy.asarray([[1, 0, 1], [0, 0, 1]], dtype)
    assert_same(check(attention_mask=mask)["attention_mask"], mask.astype(bool))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64"])
def test_reals_stay_reals_and_whole_numbers_become_them(dtype):
    x = numpy.asarray([1, 0, 1], dtype)
    expected = x if x.dtype.kind == "f" else x.astype("float64")
    assert_same(check(head_mask=x)["head_mask"], expected)


def test_every_kind_of_array_is_taken():
    expected = numpy.asarray(IDS)
    strict = [get_backend(name).asarray(IDS) for name in ("strict", "strict:device1")]
    for ids in (IDS, tuple(map(tuple, IDS)), expected, expected.T.copy().T, *strict):
        assert_same(check(input_ids=ids)["input_ids"], expected)


def test_what_comes_in_is_not_changed():
    ids, mask = numpy.asarray(IDS, "int32"), numpy.ones((2, 3), "int8")
    check(input_ids=ids, attention_mask=mask)
    assert_same(ids, numpy.asarray(IDS, "int32"))
    assert_same(mask, numpy.ones((2, 3), "int8"))


def test_only_what_was_given_comes_out_in_the_order_of_the_declaration():
    assert list(check(places=[0, 0], input_ids=IDS)) == ["input_ids", "places"]


def test_a_missing_batch_axis_is_added():
    checked = check(
        input_ids=[1, 2, 3],
        attention_mask=[1, 1, 0],
        position_ids=[2, 3, 4],
        inputs_embeds=numpy.zeros((3, 4)),
        labels=2,
        places=5,
    )
    shapes = {name: x.shape for name, x in checked.items()}
    assert shapes == {
        "input_ids": (1, 3), "attention_mask": (1, 3), "position_ids": (1, 3),
        "inputs_embeds": (1, 3, 4), "labels": (1,), "places": (1,),
    }  # fmt: skip
    assert check(choices=[[1, 2], [3, 4]], choice=1)["choices"].shape == (1, 2, 2)


def test_a_mask_for_each_query_of_one_text_needs_no_batch_axis():
    checked = check(input_ids=[1, 2, 3], attention_mask=numpy.eye(3))
    assert checked["attention_mask"].shape == (1, 3, 3)
    square = check(input_ids=numpy.ones((3, 3), int), attention_mask=numpy.eye(3))
    assert square["attention_mask"].shape == (3, 3)  # as it stands, where that fits
    assert check(attention_mask=numpy.eye(3))["attention_mask"].shape == (3, 3)


def test_a_mask_covers_what_an_earlier_call_kept():
    for shape in ((2, 5), (2, 3, 5)):
        mask = check(past=2, input_ids=IDS, attention_mask=numpy.ones(shape))["attention_mask"]
        assert mask.shape == shape
    of_vectors = check(past=2, inputs_embeds=numpy.ones((2, 3, 4)))
    assert of_vectors["inputs_embeds"].shape == (2, 3, 4)
    one = check(past=2, input_ids=[1, 2, 3], attention_mask=[1, 1, 1, 1, 0])
    assert one["attention_mask"].shape == (1, 5)


@pytest.mark.parametrize("shape", [(2, 3), (2, 4), (2, 3, 3), (2, 5, 5), (1, 5)])
def test_a_mask_that_does_not_cover_what_an_earlier_call_kept(shape):
    expected = "(B=2, T=5) or (B=2, S=3, T=5)"
    message = f"attention_mask: expected shape {expected}, got {shape}"
    refuse(ValueError, message, past=2, input_ids=IDS, attention_mask=numpy.ones(shape))


def test_of_several_shapes_the_first_that_fits_is_taken():
    assert check(input_ids=IDS, position_ids=[[2, 3, 4]])["position_ids"].shape == (1, 3)
    assert check(input_ids=IDS, position_ids=[2, 3, 4])["position_ids"].shape == (1, 3)
    assert check(input_ids=IDS, position_ids=IDS)["position_ids"].shape == (2, 3)
    assert check(places=[[1], [2]])["places"].shape == (2, 1)


def test_the_first_form_whose_kind_fits_is_taken():
    assert check(labels=[0, 2])["labels"].dtype == "int64"
    assert check(labels=[[0.0, 1.0, 1.0]])["labels"].dtype == "float64"
    assert check(labels=[[True, False, True]])["labels"].dtype == "float64"  # booleans are no ids


def test_labels_to_pass_over_are_labels():
    assert_same(check(labels=[-100, 2])["labels"], numpy.asarray([-100, 2]))


def test_places_have_no_bounds():
    assert_same(check(places=[-7, 10**6])["places"], numpy.asarray([-7, 10**6]))


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=5))
def test_all_ids_of_the_vocabulary_pass(ids):
    assert_same(check(input_ids=ids)["input_ids"], numpy.asarray(ids))


@given(st.integers(0, 5), st.integers(-(2**63), 2**64 - 1).filter(lambda i: not 0 <= i < 10))
def test_one_other_id_is_found_wherever_it_stands(place, wrong):
    ids = [1, 2, 3, 4, 5, 6]
    ids[place] = wrong
    kind = "uint64" if wrong >= 2**63 else "int64"
    message = f"input_ids: expected ids from 0 to 9, got {wrong}"
    refuse(ValueError, message, input_ids=numpy.asarray([ids], kind))


# --- wrong kinds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([[1.0, 2.0]], "expected integers, got float64"),
        (numpy.ones((1, 2), "float16"), "expected integers, got float16"),
        ([[True, False]], "expected integers, got bool"),
        ([[1j]], "expected numbers, got complex128"),
        ("text", "expected numbers, got <U4"),
        ([["a", "b"]], "expected numbers, got <U1"),
        (b"ab", "expected numbers, got |S2"),
        ([[None]], "expected numbers, got object"),
        ([[2**64]], "expected numbers, got object"),
        ({"a": 1}, "expected numbers, got object"),
    ],
)
def test_what_is_no_id(value, got):
    refuse(TypeError, f"input_ids: {got}", input_ids=value)


@pytest.mark.parametrize("name", ["position_ids", "choice", "places"])
def test_reals_are_no_integers(name):
    refuse(TypeError, f"{name}: expected integers, got float64", **{name: [0.0]})


def test_ragged_lists():
    message = "expected rows of one length, got a ragged list (texts need padding=True)"
    refuse(ValueError, f"input_ids: {message}", input_ids=[[1, 2], [3]])
    refuse(ValueError, f"attention_mask: {message}", input_ids=IDS, attention_mask=[[1], [1, 1]])


@pytest.mark.parametrize(("value", "shape"), [([], (0,)), ([[]], (1, 0)), ([[], []], (2, 0))])
@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "inputs_embeds", "labels"])
def test_nothing(name, value, shape):
    refuse(ValueError, f"{name}: expected at least one element, got shape {shape}", **{name: value})


def test_an_empty_batch():
    message = "input_ids: expected at least one element, got shape (0, 5)"
    refuse(ValueError, message, input_ids=numpy.zeros((0, 5), int))


# --- wrong shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1, 2, 3), (1, 1, 1, 1)])
def test_wrong_number_of_axes(shape):
    message = f"input_ids: expected shape (B, S), got {shape}"
    refuse(ValueError, message, input_ids=numpy.ones(shape, int))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("attention_mask", (2, 4), "(B=2, T=3) or (B=2, S=3, T=3)"),
        ("attention_mask", (1, 3), "(B=2, T=3) or (B=2, S=3, T=3)"),
        ("attention_mask", (3,), "(B=2, T=3) or (B=2, S=3, T=3)"),
        ("attention_mask", (2, 3, 4), "(B=2, T=3) or (B=2, S=3, T=3)"),
        ("attention_mask", (2, 1, 1, 3), "(B=2, T=3) or (B=2, S=3, T=3)"),
        ("position_ids", (3, 3), "(B=2, S=3) or (1, S=3)"),
        ("position_ids", (1, 4), "(B=2, S=3) or (1, S=3)"),
        ("head_mask", (2,), "(H=3)"),
        ("inputs_embeds", (2, 3, 5), "(B=2, S=3, D=4)"),
        ("choices", (2, 7, 4), "(B=2, C, S=3)"),
        ("labels", (3,), "(B=2)"),
        ("labels", (2, 3), "(B=2)"),
        ("places", (2, 2), "(B=2) or (B=2, 1)"),
    ],
)
def test_shapes_must_fit_the_config_and_one_another(name, shape, expected):
    message = f"{name}: expected shape {expected}, got {shape}"
    refuse(ValueError, message, input_ids=IDS, **{name: numpy.ones(shape, int)})


def test_a_shape_that_does_not_fit_binds_no_letter():
    message = "position_ids: expected shape (B, S) or (1, S), got (2, 3, 4)"
    refuse(ValueError, message, position_ids=numpy.ones((2, 3, 4), int))


# --- wrong values ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1, 10, -100])
def test_ids_out_of_range(wrong):
    message = f"input_ids: expected ids from 0 to 9, got {wrong}"
    refuse(ValueError, message, input_ids=[[1, wrong, 3]])


@pytest.mark.parametrize("wrong", [2, -1, 0.5, numpy.nan, numpy.inf, -10000.0])
def test_masks_hold_only_0_and_1(wrong):
    message = f"attention_mask: expected only 0 and 1, got {wrong}"
    refuse(ValueError, message, attention_mask=[[1, wrong, 0]])


@pytest.mark.parametrize("wrong", [3, -1, -99])
def test_labels_out_of_range(wrong):
    message = f"labels: expected labels from 0 to 2, or -100, got {wrong}"
    refuse(ValueError, message, labels=[0, wrong])


def test_a_choice_is_one_of_the_choices_given():
    choices = numpy.ones((2, 4, 3), int)
    assert check(choices=choices, choice=[3, -100])["choice"].shape == (2,)
    message = "choice: expected labels from 0 to 3, or -100, got 4"
    refuse(ValueError, message, choices=choices, choice=[0, 4])
