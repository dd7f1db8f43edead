"""Identification: does ``diagnose`` name the mistake that was made?

Single faults in float32 are made in transformers, by the functions that prove the catalogue
(tests/oracle/mistakes), one family for each fault, drawn by lot. Pairs, and single faults in
float16 and bfloat16, are made by an honest implementation that no floor was measured with.
"""

from __future__ import annotations

import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from refimpl.models.model import Model, load
from refimpl.parity.diagnosis import Diagnosis, diagnose
from refimpl.parity.diagnosis.honest import run_honestly
from refimpl.parity.dumps import Dump
from refimpl.parity.faults import CATALOGUE, FAMILIES, applies, effect, run_faulty, shows
from refimpl.parity.floors import ARITHMETICS
from refimpl.parity.goldens import find_goldens, read_golden
from refimpl.parity.verify import flatten

SEED = 20
HELD_OUT = 101  # the honest implementation that makes mistakes
NARROW = 48  # faults in each of float16 and bfloat16
PAIRS = 48
LAYERS = {"hidden_states", "attentions"}  # outputs that show what is inside
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


class Made(NamedTuple):
    """A candidate, and the mistakes that are in it."""

    faults: tuple[str, ...]
    model: Model
    candidate: Dump


def measure(progress: Progress) -> dict[str, Any]:
    """Return how often each was named, by arithmetic and by what the candidate showed."""
    lot = numpy.random.default_rng(SEED)
    studies = {
        "single, float32": _in_transformers(lot, progress),
        "pair, float32": _pairs(lot, progress),
        "single, float16": _narrow("float16", lot, progress),
        "single, bfloat16": _narrow("bfloat16", lot, progress),
    }
    rows = [
        {"study": name, "shows": shown, **_counted(made, shown)}
        for name, study in studies.items()
        for made in [list(study)]
        for shown in ("taps", "outputs")
    ]
    return {"seed": SEED, "catalogue": len(CATALOGUE), "rows": rows}


def _counted(made: list[Made], shown: str) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    missed = []
    for one in made:
        candidate = one.candidate if shown == "taps" else _outputs_of(one)
        if not _is_visible(one, candidate):
            counts["not visible"] += 1
            continue
        verdict = judge(one.faults, diagnose(one.model, candidate))
        counts[verdict] += 1
        if verdict not in ("first", "among equals"):
            missed.append(f"{' + '.join(one.faults)} ({one.model.architecture}): {verdict}")
    return {**counts, "missed": missed}


def judge(faults: tuple[str, ...], found: Diagnosis) -> str:
    """Say what a diagnosis is worth: first, among equals, no fault, abstained or wrong."""
    named = [{fault.name for fault in answer.faults} for answer in found.answers]
    if not named:
        return "abstained"
    if named[0] == set(faults):
        return "first"
    if set(faults) in named:
        return "among equals"
    return "no fault" if found.right else "wrong"


def _outputs_of(made: Made) -> Dump:
    """A candidate of which only the last outputs are known: no hidden states, no attentions."""
    outputs = {
        name: x
        for name, x in made.candidate.outputs.items()
        if name.partition(".")[0] not in LAYERS
    }
    return Dump({}, outputs, made.candidate.inputs, made.candidate.about)


def _is_visible(made: Made, candidate: Dump) -> bool:
    inputs = {**candidate.inputs, **candidate.about["flags"]}
    faults = [CATALOGUE[name] for name in made.faults]
    right, wrong = (run_faulty(made.model, inputs, which) for which in ([], faults))
    found = effect(right, wrong)
    return shows({n: x for n, x in found.items() if n in candidate.values} | {"": 0.0})


# --- candidates -----------------------------------------------------------------------------------


def _in_transformers(lot: numpy.random.Generator, progress: Progress) -> Iterator[Made]:
    """Each fault once, made in transformers in float32."""
    import pytest

    from tests.oracle.mistakes import answers, attention, embeddings, layers  # noqa: F401
    from tests.oracle.mistakes.registry import MISTAKES

    keys = [key for key in MISTAKES if not CATALOGUE[key[0]].equivalent]
    names = list(dict.fromkeys(name for name, *_ in keys))
    for name in progress(names, len(names)):
        choice = [key for key in keys if key[0] == name]
        key = choice[int(lot.integers(len(choice)))]
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
            yield make_in_transformers(key, MISTAKES[key], patch, Path(folder))


def make_in_transformers(key: Any, mistake: Any, patch: Any, folder: Path) -> Made:
    """Run transformers with a mistake in it, in float32, and record what it computes."""
    import torch

    from golden.make import record
    from tests.oracle.mistakes.port import Port
    from tests.oracle.mistakes.registry import draw
    from tests.oracle.originals import adaptive_softmax_of_places, make_original, save

    name, family, _ = key
    one = draw(family, mistake)
    original = make_original(one, zlib.crc32(name.encode())).float()
    model = load(save(original, folder), dtype="float64", kernels="plain")
    for tensor in _names(model):
        model.weights[tensor]  # read now: the folder goes away
    port = Port(original.double(), family, dict(one.inputs), patch)
    mistake.make(port)
    with adaptive_softmax_of_places(), torch.no_grad():
        try:
            taps, outputs = record.run(original.float(), _tensors(port.inputs, torch.float32))
        except (
            RuntimeError
        ):  # the mistake makes doubles of its own: what they are is kept as floats
            taps, outputs = record.run(original.double(), _tensors(port.inputs, torch.float64))
    flat = port.outputs({n: x.numpy() for n, x in outputs.items()})
    arrays = {n: x for n, x in one.inputs.items() if isinstance(x, numpy.ndarray)}
    flags = {n: x for n, x in one.inputs.items() if isinstance(x, bool)}
    shown = _as_float32({n: x.numpy() for n, x in taps.items()})
    return Made((name,), model, Dump(shown, _as_float32(flat), arrays, {"flags": flags}))


