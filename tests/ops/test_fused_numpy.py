"""Every twin on NumPy against its plain operation, and against the truth in counted ulps."""

import inspect
import platform
import subprocess
import sys

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from refimpl import ops
from refimpl.backend import get_backend
from refimpl.ops import fused
from refimpl.ops.fused import attention, blocks, gelu, products
from refimpl.replacing import plain
from tests.compare import assert_same, assert_ulps

TWINS = fused.twins(get_backend("numpy"), False)
SAME_BITS = {
    "erf": {}, "gelu_tanh": {}, "silu": {}, "tanh": {},
    "softmax": {}, "softmax_float32": {}, "log_softmax": {},
}  # fmt: skip
DTYPES = ["float64", "float32", "float16"]
every = pytest.mark.parametrize("dtype", DTYPES)
both = pytest.mark.parametrize("dtype", ["float64", "float32"])


def normal(*shape, seed=0, dtype="float64"):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture(params=[False, True], ids=["whole", "in small parts"])
def parts(request, monkeypatch):
    """Cut arrays of a test's size, which are below every bound, as large ones are cut."""
    if request.param:
        monkeypatch.setattr(blocks, "BLOCK", 5)
        monkeypatch.setattr("refimpl.ops.fused.norms.BLOCK", 5)
        monkeypatch.setattr(gelu, "ALONE", 0)
        monkeypatch.setattr(attention, "TILE", 20)
        monkeypatch.setattr(products, "FEW", 0)
        monkeypatch.setattr(products, "EACH", 0)
        monkeypatch.setattr(products, "ROWS", 3)


# --- the table ------------------------------------------------------------------------------------


def test_every_twin_is_of_an_operation_and_takes_its_arguments():
    for name, twin in TWINS.items():
        assert name in ops.__all__
        expected = list(inspect.signature(plain(name)).parameters)
        assert list(inspect.signature(twin).parameters) == expected, name


def test_the_strict_backend_has_none():
    assert fused.twins(get_backend("strict"), False) == {}


def test_attention_has_a_twin_only_where_nobody_wants_its_weights():
    wanted = fused.twins(get_backend("numpy"), True)
    assert set(TWINS) - set(wanted) == {"scaled_dot_product_attention"}


# --- twins with the bits of the plain operation ---------------------------------------------------


@pytest.mark.parametrize("name", SAME_BITS)
@every
@given(data=st.data())
@settings(max_examples=25)
def test_the_bits_of_the_plain_operation(name, dtype, data):
    shape = data.draw(array_shapes(max_dims=3, max_side=9))
    numbers = st.floats(-80, 80, width=16)
    x = data.draw(arrays(dtype, shape, elements=numbers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", 7)
        assert_same(TWINS[name](x), plain(name)(x))


@pytest.mark.parametrize("name", [*SAME_BITS, "gelu_erf"])
@every
@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), ()])
def test_empty_arrays_and_single_numbers(name, dtype, shape):
    if "softmax" in name and shape in ((), (0,), (2, 0)):
        return  # no row has a maximum
    x = numpy.full(shape, 0.5, dtype)
    assert_same(TWINS[name](x), plain(name)(x))


@pytest.mark.parametrize("name", [*SAME_BITS, "gelu_erf"])
@every
def test_arrays_that_are_not_contiguous(name, dtype, parts):
    x = normal(12, 10, dtype=dtype)
    views = [x[::2], x[:, 1:4]]
    if "softmax" not in name:  # NumPy adds the numbers of a row in an order that depends on layout
        views += [x[::2, 1::3], x.T, numpy.broadcast_to(x[:, None, :1], (12, 3, 4))]
    for view in views:
        assert_same(TWINS[name](view), TWINS[name](view.copy()))


# --- gelu -----------------------------------------------------------------------------------------


def gelu_points():
    inner = numpy.linspace(-6, 6, 40_001)
    small = 10.0 ** numpy.linspace(-44, 0, 500)
    far = numpy.linspace(6, 300, 2000)
    return numpy.concatenate([inner, small, -small, far, -far]).astype("float32")


