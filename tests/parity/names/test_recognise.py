"""Anonymous tensors get their names back by their values, or none: never another's."""

import itertools

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.models.model import load
from refimpl.parity.goldens import bundled, find_goldens, read_golden
from refimpl.parity.names.recognise import recognise
from refimpl.parity.names.recognise_layouts import layouts
from refimpl.parity.reference import run_reference
from refimpl.parity.rounding import bfloat16
from tests.compare import assert_same

SHAPES = {  # of taps: a batch of 2, 5 tokens, 3 heads of 4, 11 in between
    "query": (2, 5, 12),
    "key": (2, 5, 12),
    "value": (2, 5, 12),
    "scores": (2, 3, 5, 5),
    "probs": (2, 3, 5, 5),
    "intermediate": (2, 5, 11),
    "pooler": (2, 12),
    "positions": (1, 5, 12),
}
REAL = numpy.asarray([[1, 1, 1, 1, 1], [1, 1, 0, 0, 1]])


def drawn(seed=0):
    """Return taps with random values."""
    draw = numpy.random.default_rng(seed)
    return {name: draw.standard_normal(shape) for name, shape in SHAPES.items()}


def within(size):
    return lambda name: size


def one(array, truth, size=0.0, real=None):
    """Return what a tensor is recognised as."""
    return recognise({"t": array}, truth, within(size), real).get("t")


def noisy(x, size, seed=1):
    """Return x with a relative RMS error of exactly ``size``."""
    noise = numpy.random.default_rng(seed).standard_normal(x.shape)
    return x + noise * (size * numpy.linalg.norm(x) / numpy.linalg.norm(noise))


# --- layouts --------------------------------------------------------------------------------------


@st.composite
def held_elsewhere(draw):
    """A tap, and how another program might hold it: split, in another order, joined."""
    name = draw(st.sampled_from(list(SHAPES)))
    x = y = drawn()[name]
    if len(x.shape) < 4 and x.shape[-1] == 12 and draw(st.booleans()):
        y = y.reshape(*y.shape[:-1], draw(st.sampled_from([2, 3, 4, 6])), -1)
    y = y.transpose(draw(st.permutations(range(y.ndim))))
    for _ in range(draw(st.integers(0, 2))):
        if y.ndim > 1:
            i = draw(st.integers(0, y.ndim - 2))
            y = y.reshape(*y.shape[:i], y.shape[i] * y.shape[i + 1], *y.shape[i + 2 :])
    for _ in range(draw(st.integers(0, 1))):
        y = numpy.expand_dims(y, draw(st.integers(0, y.ndim)))
    return name, x, y


@given(held_elsewhere())
@settings(max_examples=100)
def test_any_order_of_axes_is_undone(held):
    name, x, y = held
    found = one(y, drawn())
    assert found.names == (name,)
    assert_same(found.take(y)[name], x)


@pytest.mark.parametrize(
    ("layout", "held"),
    [
        ("as is", lambda x: x),
        ("b s d -> s b d", lambda x: x.swapaxes(0, 1)),
        ("b s d -> b d s", lambda x: x.swapaxes(1, 2)),
        ("b s (h k) -> b h s k", lambda x: x.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)),
        ("b s (h k) -> b s h k", lambda x: x.reshape(2, 5, 3, 4)),
        (
            "b s (h k) -> (b h) s k",
            lambda x: x.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3).reshape(6, 5, 4),
        ),
        ("b s d -> (b s) d", lambda x: x.reshape(10, 12)),
        ("b s d -> s (b d)", lambda x: x.swapaxes(0, 1).reshape(5, 24)),
    ],
)
def test_a_layout_is_told(layout, held):
    truth = drawn()
    y = held(truth["value"])
    found = one(y, truth)
    assert (found.canonical, found.layout, found.error) == ("value", layout, 0.0)
    assert_same(found.take(y)["value"], truth["value"])


@pytest.mark.parametrize("own", [(2, 5, 12), (2, 3, 5, 5), (6,), (), (1, 5, 12), (2, 2, 2, 2, 3)])
def test_giving_and_taking_are_inverse(own):
    x = numpy.arange(int(numpy.prod(own))).reshape(own)
    shapes = {p for n in range(1, 4) for p in itertools.product((2, 3, 5, 6, 10, 12, 60), repeat=n)}
    for shape in [*(s for s in shapes if numpy.prod(s) == x.size), own]:
        for layout in layouts(own, shape):
            given = layout.give(x)
            assert given.shape == tuple(n for n in shape if n > 1)
            assert_same(layout.take(given).reshape(own), x)