def _tensors(inputs: dict[str, Any], dtype: Any) -> dict[str, Any]:
    import torch

    tensors = {n: torch.tensor(x) if isinstance(x, numpy.ndarray) else x for n, x in inputs.items()}
    real = {n for n, x in tensors.items() if torch.is_tensor(x) and x.is_floating_point()}
    return {n: x.to(dtype) if n in real else x for n, x in tensors.items()}


def _as_float32(values: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    return {n: x.astype(numpy.float32) if x.dtype.kind == "f" else x for n, x in values.items()}


def _names(model: Model) -> list[str]:
    from refimpl.models.model import ARCHITECTURES

    names = ARCHITECTURES[model.architecture].parameters(model.config)
    return [name for name in names if name.rpartition(".")[0] in model.weights]


def _pairs(lot: numpy.random.Generator, progress: Progress) -> Iterator[Made]:
    """Random pairs on random goldens, in float32."""
    for folder in progress(_folders(lot, PAIRS), PAIRS):
        model, inputs = _read(folder)
        faults = _possible(model, inputs)
        two = _two_that_both_show(lot, faults, model, inputs)
        yield _honest(two, model, inputs, "float32")


def _two_that_both_show(
    lot: numpy.random.Generator, faults: list[str], model: Model, inputs: dict[str, Any]
) -> tuple[str, ...]:
    """Two faults neither of which hides the other: together they are more than each alone."""
    while True:
        two = tuple(faults[i] for i in lot.choice(len(faults), 2, replace=False))
        made = [CATALOGUE[name] for name in two]
        both = run_faulty(model, inputs, made)
        if all(shows(effect(run_faulty(model, inputs, [one]), both)) for one in made):
            return two


def _narrow(name: str, lot: numpy.random.Generator, progress: Progress) -> Iterator[Made]:
    """Random faults on random goldens, in a narrow arithmetic."""
    for folder in progress(_folders(lot, NARROW), NARROW):
        model, inputs = _read(folder)
        faults = _possible(model, inputs)
        yield _honest((faults[int(lot.integers(len(faults)))],), model, inputs, name)


def _folders(lot: numpy.random.Generator, count: int) -> list[Path]:
    """Goldens by lot, as many of each family."""
    by_family = [[f for f in find_goldens() if f.parent.name == family] for family in FAMILIES]
    drawn = [group[int(lot.integers(len(group)))] for _, group in product(range(count), by_family)]
    return drawn[:count]


def _read(folder: Path) -> tuple[Model, dict[str, Any]]:
    golden = read_golden(folder)
    name = golden.description["architecture"]
    return load(folder, name, dtype="float64", kernels="plain"), golden.inputs()


def _possible(model: Model, inputs: dict[str, Any]) -> list[str]:
    """Faults that change an output, precision apart, which is an arithmetic of its own."""
    right = run_faulty(model, inputs, [])
    return [
        fault.name
        for fault in CATALOGUE.values()
        if not fault.equivalent and fault.area != "precision" and applies(fault, model, inputs)
        if shows(effect(right, run_faulty(model, inputs, [fault])))
    ]


def _honest(faults: tuple[str, ...], model: Model, inputs: dict[str, Any], name: str) -> Made:
    how = ARITHMETICS[name]
    made = [CATALOGUE[fault] for fault in faults]
    values = run_honestly(how, HELD_OUT, how.computing(model), inputs, made)
    _, ends = run_faulty(model, inputs, made)
    outputs = {n: values.pop(n) for n in flatten(ends)}
    arrays = {n: x for n, x in inputs.items() if not isinstance(x, bool)}
    flags = {n: x for n, x in inputs.items() if isinstance(x, bool)}
    return Made(faults, model, Dump(values, outputs, arrays, {"flags": flags}))


# --- the table ------------------------------------------------------------------------------------


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    kinds = ("first", "among equals", "no fault", "abstained", "wrong")
    lines = [
        "| What was made | Seen | Cases | First | Equal here | No fault | Abstained | Wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        counts = [row.get(kind, 0) for kind in kinds]
        total = sum(counts)
        share = f"{100.0 * (counts[0] + counts[1]) / total:.1f} %" if total else "-"
        cells = [row["study"], row["shows"], str(total), f"{counts[0]} ({share} with equals)"]
        lines.append("| " + " | ".join([*cells, *map(str, counts[1:])]) + " |")
    return "\n".join(lines) + "\n"
