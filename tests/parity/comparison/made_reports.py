"""Reports made by hand, for the tests of the page: any size, any verdict, no model needed."""

from dataclasses import replace

import numpy

from refimpl.parity.compare import DIFF, MISSING, OK
from refimpl.parity.comparison.metrics import measure
from refimpl.parity.comparison.verdict import ROUNDING, ComparisonReport, Verdict
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors.floor import Floor, Floors, measure_errors

MULTIPLIER = 3.0


def values_of(layers, heads, width, rows, length, vocabulary, seed=0):
    """Taps and outputs with the names and shapes of an XLM-R, filled with random numbers."""
    random = numpy.random.default_rng(seed)
    hidden, inner = (rows, length, width), (rows, length, 4 * width)
    square = (rows, heads, length, length)
    shapes = {f"roberta.embeddings.{x}": hidden for x in ("word_embeddings", "LayerNorm")}
    for i in range(layers):
        layer = f"roberta.encoder.layer.{i}"
        of_attention = dict.fromkeys(
            ("query", "key", "value", "scores", "probs", "context"), hidden
        )
        of_attention |= {"scores": square, "probs": square}
        shapes |= {f"{layer}.attention.self.{x}": s for x, s in of_attention.items()}
        shapes |= {f"{layer}.attention.output.{x}": hidden for x in ("dense", "LayerNorm")}
        shapes |= {f"{layer}.{x}": inner for x in ("intermediate.dense", "intermediate")}
        shapes |= {f"{layer}.output.{x}": hidden for x in ("dense", "LayerNorm")}
    shapes |= {f"lm_head.{x}": hidden for x in ("dense", "activation", "layer_norm")}
    taps = {name: random.standard_normal(shape, "f4") for name, shape in shapes.items()}
    return taps, {"logits": random.standard_normal((rows, length, vocabulary), "f4")}


def made_report(layers=2, heads=3, width=12, rows=2, length=5, vocabulary=29, first=None):
    """A report on a candidate that parts from the tap ``first`` on; None: it holds."""
    taps, outputs = values_of(layers, heads, width, rows, length, vocabulary)
    ids = numpy.arange(rows * length).reshape(rows, length) % vocabulary
    mask = numpy.ones_like(ids)
    mask[-1, -2:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "lang_ids": numpy.arange(rows)}
    about = {"made_by": "refimpl", "architecture": "XLMRobertaForMaskedLM", "dtype": "float64"}
    truth = Dump(taps, outputs, inputs, about)
    given = Dump(*(_off(x, first) for x in (taps, outputs)), about={"made_by": "a port"})
    floors = Floors("float32", 32, MULTIPLIER, {n: _floor(x) for n, x in truth.values.items()}, {})
    verdicts = tuple(_verdict(n, truth, given, floors, first) for n in truth.values)
    return ComparisonReport(
        "golden/made/up", "dump.npz", "float32", floors, verdicts, {}, truth, given
    )


def _floor(x):
    size = 1e-6 * float(numpy.sqrt(numpy.mean(x * x)))
    return Floor(size, 1.3 * size, 4.5 * size)


def _off(values, first):
    """Rounding up to the tap ``first``; from there on 100 times that, at the first in one head."""
    random, changed = numpy.random.default_rng(1), {}
    after = False
    for name, x in values.items():
        noise = 5e-7 * random.standard_normal(x.shape, "f4")
        if name == first:
            noise[..., : x.shape[-1] // 3] *= 300.0
        elif after:
            noise *= 40.0
        after = after or name == first or (first is not None and name == "logits")
        changed[name] = x + noise
    return changed


def _verdict(name, truth, given, floors, first):
    a, b = given.values[name], truth.values[name]
    units = floors.units(name, measure_errors(a, b))
    kind = "output" if name in truth.outputs else "tap"
    introduced = 90.0 if name == first else 0.6
    far = units > MULTIPLIER
    status = DIFF if far else OK if units <= 1 else ROUNDING
    origin = "introduced" if name == first else "inherited" if far else ""
    where = "head 0 only" if name == first else ""
    verdict = Verdict(name, kind, status, "", b.shape, *measure(a, b), units, introduced, origin)
    return replace(verdict, where=where, in_units={"rms": units / 2, "max_abs": units})


def with_verdict(report, name, /, **changes):
    """The report with one verdict changed."""
    changed = [replace(v, **changes) if v.name == name else v for v in report.verdicts]
    return replace(report, verdicts=tuple(changed))


def with_missing(report, names):
    """The report of a candidate that lacks some values."""
    given = replace(
        report.given, taps={k: x for k, x in report.given.taps.items() if k not in names}
    )
    report = replace(report, given=given)
    for name in names:
        nothing = dict.fromkeys(("units", "introduced", "max_abs", "max_rel", "rms", "cosine"))
        report = with_verdict(report, name, status=MISSING, origin="", in_units={}, **nothing)
    return report