def test_gelu_of_float32_is_within_two_ulp_of_x():
    x = gelu_points()
    truth = plain("gelu_erf")(x.astype("float64")).astype("float32")
    assert_ulps(TWINS["gelu_erf"](x), truth, ulps=2, of=numpy.abs(x))


def test_gelu_left_of_zero_is_nearer_to_the_truth_than_the_plain_one():
    x = numpy.linspace(-4, -1, 20_001).astype("float32")
    truth = plain("gelu_erf")(x.astype("float64"))
    errors = [numpy.abs(f(x) - truth).max() for f in (TWINS["gelu_erf"], plain("gelu_erf"))]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_gelu_of_other_dtypes_has_the_bits_of_the_plain_one(dtype, parts):
    x = normal(31, 7, dtype=dtype) * 3
    assert_same(TWINS["gelu_erf"](x.astype(dtype)), plain("gelu_erf")(x.astype(dtype)))


def test_gelu_has_the_same_bits_by_one_thread_and_by_several(parts, monkeypatch):
    x = gelu_points()
    several = TWINS["gelu_erf"](x)
    monkeypatch.setattr(gelu, "ALONE", x.size)
    monkeypatch.setattr(gelu, "PIECE", 7000)
    monkeypatch.setattr(gelu, "share", None)
    assert_same(TWINS["gelu_erf"](x), several)


@every
def test_gelu_far_out_is_x_or_nothing_without_a_warning(dtype):
    top = numpy.finfo(dtype).max
    x = numpy.asarray([-top, -1000, 14, 1000, top], dtype)
    with numpy.errstate(over="raise", invalid="raise", divide="raise"):
        y = TWINS["gelu_erf"](x)
    assert_same(numpy.abs(y), numpy.asarray([0, 0, 14, 1000, top], dtype))


def test_gelu_of_what_is_not_finite_is_that_of_the_plain_one():
    x = numpy.asarray([numpy.inf, -1.0, numpy.nan, 2.0], "float32")
    assert_same(TWINS["gelu_erf"](x), plain("gelu_erf")(x))


def test_lines_of_neighbouring_cells_meet():
    edges = numpy.linspace(0.001, gelu.FAR, 3000, dtype="float32")
    first = (edges.view("uint32") >> gelu.LOW << gelu.LOW).view("float32")  # of their cells
    before = numpy.nextafter(first, numpy.float32(0))
    for side in (1, -1):
        jump = TWINS["gelu_erf"](side * first) - TWINS["gelu_erf"](side * before)
        assert (numpy.abs(jump) <= 5 * numpy.spacing(first)).all()


def test_the_table_ends_where_the_gelu_is_straight_in_float32():
    x = numpy.float32(gelu.FAR)
    assert plain("gelu_erf")(x.astype("float64")) == x
    assert numpy.abs(plain("gelu_erf")(-x.astype("float64"))) < numpy.spacing(x) / 2


# --- linear ---------------------------------------------------------------------------------------


def check_linear(x, weight, bias):
    """A sum of I products and a bias: one rounding for each term, and that of the reference."""
    truth = plain("linear")(*(a if a is None else a.astype("float64") for a in (x, weight, bias)))
    sizes = numpy.abs(x).astype("float64") @ numpy.abs(weight).astype("float64").T
    sizes = sizes if bias is None else sizes + numpy.abs(bias)
    y = TWINS["linear"](x, weight, bias)
    # float16 is rounded twice, however long the sum: float32's roundings are far below.
    count = x.shape[-1] + 2 if x.dtype != numpy.float16 else 3
    assert_ulps(y, truth.astype(x.dtype), ulps=count, of=sizes.astype(x.dtype))


