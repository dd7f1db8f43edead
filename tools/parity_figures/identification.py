"""Identification: does ``diagnose`` name the mistake that was made, and no other?

Single faults in float32 are made in transformers, by the functions that prove the catalogue
(tests/oracle/mistakes), one family for each fault, drawn by lot. Pairs, single faults in float16
and bfloat16, and mistakes that are in no catalogue are made on goldens drawn by lot, by an honest
implementation that no floor was measured with. Each candidate is diagnosed twice: with its
intermediate values, and from its last outputs alone.

What an answer is worth is told by the mistake that was made, not by what ``diagnose`` says:

first        the first answer is the mistake, or both of the two
the same     the first answer is another, but computes the same: in float64 no value that the
             candidate shows differs, so that no one could tell from this call
listed       the first answer is another; the right one stands among those that ``diagnose`` says
             this input does not tell it from
one of two   one of two mistakes was named and the other was not
no fault     it took the candidate for right
abstained    it named nothing
wrong        anything else

A mistake is within rounding where nothing that the candidate shows is beyond four floors: there it
is counted apart, whatever was said.
"""

from __future__ import annotations

import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from refimpl.models.model import Model, load
from refimpl.parity.diagnosis import Diagnosis, diagnose
from refimpl.parity.diagnosis.honest import run_honestly
from refimpl.parity.dumps import Dump
from refimpl.parity.faults import CATALOGUE, FAMILIES, Fault, applies, effect, run_faulty, shows
from refimpl.parity.faults.inject import CHANGED
from refimpl.parity.floors import ARITHMETICS, MULTIPLIER
from refimpl.parity.goldens import find_goldens, flatten, read_golden
from tools.parity_figures.cases import run_all
from tools.parity_figures.foreign_mistakes import KINDS, draw_mistake

SEED = 20
HELD_OUT = 101  # the honest implementation that makes mistakes
NARROW = 64  # faults in each of float16 and bfloat16
PAIRS = 64
FOREIGN_EACH = 1  # of each kind
LAYERS = {"hidden_states", "attentions"}  # outputs that show what is inside
RIGHT = ("first", "the same")
OTHERS = ("listed", "one of two", "no fault", "abstained", "wrong")
Progress = Callable[..., Iterable[Any]]


class Made(NamedTuple):
    """A candidate, and the mistakes that are in it."""

    faults: tuple[Fault, ...]
    model: Model
    candidate: Dump
    where: str = ""  # the golden, or who made it

    @property
    def inputs(self) -> dict[str, Any]:
        """The call."""
        return {**self.candidate.inputs, **self.candidate.about["flags"]}


def measure(progress: Progress) -> dict[str, Any]:
    """Return how often each was named, by arithmetic and by what the candidate showed."""
    looked = run_all("identification", _cases(), look_at, progress)
    found = [one for group in looked for one in group]
    rows = {(one["study"], one["shows"]): None for one in found}
    return {
        "seed": SEED,
        "catalogue": len(CATALOGUE),
        "numpy": numpy.__version__,
        "rows": [_counted(found, *row) for row in rows],
        "missed": [one for one in found if one["verdict"] not in (*RIGHT, "abstained")],
        "abstained": [one for one in found if one["verdict"] == "abstained"],
    }


def _cases() -> list[str]:
    """What is made: "study/number", or "study/fault"."""
    return [
        *(f"single, float32/{name}" for name in _in_the_original()),
        *(f"pair, float32/{i}" for i in range(PAIRS)),
        *(f"single, {name}/{i}" for name in ("float16", "bfloat16") for i in range(NARROW)),
        *(f"foreign, float32/{kind}/{i}" for kind in KINDS for i in range(FOREIGN_EACH)),
    ]


def _counted(found: Sequence[dict[str, Any]], study: str, shown: str) -> dict[str, Any]:
    here = [one for one in found if (one["study"], one["shows"]) == (study, shown)]
    beyond = Counter(one["verdict"] for one in here if one["before"] > MULTIPLIER)
    within = Counter(one["verdict"] for one in here if one["before"] <= MULTIPLIER)
    return {
        "study": study,
        "shows": shown,
        "beyond rounding": dict(beyond),
        "within rounding": dict(within),
    }


def look_at(case: str) -> list[dict[str, Any]]:
    """Make one candidate, and diagnose it with and without its intermediate values."""
    study, _, which = case.partition("/")
    made = _make(study, which)
    found = []
    for shown in ("taps", "outputs"):
        candidate = made.candidate if shown == "taps" else _outputs_of(made)
        asked = diagnose(made.model, candidate)
        found.append({
            "study": study,
            "shows": shown,
            "made": which if study.startswith("foreign") else " + ".join(_called(made.faults)),
            "in": f"{made.model.architecture} {made.where}".strip(),
            "verdict": judge(made, candidate, asked),
            "named": [" + ".join(answer.names) or "no fault" for answer in asked.answers[:3]],
            "before": min(asked.before, 1e30),
        })  # fmt: skip
    return found


def _called(faults: Iterable[Fault]) -> list[str]:
    return [fault.name for fault in faults]


def judge(made: Made, candidate: Dump, found: Diagnosis) -> str:
    """Say what a diagnosis is worth."""
    if not found.answers:
        return "abstained"
    wanted = set(_called(made.faults))
    named = [set(_called(answer.faults)) for answer in found.answers]
    if named[0] == wanted:
        return "first"
    if not named[0]:
        return "no fault"
    if _compute_the_same(made, candidate, found.answers[0].faults):
        return "the same"
    if wanted in named:
        return "listed"
    return "one of two" if named[0] < wanted else "wrong"


