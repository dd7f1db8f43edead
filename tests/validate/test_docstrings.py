"""The examples in docstrings of bulk runs and timing."""

import doctest
from importlib import import_module

import pytest

MODULES = ("validate.accuracy", "validate.answers", "validate.batches", "validate.entities",
           "validate.pseudo_perplexity", "validate.spans", "validate.task", "cli.validate",
           "cli.bench", "bench.batches", "bench.clock", "bench.profile")  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    failed, tried = doctest.testmod(import_module(f"refimpl.{name}"))
    assert (failed, tried > 0) == (0, True)
