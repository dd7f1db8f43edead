"""For all tests: copies of golden cases to change and to break, loaded models, steady draws.

``pytest --backend NAME`` runs the tests that depend on a backend (those that take ``backend`` or
``model``, and those marked ``gpu``), on that one alone: on a GPU, ``pytest --backend cupy``.
"""

import json
import os
import shutil
from functools import cache

import numpy
import pytest
from hypothesis import settings
from safetensors.numpy import load_file, save_file

import refimpl
from refimpl.backend import get_backend
from refimpl.models.model import load
from refimpl.parity.goldens import bundled

BACKENDS = ("numpy", "strict", "strict:device1")  # what a test of ``backend`` runs on anywhere


def pytest_addoption(parser):
    parser.addoption("--backend", help="run the tests that depend on a backend, on this one only")


def pytest_configure(config):
    chosen = config.getoption("--backend")
    if chosen is None:
        return
    try:
        get_backend(chosen)
    except (ValueError, RuntimeError, refimpl.MissingExtra) as error:
        message = str(error).removeprefix("backend: ")
        raise pytest.UsageError(f"--backend: {message}") from None


def pytest_generate_tests(metafunc):
    """Give tests of ``backend`` their backends, but for those that name others themselves."""
    named = [str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")]
    if "backend" in metafunc.fixturenames and not any("backend" in names for names in named):
        chosen = metafunc.config.getoption("--backend")
        own = metafunc.definition.get_closest_marker("backends")
        names = [chosen] if chosen else own.args if own else BACKENDS
        metafunc.parametrize("backend", names, indirect=True)


def pytest_collection_modifyitems(config, items):
    """With --backend: leave out what no backend touches, and skip what is NumPy's alone."""
    chosen = config.getoption("--backend")
    if chosen is None:
        return
    kept = [x for x in items if {"backend", "model"} & {*x.fixturenames}
            or x.get_closest_marker("gpu")]  # fmt: skip
    config.hook.pytest_deselected(items=[x for x in items if x not in set(kept)])
    items[:] = kept
    for item in items:
        alone = item.get_closest_marker("numpy_only")
        if alone is not None and chosen != "numpy":
            item.add_marker(pytest.mark.skip(reason=f"NumPy only: {alone.args[0]}"))


def case_folder(case):
    """Return the folder of a case: "xmod/model", "model" (of XLM-R), or a path as it is."""
    return bundled() / ("xlm_roberta" if "/" not in str(case) else "") / case


@pytest.hookimpl(optionalhook=True)  # there is no such hook without pytest-xdist
def pytest_xdist_setupnodes():
    """One thread for each worker of ``pytest -n``: the cores are taken by the workers."""
    for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


# The same draws in every run, and nothing kept between runs.
settings.register_profile("steady", derandomize=True, database=None, deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def backend(request):
    """The name of the backend that a test is to run on."""
    return request.param


@pytest.fixture
def checkpoint(tmp_path):
    """A function that copies a case into a folder of this test, and changes it.

    ``config`` replaces values of config.json, ``...`` removes one; ``tensors`` is a function from
    the tensors, by name, to those that are to be there instead.
    """

    def copy(case, *, config=None, tensors=None):
        folder = tmp_path / f"checkpoint_{len(list(tmp_path.iterdir()))}"
        shutil.copytree(case_folder(case), folder)
        if config is not None:
            values = json.loads((folder / "config.json").read_text()) | config
            kept = {key: value for key, value in values.items() if value is not ...}
            (folder / "config.json").write_text(json.dumps(kept))
        if tensors is not None:
            changed = tensors(load_file(folder / "model.safetensors"))
            write_tensors(folder / "model.safetensors", changed)
        return folder

    return copy


@pytest.fixture(scope="session")
def write():
    """A function that writes arrays to a safetensors file: contiguous, as the library needs."""
    return write_tensors


def write_tensors(path, tensors):
    save_file({name: numpy.array(x, order="C") for name, x in tensors.items()}, path)


@pytest.fixture(scope="session")
def model(request):
    """A function that loads a case (or a folder), once for all tests: a model never changes."""
    chosen = request.config.getoption("--backend") or "numpy"

    @cache
    def load_once(case, dtype="float64", backend=chosen):
        if dtype == "float16" and backend.startswith("strict"):
            pytest.skip(f"{backend} has no float16")
        return load(case_folder(case), dtype=dtype, backend=backend, kernels="plain")

    return load_once
