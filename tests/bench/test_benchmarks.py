"""The studies behind docs/performance.md, on a tiny model: they run, and make tables."""

import doctest
import json
from functools import partial
from importlib import import_module
from itertools import pairwise

import pytest

from benchmarks import __main__ as program
from benchmarks import tables
from refimpl.bench import clock
from refimpl.bench.models import Subject

STUDIES = ("forward", "padded", "kernels", "profiles", "sides")


@pytest.fixture
def small(monkeypatch):
    """Every study with a tiny model, in one turn."""
    monkeypatch.setattr(clock, "PAUSE", 0)
    monkeypatch.setattr(clock, "LEAST_SECONDS", 0)
    for name in STUDIES:
        study = import_module(f"benchmarks.{name}")
        monkeypatch.setattr(study, "Subject", partial(Subject, size="tiny"))
        if hasattr(study, "TURNS"):
            monkeypatch.setattr(study, "TURNS", 1)
        if hasattr(study, "SHAPES"):
            monkeypatch.setattr(study, "SHAPES", "1x4,2x8")
    monkeypatch.setattr("benchmarks.forward.SHARE_OF", "2x8")


@pytest.mark.parametrize("name", ["kernels", "profiles"])
@pytest.mark.usefixtures("small")
def test_a_study_gives_figures_and_a_table(name):
    figures = json.loads(json.dumps(import_module(f"benchmarks.{name}").measure()))
    text = import_module(f"benchmarks.{name}").table(figures)
    assert_is_tables(text)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["forward", "padded", "sides"])
@pytest.mark.usefixtures("small")
def test_a_study_beside_pytorch_gives_figures_and_a_table(name):
    figures = json.loads(json.dumps(import_module(f"benchmarks.{name}").measure()))
    text = import_module(f"benchmarks.{name}").table(figures)
    assert_is_tables(text)
    assert name == "sides" or "met" in text or "missed by" in text


@pytest.mark.oracle
@pytest.mark.usefixtures("small")
def test_both_sides_spend_time_on_every_kind_of_operation():
    for sides in import_module("benchmarks.sides").measure()["sides"].values():
        for kinds in sides.values():
            assert min(kinds.values()) > 0, kinds


def assert_is_tables(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) > 2
    heads = [i for i, line in enumerate(lines) if line.startswith("|---")]
    for head, after in pairwise([*heads, len(lines) + 1]):
        assert len({line.count("|") for line in lines[head - 1 : after - 1]}) == 1


def test_the_cold_start_and_the_gpu_have_tables_too():
    seconds = {"refimpl": [1.0, 2.0], "transformers": [8.0]}
    peak = {"refimpl": [2e9], "transformers": [2e9]}
    figures = {"same_answers": True, "seconds": seconds, "peak_bytes": peak}
    text = import_module("benchmarks.cold").table(figures)
    assert "| 0.125 | 0.25: met |" in text
    assert "| 1.000 | 0.80: missed by 0.2 |" in text
    torch = {"best": 1.0, "ratio_of_best": 1.2, "difference": 1e-3}
    one = {"size": "base", "dtype": "float16", "batch": "8x512", "best": 1.2, "peak_bytes": 1,
           "share_of_peak": 0.5,
           "against": {"torch eager": torch, "torch sdpa": torch}}  # fmt: skip
    assert "missed by 0.1" in import_module("benchmarks.gpu").table({"measurements": [one]})


def test_what_was_not_measured_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    assert program.table_of("gpu") == "Not measured yet: `python -m benchmarks gpu`."


def test_the_page_has_a_place_for_every_study():
    page = program.PAGE.read_text(encoding="utf-8")
    for name in program.STUDIES:
        assert page.count(f"<!-- {name} -->\n") == 1


@pytest.mark.parametrize("module", [tables, program, import_module("benchmarks.padded")])
def test_examples_in_docstrings(module):
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)
