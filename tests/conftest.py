"""For all tests: copies of golden cases to change and to break, loaded models, steady draws."""

import json
import os
import shutil
from functools import cache

import numpy
import pytest
from hypothesis import settings
from safetensors.numpy import load_file, save_file

from refimpl.models.model import load
from refimpl.parity.goldens import bundled


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
def model():
    """A function that loads a case (or a folder), once for all tests: a model never changes."""
    return cache(
        lambda case, dtype="float64", backend="numpy": load(
            case_folder(case), dtype=dtype, backend=backend, kernels="plain"
        )
    )