@every
@given(data=st.data())
@settings(max_examples=25)
def test_linear_is_within_the_roundings_of_its_sum(dtype, data):
    leading = data.draw(array_shapes(min_dims=0, max_dims=2, max_side=7))
    width, outputs = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
    seed = data.draw(st.integers(0, 999))
    x, weight = normal(*leading, width, seed=seed, dtype=dtype), normal(outputs, width, dtype=dtype)
    bias = data.draw(st.sampled_from([None, normal(outputs, seed=1, dtype=dtype)]))
    check_linear(x, weight, bias)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"FEW": 0, "EACH": 0, "ROWS": 3}.items():
            patch.setattr(products, name, value)
        check_linear(x, weight, bias)


@pytest.mark.parametrize("rows", [1, 17, 48, 49, 513, 1300])
@both
def test_linear_of_many_shapes_of_x(rows, dtype):
    weight, bias = normal(800, 33, seed=1, dtype=dtype), normal(800, dtype=dtype)
    check_linear(normal(rows, 33, dtype=dtype), weight, bias)


@both
def test_linear_of_arrays_that_are_not_contiguous(dtype, parts):
    x, weight = normal(9, 14, dtype=dtype)[:, ::2], normal(7, 11, dtype=dtype).T
    check_linear(x, weight, normal(22, dtype=dtype)[::2])


def test_linear_of_nothing_and_of_two_dtypes_is_the_plain_one():
    for x, weight in [
        (normal(0, 3), normal(2, 3)),
        (normal(2, 3), normal(0, 3)),
        (normal(2, 3, dtype="float32"), normal(4, 3)),
    ]:
        assert_same(TWINS["linear"](x, weight), plain("linear")(x, weight))


def test_what_overflows_in_float16_is_infinite():
    x = numpy.full((1, 2), 300, numpy.float16)
    with numpy.errstate(over="ignore"):
        assert_same(TWINS["linear"](x, x), numpy.asarray([[numpy.inf]], numpy.float16))


# --- layer norm -----------------------------------------------------------------------------------


