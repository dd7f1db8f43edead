"""Where the time of a forward pass goes, operation by operation.

Each operation, as it runs (the twin where there is one), is wrapped in a clock for the length of a
call. What an operation spends in others that it calls counts as theirs. The whole batch goes in one
lane: seconds of operations side by side would come to more than there were. On a GPU the clock
waits for each operation to finish, which the model alone does not: shares say more than seconds.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from refimpl import ops
from refimpl.bench.clock import waiter
from refimpl.models.model import Model
from refimpl.replacing import plain

REST = "everything else"  # sums, reshaped arrays, checks, Python


class Part(NamedTuple):
    """What one operation took."""

    name: str
    seconds: float  # without the operations that it calls
    calls: int


class Clock:
    """Adds up the time of operations, each without the time of those inside."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait = wait
        self._inside = [0.0]  # of each operation that is open: seconds of those that it called
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is timed under a name."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._wait()
            begun = time.perf_counter()
            self._inside.append(0.0)
            try:
                result = function(*args, **kwargs)
                self._wait()
            finally:
                taken = time.perf_counter() - begun
                inside = self._inside.pop()
                self._inside[-1] += taken
                self.seconds[name] = self.seconds.get(name, 0.0) + taken - inside
                self.calls[name] = self.calls.get(name, 0) + 1
            return result

        return timed


def operations() -> list[str]:
    """Return the names of all operations that can be replaced."""
    return [name for name in ops.__all__ if hasattr(getattr(ops, name), "__wrapped__")]


def profile(model: Model, inputs: Mapping[str, Any], turns: int = 11) -> list[Part]:
    """Return the parts of the fastest of some forward passes, the largest first.

    The last is what no operation took; all of them together are the whole.
    """
    best: tuple[float, list[Part]] = (float("inf"), [])
    for _ in range(turns + 1):
        best = min(best, _one(model, inputs), key=lambda one: one[0])
    return best[1]


def _one(model: Model, inputs: Mapping[str, Any]) -> tuple[float, list[Part]]:
    clock, twins = Clock(waiter(model.backend)), model._twins
    timed = dataclasses.replace(model)

    def timed_twins(attention_wanted: bool) -> dict[str, Callable[..., Any]]:
        found = twins(attention_wanted)
        return {name: clock.around(name, found.get(name, plain(name))) for name in operations()}

    # Of this copy alone.
    timed._twins = timed_twins  # type: ignore[method-assign]
    timed._most_lanes = lambda given: 1  # type: ignore[method-assign]
    begun = time.perf_counter()
    timed(**inputs)
    whole = time.perf_counter() - begun
    parts = [Part(name, seconds, clock.calls[name]) for name, seconds in clock.seconds.items()]
    parts.sort(key=lambda part: -part.seconds)
    rest = whole - sum(part.seconds for part in parts)
    return whole, [*parts, Part(REST, rest, 1)]


def bar(share: float, width: int = 24) -> str:
    """Return a share of a whole as a bar.

    >>> bar(0.5, 4)
    '██'
    """
    return "█" * round(share * width)
