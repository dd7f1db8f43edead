"""Work shared among threads: all of it is done once, errors arrive, nothing stays behind."""

import multiprocessing
import threading

import numpy
import pytest

from refimpl import ops
from refimpl.backend import get_backend
from refimpl.ops import fused
from refimpl.ops.fused import threads
from refimpl.replacing import replace
from tests.compare import assert_same

linear = fused.twins(get_backend("numpy"), False)["linear"]
X = numpy.random.default_rng(0).standard_normal((600, 64)).astype("float32")


@pytest.fixture(params=[1, 2, 5])
def count(request, monkeypatch):
    """Pretend that there are so many cores."""
    monkeypatch.setattr(threads, "count", lambda: request.param)
    return request.param


@pytest.mark.parametrize("parts", [0, 1, 2, 100])
def test_every_part_is_done_once(count, parts):
    done = []
    threads.share(done.append, range(parts))
    assert sorted(done) == list(range(parts))


def test_what_a_part_raises_is_raised_when_all_have_ended(count):
    done = []

    def work(part):
        done.append(part)
        if part == 3:
            raise KeyError("three")

    with pytest.raises(KeyError, match="three"):
        threads.share(work, range(20))
    assert sorted(done) == list(range(20))
    threads.share(done.append, [20])
    assert 20 in done


def test_parts_see_what_the_caller_has_set(count):
    seen = set()

    def work(_):
        seen.add((ops.relu(-1.0), numpy.geterr()["over"]))

    with replace(relu=abs), numpy.errstate(over="call"):
        threads.share(work, range(50))
    assert seen == {(1.0, "call")}


def test_a_part_that_shares_does_it_alone(count):
    done = []

    def work(i):
        name = threading.current_thread().name
        threads.share(lambda j: done.append((i, j, threading.current_thread().name)), range(3))
        assert {who for of, _, who in done if of == i} == {name}

    threads.share(work, range(3))
    assert sorted(d[:2] for d in done) == [(i, j) for i in range(3) for j in range(3)]
    assert not threads.inside()


def test_the_same_bits_run_after_run(count):
    assert len({linear(X, X).tobytes() for _ in range(5)}) == 1


def test_the_matrix_library_gets_its_threads_back():
    library = threads.blas()
    if library is None:
        pytest.skip("NumPy has another matrix library here")
    before = library.get()
    inside = []
    threads.share(lambda _: inside.append((library.get(), threads.count())), range(4))
    with pytest.raises(ZeroDivisionError):
        threads.share(lambda _: 1 / 0, range(4))
    assert set(inside) == {(1, before)}
    assert library.get() == before


def test_another_matrix_library(monkeypatch):
    monkeypatch.setattr(threads, "blas", lambda: None)
    assert threads.count() >= 1
    assert_same(linear(X, X), ops.linear(X, X))
    threads.share(lambda _: None, range(4))


def test_many_threads_share_at_once():
    expected, found = linear(X, X), {}

    def run(name):
        found[name] = [linear(X, X) for _ in range(20)]

    callers = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for results in found.values():
        for y in results:
            assert_same(y, expected)
    if threads.blas() is not None:
        assert threads.blas().get() == threads.count()


def after_fork(expected, failed):
    if linear(X, X).tobytes() != expected:
        failed.set()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_threads_of_its_own():
    expected = linear(X, X).tobytes()  # the parent's threads run
    context = multiprocessing.get_context("fork")
    failed = context.Event()
    children = [context.Process(target=after_fork, args=(expected, failed)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert not failed.is_set()