@every
@given(data=st.data())
@settings(max_examples=25)
def test_layer_norm_is_as_near_to_the_truth_as_the_plain_one_may_be(dtype, data):
    width, rows = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 9))
    seed, mean = data.draw(st.integers(0, 999)), data.draw(st.sampled_from([0.0, 8.0, -64.0]))
    x = (normal(rows, width, seed=seed) + mean).astype(dtype)
    weight, bias = normal(width, seed=1, dtype=dtype), normal(width, seed=2, dtype=dtype)
    wide = [a.astype("float64") for a in (x, weight, bias)]
    truth = plain("layer_norm")(*wide, eps=1e-5).astype(dtype)
    # The mean is off by half an ulp of it for each term of its sum, and all is divided by the
    # deviation; then come as many terms of the variance, and six steps.
    deviation = numpy.sqrt(wide[0].var(axis=-1, keepdims=True) + 1e-5)
    reach = (numpy.abs(wide[0]).max(axis=-1, keepdims=True) / deviation + 1) * numpy.abs(weight)
    of = (reach * (1 + numpy.abs(truth)) + numpy.abs(bias)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("refimpl.ops.fused.norms.BLOCK", 3 * width)
        y = TWINS["layer_norm"](x, weight, bias, eps=1e-5)
    assert_ulps(y, truth, ulps=2 * width + 6, of=of)


@both
def test_a_large_mean_does_no_more_harm_than_in_the_plain_operation(dtype):
    x = normal(50, 768, dtype=dtype) + numpy.asarray(10.0**4, dtype)
    one, zero = numpy.ones(768, dtype), numpy.zeros(768, dtype)
    truth = plain("layer_norm")(*(a.astype("longdouble") for a in (x, one, zero)), eps=1e-5)
    twin, written = (
        numpy.abs(f(x, one, zero, eps=1e-5) - truth).max()
        for f in (TWINS["layer_norm"], plain("layer_norm"))
    )
    assert twin <= 2 * written


# --- attention ------------------------------------------------------------------------------------


def attention_truth(query, key, value, **options):
    wide = {
        k: v.astype("float64") if isinstance(v, numpy.ndarray) and v.dtype.kind == "f" else v
        for k, v in options.items()
    }
    arrays = (x.astype("float64") for x in (query, key, value))
    return plain("scaled_dot_product_attention")(*arrays, **wide).context


def assert_attention(actual, query, key, value, head_mask=None, **options):
    """A score is a sum of K products, which exp turns into a factor; then come two sums over T."""
    truth = attention_truth(query, key, value, head_mask=head_mask, **options)
    scores = numpy.abs(query).astype("float64") @ numpy.abs(key).astype("float64").swapaxes(2, 3)
    if options.get("position_scores") is not None:
        scores = scores + numpy.abs(options["position_scores"])
    reach = 1 + scores.max(axis=(2, 3), keepdims=True) * abs(options["scale"])
    size = reach * numpy.abs(value).max(axis=(2, 3), keepdims=True)
    of = size if head_mask is None else size * numpy.abs(head_mask)[:, None, None]
    of = numpy.broadcast_to(of, truth.shape).astype(query.dtype)
    count = query.shape[-1] + 2 * key.shape[2] + 10
    assert_ulps(actual, truth.astype(query.dtype), ulps=count, of=of)


MASKS = {
    "all": lambda B, S, T: numpy.ones((B, 1, 1, T), bool),
    "padding": lambda B, S, T: (numpy.arange(T) < numpy.arange(1, B + 1)[:, None])[:, None, None],
    "none": lambda B, S, T: numpy.zeros((B, 1, 1, T), bool),
    "causal": lambda B, S, T: numpy.tri(S, T, T - S, dtype=bool)[None, None],
    "of each query": lambda B, S, T: numpy.random.default_rng(0).random((B, 1, S, T)) > 0.5,
}


@pytest.mark.parametrize("mask", MASKS)
@both
@given(data=st.data())
@settings(max_examples=15)
def test_attention_is_within_the_roundings_of_its_sums(mask, dtype, data):
    B, H, S, T, K = (data.draw(st.integers(1, 6)) for _ in range(5))
    seed, size = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([1.0, 9.0]))
    query, key, value = (
        normal(B, n, H, K, seed=seed + i, dtype=dtype).swapaxes(1, 2) * numpy.asarray(size, dtype)
        for i, n in enumerate((S, T, T))
    )
    options = {
        "mask": MASKS[mask](B, S, T),
        "scale": 0.5,
        "position_scores": data.draw(st.sampled_from([None, normal(B, H, S, T, dtype=dtype)])),
        "head_mask": data.draw(
            st.sampled_from([None, normal(H, dtype=dtype), numpy.zeros(H, dtype)])
        ),
        "softmax": data.draw(st.sampled_from([ops.softmax, ops.softmax_float32])),
    }  # fmt: skip
    for tile in (attention.TILE, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(attention, "TILE", tile)
            found = TWINS["scaled_dot_product_attention"](query, key, value, **options)
        assert_attention(found.context, query, key, value, **options)
        assert found[1:] == (None, None, None)


@pytest.mark.parametrize("tile", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("mask", MASKS)
@every
def test_attention_in_tiles_of_keys(tile, mask, dtype):
    query, key, value = (normal(2, 3, n, 5, seed=n, dtype=dtype) for n in (4, 7, 7))
    options = {"mask": MASKS[mask](2, 4, 7), "scale": 0.5, "head_mask": normal(3, dtype=dtype)}
    options["position_scores"] = normal(2, 3, 4, 7, dtype=dtype)
    found = ops.tiled_attention(query, key, value, tile=tile, **options)
    assert_attention(found, query, key, value, **options)


@pytest.mark.parametrize("size", [80.0, -80.0])
@both
def test_scores_far_from_zero(size, dtype):
    query = numpy.asarray([[[[size], [1.0]]]], dtype)
    key, value = numpy.asarray([[[[1.0], [0.5], [-1.0]]]], dtype), normal(1, 1, 3, 4, dtype=dtype)
    options = {"mask": numpy.ones((1, 1, 1, 3), bool), "scale": 1.0}
    twin = TWINS["scaled_dot_product_attention"](query, key, value, **options).context
    assert_attention(twin, query, key, value, **options)
    for tile in (1, 2):
        tiled = ops.tiled_attention(query, key, value, tile=tile, **options)
        assert_attention(tiled, query, key, value, **options)


def test_a_masked_key_changes_no_bit(parts):
    query, key, value = (normal(2, 3, 6, 5, seed=i, dtype="float32") for i in range(3))
    mask = numpy.ones((2, 1, 1, 6), bool)
    mask[..., 4] = False
    twin = TWINS["scaled_dot_product_attention"]
    before = twin(query, key, value, mask=mask, scale=0.4).context
    key[:, :, 4], value[:, :, 4] = 1e4, -1e4
    assert_same(twin(query, key, value, mask=mask, scale=0.4).context, before)


@every
def test_another_softmax_and_float16_are_the_plain_operation(dtype):
    query, key, value = (normal(2, 3, 4, 5, seed=i, dtype=dtype) for i in range(3))
    options = {"mask": numpy.ones((2, 1, 1, 4), bool), "scale": 0.5}
    if dtype != "float16":
        options["softmax"] = lambda x: ops.softmax(2 * x)
    name = "scaled_dot_product_attention"
    for twin, written in zip(
        TWINS[name](query, key, value, **options), plain(name)(query, key, value, **options),
        strict=True,
    ):  # fmt: skip
        assert_same(twin, written)


# --- all of them ----------------------------------------------------------------------------------


CALLS = {
    "linear": lambda d: ((normal(60, 7, dtype=d), normal(9, 7, dtype=d), normal(9, dtype=d)), {}),
    "layer_norm": lambda d: (
        (normal(60, 7, dtype=d), normal(7, dtype=d), normal(7, dtype=d)), {"eps": 1e-5}
    ),
    "scaled_dot_product_attention": lambda d: (
        tuple(normal(2, 3, 6, 5, seed=i, dtype=d) for i in range(3)),
        {"mask": MASKS["padding"](2, 6, 6), "scale": 0.3, "head_mask": normal(3, dtype=d)},
    ),
    **{name: lambda d: ((normal(30, 7, dtype=d),), {}) for name in (*SAME_BITS, "gelu_erf")},
}  # fmt: skip


def flat(result):
    return tuple(result) if isinstance(result, tuple) else (result,)


def test_every_twin_has_a_call():
    assert set(CALLS) == set(TWINS)


@pytest.mark.parametrize("name", CALLS)
@every
def test_arguments_are_not_written_to_and_dtypes_stay(name, dtype, parts):
    arguments, options = CALLS[name](dtype)
    given = [*arguments, *(x for x in options.values() if isinstance(x, numpy.ndarray))]
    for x in given:
        x.flags.writeable = False
    before = [x.tobytes() for x in given]
    results = [x for x in flat(TWINS[name](*arguments, **options)) if x is not None]
    assert [x.tobytes() for x in given] == before
    assert {x.dtype.name for x in results} == {dtype}
    assert not any(numpy.shares_memory(x, y) for x in results for y in given)


@pytest.mark.parametrize("name", CALLS)
@both
def test_the_same_bits_every_time(name, dtype, parts):
    arguments, options = CALLS[name](dtype)
    first, second = (TWINS[name](*arguments, **options) for _ in range(2))
    for a, b in zip(flat(first), flat(second), strict=True):
        assert (a is None and b is None) or a.tobytes() == b.tobytes()


# --- memory ---------------------------------------------------------------------------------------

PAGES = """
import resource
import numpy
from refimpl.ops.fused.numpy import TWINS

def run(calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        TWINS["gelu_erf"](TWINS["linear"](x, weight))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

x, weight = numpy.ones((128, 64), "float32"), numpy.ones((3072, 64), "float32")
run(3)
print(run(50))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc keeps memory")
def test_memory_is_used_again_and_not_mapped_anew():
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50  # pages; without what glibc keeps 768 for each call