def _compute_the_same(made: Made, candidate: Dump, named: Sequence[Fault]) -> bool:
    """Whether two explanations are one function, as far as this call shows."""
    one, other = (run_faulty(made.model, made.inputs, which) for which in (made.faults, named))
    parted = effect(one, other)
    return all(parted.get(name, 0.0) <= CHANGED for name in candidate.values)


def _outputs_of(made: Made) -> Dump:
    """A candidate of which only the last outputs are known: no hidden states, no attentions."""
    outputs = {
        name: x
        for name, x in made.candidate.outputs.items()
        if name.partition(".")[0] not in LAYERS
    }
    inputs = made.candidate.inputs
    return Dump({}, outputs, inputs, made.candidate.about)


# --- candidates -----------------------------------------------------------------------------------


def _make(study: str, which: str) -> Made:
    """Make one candidate; the lot depends on the case alone."""
    lot = numpy.random.default_rng([SEED, zlib.crc32(f"{study}/{which}".encode())])
    kind, _, arithmetic = study.partition(", ")
    if kind == "single" and arithmetic == "float32":
        return _in_transformers(which, lot)
    number = int(which.rpartition("/")[2])
    family = FAMILIES[(number + zlib.crc32(which.partition("/")[0].encode())) % len(FAMILIES)]
    model, inputs, name = _golden(family, lot)
    while True:
        faults = _draw(kind, which, lot, model, inputs)
        if faults:
            return _honest(faults, model, inputs, arithmetic, name)


def _draw(
    kind: str, which: str, lot: numpy.random.Generator, model: Model, inputs: dict[str, Any]
) -> tuple[Fault, ...]:
    """Draw mistakes; none where one of them changes nothing here, or hides the other."""
    right = run_faulty(model, inputs, [])
    if kind == "foreign":
        faults = [draw_mistake(which.partition("/")[0], lot, model, list(right[0]))]
    else:
        count = 2 if kind == "pair" else 1
        faults = [_known()[i] for i in lot.choice(len(_known()), count, replace=False)]
    if kind != "foreign" and not all(applies(fault, model, inputs) for fault in faults):
        return ()
    try:
        alone = [run_faulty(model, inputs, [fault]) for fault in faults]
        both = run_faulty(model, inputs, faults)
    except (ValueError, IndexError, KeyError, TypeError):  # two that do not fit together
        return ()
    others = alone if kind == "pair" else [right]
    return tuple(faults) if all(shows(effect(one, both)) for one in others) else ()


def _known() -> list[Fault]:
    """The faults that are drawn: those of precision are an arithmetic of their own."""
    return [f for f in CATALOGUE.values() if not f.equivalent and f.area != "precision"]


def _in_the_original() -> list[str]:
    """The faults that the tests make in transformers."""
    return list(dict.fromkeys(n for n, *_ in _mistakes() if not CATALOGUE[n].equivalent))


def _mistakes() -> dict[Any, Any]:
    from tests.oracle.mistakes import answers, attention, embeddings, layers
    from tests.oracle.mistakes.registry import MISTAKES

    assert all((answers, attention, embeddings, layers))  # they fill MISTAKES
    return MISTAKES


def _in_transformers(name: str, lot: numpy.random.Generator) -> Made:
    import pytest

    keys = [key for key in _mistakes() if key[0] == name]
    key = keys[int(lot.integers(len(keys)))]
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        return make_in_transformers(key, _mistakes()[key], patch, Path(folder))


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
    return Made(
        (CATALOGUE[name],),
        model,
        Dump(shown, _as_float32(flat), arrays, {"flags": flags}),
        "transformers",
    )


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


def _golden(family: str, lot: numpy.random.Generator) -> tuple[Model, dict[str, Any], str]:
    folders = [folder for folder in find_goldens() if folder.parent.name == family]
    folder = folders[int(lot.integers(len(folders)))]
    golden = read_golden(folder)
    name = golden.description["architecture"]
    return load(folder, name, dtype="float64", kernels="plain"), golden.inputs(), folder.name


def _honest(
    faults: tuple[Fault, ...], model: Model, inputs: dict[str, Any], name: str, where: str
) -> Made:
    how = ARITHMETICS[name]
    values = run_honestly(how, HELD_OUT, how.computing(model), inputs, faults)
    _, ends = run_faulty(model, inputs, faults)
    outputs = {n: values.pop(n) for n in flatten(ends)}
    arrays = {n: x for n, x in inputs.items() if not isinstance(x, bool)}
    flags = {n: x for n, x in inputs.items() if isinstance(x, bool)}
    return Made(faults, model, Dump(values, outputs, arrays, {"flags": flags}), where)


# --- the table ------------------------------------------------------------------------------------


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    heads = ["What was made", "Seen", "Beyond rounding", "First", "The same", *OTHERS]
    heads = [head.capitalize() for head in heads]
    lines = [f"| {' | '.join(heads)} | Within rounding |", "|---" * (len(heads) + 1) + "|"]
    for row in figures["rows"]:
        counts, within = row["beyond rounding"], row["within rounding"]
        total = sum(counts.values())
        share = [_share(counts.get("first", 0), total)]
        cells = [row["study"], row["shows"], total, *share]
        cells += [counts.get(kind, 0) for kind in ("the same", *OTHERS)]
        lines.append("| " + " | ".join(map(str, [*cells, sum(within.values())])) + " |")
    return "\n".join(lines) + "\n"


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.1%})" if total else "-"
