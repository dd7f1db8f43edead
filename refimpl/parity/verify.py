"""Recomputing goldens: every case, every tap in order, every output, and a verdict on each.

In float64 the norm decides. In narrower numbers the floors do that were measured for the case: what
honest runs are off by at this very value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from refimpl.backend import to_numpy
from refimpl.errors import CheckpointError
from refimpl.models.model import Model, load
from refimpl.parity.compare import (
    DIFF,
    MISSING,
    NAN,
    NORM,
    OK,
    Comparison,
    compare_exact,
    compare_floats,
    relative_error,
)
from refimpl.parity.floors import (
    Arithmetic,
    Floors,
    find_arithmetic,
    measure_errors,
    measure_floors,
    read_floors,
    represent_inputs,
)
from refimpl.parity.goldens import Golden, case_name, find_goldens, flatten, read_golden, split
from refimpl.parity.reference import run_reference
from refimpl.taps import record
from refimpl.tokenizers import load_tokenizer

DTYPES = ("float64", "float32")
# Outputs with a value for every place of a text (logits: of some classes, known by their shape).
OF_PLACES = ("last_hidden_state", "hidden_states", "logits", "start_logits", "end_logits")

Values = Mapping[str, numpy.ndarray]
Judge = Callable[[str, numpy.ndarray, numpy.ndarray], Comparison]  # name, actual, truth


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
        """The value nearest to what is allowed, or furthest beyond it."""
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
    packed: bool = True,
) -> Report:
    """Recompute the goldens at or under ``path`` (None: the bundled ones) and judge every value.

    ``dtype`` None takes float64 and float32. Values are judged against the original's in float64: a
    run in float64 by one norm, another by the floors that were measured for the case in its
    arithmetic. Where a case has none they are measured now.

    Each case runs twice: with every tap recorded, and as it runs where nobody looks, which may take
    other ways (attention without its weights; with ``packed``, no padding). Of the second run the
    outputs are judged, at the tokens.

    Raises ``CheckpointError`` where there is no golden, ``ValueError`` and ``RuntimeError`` for a
    backend, dtype or kernels that do not exist here. A case that cannot be run is reported.
    """
    return Report(tuple(run_cases(find_goldens(path), backend, dtype, kernels, packed)))


def run_cases(
    folders: list[Path], backend: str, dtype: str | None, kernels: str, packed: bool = True
) -> Iterator[CaseReport]:
    """Yield a report of every case in every dtype, one after another."""
    for number in DTYPES if dtype is None else (dtype,):
        for folder in folders:
            try:
                yield _run_case(read_golden(folder), backend, number, kernels, packed)
            except CheckpointError as error:
                yield CaseReport(case_name(folder), number, error=str(error))


def _run_case(golden: Golden, backend: str, dtype: str, kernels: str, packed: bool) -> CaseReport:
    model = load(golden.folder, dtype=dtype, backend=backend, kernels=kernels, packed=packed)
    with record() as taps:
        outputs = model(**golden.inputs())
    truth, judge = right_values(golden, dtype)
    comparisons = list(_compare_text(golden))
    for kind, actual in (("tap", taps), ("output", flatten(outputs))):
        expected = {name: truth[name] for name in golden.description[f"{kind}s"]}
        comparisons += _compare_all(expected, actual, judge)
    comparisons += compare_unwatched(golden, model, truth, judge)
    return CaseReport(golden.name, dtype, tuple(comparisons), tuple(golden.changed_files()))


def compare_unwatched(
    golden: Golden, model: Model, truth: Values, judge: Judge
) -> Iterator[Comparison]:
    """Run a case as it runs where nobody looks at its taps, and judge the outputs.

    What a packed run has at padding is of no text, and is not compared.
    """
    inputs = golden.inputs()
    found = {name: to_numpy(x) for name, x in flatten(model(**inputs)).items()}
    expected = {name: truth[name] for name in golden.description["outputs"]}
    tokens = model.tokens(**inputs)
    if tokens is not None:
        found = {n: _at_tokens(n, x, expected.get(n), tokens) for n, x in found.items()}
    for comparison in _compare_all(expected, found, judge):
        yield comparison._replace(name=f"{comparison.name}, without taps")


def _at_tokens(
    name: str, x: numpy.ndarray, truth: numpy.ndarray | None, tokens: numpy.ndarray
) -> numpy.ndarray:
    """Put the truth where an output with a value for every place has padding."""
    of_places = name.partition(".")[0] in OF_PLACES and x.shape[:2] == tokens.shape
    if truth is None or not of_places or x.shape != truth.shape:
        return x
    x = x.copy()
    x[~tokens] = truth[~tokens]
    return x


def _compare_text(golden: Golden) -> Iterator[Comparison]:
    """Tokenize the case's texts, where it has some, and compare what comes with the inputs."""
    texts = golden.description.get("texts")
    if texts is not None:
        encoded = load_tokenizer(golden.folder)(texts, padding=True)
        for name, expected in golden.part("input").items():
            yield compare_exact(f"tokenizer.{name}", numpy.asarray(encoded[name]), expected)


