"""Tokens before numbers: whether the candidate was given what the reference was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy

from refimpl.parity.comparison.verdict import DIFF, DTYPE, INPUT, MISSING, OK, SHAPE, Verdict

Arrays = Mapping[str, numpy.ndarray]

# What each of these is where a call does not give it.
_CONSTANT = {"token_type_ids": 0, "attention_mask": 1}


def compare_inputs(given: Arrays, expected: Arrays) -> Iterator[Verdict]:
    """Compare what both were called with, exactly; of real numbers the stored values.

    An input that only the candidate has is wrong where it says other than its default. One that
    only the reference has is missing, which may be as it should.
    """
    for name, truth in expected.items():
        if name not in given:
            yield Verdict(name, INPUT, MISSING, "not in the candidate's dump", truth.shape)
        else:
            yield _compare(name, given[name], truth)
    for name, x in given.items():
        if name not in expected and name in _CONSTANT and (x != _CONSTANT[name]).any():
            note = f"the reference was called without it, as if all were {_CONSTANT[name]}"
            yield Verdict(name, INPUT, DIFF, note, x.shape)


def compare_ids(given: numpy.ndarray, truth: numpy.ndarray) -> tuple[str, str]:
    """Return the status and a note of ids, masks or lengths: equal in every element, or not.

    >>> compare_ids(numpy.asarray([2, 3]), numpy.asarray([2, 4]))
    ('DIFF', '1 of 2 differ, first at [1]: expected 4, got 3')
    """
    if given.dtype.kind not in "biu":
        same = given.dtype.kind == "f" and given.shape == truth.shape and (given == truth).all()
        return DTYPE, f"expected {truth.dtype}, got {given.dtype}{', equal' if same else ''}"
    if given.shape != truth.shape:
        return SHAPE, f"expected {truth.shape}, got {given.shape}"
    wrong = numpy.argwhere(given != truth)
    if not len(wrong):
        return OK, ""
    at = tuple(int(i) for i in wrong[0])
    note = f"{len(wrong)} of {truth.size} differ, first at {list(at)}: "
    return DIFF, f"{note}expected {truth[at]}, got {given[at]}"


def _compare(name: str, given: numpy.ndarray, truth: numpy.ndarray) -> Verdict:
    if truth.dtype.kind in "biu":
        status, note = compare_ids(given, truth)
    elif given.shape != truth.shape:
        status, note = SHAPE, f"expected {truth.shape}, got {given.shape}"
    else:
        same = numpy.array_equal(given, truth.astype(given.dtype), equal_nan=True)
        status, note = (OK, "") if same else (DIFF, "expected the same numbers")
    return Verdict(name, INPUT, status, note, given.shape)
