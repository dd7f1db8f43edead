"""What ``refimpl bench`` measures: batches, arithmetic, turns, profiles. No test knows a time."""

import dataclasses
import math
from unittest import mock

import numpy
import pytest

from refimpl import to_numpy
from refimpl.bench import clock
from refimpl.bench.arithmetic import forward_flops, peak_call
from refimpl.bench.batches import Batch, parse_shapes, read_lengths
from refimpl.bench.measuring import machine, measure
from refimpl.bench.models import Subject, make_model
from refimpl.bench.profile import REST, Clock, profile
from refimpl.parity.goldens import bundled


@pytest.fixture(scope="module")
def tiny():
    return make_model(Subject(None, "tiny"))


@pytest.fixture
def quick(monkeypatch):
    """Turns without pauses."""
    monkeypatch.setattr(clock, "PAUSE", 0)
    monkeypatch.setattr(clock, "LEAST_SECONDS", 0)


def test_shapes_and_lengths(tmp_path):
    assert [b.shape for b in parse_shapes("1x16, 8x128")] == [(1, 16), (8, 128)]
    for wrong in ("", "8", "0x3", "2x-1", "axb", "1x2x3"):
        with pytest.raises(ValueError, match="shapes: expected TEXTSxTOKENS"):
            parse_shapes(wrong)
    path = tmp_path / "lengths"
    path.write_text("5 3\n9\n")
    batch = read_lengths(path)
    assert (batch.lengths, batch.shape, batch.tokens) == ((5, 3, 9), (3, 9), 17)
    for wrong in ("", "5 x", "0"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"lengths: .*expected numbers above 0"):
            read_lengths(path)


def test_a_batch_has_a_mask_where_it_has_padding(tiny):
    assert set(parse_shapes("2x3")[0].inputs(tiny.config)) == {"input_ids"}
    inputs = Batch("x", (2, 3)).inputs(tiny.config)
    assert inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert inputs["input_ids"][0, 2] == tiny.config.pad_token_id
    with pytest.raises(ValueError, match="texts of up to 512 tokens, got 1x513"):
        parse_shapes("1x513")[0].inputs(tiny.config)


def test_arithmetic_is_counted_as_it_is_said(tiny):
    width, layers = 64, 2
    per_token = layers * 2 * (4 * width * width + 2 * width * 4 * width)
    attention = layers * 4 * width
    batch = Batch("x", (3, 5))
    assert forward_flops(tiny, batch) == 8 * per_token + (9 + 25) * attention


@pytest.mark.parametrize("case", ["xlm/lm", "xmod/masked_lm", "xlm_roberta_xl/masked_lm"])
def test_arithmetic_of_every_family(case):
    model = make_model(Subject(str(bundled() / case)))
    one, two = (forward_flops(model, Batch("x", (4,) * n)) for n in (1, 2))
    assert two == 2 * one > 0


@pytest.mark.usefixtures("quick")
def test_sides_take_turns_and_each_runs_once_before():
    order = []
    calls = {name: (lambda name=name: order.append(name), lambda: None) for name in "ab"}
    seconds = clock.in_turns(calls, 3)
    assert "".join(order) == "ab" + "ab" * 3
    assert {name: len(x) for name, x in seconds.items()} == {"a": 3, "b": 3}


@pytest.mark.usefixtures("quick")
def test_a_measurement_holds_together(tiny):
    batch = parse_shapes("2x8")[0]
    found = measure(Subject(None, "tiny"), tiny, batch, turns=2, with_memory=False)
    assert len(found["seconds"]["refimpl"]) == len(found["seconds"]["peak"]) == 2
    assert found["best"] == min(found["seconds"]["refimpl"]) <= found["median"]
    ratios = found["share_of_peak"] * found["peak_gflops"] / found["gflops"]
    assert f"{ratios:.9f}" == "1.000000000"
    assert found["against"] == {}
    assert machine()["numpy"] == numpy.__version__


def test_the_peak_is_of_matrices_of_the_models_dtype(tiny):
    double = dataclasses.replace(tiny, dtype="float64")
    call, flops = peak_call(double, lambda: None)
    assert call().dtype == "float64"
    size = round((flops / 2) ** (1 / 3))
    assert call().shape == (size, size)


def test_a_profile_adds_up_and_names_what_runs(tiny):
    parts = profile(tiny, parse_shapes("1x8")[0].inputs(tiny.config), turns=1)
    assert parts[-1].name == REST
    assert {"linear", "layer_norm"} <= {part.name for part in parts}
    assert all(part.seconds > 0 for part in parts)
    calls = {part.name: part.calls for part in parts}
    assert calls["layer_norm"] == 1 + 2 * 2


def test_a_profiled_model_computes_the_same_and_is_left_alone(tiny):
    inputs = parse_shapes("1x8")[0].inputs(tiny.config)
    before = to_numpy(tiny(**inputs).last_hidden_state)
    profile(tiny, inputs, turns=1)
    assert "_twins" not in vars(tiny)
    assert (to_numpy(tiny(**inputs).last_hidden_state) == before).all()


def test_the_time_of_an_operation_is_without_those_inside(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr("refimpl.bench.profile.time.perf_counter", lambda: next(now))
    clock = Clock(lambda: None)
    inner = clock.around("inner", lambda: None)
    outer = clock.around("outer", lambda: (inner(), inner()))
    outer()
    assert clock.calls == {"inner": 2, "outer": 1}
    assert clock.seconds == {"inner": 2, "outer": 3}  # 5 ticks from its start to its end


def test_a_batch_that_goes_in_lanes_is_profiled_in_one(tiny):
    inputs = parse_shapes("4x100")[0].inputs(tiny.config)
    with mock.patch("refimpl.ops.fused.lanes", return_value=2):
        assert tiny._most_lanes(inputs) == 2
        parts = {part.name: part for part in profile(tiny, inputs, turns=1)}
    alone = {part.name: part for part in profile(tiny, inputs, turns=1)}
    assert parts["linear"].calls == alone["linear"].calls
    assert min(part.seconds for part in parts.values()) >= 0


def test_packing_is_seen_by_a_profile(tiny):
    packed = dataclasses.replace(tiny, packed=True)
    inputs = Batch("x", (40, 2, 2, 2)).inputs(tiny.config)
    names = {part.name for part in profile(packed, inputs, turns=1)}
    assert names != {part.name for part in profile(tiny, inputs, turns=1)}
    assert math.isfinite(sum(part.seconds for part in profile(packed, inputs, turns=1)))
