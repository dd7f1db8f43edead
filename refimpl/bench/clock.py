"""Timing: several calls in turn, so that a machine that is busy is so for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Call = Callable[[], Any]
Track = Callable[[Iterable[Any], int], Iterable[Any]]

LEAST_SECONDS = 0.5  # a turn repeats a call until so much time has gone
# Before another call: threads of a matrix library go on waiting for work, for up to 0.2 s with
# OpenMP, and take the cores of whoever comes next.
PAUSE = 0.25


def waiter(backend: Any) -> Callable[[], None]:
    """Return a function that waits until a backend has computed what it was given."""
    if not backend.name.startswith("cupy"):
        return lambda: None

    def wait() -> None:
        backend.device.synchronize()

    return wait


def in_turns(
    calls: Mapping[str, tuple[Call, Callable[[], None]]],
    turns: int,
    track: Track = lambda items, total: items,
) -> dict[str, list[float]]:
    """Return the seconds of every call in each turn; before the first, each has run once.

    A call comes with what waits until it is done. One that takes less than ``LEAST_SECONDS`` runs
    several times in each turn, and counts with its fastest.
    """
    for call, wait in calls.values():
        call()
        wait()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in track(range(turns), turns):
        for name, (call, wait) in calls.items():
            time.sleep(PAUSE)
            seconds[name].append(fastest(call, wait))
    return seconds


def fastest(call: Call, wait: Callable[[], None]) -> float:
    """Return the seconds of the fastest of some runs that together take ``LEAST_SECONDS``."""
    best, begun = float("inf"), time.perf_counter()
    while True:
        start = time.perf_counter()
        call()
        wait()
        end = time.perf_counter()
        best = min(best, end - start)
        if end - begun >= LEAST_SECONDS:
            return best


def best_and_median(seconds: list[float]) -> dict[str, float]:
    """Return the two numbers that stand for many.

    >>> best_and_median([0.5, 0.25, 1.0])
    {'best': 0.25, 'median': 0.5}
    """
    return {"best": min(seconds), "median": statistics.median(seconds)}
