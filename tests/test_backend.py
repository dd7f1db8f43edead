"""Backends by name, their errors, and the way of an array there and back."""

import subprocess
import sys

import array_api_strict
import numpy
import pytest

import refimpl
from refimpl import ops
from refimpl.backend import (
    arange,
    descending_order,
    get_backend,
    ids_beside,
    namespace,
    to_numpy,
)
from tests.compare import assert_same

HOSTS = ["numpy", "strict", "strict:device1"]


@pytest.fixture
def name(backend):
    """Every backend's name, or that of ``--backend``."""
    return backend


# --- names ----------------------------------------------------------------------------------------


def test_a_backend_by_name(name):
    backend = get_backend(name)
    package = {"numpy": "numpy", "strict": "array_api_strict"}.get(name.partition(":")[0], "cupy")
    assert backend.xp.__name__ == package
    assert backend.asarray([1.0]).device == backend.device


def test_strict_without_a_device_is_its_cpu():
    assert get_backend("strict").device == array_api_strict.Device("CPU_DEVICE")
    assert get_backend("strict:device1").device == array_api_strict.Device("device1")


@pytest.mark.parametrize("name", ["", "torch", "Numpy", "numpy:0", "cuda", "cupy0"])
def test_an_unknown_backend(name):
    with pytest.raises(ValueError, match=f"^backend: expected 'numpy', .*, got '{name}'$"):
        get_backend(name)


def test_an_unknown_device():
    with pytest.raises(ValueError, match=r"'strict:gpu' names no device; there are .*device1"):
        get_backend("strict:gpu")
    with pytest.raises(ValueError, match=r"a CUDA device number after 'cupy:', got 'one'"):
        get_backend("cupy:one")


# --- CuPy, on any machine -------------------------------------------------------------------------


def test_cupy_without_a_gpu(monkeypatch):
    runtime = pytest.importorskip("cupy").cuda.runtime

    def no_driver():
        raise runtime.CUDARuntimeError(35)

    monkeypatch.setattr(runtime, "getDeviceCount", no_driver)
    with pytest.raises(
        RuntimeError, match=r"^backend: 'cupy' needs a CUDA GPU, and CuPy says: cuda"
    ):
        get_backend("cupy")


@pytest.mark.parametrize("count", [0, 1])
def test_cupy_with_fewer_gpus_than_asked_for(monkeypatch, count):
    runtime = pytest.importorskip("cupy").cuda.runtime
    monkeypatch.setattr(runtime, "getDeviceCount", lambda: count)
    with pytest.raises(ValueError, match=f"'cupy:1' names no device; this machine has {count}"):
        get_backend("cupy:1")


@pytest.mark.parametrize(
    ("name", "module", "message"),
    [
        ("cupy", "cupy", r"^cupy is not installed: pip install 'refimpl\[gpu\]'$"),
        ("strict", "array_api_strict", r"^array-api-strict is not .* 'refimpl\[test\]'$"),
    ],
)
def test_a_backend_that_is_not_installed(monkeypatch, name, module, message):
    monkeypatch.setitem(sys.modules, module, None)  # makes the import fail
    with pytest.raises(refimpl.MissingExtra, match=message):
        get_backend(name)


# --- namespace ------------------------------------------------------------------------------------


def test_the_namespace_of_arrays():
    strict = get_backend("strict").asarray([1.0])
    assert namespace(numpy.zeros(3), numpy.float32(1)) is numpy
    assert namespace(strict, strict) is array_api_strict


def test_two_namespaces_do_not_mix():
    strict = get_backend("strict").asarray([1.0])
    with pytest.raises(TypeError, match="one namespace, got array_api_strict, numpy"):
        namespace(numpy.zeros(1), strict)


@pytest.mark.parametrize("thing", [[1.0], 1.0, None, "x"])
def test_what_is_no_array_has_no_namespace(thing):
    with pytest.raises(TypeError, match=f"expected an array, got {type(thing).__name__}"):
        namespace(thing)


