"""The same code on a GPU. Skipped by name where there is none; ``pytest -m gpu`` runs these alone.

``pytest --backend cupy`` runs these and all other tests that take a backend.
"""

import json

import numpy
import pytest

import refimpl
from refimpl import ops
from refimpl.backend import get_backend, namespace, to_numpy
from refimpl.models.model import load
from refimpl.ops.fused import twins
from refimpl.parity.goldens import bundled, case_name, find_goldens, flatten, read_golden
from refimpl.replacing import replace
from tests.compare import assert_same
from tests.ops.test_strict import every_call, flat, prepare


def there_is_a_gpu():
    try:
        get_backend("cupy")
    except (refimpl.MissingExtra, RuntimeError):
        return False
    return True


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not there_is_a_gpu(), reason="needs CuPy and a CUDA device"),
]

FOLDERS = find_goldens()
# Sums in another order: a row of 35 products at most, each rounded by half an ulp of the largest;
# and as many again for the functions of another library.
ROUNDINGS = 64
every_float = pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
plain_and_fused = pytest.mark.parametrize("kernels", ["plain", "fused"])


@every_float
@plain_and_fused
def test_all_bundled_goldens_hold_on_the_gpu(dtype, kernels):
    report = refimpl.verify(backend="cupy", dtype=dtype, kernels=kernels)
    assert report.exit_code == 0, [(c.name, c.error, c.first) for c in report.cases if not c.held]
    assert len(report.cases) == len(FOLDERS)


@every_call
@every_float
@plain_and_fused
def test_an_operation_on_the_gpu_is_the_operation_on_the_host(name, call, dtype, kernels):
    backend = get_backend("cupy")
    arguments, options = prepare(call, dtype, lambda x: x)
    here = flat(getattr(ops, name)(*arguments, **options))
    arguments, options = prepare(call, dtype, backend.asarray)
    with replace(**(twins(backend, attention_wanted=True) if kernels == "fused" else {})):
        there = flat(getattr(ops, name)(*arguments, **options))
    for gpu, host in zip(there, here, strict=True):
        assert namespace(gpu) is backend.xp
        assert gpu.device == backend.device
        host, home = numpy.asarray(host), to_numpy(gpu)
        assert (home.dtype, home.shape) == (host.dtype, host.shape)
        if host.dtype.kind != "f":
            assert_same(home, host)
            continue
        finite = numpy.isfinite(host)
        assert_same(numpy.isfinite(home), finite)
        unit = numpy.finfo(dtype).eps * max(1.0, numpy.abs(host[finite]).max())
        assert numpy.abs(home[finite] - host[finite]).max() <= ROUNDINGS * unit


@plain_and_fused
def test_the_same_call_gives_the_same_bits(kernels):
    """Nothing is summed in an order that the GPU chooses anew."""
    model = load(bundled() / "xlm_roberta" / "model", backend="cupy", kernels=kernels)
    outputs = [model(input_ids=[[0, 5, 6, 7, 2]]).last_hidden_state for _ in range(5)]
    for x in outputs:
        assert_same(to_numpy(x), to_numpy(outputs[0]))


@pytest.mark.parametrize("folder", FOLDERS, ids=case_name)
def test_bfloat16_computes(folder):
    """Its error is judged in docs/gpu-validation.md; here: that every operation takes it."""
    golden = read_golden(folder)
    outputs = flatten(load(folder, dtype="bfloat16", backend="cupy")(**golden.inputs()))
    for name, truth in golden.part("output").items():
        assert_same(numpy.isfinite(to_numpy(outputs[name])), numpy.isfinite(truth))


def test_outputs_stay_on_the_device_and_inputs_may_be_there():
    model = load(bundled() / "xlm_roberta" / "model", dtype="float64", backend="cupy")
    ids = [[0, 5, 6, 2], [0, 7, 2, 1]]
    from_list = model(input_ids=ids).last_hidden_state
    from_device = model(input_ids=model.backend.asarray(ids)).last_hidden_state
    assert namespace(from_list) is model.backend.xp
    assert_same(to_numpy(from_list), to_numpy(from_device))


def test_an_id_out_of_range_is_refused_where_cupy_would_wrap_it():
    model = load(bundled() / "xlm_roberta" / "model", backend="cupy")
    with pytest.raises(ValueError, match=r"^input_ids: expected"):
        model(input_ids=[[0, 10**6, 2]])


def test_a_second_gpu_computes_the_same():
    if get_backend("cupy").xp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two CUDA devices")
    folder = bundled() / "xlm_roberta" / "model"
    first, second = (load(folder, backend=name) for name in ("cupy:0", "cupy:1"))
    ids = [[0, 5, 6, 7, 2]]
    there = second(input_ids=ids).last_hidden_state
    assert there.device == second.backend.device
    assert_same(to_numpy(there), to_numpy(first(input_ids=ids).last_hidden_state))


def generating():
    """The cases whose class continues a text."""
    for folder in FOLDERS:
        (name,) = json.loads((folder / "config.json").read_text())["architectures"]
        if name.endswith("ForCausalLM"):
            yield folder


@pytest.mark.parametrize("folder", list(generating()), ids=case_name)
@pytest.mark.parametrize("beams", [1, 3])
def test_the_same_text_is_generated_as_on_the_host(folder, beams):
    given = {"max_new_tokens": 5, "num_beams": beams}
    texts = [
        load(folder, dtype="float64", backend=name).generate([[5, 6, 7]], **given)
        for name in ("numpy", "cupy")
    ]
    assert_same(*texts)
