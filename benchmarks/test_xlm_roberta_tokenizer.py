"""How fast XLM-R's tokenizer is: whole calls against transformers' fast (Rust) one, on one thread.

    REFIMPL_PUBLISHED=... pytest benchmarks/test_xlm_roberta_tokenizer.py

The two take turns in one process, and the medians of their times are compared: a machine that is
busy is so for both. The explicit engine, which is there to be read, is measured alone, in seconds
of the processor.
"""

import os

# Read by the tokenizers library when it is first used.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import statistics
import time
from functools import cache
from pathlib import Path

import pytest

import refimpl
from refimpl.tokenizers.xlm_roberta.library import LibraryEngine
from refimpl.tokenizers.xlm_roberta.unigram import ExplicitEngine
from tests.oracle.corpus import lines

LINES = 10_000
TURNS = 7
SLOWEST_EXPLICIT = 20_000  # tokens a second


def published():
    """Return the published model file, or skip the test."""
    folder = os.environ.get("REFIMPL_PUBLISHED")
    file = Path(folder or "", "xlm-roberta", "sentencepiece.bpe.model")
    if not folder or not file.is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-roberta/sentencepiece.bpe.model")
    return file


@cache
def texts():
    """Return real lines, of many languages in turns."""
    return [line for _, line in lines(20_000)][:LINES]


@cache
def fast():
    """Return transformers' fast tokenizer of the published vocabulary."""
    transformers = pytest.importorskip("transformers")
    return transformers.XLMRobertaTokenizerFast(str(published()))


@cache
def ours():
    """Return our tokenizer of it."""
    return refimpl.load_tokenizer(published().parent, engine="library")


def medians(*calls, clock=time.perf_counter):
    """Return the median time of each call, in seconds; they take turns."""
    times = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(TURNS):
        for call, taken in zip(calls, times, strict=True):
            start = clock()
            call()
            taken.append(clock() - start)
    return [statistics.median(taken) for taken in times]


def compared(call, other, record):
    """Return how many times as fast a call is as another, and record and print it."""
    one, two = medians(call, other)
    record("seconds", round(one, 4))
    record("seconds of transformers", round(two, 4))
    record("ratio", round(two / one, 2))
    print(f"{one:.3f} s, transformers {two:.3f} s: {two / one:.2f} times as fast")
    return two / one


def test_a_call_is_as_fast_as_a_call_of_the_fast_tokenizer(record_property):
    """Compare lists of ids of 10,000 lines."""
    ratio = compared(lambda: ours()(texts()), lambda: fast()(texts()), record_property)
    assert ratio >= 1.0


def test_a_padded_and_cut_batch_is_as_fast(record_property):
    """Compare padded ids and masks of 10,000 lines."""
    keywords = {"padding": True, "truncation": True, "max_length": 128}
    ratio = compared(
        lambda: ours()(texts(), **keywords), lambda: fast()(texts(), **keywords), record_property
    )
    assert ratio >= 1.0


def test_the_engine_alone_is_as_fast_as_rust_alone(record_property):
    """Compare the library with the Rust tokenizer below the calls."""
    engine, backend = LibraryEngine(published()), fast().backend_tokenizer
    ratio = compared(
        lambda: engine.encode(texts()),
        lambda: backend.encode_batch(texts(), add_special_tokens=False),
        record_property,
    )
    assert ratio >= 1.0


def test_tokens_a_second_of_the_explicit_engine(record_property):
    """Count the tokens of a second of work."""
    engine = ExplicitEngine(published())
    some = texts()[:2000]
    n = sum(map(len, engine.encode(some)))
    (seconds,) = medians(lambda: engine.encode(some), clock=time.process_time)
    record_property("tokens a second", round(n / seconds))
    print(f"{n / seconds:,.0f} tokens a second")
    assert n / seconds >= SLOWEST_EXPLICIT


@pytest.mark.parametrize("engine", ["library", "explicit"])
def test_encode(benchmark, engine):
    """Measure each engine on 500 lines."""
    make = LibraryEngine if engine == "library" else ExplicitEngine
    made = make(published())
    some = texts()[:500]
    places = benchmark(made.encode, some)
    assert len(places) == len(some)


@pytest.mark.parametrize("engine", ["library", "explicit"])
def test_load(benchmark, engine):
    """Measure how long each engine takes to be ready."""
    make = LibraryEngine if engine == "library" else ExplicitEngine
    made = benchmark.pedantic(make, args=(published(),), rounds=3)
    assert len(made) == 250_000
