"""A batch in lanes: what comes out is what one run of the whole batch gives, text by text."""

import threading
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.backend import get_backend
from refimpl.checkpoints.weights import DeviceTensors, Weights
from refimpl.models import lanes
from refimpl.models.model import load
from refimpl.ops import fused
from refimpl.parity.goldens import bundled
from refimpl.replacing import plain
from refimpl.replacing import replace as replace_operations
from refimpl.taps import record
from tests.compare import assert_same, assert_ulps
from tests.models.drawn import (
    CLASSES,
    FAMILIES,
    OTHER_ORDER,
    build,
    in_order,
    labels,
    languages,
    padded_for,
    words,
)

sometimes = settings(max_examples=6, deadline=None)


@contextmanager
def up_to(count):
    """Let every batch go in so many lanes, however little there is to do; yield how often."""
    used = []

    def run(forward, found, inputs, real=lanes.run_lanes):
        used.append(len(found))
        return real(forward, found, inputs)

    with (
        mock.patch.multiple(lanes, LEAST=1, UNEVEN=100.0),
        mock.patch.object(fused, "lanes", return_value=count),
        mock.patch("refimpl.models.architecture.run_lanes", run),
    ):
        yield used


def flat(value):
    """Return the arrays of outputs, in order."""
    if isinstance(value, tuple):
        return [x for field in value for x in flat(field)]
    return [] if value is None else [value]


def assert_lanes_make_no_difference(model, count=2, **inputs):
    """With sums in order, of the plain operations, lanes give the bits of one run."""
    model = replace(model, kernels="fused")
    as_written = mock.patch.object(fused, "twins", return_value={"relu": plain("relu")})
    with in_order(), as_written:
        with up_to(1):
            expected = model(**inputs)
        with up_to(count) as used:
            actual = model(**inputs)
    # A lane that has texts, and tokens where padding is left out: else one run for all.
    assert used == [count] or model.packed or len(inputs["input_ids"]) < count
    assert type(actual) is type(expected)
    for x, y in zip(flat(actual), flat(expected), strict=True):
        assert_same(x, y)


# --- which texts go where -------------------------------------------------------------------------


@given(lengths=arrays("int64", st.integers(1, 40), elements=st.integers(0, 300)),
       count=st.integers(1, 5))  # fmt: skip
def test_every_text_goes_in_one_lane_and_lanes_are_even(lengths, count):
    found = lanes.evenly(lengths, count)
    assert sorted(numpy.concatenate(found).tolist()) == list(range(len(lengths)))
    assert len(found) in (1, count)
    if len(found) > 1:
        loads = [lengths[texts].sum() for texts in found]
        assert min(loads) >= lanes.LEAST
        assert max(loads) * count <= lanes.UNEVEN * lengths.sum()


def test_a_batch_of_one_or_of_too_little_goes_in_one():
    host = get_backend("numpy")
    assert len(lanes.lanes_of((1, 512), None, host, 2)) == 1
    assert len(lanes.lanes_of((2, lanes.LEAST - 1), None, host, 2)) == 1
    assert len(lanes.lanes_of((2, lanes.LEAST), None, host, 2)) == 2


def test_there_is_a_lane_for_each_thread_on_the_host_and_one_elsewhere():
    assert fused.lanes(get_backend("strict")) == 1
    with mock.patch("refimpl.ops.fused.threads.count", return_value=7):
        assert fused.lanes(get_backend("numpy")) == 7


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "architecture"), CLASSES)
@sometimes
@given(data=st.data())
def test_every_class_gives_the_same(family, architecture, data):
    model = build(family, architecture)
    ids, mask = data.draw(padded_for(architecture, st.integers(2, 5)))
    inputs = {"input_ids": ids, "attention_mask": mask, **languages(family, ids)}
    if data.draw(st.booleans(), "labels"):
        inputs |= labels(model, ids, mask)
    for name in ("output_hidden_states", "output_attentions"):
        inputs[name] = data.draw(st.booleans(), name)
    model = replace(model, packed=data.draw(st.booleans(), "packed"))
    assert_lanes_make_no_difference(model, data.draw(st.integers(2, 3)), **inputs)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", ["one row", "a row each"])
