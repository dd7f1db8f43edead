"""CuPy's twins without a GPU: the kernels run on the host, and are compiled for a GPU."""

import importlib.util
import sys
from pathlib import Path

import ml_dtypes
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl import ops
from refimpl.backend import Backend
from refimpl.models.model import load
from refimpl.ops import fused as package
from refimpl.parity.compare import NORM, compare_floats
from refimpl.parity.goldens import bundled, find_goldens, flatten, read_golden
from refimpl.parity.verify import run_cases
from refimpl.replacing import plain, replace
from tests.compare import assert_same
from tests.ops import host_cuda

FOLDER = Path(package.__path__[0])
DTYPES = {name: numpy.dtype(name) for name in ("float64", "float32", "float16", "bfloat16")}
every_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
on_the_host = pytest.mark.skipif(
    not host_cuda.there_is_a_compiler, reason="needs g++, which compiles the kernels for the host"
)


@pytest.fixture(scope="module")
def fused(tmp_path_factory):
    """refimpl/ops/fused/cupy.py with a CuPy that the host plays; the true one is not needed."""
    spec = importlib.util.spec_from_file_location("fused_on_the_host", FOLDER / "cupy.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", host_cuda.HostCupy(tmp_path_factory.mktemp("cuda")))
        spec.loader.exec_module(module)
    return module


# --- the arithmetic of every kernel ---------------------------------------------------------------
#
# The truth is the plain operation in float64 of the same numbers. What a kernel writes is computed
# in COMPUTED and rounded once to STORED: half a unit of the result, and ``roundings`` (each half a
# unit in COMPUTED) of ``of``, the size of the terms that went into it. They are counted, not tuned:
# an operation is one, a function of the CUDA library up to four (2 ulp, by its documentation), and
# a sum over a row has at most SHARE + 10 of them behind one another for rows of up to 8192.
ELEMENTWISE = {  # twin -> roundings
    "erf": 4,
    "gelu_erf": 4 + 5,
    "gelu_tanh": 4 + 9,
    "silu": 2 * 4 + 4,
}


def assert_near(actual, truth, roundings, of):
    stored = actual.dtype
    computed = numpy.float64 if stored == numpy.float64 else numpy.float32
    here, wide = ml_dtypes.finfo(stored), numpy.finfo(computed)
    once = numpy.maximum(numpy.abs(truth) * float(here.eps), float(here.smallest_subnormal)) / 2
    bound = once + roundings * float(wide.eps) / 2 * of + float(wide.smallest_subnormal)
    assert (numpy.abs(numpy.asarray(actual, "f8") - truth) <= bound).all()


def rows(largest, width):
    """Rows of real numbers, some of them large."""
    shape = st.tuples(st.integers(1, 9), st.integers(1, width))
    return arrays("f8", shape, elements=st.floats(-largest, largest, width=32))


def frozen(x, dtype):
    """An array of a dtype that nobody may write into, in the way of CuPy's."""
    x = host_cuda.hosted(numpy.asarray(x).astype(dtype))
    x.flags.writeable = False
    return x


def wide(*given):
    return [numpy.asarray(x, "f8") for x in given]


@on_the_host
@every_dtype
@pytest.mark.parametrize("name", ELEMENTWISE)
@given(drawn=rows(30.0, 40))
def test_an_activation_is_within_its_roundings_of_the_truth(fused, name, dtype, drawn):
    x = frozen(drawn, dtype)
    (exact,) = wide(x)
    actual = fused.TWINS[name](x)
    assert (actual.dtype, actual.shape) == (dtype, x.shape)
    of = numpy.abs(ops.erf(exact) if name == "erf" else exact)
    # The truth has errors of its own, in float64: as many again.
    assert_near(actual, plain(name)(exact), 2 * ELEMENTWISE[name], of)


