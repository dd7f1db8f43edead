"""The arguments of truncation and padding: spelled out, or refused."""

import doctest

import pytest

from refimpl.tokenizers.calls import plan
from refimpl.tokenizers.calls.plan import Plan, make_plan


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(plan)
    assert (failed, tried > 1) == (0, True)


@pytest.mark.parametrize(
    ("padding", "truncation", "max_length", "expected"),
    [
        (False, False, None, Plan()),
        ("do_not_pad", "do_not_truncate", None, Plan()),
        (True, False, None, Plan("longest")),
        ("longest", True, 9, Plan("longest", "longest_first", 9)),
        ("max_length", False, 9, Plan("max_length", None, 9)),
        ("max_length", "only_second", None, Plan("max_length", "only_second", 512)),
        (False, "only_first", None, Plan(None, "only_first", 512)),
    ],
)
def test_plan_spells_the_arguments_out(padding, truncation, max_length, expected):
    assert make_plan(padding, truncation, max_length, "right", 512) == expected


def test_plan_of_windows_and_multiples():
    made = make_plan(
        True, True, 12, "left", stride=3, overflow=True, multiple_of=4, model_max_length=7
    )
    assert made == Plan("longest", "longest_first", 12, "left", 3, True, 4)
    assert make_plan(overflow=True) == Plan(overflow=True)
    assert make_plan(True, multiple_of=5).multiple_of == 5
    assert make_plan("max_length", max_length=9, multiple_of=5).max_length == 9


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("all", False, None, "right"), ValueError, "padding: expected one of False, True, 'long"),
        ((1, False, None, "right"), ValueError, "padding: .* got 1$"),
        ((None, False, None, "right"), ValueError, "padding: .* got None$"),
        (([], False, None, "right"), ValueError, r"padding: .* got \[\]$"),
        ((False, "first", None, "right"), ValueError, "truncation: .* got 'first'$"),
        ((False, None, None, "right"), ValueError, "truncation: .* got None$"),
        ((False, 0, None, "right"), ValueError, "truncation: .* got 0$"),
        ((False, False, None, "up"), ValueError, "padding_side: expected 'right' or 'left', got"),
        ((False, True, 0, "right"), ValueError, "max_length: expected at least 1, got 0"),
        ((False, True, -4, "right"), ValueError, "max_length: expected at least 1, got -4"),
        ((False, True, 4.0, "right"), TypeError, r"max_length: expected an int, got 4.0 \(float"),
        ((False, True, True, "right"), TypeError, r"max_length: expected an int, got True \(bool"),
        ((False, True, None, "right"), ValueError, "max_length: expected an int .* got None"),
        (("max_length", False, None, "right"), ValueError, "max_length: expected an int .* None"),
        ((True, False, 4, "right"), ValueError, "max_length: expected truncation=True or .*=4"),
        ((False, False, 4, "right"), ValueError, "max_length: expected truncation=True or .*=4"),
    ],
)
def test_plan_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        make_plan(*arguments, model_max_length=None)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stride": -1}, ValueError, "stride: expected at least 0, got -1"),
        ({"stride": 1.0}, TypeError, "stride: expected an int, got 1.0"),
        ({"stride": True}, TypeError, "stride: expected an int, got True"),
        ({"stride": None}, TypeError, "stride: expected an int, got None"),
        ({"stride": 2, "overflow": True}, ValueError, "stride: expected truncation=True and .*=2"),
        (
            {"stride": 2, "truncation": True, "max_length": 9},
            ValueError,
            "stride: expected .* return_overflowing_tokens=True .* return_overflowing_tokens=False",
        ),
        ({"multiple_of": 0, "padding": True}, ValueError, "pad_to_multiple_of: expected at least"),
        ({"multiple_of": 8.0, "padding": True}, TypeError, "pad_to_multiple_of: expected an int"),
        ({"multiple_of": 8}, ValueError, "pad_to_multiple_of: expected padding=True or .* got .*8"),
        (
            {"multiple_of": 8, "padding": True, "truncation": True, "max_length": 12},
            ValueError,
            "pad_to_multiple_of: expected a divisor of max_length, which is 12, .* got 8",
        ),
    ],
)
def test_plan_refuses_what_has_no_effect(arguments, error, message):
    with pytest.raises(error, match=message):
        make_plan(**arguments)
