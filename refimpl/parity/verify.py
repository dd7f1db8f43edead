"""Recomputing goldens: every case, every tap in order, every output, and a verdict on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from refimpl.backend import to_numpy
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.parity.compare import MISSING, Comparison, compare_exact, compare_floats
from refimpl.parity.goldens import Golden, case_name, find_goldens, read_golden
from refimpl.parity.tolerances import tolerance
from refimpl.taps import record
from refimpl.tokenizers import load_tokenizer

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class CaseReport:
    """What became of one case in one dtype."""

    name: str
    dtype: str
    comparisons: tuple[Comparison, ...] = ()  # in the order in which the values were computed
    changed_files: tuple[str, ...] = ()  # of the checkpoint: not those the golden was made with
    error: str = ""  # why it could not be run, if it could not

    @property
    def held(self) -> bool:
        """Whether the case was run and everything agreed."""
        return not self.error and all(c.ok for c in self.comparisons)

    @property
    def first(self) -> Comparison | None:
        """The first value that does not agree."""
        return next((c for c in self.comparisons if not c.ok), None)

    @property
    def worst(self) -> Comparison | None:
        """The value nearest to its tolerance, or furthest beyond it."""
        return max(self.comparisons, key=lambda c: c.share, default=None)


@dataclass(frozen=True)
class Report:
    """What became of all cases."""

    cases: tuple[CaseReport, ...]

    @property
    def held(self) -> bool:
        """Whether every case was run and held."""
        return all(case.held for case in self.cases)

    @property
    def exit_code(self) -> int:
        """0: all held. 1: some did not. 2: some could not be run."""
        if any(case.error for case in self.cases):
            return 2
        return 0 if self.held else 1


def verify(
    path: str | Path | None = None,
    backend: str = "numpy",
    dtype: str | None = None,
    kernels: str = "fused",
) -> Report:
    """Recompute the goldens at or under ``path`` (None: the bundled ones) and judge every value.

    ``dtype`` None takes float64 and float32. Values are judged against the original's in float64,
    each within the tolerance that was measured for its kind and dtype (``tolerances.toml``).

    Raises ``CheckpointError`` where there is no golden, ``ValueError`` and ``RuntimeError`` for a
    backend, dtype or kernels that do not exist here. A case that cannot be run is reported.
    """
    return Report(tuple(run_cases(find_goldens(path), backend, dtype, kernels)))


def run_cases(
    folders: list[Path], backend: str, dtype: str | None, kernels: str
) -> Iterator[CaseReport]:
    """Yield a report of every case in every dtype, one after another."""
    for number in DTYPES if dtype is None else (dtype,):
        for folder in folders:
            try:
                yield _run_case(read_golden(folder), backend, number, kernels)
            except CheckpointError as error:
                yield CaseReport(case_name(folder), number, error=str(error))


def _run_case(golden: Golden, backend: str, dtype: str, kernels: str) -> CaseReport:
    model = load(golden.folder, dtype=dtype, backend=backend, kernels=kernels)
    with record() as taps:
        outputs = model(**golden.inputs())
    comparisons = [
        *_compare_text(golden),
        *_compare_all(golden.part("tap"), taps, dtype, golden.name),
        *_compare_all(golden.part("output"), flatten(outputs), dtype, golden.name),
    ]
    return CaseReport(golden.name, dtype, tuple(comparisons), tuple(golden.changed_files()))


def _compare_text(golden: Golden) -> Iterator[Comparison]:
    """Tokenize the case's texts, where it has some, and compare what comes with the inputs."""
    texts = golden.description.get("texts")
    if texts is not None:
        encoded = load_tokenizer(golden.folder)(texts, padding=True)
        for name, expected in golden.part("input").items():
            yield compare_exact(f"tokenizer.{name}", numpy.asarray(encoded[name]), expected)


def _compare_all(
    expected: dict[str, numpy.ndarray], actual: dict[str, Any], dtype: str, case: str
) -> Iterator[Comparison]:
    """Compare by name, in the order of the golden; what it does not know comes last."""
    for name, truth in expected.items():
        if name not in actual:
            yield Comparison(name, MISSING, note="expected, and not computed")
        elif truth.dtype.kind == "f":
            limit = tolerance(dtype, name, case)
            yield compare_floats(name, to_numpy(actual[name]), truth, limit, dtype)
        else:
            yield compare_exact(name, to_numpy(actual[name]), truth)
    for name in actual:
        if name not in expected:
            yield Comparison(name, MISSING, note="computed, and not in the golden")


def flatten(outputs: Any) -> dict[str, Any]:
    """Outputs by name; the i-th of a tuple is ``name.i``, and None is no output."""
    flat: dict[str, Any] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, tuple):
            for i, x in enumerate(value):
                add(f"{name}.{i}", x)
        elif value is not None:
            flat[name] = value

    for name, value in outputs._asdict().items():
        add(name, value)
    return flat