@on_the_host
@every_dtype
@pytest.mark.parametrize("width", [1, 2, 31, 32, 33, 257, 2049, 8192])
def test_normalisations_are_within_their_roundings_of_the_truth(fused, dtype, width):
    draw = numpy.random.default_rng(width)
    x, weight, bias = (
        frozen(draw.standard_normal(shape) * size, dtype)
        for shape, size in (((3, 5, width), 4.0), (width, 1.0), (width, 1.0))
    )
    exact = numpy.asarray(x, "f8")
    of_sum = fused.SHARE + 10
    below = numpy.abs(exact - exact.max(axis=-1, keepdims=True))
    for name in ("softmax", "softmax_float32"):
        truth = ops.softmax(exact)
        assert_near(fused.TWINS[name](x), truth, 2 * (of_sum + 2 * 4 + 3), truth * (1 + below))
    truth = ops.log_softmax(exact)
    of = 1 + below + numpy.abs(truth)
    assert_near(fused.TWINS["log_softmax"](x), truth, 2 * (of_sum + 2 * 4 + 3), of)

    truth = ops.layer_norm(*wide(x, weight, bias), eps=1e-5)
    deviation = numpy.sqrt(exact.var(axis=-1, keepdims=True) + 1e-5)
    of = numpy.abs(exact).max(axis=-1, keepdims=True) / deviation * numpy.abs(wide(weight)[0])
    actual = fused.layer_norm(x, weight, bias, eps=1e-5)
    assert_near(actual, truth, 2 * (2 * of_sum + 8), of * (1 + of.max()) + numpy.abs(truth) + 1)


@st.composite
def attentions(draw):
    """Query, key, value, a mask that broadcasts, and perhaps what positions add and a head mask."""
    batch, heads, queries, keys, size = (draw(st.integers(1, n)) for n in (3, 3, 5, 40, 9))
    numbers = numpy.random.default_rng(draw(st.integers(0, 9999)))
    full = (batch, heads, queries, keys)
    given = [numbers.standard_normal((batch, heads, n, size)) for n in (queries, keys, keys)]
    mask = numbers.random([n if draw(st.booleans()) else 1 for n in full]) < 0.7
    further = {}
    if draw(st.booleans()):
        further["position_scores"] = numbers.standard_normal(full)
    if draw(st.booleans()):
        further["head_mask"] = numbers.standard_normal(heads)
    return given, mask, further


def seen_from_afar(x):
    """The same numbers, laid out as :func:`refimpl.ops.split_heads` leaves them."""
    return host_cuda.hosted(numpy.moveaxis(numpy.moveaxis(x, 1, 2).copy(), 1, 2))


@on_the_host
@every_dtype
@pytest.mark.parametrize("wanted", [False, True])
@given(drawn=attentions())
def test_attention_is_within_its_roundings_of_the_truth(fused, dtype, wanted, drawn):
    given, mask, further = drawn
    q, k, v = (seen_from_afar(frozen(x, dtype)) for x in given)
    further = {name: frozen(x, dtype) for name, x in further.items()}
    actual = fused.scaled_dot_product_attention(
        wanted, q, k, v, mask=host_cuda.hosted(mask), scale=0.3, **further
    )
    exact = {name: numpy.asarray(x, "f8") for name, x in further.items()}
    truth = ops.scaled_dot_product_attention(*wide(q, k, v), mask=mask, scale=0.3, **exact)
    assert_attention_near(actual, truth, wide(q, k, v), exact, dtype, wanted)


def assert_attention_near(actual, truth, given, further, dtype, wanted):
    """A score that was rounded to STORED moves every weight of its row in proportion, as does the
    rounding of the weight, and of what the head mask leaves of it.
    """
    q, k, v = map(numpy.abs, given)
    size = 0.3 * (q @ k.swapaxes(2, 3) + numpy.abs(further.get("position_scores", 0.0)))
    kept = numpy.abs(further.get("head_mask", numpy.ones(1)))[:, None, None]
    unit = float(ml_dtypes.finfo(dtype).eps)
    apart = unit * (size.max() * (q.shape[-1] + 4) + 18 + 24)  # 18: of the sum, 24: exp and others
    of_weights = truth.probs * apart * numpy.exp(apart)
    if wanted:
        assert_near(actual.scores, truth.scores, 2 * (q.shape[-1] + 4), size)
        assert (numpy.abs(numpy.asarray(actual.probs, "f8") - truth.probs) <= of_weights).all()
    else:
        assert actual[1:] == (None, None, None)
    of_sum = unit * (truth.probs * kept) @ v * (k.shape[2] + 1)
    bound = (of_weights * kept) @ v + of_sum + float(ml_dtypes.finfo(dtype).smallest_normal)
    assert (numpy.abs(numpy.asarray(actual.context, "f8") - truth.context) <= bound).all()


