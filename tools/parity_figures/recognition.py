"""How many anonymous tensors are named by their values: of honest runs, in layouts drawn at random.

For every golden and for random models, the values of an honest run in some arithmetic are laid out
as other programs might have them and lose their names. Beside them lie tensors that are no tap:
weights (but for tables that are taps as they are), values doubled, made constant, in random order,
and sums of two values (where neither is small: such a sum is the other, to rounding). A tensor
counts as named if it got its own name, or that of a tap with the very same values, and its layout
could be undone.
"""

from __future__ import annotations

import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy

from refimpl.checkpoints.weights import Weights
from refimpl.models.model import ARCHITECTURES, Model, load
from refimpl.parity.floors import (
    ARITHMETICS,
    MULTIPLIER,
    Floors,
    draw_implementation,
    measure_floors,
    represent_inputs,
    run_honest,
)
from refimpl.parity.goldens import bundled, case_name, find_goldens, read_golden
from refimpl.parity.names.recognise import Recognised, recognise
from refimpl.parity.reference import run_reference

Track = Callable[[list[Any]], Iterable[Any]]
Arrays = Mapping[str, numpy.ndarray]

MEASURED = ("float32", "bfloat16")
RUNS = 8  # honest runs of which the limits are made
HELD_OUT = 1000  # the number of the honest run that is to be recognised: none of those
MODELS = 5  # random models of each family
SEED = 0
FAMILIES = {
    "xlm": "lm",
    "xlm_roberta": "masked_lm",
    "xlm_roberta_xl": "masked_lm",
    "xmod": "masked_lm",
}
FUSED = (("query", "key", "value"), ("q_lin", "k_lin", "v_lin"), ("key", "value"))


class Subject(NamedTuple):
    """A model in float64 and a call of it."""

    name: str
    model: Model
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Anonymous:
    """A tensor that has lost its name."""

    array: numpy.ndarray
    name: str  # "" where it is no tap
    values: dict[str, numpy.ndarray]  # what a layout undone gives
    kind: str


