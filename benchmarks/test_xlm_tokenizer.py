"""How fast XLM's tokenizer is, beside transformers' own: the same lines, the same ids, in one run.

    pytest benchmarks/test_xlm_tokenizer.py          (needs the oracle extra and pytest-benchmark)

Whole calls, 10,000 real lines each, one thread, processor time. The two take turns, and each
forgets all words before its turn, as both remember the tokens of words that they have seen; what
they read from files stays read. The vocabulary is the published one where REFIMPL_PUBLISHED names
its folder, else the toy one. The best turn of each counts.
"""

import time

import pytest

from refimpl.tokenizers.xlm.tokenizer import XLMTokenizer
from tests.oracle import corpus
from tests.tokenizers.xlm import toy as xlm_toy

transformers = pytest.importorskip("transformers")

LINES = 10_000
TURNS = 5
LEAST = 3.0  # how many times as fast ours is to be


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that both read."""
    try:
        return xlm_toy.published()
    except pytest.skip.Exception:
        return xlm_toy.write(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def theirs(folder):
    """The original."""
    return transformers.XLMTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def ours(folder):
    """Ours."""
    return XLMTokenizer.from_folder(folder)


def real_lines(of):
    """Return 10,000 lines of catalogues whose language begins so."""
    lines = [(name, line) for name, line in corpus.all_lines() if name.startswith(of)]
    if len(lines) < LINES:
        pytest.skip(f"{corpus.LOCALES} holds {len(lines)} lines of {of or 'any language'}")
    return [line for _, line in lines[:LINES]]


def timed(call, texts):
    """Return the processor time of a call, in seconds, and the ids."""
    start = time.process_time()
    ids = call(texts)["input_ids"]
    return time.process_time() - start, ids


@pytest.mark.parametrize("of", ["", "en"], ids=["all languages", "English"])
def test_whole_calls(benchmark, theirs, ours, of):
    """The same ids, at least three times as fast."""
    texts = real_lines(of)
    theirs("the"), ours("the")
    times = {"theirs": [], "ours": []}
    for _ in range(TURNS):
        theirs.cache.clear()
        seconds, expected = timed(theirs, texts)
        times["theirs"].append(seconds)
        ours._cache.clear()
        seconds, ids = timed(ours, texts)
        times["ours"].append(seconds)
        assert ids == expected
    ratio = min(times["theirs"]) / min(times["ours"])
    benchmark.extra_info["times as fast"] = round(ratio, 2)
    benchmark.extra_info["lines a second"] = round(LINES / min(times["ours"]))
    benchmark.pedantic(ours, args=(texts,), setup=ours._cache.clear, rounds=3)
    print(f"\n{ratio:.2f} times as fast, {LINES / min(times['ours']):.0f} lines a second")
    assert ratio >= LEAST