@on_the_host
@every_dtype
def test_a_query_that_may_look_at_nothing_looks_at_all_alike(fused, dtype):
    draw = numpy.random.default_rng(0)
    q, k, v = (frozen(draw.standard_normal((1, 2, 3, 4)), dtype) for _ in range(3))
    nothing = host_cuda.hosted(numpy.zeros((1, 1, 1, 3), bool))
    probs = fused.scaled_dot_product_attention(True, q, k, v, mask=nothing, scale=1.0).probs
    assert_same(probs.astype("f8"), numpy.full((1, 2, 3, 3), numpy.asarray(1 / 3, dtype), "f8"))


@on_the_host
@every_dtype
def test_nan_and_infinity_come_out_as_of_the_plain_operations(fused, dtype):
    x = numpy.random.default_rng(0).standard_normal((4, 35))
    x[0, 7], x[1, 33], x[2, 0], x[3] = numpy.nan, numpy.inf, -numpy.inf, -numpy.inf
    with numpy.errstate(all="ignore"):
        for name in (*ELEMENTWISE, "softmax", "log_softmax"):
            actual, truth = fused.TWINS[name](frozen(x, dtype)), plain(name)(x)
            for what in (numpy.isnan, numpy.isposinf, numpy.isneginf):
                assert_same(what(numpy.asarray(actual, "f8")), what(truth))


@on_the_host
def test_the_order_in_which_threads_run_changes_no_bit(fused, monkeypatch):
    draw = numpy.random.default_rng(0)
    x, weight, bias = (frozen(draw.standard_normal(n), "f4") for n in ((9, 3001), 3001, 3001))

    def all_rows():
        return [fused.TWINS[name](x) for name in ("softmax", "log_softmax")] + [
            fused.layer_norm(x, weight, bias, eps=1e-5)
        ]

    forwards = all_rows()
    monkeypatch.setattr(host_cuda.HostCupy, "backwards", 1)
    for there, back in zip(forwards, all_rows(), strict=True):
        assert_same(back, there)


@given(rows=st.integers(1, 10**6), width=st.integers(1, 300_000))
def test_blocks_cover_every_row(fused, rows, width):
    (blocks,), (along, together) = fused.over_rows(rows, width)
    assert (blocks - 1) * together < rows <= blocks * together
    assert along * together <= 1024
    assert together == 1 or along == 32  # rows that share a block have a warp each
    assert along & (along - 1) == 0  # a power of two, as the joins of warps need it


# --- what the kernels are not written for ---------------------------------------------------------


@on_the_host
def test_other_arrays_go_to_the_plain_operations(fused):
    real = host_cuda.hosted(numpy.ones((2, 3)))
    mixed = host_cuda.hosted(numpy.ones(3, "f4"))
    assert_same(fused.linear(real, mixed[None], mixed[:1]), numpy.full((2, 1), 4.0))
    assert_same(fused.layer_norm(real, mixed, mixed, eps=1.0), numpy.ones((2, 3)))
    assert fused.TWINS["gelu_erf"](real[:0]).shape == (0, 3)
    assert fused.TWINS["silu"](real.astype("longdouble")).dtype == "longdouble"
    with pytest.raises(TypeError, match="expected float64, float32 or float16, got int64"):
        fused.TWINS["erf"](numpy.ones(3, "i8"))