def test_two_strict_devices_do_not_meet():
    here, there = (get_backend(name).asarray([1.0]) for name in ("strict", "strict:device1"))
    with pytest.raises(ValueError, match="device"):
        ops.relu(here) + ops.relu(there)


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3, 5)])
def test_an_array_comes_home_as_it_went(name, dtype, shape):
    x = numpy.ones(shape, dtype)
    assert_same(to_numpy(get_backend(name).asarray(x)), x)


def test_a_dtype_is_changed_on_the_way(name):
    backend = get_backend(name)
    x = backend.asarray([[1, 2], [3, 4]], backend.dtype("float32"))
    assert_same(to_numpy(x), numpy.asarray([[1, 2], [3, 4]], "float32"))
    assert_same(to_numpy(backend.asarray(x, backend.dtype("float64"))), [[1.0, 2.0], [3.0, 4.0]])
    assert backend.asarray(x, backend.dtype("float64")).device == backend.device


@pytest.mark.parametrize("start", HOSTS)
@pytest.mark.parametrize("end", HOSTS)
def test_from_any_backend_to_any_other(start, end):
    x = numpy.asarray([1.5, -0.0, numpy.nan], "float32")
    moved = get_backend(end).asarray(get_backend(start).asarray(x))
    assert moved.device == get_backend(end).device
    assert_same(to_numpy(moved), x)


def test_an_array_that_is_there_is_not_copied(name):
    backend = get_backend(name)
    x = backend.asarray([1.0, 2.0])
    assert backend.asarray(x) is x
    assert backend.asarray(x, backend.dtype("float64")) is x


def test_arange_counts_on_the_device_of_its_model(name):
    backend = get_backend(name)
    x = arange(5, like=backend.asarray([1.0]))
    assert x.device == backend.device
    assert_same(to_numpy(x), numpy.arange(5, dtype="int64"))


def test_ids_go_where_the_array_is(name):
    backend = get_backend(name)
    x = ids_beside(numpy.asarray([[2, 0], [1, 1]]), backend.asarray([1.0]))
    assert x.device == backend.device
    assert namespace(x) is backend.xp
    assert_same(to_numpy(x), numpy.asarray([[2, 0], [1, 1]]))


def test_descending_order_takes_equals_as_they_stand(name):
    x = get_backend(name).asarray([[1.0, 3.0, 2.0, 3.0, 1.0], [0.0, -0.0, 5.0, 0.0, -1.0]])
    order = descending_order(x)
    assert order.device == x.device
    assert_same(to_numpy(order), numpy.asarray([[1, 3, 2, 0, 4], [2, 0, 1, 3, 4]]))


def test_to_numpy_of_a_list():
    assert_same(to_numpy([[1, 2]]), numpy.asarray([[1, 2]]))


# --- dtypes ---------------------------------------------------------------------------------------


def test_dtypes_by_name(name):
    backend = get_backend(name)
    for dtype in ("float64", "float32"):
        assert to_numpy(backend.asarray([1], backend.dtype(dtype))).dtype == dtype
    assert get_backend("numpy").dtype("float16") == numpy.float16


@pytest.mark.parametrize(
    ("name", "dtype"), [("numpy", "bfloat16"), ("strict", "bfloat16"), ("strict", "float16")]
)
def test_a_dtype_that_the_backend_lacks(name, dtype):
    with pytest.raises(ValueError, match=f"^dtype: the {name} backend has no {dtype}$"):
        get_backend(name).dtype(dtype)


@pytest.mark.parametrize("dtype", ["int64", "double", "", "ndarray"])
def test_a_dtype_that_no_backend_is_asked_for(dtype):
    with pytest.raises(ValueError, match=f"^dtype: expected one of float64, .*, got '{dtype}'$"):
        get_backend("numpy").dtype(dtype)


# --- importing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["refimpl", "refimpl.models.model"])
def test_importing_us_imports_nothing_heavy(module):
    heavy = ("cupy", "torch", "array_api_strict", "sentencepiece", "transformers")
    code = f"import {module}, sys; print(*(m for m in {heavy} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