def measure(progress: Track = iter) -> dict[str, Any]:
    """Return how many tensors were named, by arithmetic and by layout."""
    took = speed()
    subjects = [*goldens(), *random_models()]
    tasks = [(name, subject) for name in MEASURED for subject in subjects]
    counts = {name: Counter[str]() for name in MEASURED}
    layouts = {name: Counter[str]() for name in MEASURED}
    wrong = []
    for arithmetic, subject in progress(tasks):
        for kind, verdict, told in judge(subject, arithmetic):
            counts[arithmetic][verdict] += 1
            layouts[arithmetic][f"{kind}: {verdict}"] += 1
            if verdict == "wrong":
                wrong.append(f"{arithmetic}, {subject.name}: {told}")
    return {
        "goldens": len(find_goldens()),
        "random_models": MODELS * len(FAMILIES),
        "runs": RUNS,
        "seed": SEED,
        "multiplier": MULTIPLIER,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "counts": {name: dict(count) for name, count in counts.items()},
        "layouts": {name: dict(sorted(count.items())) for name, count in layouts.items()},
        "wrong": wrong,
        "speed": took,
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| Arithmetic | Anonymous taps | named, layout undone | left unnamed | wrong "
        "| Tensors that are no tap | of them named |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, count in figures["counts"].items():
        taps = sum(count.get(verdict, 0) for verdict in ("named", "unnamed", "wrong"))
        share = count.get("named", 0) / taps
        unnamed, wrong, taken = (count.get(v, 0) for v in ("unnamed", "wrong", "taken for a tap"))
        none = count.get("rejected", 0) + taken
        lines.append(f"| {name} | {taps} | {share:.2%} | {unnamed} | {wrong} | {none} | {taken} |")
    one = figures["speed"]
    told = f"{one['tensors']} tensors against {one['taps']} taps of a 12 x 768 model, 128 tokens"
    return "\n".join([*lines, "", f"{told}: {one['seconds']:.1f} s."])


# --- what is recognised ---------------------------------------------------------------------------


def judge(subject: Subject, arithmetic: str) -> Iterator[tuple[str, str, str]]:
    """Yield layout, verdict and what was said, for every tensor of one honest run."""
    how = ARITHMETICS[arithmetic]
    inputs = represent_inputs(how, subject.inputs)
    floors = measure_floors(subject.model, subject.inputs, arithmetic, RUNS)
    truth = run_reference(how.weights(subject.model), inputs).values
    drawn = draw_implementation(how, HELD_OUT)
    values = run_honest(drawn, how.computing(subject.model), inputs).values
    draw = numpy.random.default_rng(SEED)
    real = inputs.get("attention_mask")
    tensors = [
        *anonymous(values, heads_of(truth), real, draw),
        *others(subject.model, values, draw),
    ]
    draw.shuffle(tensors)  # type: ignore[arg-type]
    unnamed = {f"t{i}": tensor.array for i, tensor in enumerate(tensors)}
    found = recognise(unnamed, truth, limits(floors, truth), real)
    for i, tensor in enumerate(tensors):
        yield tensor.kind, verdict_on(tensor, found.get(f"t{i}")), f"{tensor.name} {tensor.kind}"


def limits(floors: Floors, truth: Arrays) -> Callable[[str], float]:
    """Return the largest relative RMS error at which a tensor counts as a tap."""

    def limit(name: str) -> float:
        size = _size(truth[name])
        return floors.limit(name).rms / size if size else 0.0

    return limit


def verdict_on(tensor: Anonymous, found: Recognised | None) -> str:
    """Return "named", "unnamed" or "wrong"; "rejected" or "taken for a tap" for what is none."""
    if not tensor.name:
        return "rejected" if found is None else "taken for a tap"
    if found is None:
        return "unnamed"
    taken = {**found.take_same(tensor.array), **found.take(tensor.array)}
    right = (name in taken and _agree(taken[name], x) for name, x in tensor.values.items())
    return "named" if all(right) else "wrong"


def _agree(taken: numpy.ndarray, expected: numpy.ndarray) -> bool:
    """Tell whether all numbers are those expected; left-out padding is NaN."""
    size = taken.size == expected.size
    return size and bool(((taken.ravel() == expected.ravel()) | numpy.isnan(taken.ravel())).all())


# --- layouts and decoys ---------------------------------------------------------------------------


def heads_of(truth: Arrays) -> int:
    """Return the number of heads of the first attention."""
    return next(x.shape[1] for name, x in truth.items() if name.endswith("scores"))


def anonymous(
    values: Arrays, heads: int, real: numpy.ndarray | None, draw: numpy.random.Generator
) -> Iterator[Anonymous]:
    """Yield every value in a layout drawn for it, and fused projections."""
    for name, x in values.items():
        kinds = dict(layouts_of(x, heads, real))
        kind = str(draw.choice(list(kinds)))
        held = x * (real != 0)[..., None] if kind == "padding zero" else x  # type: ignore[operator]
        yield Anonymous(kinds[kind], name, {name: held}, kind)
        module, _, word = name.rpartition(".")
        for words in FUSED:
            if word == words[0]:
                yield from fused({f"{module}.{w}": values[f"{module}.{w}"] for w in words}, heads)


def fused(parts: Arrays, heads: int) -> Iterator[Anonymous]:
    """Yield projections of one shape in one tensor: one after the other, and head by head."""
    shapes = {x.shape for x in parts.values()}
    if len(shapes) == 1:
        (shape,) = shapes
        whole = numpy.concatenate(list(parts.values()), axis=-1)
        yield Anonymous(whole, next(iter(parts)), dict(parts), f"fused {len(parts)}")
        if shape[-1] % heads == 0:
            cut = [x.reshape(*shape[:2], heads, -1) for x in parts.values()]
            mixed = numpy.concatenate(cut, axis=-1).reshape(whole.shape)
            yield Anonymous(mixed, next(iter(parts)), dict(parts), f"interleaved {len(parts)}")


def layouts_of(
    x: numpy.ndarray, heads: int, real: numpy.ndarray | None
) -> Iterator[tuple[str, numpy.ndarray]]:
    """Yield the layouts in which another program may hold a value."""
    yield "as is", x
    if x.ndim == 4:
        yield "heads first", x.swapaxes(0, 1)
        yield "heads in rows", x.reshape(-1, *x.shape[2:])
        yield "transposed", x.swapaxes(-1, -2)
    if x.ndim == 3:
        yield "time first", x.swapaxes(0, 1)
        yield "transposed", x.swapaxes(-1, -2)
        yield "tokens in rows", x.reshape(-1, x.shape[-1])
        if x.shape[0] == 1:
            yield "squeezed", x[0]
        if x.shape[-1] % heads == 0:
            split = x.reshape(*x.shape[:2], heads, -1)
            yield "heads last", split
            yield "heads", split.transpose(0, 2, 1, 3)
            yield (
                "heads in rows",
                split.transpose(0, 2, 1, 3).reshape(-1, x.shape[1], split.shape[3]),
            )
        if real is not None and real.shape == x.shape[:2] and not real.all() and real.any():
            yield "padding left out", x[real != 0]
            yield "padding zero", x * (real != 0)[..., None]


def others(model: Model, values: Arrays, draw: numpy.random.Generator) -> Iterator[Anonymous]:
    """Yield tensors that are no tap, most of them of a tap's size."""
    for name in ARCHITECTURES[model.architecture].parameters(model.config):
        module = name.rpartition(".")[0]
        if module in model.weights:
            weight = numpy.asarray(model.weights[name])
            if module not in values or weight.size != values[module].size:  # a table, all in use
                yield Anonymous(weight, "", {}, "weight")
    before = numpy.zeros(0)
    for x in values.values():
        if x.dtype.kind == "f" and x.size >= 8:
            if before.shape == x.shape and 0.3 < _size(before) / (_size(x) or 1.0) < 3.0:
                yield Anonymous(before + x, "", {}, "sum")
            yield Anonymous(numpy.full_like(x, x.flat[0]), "", {}, "constant")
            yield Anonymous(draw.permutation(x.ravel()).reshape(x.shape), "", {}, "permuted")
            yield Anonymous(2.0 * x, "", {}, "doubled")
            before = x


def _size(x: numpy.ndarray) -> float:
    return float(numpy.sqrt(numpy.mean(numpy.square(x, dtype=numpy.float64))))


# --- models ---------------------------------------------------------------------------------------


def goldens() -> Iterator[Subject]:
    """Yield the bundled goldens' models, with the goldens' inputs."""
    for folder in find_goldens():
        golden = read_golden(folder)
        model = load(folder, dtype="float64", kernels="plain")
        yield Subject(case_name(folder), model, golden.inputs())


def random_models() -> Iterator[Subject]:
    """Yield larger models of all families, and batches in which the second row is padded."""
    for family, case in FAMILIES.items():
        for seed in range(MODELS):
            draw = numpy.random.default_rng([SEED, seed])
            heads = int(draw.integers(2, 6))
            width = heads * int(draw.integers(4, 12))
            sizes = {"emb_dim": width, "n_layers": 4, "n_heads": heads}
            if family != "xlm":
                sizes = {"hidden_size": width, "num_hidden_layers": 4, "num_attention_heads": heads,
                         "intermediate_size": int(draw.integers(40, 160))}  # fmt: skip
            model = random_model(f"{family}/{case}", sizes, draw)
            rows, length = int(draw.integers(1, 4)), int(draw.integers(3, 13))
            yield Subject(f"{family}, seed {seed}", model, random_inputs(model, rows, length, draw))


def random_inputs(
    model: Model, rows: int, length: int, draw: numpy.random.Generator
) -> dict[str, Any]:
    """Return ids (B, S) that are no padding but for the end of the last row, and their mask."""
    ids = draw.integers(5, model.config.vocab_size, (rows, length))
    mask = numpy.ones_like(ids)
    if rows > 1:
        ids[-1, length - 2 :] = model.config.pad_token_id
        mask[-1, length - 2 :] = 0
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if hasattr(model.config, "n_langs"):
        inputs["langs"] = draw.integers(0, model.config.n_langs, (rows, length))
    if hasattr(model.config, "languages"):
        inputs["lang_ids"] = draw.integers(0, len(model.config.languages), rows)
    return {**inputs, "output_hidden_states": True, "output_attentions": True}


def random_model(case: str, sizes: dict[str, int], draw: numpy.random.Generator) -> Model:
    """Return a model of a golden's class and config, of other sizes, with random weights.

    The weights are spread as those of the goldens are: random biases, gains in [0.1, 4].
    """
    original = load(bundled() / case, dtype="float64", kernels="plain")
    config = replace(original.config, **sizes)
    entry = ARCHITECTURES[original.architecture]
    tensors = {name: _tensor(name, of, draw) for name, of in entry.parameters(config).items()}
    for tied, source in entry.rules(config).ties.items():
        tensors[tied] = tensors[source]
    return replace(original, config=config, weights=Weights(tensors))


def _tensor(name: str, shape: tuple[int, ...], draw: numpy.random.Generator) -> numpy.ndarray:
    x = draw.standard_normal(shape) * (0.7 + draw.random())
    if len(shape) == 2 and "embeddings" in name:
        stored = x
    elif len(shape) == 2:
        narrow = any(word in name for word in ("query", "key", "q_lin", "k_lin"))
        stored = x * (0.5 if narrow else 1.0) / math.sqrt(shape[1])
    elif name.endswith("weight"):
        stored = numpy.clip(numpy.exp(0.6 * draw.standard_normal(shape)), 0.1, 4.0)
    else:
        stored = 0.4 * x
    return stored.astype(numpy.float32).astype(numpy.float64)


# --- how long it takes ----------------------------------------------------------------------------


def speed() -> dict[str, Any]:
    """Return how long it takes to name every value of a 12-layer, 768-wide model, 128 tokens."""
    sizes = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": 1000,
        "max_position_embeddings": 20,
    }
    draw = numpy.random.default_rng(SEED)
    model = random_model("xlm_roberta/masked_lm", sizes, draw)
    inputs = random_inputs(model, 8, 16, draw)
    truth = run_reference(model, inputs).values
    limit = limits(measure_floors(model, inputs, "float32", 1), truth)
    run = run_honest(
        draw_implementation(ARITHMETICS["float32"], HELD_OUT),
        ARITHMETICS["float32"].computing(model),
        inputs,
    )
    real = inputs["attention_mask"]
    tensors = list(anonymous(run.values, 12, real, draw))
    unnamed = {f"t{i}": tensor.array for i, tensor in enumerate(tensors)}
    start = time.perf_counter()
    found = recognise(unnamed, truth, limit, real)
    return {
        "tensors": len(tensors),
        "named": len(found),
        "taps": len(truth),
        "seconds": time.perf_counter() - start,
    }