@pytest.mark.parametrize("words", [("query", "key", "value"), ("key", "value")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fused_projections_are_found_with_all_their_parts(words, dtype):
    truth = {f"layer.self.{name}": x for name, x in drawn().items()}
    names = tuple(f"layer.self.{word}" for word in words)
    parts = [truth[name].astype(dtype) for name in names]
    heads = [x.reshape(2, 5, 3, 4) for x in parts]
    for fused in (
        numpy.concatenate(parts, axis=-1),
        numpy.concatenate(parts, axis=-1).swapaxes(0, 1),
        numpy.concatenate(heads, axis=-1).reshape(2, 5, -1),
        numpy.stack(heads, axis=2),
        numpy.stack(parts),
    ):
        found = one(fused, truth, 1e-6)
        assert found.names == names
        assert found.layout.startswith("fused")
        for name, part in zip(names, parts, strict=True):
            assert_same(found.take(fused)[name], part)


def test_a_fused_tensor_with_one_part_off_is_not_named():
    truth = {f"self.{name}": x for name, x in drawn().items()}
    fused = [truth["self.query"], truth["self.key"], noisy(truth["self.value"], 1e-3)]
    assert one(numpy.concatenate(fused, axis=-1), truth, 1e-4) is None


# --- padding, rows --------------------------------------------------------------------------------


def test_padding_may_be_left_out():
    truth = drawn()
    packed = truth["value"][REAL != 0]
    for held in (packed, packed.T, packed.reshape(8, 3, 4).swapaxes(0, 1)):
        found = one(held, truth, real=REAL)
        assert found.canonical == "value"
        assert found.layout.startswith("real tokens only")
        taken = found.take(held)["value"]
        assert_same(taken[REAL != 0], packed)
        assert numpy.isnan(taken[REAL == 0]).all()
    assert one(packed, truth) is None


@pytest.mark.parametrize("filled", [0.0, 7.0, numpy.nan, -numpy.inf])
def test_padding_may_hold_anything(filled):
    truth = drawn()
    held = numpy.where((REAL != 0)[..., None], truth["value"], filled)
    found = one(held.swapaxes(0, 1), truth, real=REAL)
    assert (found.canonical, found.layout) == ("value", "but for padding, b s d -> s b d")
    assert_same(found.take(held.swapaxes(0, 1))["value"], held)
    assert one(held, truth) is None


def test_what_is_the_same_for_all_rows_may_be_there_once_or_for_each():
    truth = drawn()
    truth["rows"] = numpy.repeat(numpy.random.default_rng(5).standard_normal((1, 5, 12)), 2, axis=0)
    found = one(truth["rows"][0], truth)
    assert (found.canonical, found.layout) == ("rows", "one row of all, as is")
    assert_same(found.take(truth["rows"][0])["rows"], truth["rows"])
    repeated = numpy.repeat(truth["positions"], 2, axis=0)
    found = one(repeated.swapaxes(0, 1), truth)
    assert (found.canonical, found.layout) == ("positions", "repeated, b s d -> s b d")
    assert_same(found.take(repeated.swapaxes(0, 1))["positions"], truth["positions"])


# --- what is not named ----------------------------------------------------------------------------


@given(st.sampled_from(list(SHAPES)), st.floats(-7, -1), st.integers(0, 99))
def test_noise_is_named_within_the_limit_and_not_beyond(name, log_limit, seed):
    truth, limit = drawn(), 10.0**log_limit
    assert one(noisy(truth[name], 0.99 * limit, seed), truth, limit).names == (name,)
    assert one(noisy(truth[name], 1.01 * limit, seed), truth, limit) is None


@given(st.integers(0, 999))
def test_what_is_no_tap_is_not_named(seed):
    draw = numpy.random.default_rng(seed)
    truth = drawn()
    x = truth[str(draw.choice(list(truth)))]
    others = {
        "random": draw.standard_normal(x.shape),
        "other values, same norm": draw.permutation(x.ravel()).reshape(x.shape),
        "negative": -x,
        "doubled": 2.0 * x,
        "constant": numpy.full(x.shape, x.flat[0]),
        "zeros": numpy.zeros(x.shape),
        "half": x[: x.shape[0] // 2],
        "nothing": x[:0],
        "not finite": numpy.where(x > 1.0, numpy.inf, x),
        "NaN": numpy.full(x.shape, numpy.nan),
        "yes or no": x > 0.0,
        "words": x.astype(str),
        "objects": x.astype(object),
        "complex": x.astype(complex),
    }
    assert recognise(others, truth, within(0.1), REAL) == {}


def test_between_two_taps_that_are_near_nothing_is_named():
    truth = drawn()
    truth["key"] = noisy(truth["query"], 1e-3)
    assert one(truth["query"], truth, 1e-2).names == ("query",)
    assert one(noisy(truth["query"], 1e-5, 2), truth, 1e-2).names == ("query",)
    assert one(noisy(truth["query"], 2e-3, 2), truth, 1e-2) is None


def test_between_two_layouts_that_are_near_nothing_is_named():
    symmetric = drawn()["scores"] + drawn()["scores"].swapaxes(-1, -2)
    truth = {"scores": noisy(symmetric, 1e-3)}
    assert one(truth["scores"].swapaxes(-1, -2), truth, 1e-2).layout == "b h q k -> b h k q"
    assert one(noisy(truth["scores"], 5e-3, 2), truth, 1e-2) is None


def test_of_taps_with_the_same_values_the_first_is_named():
    x = drawn()["value"]
    truth = {"LayerNorm": x, "hidden_states.1": x.copy(), "last_hidden_state": x[None]}
    found = one(x.swapaxes(0, 1), truth)
    assert (found.canonical, found.layout) == ("LayerNorm", "b s d -> s b d")
    assert found.same == ("hidden_states.1", "last_hidden_state")


def test_what_has_the_same_values_may_have_another_shape():
    x = drawn()["value"]
    kept = x.reshape(2, 5, 3, 4).transpose(0, 2, 1, 3)
    truth = {"value": x, "past_key_values.0.1": kept}
    for held in (x.swapaxes(0, 1), kept, x.reshape(10, 12)):
        found = one(held, truth)
        assert (found.names, found.same) == (("value",), ("past_key_values.0.1",))
        assert_same(found.take(held)["value"], x)
        assert_same(found.take_same(held)["past_key_values.0.1"], kept)


def test_of_taps_with_the_same_values_the_first_that_may_be_so_far_off_is_named():
    x = drawn()["value"]
    truth = {"LayerNorm": x, "hidden_states.1": x.copy()}
    found = recognise({"t": noisy(x, 1e-3)}, truth, {"LayerNorm": 0, "hidden_states.1": 0.01}.get)
    assert (found["t"].canonical, found["t"].same) == ("hidden_states.1", ("LayerNorm",))


@pytest.mark.parametrize("x", [1.0, 0.125, -3.0])
def test_a_number_that_anyone_may_write_down_is_no_evidence(x):
    truth = {"loss": numpy.asarray(x), "probs": numpy.full((2, 3, 1, 1), x)}
    assert recognise(truth, truth, within(1e-6)) == {}


def test_small_whole_numbers_are_no_evidence_however_many():
    truth = {"positions": numpy.arange(10.0).reshape(2, 5), "codes": numpy.eye(12)[None]}
    assert recognise(truth, truth, within(1e-6)) == {}


def test_one_number_is_evidence_where_all_its_digits_agree():
    truth = {"loss": numpy.asarray(2.3456789012)}
    assert one(truth["loss"].astype(numpy.float32), truth, 1e-7).canonical == "loss"
    assert one(truth["loss"], truth, 1e-2) is None  # as much as bfloat16 could say


def test_numbers_of_eight_bits_are_evidence_where_they_are_many():
    truth = {name: bfloat16(x) for name, x in drawn().items()}
    assert one(truth["query"].swapaxes(0, 1), truth).canonical == "query"
    few = {"x": truth["query"][0, 0, :2]}
    assert recognise(few, few, within(0.0)) == {}


def test_integers_are_named_where_all_agree():
    ids = numpy.asarray([[2, 3, 4, 5, 6], [2, 3, 1, 1, 4]])
    truth = {"position_ids": ids, **drawn()}
    assert one(ids.T.astype(numpy.int32), truth, 0.1).layout == "b d -> d b"
    assert one(ids + (ids == 6), truth, 0.1) is None
    assert one(numpy.ones_like(ids), {"ids": numpy.ones_like(ids)}, 0.1) is None


def test_a_limit_of_zero_asks_for_the_very_numbers():
    truth = drawn()
    assert one(truth["value"], truth, 0.0).error == 0.0
    assert one(noisy(truth["value"], 1e-9), truth, 0.0) is None


def test_a_tap_of_zeros_is_no_hindrance():
    truth = {"zeros": numpy.zeros((2, 5, 12)), "empty": numpy.zeros((0, 5)), **drawn()}
    truth["infinite"] = numpy.full((2, 5, 12), numpy.inf)
    assert set(recognise(truth, truth, within(0.0))) == set(SHAPES)


# --- whole models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["xlm", "xlm_roberta", "xlm_roberta_xl", "xmod"])
def test_every_value_of_a_golden_is_named_whatever_the_order(family):
    golden = read_golden(bundled() / family / "padding_left") if family != "xmod" else None
    golden = golden or read_golden(bundled() / family / "mixed_languages")
    truth = {**golden.part("tap"), **golden.part("output")}
    names = list(numpy.random.default_rng(0).permutation(list(truth)))
    model = load(golden.folder, dtype="float32", kernels="plain")
    run = run_reference(model, golden.inputs()).values
    limit = within(numpy.float32(2.0) ** -18)
    found = recognise({f"t{i}": run[name] for i, name in enumerate(names)}, truth, limit)
    for i, name in enumerate(names):
        assert name in (*found[f"t{i}"].names, *found[f"t{i}"].same)
        assert found[f"t{i}"].layout == "as is"


def test_no_value_of_a_golden_is_taken_for_one_of_another_golden():
    folders = [f for f in find_goldens() if f.name in ("model", "padding_right", "padding_left")]
    cases = {f: read_golden(f).part("tap") for f in folders}
    for one_case, other in itertools.permutations(cases, 2):
        found = recognise(cases[one_case], cases[other], within(1e-3))
        for name, recognised in found.items():
            values = recognised.take(cases[one_case][name])[recognised.canonical]
            assert_same(values, cases[other][recognised.canonical])
