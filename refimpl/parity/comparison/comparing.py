"""``compare``: what a candidate computed against the float64 truth, value by value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy

from refimpl.models.model import ARCHITECTURES, Model
from refimpl.parity.comparison import hints
from refimpl.parity.comparison.forcing import force
from refimpl.parity.comparison.judge import Court, judge
from refimpl.parity.comparison.naming import (
    Named,
    add_recognised,
    find_copies,
    name_values,
    with_copies,
)
from refimpl.parity.comparison.numbers import arithmetic_of
from refimpl.parity.comparison.tokens import compare_inputs
from refimpl.parity.comparison.truth import Inputs, Reference, open_reference
from refimpl.parity.comparison.unseeing import OPEN_IN, left_open
from refimpl.parity.comparison.verdict import DIFF, ComparisonReport, Verdict
from refimpl.parity.dumps import read_dump
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors import (
    MULTIPLIER,
    RUNS,
    Floors,
    find_arithmetic,
    measure_floors,
    read_floors,
    represent_inputs,
)

Track = Callable[[Iterable[int]], Iterable[int]]
WORK = 2.5e10  # multiplications in all honest runs, where floors are measured on the spot
FEWEST = 2


def compare(
    reference: str | Path | Dump,
    candidate: str | Path | Dump,
    *,
    inputs: Inputs | None = None,
    arithmetic: str | None = None,
    names: str | None = None,
    map_file: str | Path | None = None,
    ignore_padding: bool = False,
    runs: int | None = None,
    track: Track = iter,
) -> ComparisonReport:
    """Compare what an implementation computed with what it should have.

    ``reference`` is a golden case, a checkpoint (a folder or a hub id) or a dump in float64;
    ``candidate`` is a dump, or the path of one. A golden case says what the call is; for a
    checkpoint it is ``inputs``, or what the candidate's dump holds as inputs. ``arithmetic`` is
    that of the candidate, one of ``refimpl.parity.floors.ARITHMETICS``; None tells it from the
    numbers. ``names`` says whose names the dump has and ``map_file`` adds to these. With
    ``ignore_padding`` what is computed at padding is not judged. ``runs`` is the number of honest
    runs from which floors are measured; ``track`` may show their progress.

    Raises ``ValueError`` for arguments that do not fit, ``CheckpointError`` for files. What is
    wrong with the candidate's values is in the report.
    """
    given = candidate if isinstance(candidate, Dump) else read_dump(Path(candidate))
    called = "the candidate's dump" if isinstance(candidate, Dump) else str(candidate)
    how = arithmetic_of(given) if arithmetic is None else find_arithmetic(arithmetic).name
    right = open_reference(reference, given, inputs).with_tables().storing(how)
    kept = represent_inputs(find_arithmetic(how), given.inputs)
    tokens = tuple(compare_inputs(kept, right.arrays))
    blank = ComparisonReport(
        right.name, called, how, Floors(how, 0, MULTIPLIER, {}, {}), tokens, {}, Dump({}), given
    )
    if blank.first is not None:
        return replace(
            blank, notes=("the inputs are not the same, so the numbers were not compared",)
        )
    truth = right.truth()
    named = name_values(given, truth, names, map_file)
    floors = _floors(right, how, truth, runs, track)
    named = add_recognised(named, given, truth, floors)
    court = _court(right, truth, floors, named, ignore_padding)
    verdicts = (*tokens, *with_row_order(court, tuple(judge(court))))
    return replace(
        blank,
        floors=floors,
        verdicts=verdicts,
        unknown=named.unknown,
        truth=truth,
        given=_as_dump(given, truth, named),
        forced=None if court.forced is None else court.forced.dump,
        notes=tuple(_notes(right, given)),
        ignore_padding=ignore_padding,
    )


def _court(
    right: Reference, truth: Dump, floors: Floors, named: Named, ignore_padding: bool
) -> Court:
    copies = dict(find_copies(truth))
    named, forced = with_copies(named, truth, copies), None
    if right.model is not None:
        forced = force(right.model, right.call, truth, named.values)
    about = right.about_call()
    unseen = {}
    if right.model is not None and floors.arithmetic in OPEN_IN:
        unseen = left_open(right.model, right.call, truth)
    return Court(
        truth, floors, about, named.values, named.notes, copies, forced, ignore_padding, unseen
    )


def _floors(
    right: Reference, arithmetic: str, truth: Dump, runs: int | None, track: Track
) -> Floors:
    """Floors that were measured before, of this checkpoint and call; else measured now."""
    if right.model is None:
        raise ValueError(
            f"{right.name}: a dump has no floors: expected a checkpoint or a golden case, or a "
            "dump whose 'about' names its checkpoint"
        )
    golden = right.golden
    if runs is None and golden is not None and not golden.changed_files():
        stored = read_floors(golden, arithmetic)
        if stored is not None:
            return stored
    runs = honest_runs(right.model, right.arrays) if runs is None else runs
    return measure_floors(right.model, right.call, arithmetic, runs, track, truth.values)


def honest_runs(model: Model, call: Inputs) -> int:
    """How many honest runs to measure: as many as for goldens, of a large model fewer.

    Each multiplies every matrix with every token.
    """
    shapes = ARCHITECTURES[model.architecture].parameters(model.config)
    matrices = [math.prod(s) for n, s in shapes.items() if len(s) == 2 and "embeddings" not in n]
    of_ids = "input_ids" in call
    shape = numpy.shape(call["input_ids"]) if of_ids else numpy.shape(call["inputs_embeds"])[:-1]
    return max(FEWEST, min(RUNS, int(WORK / (sum(matrices) * math.prod(shape) or 1))))


def with_row_order(court: Court, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """Say so, where the first value that parts has its rows in another order and no other fault."""
    first = next((v for v in verdicts if v.status == DIFF and v.units is not None), None)
    if first is None:
        return verdicts
    truth, given = court.truth.values[first.name], court.given[first.name]
    allowed = court.floors.limit(first.name).worst
    words = hints.row_order(given.astype(numpy.float64), truth, allowed)
    if not words:
        return verdicts
    return tuple(replace(v, where=words) if v is first else v for v in verdicts)


def _as_dump(given: Dump, truth: Dump, named: Named) -> Dump:
    """The candidate's dump in our names."""
    taps = {name: x for name, x in named.values.items() if name in truth.taps}
    outputs = {name: x for name, x in named.values.items() if name not in truth.taps}
    return Dump(taps, outputs, given.inputs, given.about)


def _notes(right: Reference, given: Dump) -> Iterable[str]:
    if not given.inputs:
        yield "the candidate's dump holds no inputs, so that they are the same was not checked"
    changed = [] if right.golden is None else right.golden.changed_files()
    for file in changed:
        yield f"{file} is not the one that the golden was made with"
