"""Queries that may look at nothing: in float16 judged by what follows, else as all are."""

from functools import cache

import numpy
import pytest

from refimpl import ops
from refimpl.models.model import load
from refimpl.parity.comparison.unseeing import NOTE, left_open
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors import (
    ARITHMETICS,
    draw_implementation,
    represent_inputs,
    run_honest,
)
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference
from refimpl.replacing import plain, replace
from tests.conftest import case_folder

CASE, ROW = "xlm_roberta/decoder_padding_left", 1
CONTEXT = "encoder.layer.0.attention.self.context"
DENSE = "encoder.layer.0.attention.output.dense"


def looking_at_all(scores, mask):
    """A port whose unseeing queries look at everything, as a sum in float32 makes them."""
    masked = plain("mask_scores")(scores, mask)
    return numpy.where(mask.any(axis=-1, keepdims=True), masked, scores)


@cache
def port(arithmetic):
    """What such a port computes for the case."""
    golden, how = read_golden(case_folder(CASE)), ARITHMETICS[arithmetic]
    model = load(golden.folder, golden.description["architecture"], "float64", kernels="plain")
    inputs = represent_inputs(how, golden.inputs())
    with replace(mask_scores=looking_at_all):
        found = run_honest(draw_implementation(how, 1000), how.computing(model), inputs)
    return Dump(found.taps, found.outputs, found.inputs, {"dtype": arithmetic})


def changed(dump, name, place, by):
    """The dump with one value off at one position of the row."""
    taps = {n: x.copy() for n, x in dump.taps.items()}
    taps[name][ROW, place] += by
    return Dump(taps, dump.outputs, dump.inputs, dump.about)


@pytest.fixture(scope="module")
def base():
    """What stands in front of the case's taps; its row 1 begins with padding."""
    mask = read_golden(case_folder(CASE)).inputs()["attention_mask"]
    assert (mask[ROW, 0], mask[ROW, -1]) == (0, 1)
    return "roberta." if any(n.startswith("roberta.") for n in port("float16").taps) else ""


def test_in_float16_another_convention_is_no_difference(base, compare):
    report = compare(CASE, port("float16"))
    assert report.held
    said = {v.name: v.note for v in report.verdicts}
    assert said[f"{base}{CONTEXT}"] == NOTE
    query = "encoder.layer.0.attention.self.query"
    assert said[f"{base}{query}"] == ""  # which no attention came before


@pytest.mark.parametrize("arithmetic", ["float32", "bfloat16"])
def test_in_other_arithmetics_it_is(arithmetic, base, compare):
    first = compare(CASE, port(arithmetic)).first
    assert first.name == f"{base}encoder.layer.0.attention.self.probs"


@pytest.mark.parametrize("place", [0, -1])
def test_what_follows_from_it_is_still_judged(place, base, compare):
    wrong = changed(port("float16"), f"{base}{DENSE}", place, 0.5)
    assert compare(CASE, wrong).first.name == f"{base}{DENSE}"


def test_queries_that_see_something_are_still_judged(base, compare):
    name = f"{base}{CONTEXT}"
    assert compare(CASE, changed(port("float16"), name, -1, 0.5)).first.name == name


def test_what_is_no_number_there_is_no_difference(base, compare):
    outputs = {n: x.copy() for n, x in port("float16").outputs.items()}
    name = next(iter(outputs))
    outputs[name][ROW, 0] = numpy.nan
    assert compare(CASE, Dump({}, outputs, {}, {"dtype": "float16"})).held
    outputs[name][ROW, -1] = numpy.nan
    assert compare(CASE, Dump({}, outputs, {}, {"dtype": "float16"})).first.status == "NAN"


def test_only_what_unseeing_queries_reach_is_left_open(base):
    golden = read_golden(case_folder(CASE))
    model = load(golden.folder, golden.description["architecture"], "float64", kernels="plain")
    inputs = golden.inputs()
    found = left_open(model, inputs, run_reference(model, inputs))
    mask = ops.attention_mask_for(
        numpy.zeros((*inputs["input_ids"].shape, 1)), inputs["attention_mask"], past=0, causal=True
    )
    unseeing = ~mask.any(axis=(1, -1))
    assert unseeing.any()
    assert numpy.array_equal(found[f"{base}{CONTEXT}"].any(axis=-1), unseeing)
    seeing = {**inputs, "attention_mask": numpy.ones_like(inputs["attention_mask"])}
    assert left_open(model, seeing, run_reference(model, seeing)) == {}
