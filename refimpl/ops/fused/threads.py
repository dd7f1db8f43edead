"""Work cut in parts and shared among threads: ``share(work, parts)``.

NumPy gives up Python's lock inside its loops, so that threads compute at the same time. They pay
for it when they take the lock again: parts must be large, and rather few long calls than many short
ones. Which thread does a part is left to chance, what a part is must not be: the same call gives
the same bits, run after run. A part that has something to share itself does it alone.

NumPy's matrix library (OpenBLAS, in its wheels) has threads of its own. Inside :func:`share` it is
told to use one for each product: whole products side by side need not wait for one another, and
what follows a product is done on it while it is in the core's cache.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import cache
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy

Part = TypeVar("Part")


# --- the matrix library ---------------------------------------------------------------------------


class Blas(NamedTuple):
    """How to ask the matrix library for its number of threads, and to set it."""

    get: Callable[[], int]
    set: Callable[[int], None]


@cache
def blas() -> Blas | None:
    """Return the two functions of the OpenBLAS that NumPy uses; None where it uses another."""
    try:
        # Names are looked up in the extension module and in what it was linked to: in OpenBLAS.
        library = ctypes.PyDLL(numpy.linalg._umath_linalg.__file__)
    except OSError:
        return None
    for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_",
                 "scipy_openblas_{}_num_threads", "openblas_{}_num_threads"):  # fmt: skip
        if hasattr(library, name.format("get")) and hasattr(library, name.format("set")):
            return Blas(library[name.format("get")], library[name.format("set")])
    return None


class _Single:
    """How many callers want products on one thread, and the threads that there were before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.threads = 1

    @contextmanager
    def products(self) -> Iterator[None]:
        """Let each product run on one thread, in the block; the last to leave puts things back."""
        library = blas()
        if library is None:
            yield
            return
        with self.lock:
            if self.users == 0:
                self.threads = library.get()
                library.set(1)
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    library.set(self.threads)

    def before(self, library: Blas) -> int:
        """Return the number of threads that nobody changed yet."""
        with self.lock:
            return self.threads if self.users else library.get()


def count() -> int:
    """Return how many threads there are to be: as many as OpenBLAS has, else one for each core.

    OMP_NUM_THREADS and OPENBLAS_NUM_THREADS in the environment so count here too.
    """
    library = blas()
    if library is None:
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return _single.before(library)


# --- sharing --------------------------------------------------------------------------------------

_now = threading.local()


def inside() -> bool:
    """Tell whether the caller does a part at this moment, beside others."""
    return getattr(_now, "inside", False)


class _Job:
    """Parts of one work that wait to be done, by whoever has time."""

    def __init__(self, work: Callable[[Any], None], parts: Iterable[Any]) -> None:
        self.work = work
        self.parts = deque(parts)
        self.left = len(self.parts)
        self.lock = threading.Lock()
        self.finished = threading.Lock()
        self.finished.acquire()
        self.error: BaseException | None = None

    def help(self) -> None:
        """Do parts until none is left to take."""
        while True:
            try:
                part = self.parts.popleft()
            except IndexError:
                return
            _now.inside = True
            try:
                self.work(part)
            except BaseException as error:
                self.error = error
            finally:
                _now.inside = False
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    self.finished.release()


class _Helpers:
    """Threads that wait for jobs: started when they are first needed, ended with the program."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[tuple[Context, _Job]] = SimpleQueue()
        self.started = 0

    def call(self, job: _Job, helpers: int) -> None:
        """Ask so many threads to help with a job."""
        while self.started < helpers:
            self.started += 1
            threading.Thread(target=self._wait, name="refimpl", daemon=True).start()
        for _ in range(helpers):
            # What the caller has set for itself (replaced operations, NumPy's errstate) holds here.
            self.jobs.put((copy_context(), job))

    def _wait(self) -> None:
        while True:
            context, job = self.jobs.get()
            context.run(job.help)
            del context, job  # and the arrays in them


def share(work: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """Do ``work(part)`` for all ``parts``, on several threads; return when all are done.

    Parts are begun in their order. What a part raises is raised here, when all have ended. One part
    alone is done by the caller, and its products by all threads of the matrix library.
    """
    waiting = list(parts)
    if len(waiting) <= 1 or inside():
        for part in waiting:
            work(part)
        return
    job = _Job(work, waiting)
    with _single.products():
        _helpers.call(job, min(count(), len(job.parts)) - 1)
        job.help()
        job.finished.acquire()
    if job.error is not None:
        raise job.error


def _start_again() -> None:
    """Begin anew after a fork, which copies the parent's locks and none of its threads."""
    global _single, _helpers
    library = blas()
    if library is not None and _single.users:
        library.set(_single.threads)
    _single, _helpers = _Single(), _Helpers()


_single, _helpers = _Single(), _Helpers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_again)