@on_the_host
def test_attention_with_a_softmax_of_another_is_plain(fused):
    given = (host_cuda.hosted(numpy.ones((1, 1, 2, 2))),) * 3
    result = fused.scaled_dot_product_attention(
        False, *given, mask=numpy.ones((1, 1, 1, 2), bool), scale=1.0, softmax=numpy.zeros_like
    )
    assert_same(result.probs, numpy.zeros((1, 1, 2, 2)))


# --- whole models ---------------------------------------------------------------------------------


@on_the_host
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_all_goldens_hold_on_the_kernels(fused, dtype):
    folders = find_goldens()
    with replace(**fused.twins(attention_wanted=True)):
        reports = list(run_cases(folders, "numpy", dtype, "plain"))
    assert [r.first or r.error for r in reports if not r.held] == []
    assert len(reports) == len(folders)


@on_the_host
def test_outputs_are_the_same_where_nobody_wants_scores(fused):
    judged = 0
    for folder in find_goldens():
        golden = read_golden(folder)
        if golden.description["flags"].get("output_attentions"):
            continue
        with replace(**fused.twins(attention_wanted=False)):
            outputs = load(folder, dtype="float64", kernels="plain")(**golden.inputs())
        for name, x in flatten(outputs).items():
            if x.dtype.kind == "f":
                truth = golden.part("output")[name]
                assert compare_floats(name, numpy.asarray(x), truth, NORM, "float64").ok, name
                judged += 1
    assert judged > len(find_goldens())


@on_the_host
def test_a_forward_pass_in_bfloat16_is_as_near_as_its_digits_allow(fused, monkeypatch):
    """bfloat16 has 3 bits less than float16: an error 8 times as large, and 4 for how it falls."""
    monkeypatch.setattr(Backend, "dtype", lambda self, name: numpy.dtype(name))
    for case in ("xlm/model", "xlm_roberta/model", "xlm_roberta_xl/model", "xmod/model"):
        golden = read_golden(bundled() / case)
        truth, error = golden.part("output")["last_hidden_state"], {}
        for dtype in ("float16", "bfloat16"):
            model = load(golden.folder, dtype=dtype)
            with replace(**fused.twins(attention_wanted=False)):
                out = model(**golden.inputs()).last_hidden_state
            assert out.dtype == dtype
            error[dtype] = numpy.abs(out.astype("f8") - truth).max()
        assert 0 < error["bfloat16"] <= 8 * 4 * error["float16"], case


# --- the compiler ---------------------------------------------------------------------------------


def nvrtc():
    """CuPy's binding of the compiler, or None where the compiler is not installed."""
    try:
        from cupy.cuda import nvrtc as found

        found.getVersion()
    except (ImportError, RuntimeError):
        return None
    return found


def compiled(source, options):
    """Compile CUDA C++ as CuPy does; return the compiler's log."""
    import cupy

    headers = "".join(f"#include <{name}>\n" for name in cupy._core.core._cupy_header_list)
    compiler = nvrtc()
    program = compiler.createProgram(headers + source, "kernels.cu", (), ())
    try:
        compiler.compileProgram(program, cupy._core.core.assemble_cupy_compiler_options(options))
    except compiler.NVRTCError:
        raise AssertionError(compiler.getProgramLog(program)) from None
    finally:
        log = compiler.getProgramLog(program)
        compiler.destroyProgram(program)
    return log


@pytest.mark.skipif(nvrtc() is None, reason="needs CuPy and NVRTC (nvidia-cuda-nvrtc)")
@pytest.mark.parametrize("chip", ["compute_80", "compute_90"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_compiles_for_a_gpu(fused, dtype, chip):
    source = (FOLDER / "kernels.cu").read_text(encoding="utf-8")
    assert compiled(source, (*fused.options(dtype), f"-arch={chip}")).strip("\x00\n ") == ""


@pytest.mark.skipif(nvrtc() is None, reason="needs CuPy and NVRTC (nvidia-cuda-nvrtc)")
def test_a_kernel_that_does_not_compile_is_found():
    with pytest.raises(AssertionError, match=r"identifier .* is undefined"):
        compiled('extern "C" __global__ void f(STORED* x) {}', ("-arch=compute_80",))