def _compare_all(expected: Values, actual: Mapping[str, Any], judge: Judge) -> Iterator[Comparison]:
    """Compare by name, in the order of the golden; what it does not know comes last."""
    for name, truth in expected.items():
        if name not in actual:
            yield Comparison(name, MISSING, note="expected, and not computed")
        elif truth.dtype.kind == "f":
            yield judge(name, to_numpy(actual[name]), truth)
        else:
            yield compare_exact(name, to_numpy(actual[name]), truth)
    for name in actual:
        if name not in expected:
            yield Comparison(name, MISSING, note="computed, and not in the golden")


# --- what is right, and how it is judged ----------------------------------------------------------


def right_values(golden: Golden, dtype: str) -> tuple[Values, Judge]:
    """Return the right value of each tap and output, and the judge of a run of ``dtype``."""
    truth: Values = {**golden.part("tap"), **golden.part("output")}
    if dtype == "float64":
        return truth, lambda name, x, of: compare_floats(name, x, of, NORM, dtype)
    how = find_arithmetic(dtype)
    truth = stored_truth(golden, how, truth)
    floors = read_floors(golden, dtype)
    if floors is None:
        model = load(golden.folder, dtype="float64", kernels="plain")
        floors = measure_floors(model, golden.inputs(), dtype)
    return truth, lambda name, x, of: compare_to_floor(name, x, of, floors, dtype)


def stored_truth(golden: Golden, how: Arithmetic, truth: Values) -> Values:
    """Return the original's values, of weights and inputs as an arithmetic stores them.

    The original computed from those of the file. What is stored in fewer bits is another
    checkpoint, and no error of the run: refimpl in float64 says how much that moves each value.
    """
    inputs = golden.inputs()
    kept = represent_inputs(how, inputs)
    flat = split(kept)
    same = all(numpy.array_equal(x, flat[name]) for name, x in golden.part("input").items())
    if how.stored is None and same:
        return truth
    model = load(golden.folder, dtype="float64", kernels="plain")
    before = run_reference(model, inputs).values
    after = run_reference(how.weights(model), kept).values
    return {name: _moved(x, before[name], after[name]) for name, x in truth.items()}


def _moved(truth: numpy.ndarray, before: numpy.ndarray, after: numpy.ndarray) -> numpy.ndarray:
    """Move the truth as another value was moved: floats by as much, ids to where they are now."""
    if truth.dtype.kind != "f":
        return numpy.where(before == after, truth, after)
    with numpy.errstate(invalid="ignore"):
        return numpy.where(before == after, truth, truth + (after - before))


def compare_to_floor(
    name: str, actual: numpy.ndarray, truth: numpy.ndarray, floors: Floors, dtype: str
) -> Comparison:
    """Compare floats of ``dtype`` with a float64 truth: dtype, shape, then the error in floors.

    ``tolerance`` is what the largest element's floor allows, relative as ``error`` is; the floors
    of a token and of the whole tensor may say less.
    """
    form = compare_floats(name, actual, truth, math.inf, dtype)
    if not form.ok and form.status != NAN:
        return form
    units = floors.units(name, measure_errors(actual, truth))
    finite = numpy.isfinite(truth) & numpy.isfinite(actual)
    error = relative_error(actual[finite], truth[finite])
    largest = float(numpy.abs(truth[finite]).max(initial=0.0)) or 1.0
    held = units <= floors.multiplier
    return Comparison(
        name,
        OK if held else NAN if form.status == NAN else DIFF,
        error,
        floors.limit(name).worst / largest,
        "" if held else form.note,
        units,
        floors.multiplier,
    )