def test_positions_for_all_texts_and_of_each(family, rows):
    ids = numpy.arange(24).reshape(4, 6) % 20 + 3
    positions = numpy.arange(24).reshape(4, 6)[::-1] % 7
    positions = positions[:1] if rows == "one row" else positions
    inputs = {"input_ids": ids, "position_ids": positions, **languages(family, ids)}
    assert_lanes_make_no_difference(build(family), **inputs)


@sometimes
@given(ids=arrays("int64", (4, 6), elements=words), data=st.data())
def test_decoders_keep_the_keys_and_values_of_all_texts(ids, data):
    model = build("xlm_roberta", "XLMRobertaForCausalLM", is_decoder=True)
    mask = data.draw(arrays(bool, (4, 6)))
    mask[:, 0] = True
    assert_lanes_make_no_difference(model, input_ids=ids, attention_mask=mask, use_cache=True)


def test_texts_are_really_computed_in_lanes():
    model, ids = replace(build("xlm_roberta"), kernels="fused"), numpy.arange(24).reshape(4, 6)
    with up_to(2) as used:
        actual = model(input_ids=ids + 3).last_hidden_state
    assert used == [2]
    with up_to(1):
        expected = model(input_ids=ids + 3).last_hidden_state
    assert_ulps(actual, expected, ulps=OTHER_ORDER, of=numpy.abs(expected).max())


# --- where there is one run -----------------------------------------------------------------------


def calls_in_one_run():
    ids = numpy.full((4, 6), 5)
    encoder = build("xlm_roberta")
    decoder = build("xlm_roberta", is_decoder=True, add_cross_attention=True)
    decoder = replace(decoder, kernels="fused")
    states = numpy.ones((4, 3, decoder.config.hidden_size))
    kept = decoder(input_ids=ids, use_cache=True).past_key_values
    streamed = load(bundled() / "xlm_roberta" / "model", stream=True)
    return {
        "plain kernels": (encoder, {"input_ids": ids}),
        "the states of an encoder": (decoder, {"input_ids": ids, "encoder_hidden_states": states}),
        "a call that goes on": (decoder, {"input_ids": ids, "past_key_values": kept}),
        "weights read as they are used": (streamed, {"input_ids": ids}),
    }


@pytest.mark.parametrize("name", ["the states of an encoder", "a call that goes on",
                                  "weights read as they are used", "plain kernels"])  # fmt: skip
def test_one_run_where_texts_are_not_alone(name):
    model, inputs = calls_in_one_run()[name]
    with up_to(2) as used:
        model(**inputs)
    assert used == [1]


@pytest.mark.parametrize("looking", [record, lambda: replace_operations(relu=abs)])
def test_one_run_where_somebody_looks_inside(looking):
    model = replace(build("xlm_roberta"), kernels="fused")
    with up_to(2) as used, looking():
        model(input_ids=numpy.full((4, 6), 5))
    assert used == [1]


def test_what_goes_wrong_in_a_lane_goes_wrong_in_the_call():
    broken = replace(build("xlm_roberta"), kernels="fused", weights=Weights({}))
    with up_to(2), pytest.raises(KeyError):
        broken(input_ids=numpy.full((4, 6), 5))


def test_a_tensor_is_converted_once_whoever_asks():
    asked, gate = [], threading.Barrier(4)

    class Slow(dict):
        def __getitem__(self, name):
            asked.append(name)
            return super().__getitem__(name)

    tensors = DeviceTensors(Slow(a=numpy.ones(3)), {"a": "a"}, get_backend("numpy"), "float64")

    def ask():
        gate.wait()
        tensors["a"]

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["a"]
