"""The study of names: how many taps each map knows, both ways, and whether hooks agree.

Both ways: each tap of every bundled golden has a name in the source, and that name, in a dump,
leads back to the tap. Hooks: dumps of the originals themselves (``maps_hooks.py``), resolved and
compared with refimpl's own float64 run of the same checkpoint.

The originals that no package index has are given by folders: ``REFIMPL_FAIRSEQ``, ``REFIMPL_XLM``
(checkouts), ``REFIMPL_TRANSFORMERS5`` and ``REFIMPL_TRANSFORMER_LENS`` (what stands on the path:
``A:B``). One that is not given is left out, and the figures say so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import load_file, save_file

from refimpl.models.model import load
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.goldens import Golden, bundled, find_goldens, read_golden
from refimpl.parity.names import SOURCES, Naming, foreign_names, resolve
from refimpl.parity.names.sources import first_names
from refimpl.parity.reference import run_reference

FAMILIES = {"xlm": "XLM", "xlm_roberta": "XLM-R", "xlm_roberta_xl": "XLM-R-XL", "xmod": "X-MOD"}
ROOT = Path(__file__).resolve().parents[2]

# Which cases the originals run, beside those whose every case runs.
CASES = {
    "fairseq": (
        "xlm_roberta/masked_lm",
        "xlm_roberta/classification",
        "xlm_roberta_xl/masked_lm",
        "xmod/masked_lm",
        "xmod/pre_norm",
        "xmod/mixed_languages",
    ),
    "xlm": ("xlm/lm", "xlm/lm_untied"),
    "transformer_lens": ("xlm_roberta/masked_lm",),
    "onnx": (
        "xlm/lm",
        "xlm/token_type_ids",
        "xlm/question_answering",
        "xlm/relu",
        "xlm_roberta/masked_lm",
        "xlm_roberta/classification",
        "xlm_roberta/inputs_embeds",
        "xlm_roberta/activation_gelu_new",
        "xlm_roberta/activation_relu",
        "xlm_roberta/activation_silu",
        "xlm_roberta/activation_tanh",
        "xlm_roberta_xl/masked_lm",
        "xlm_roberta_xl/activation_gelu_new",
        "xmod/masked_lm",
        "xmod/pre_norm",
        "xmod/activation_gelu_new",
        "xmod/reduction",
        "xmod/mixed_languages",
    ),
    "onnx_dynamo": (
        "xlm/token_type_ids",
        "xlm/relu",
        "xlm_roberta/masked_lm",
        "xlm_roberta/inputs_embeds",
        "xlm_roberta/activation_gelu_new",
        "xlm_roberta/activation_silu",
        "xlm_roberta/activation_tanh",
        "xlm_roberta_xl/masked_lm",
    ),  # not X-MOD
}
# What a graph does not show: its constants, and a language that it computes in several pieces.
UNSHOWN = {
    ("onnx", "xlm_roberta/inputs_embeds"): r"\.position_ids$",
    ("onnx", "xmod/mixed_languages"): r"\.sw_KE\.",
    ("onnx_dynamo", "xlm_roberta/inputs_embeds"): r"\.position_(ids|embeddings)$",
}
# What is no wrong name: a wrong one is off by a tenth and more. ONNX graphs run in float32.
LIMITS = {"onnx": 1e-5, "onnx_dynamo": 1e-5}
# Where the originals are, as the environment says.
FOLDERS = {
    "transformers 5": "REFIMPL_TRANSFORMERS5",
    "fairseq": "REFIMPL_FAIRSEQ",
    "xlm": "REFIMPL_XLM",
    "transformer_lens": "REFIMPL_TRANSFORMER_LENS",
}


Track = Callable[[Iterable[Any]], Iterable[Any]]


def measure(progress: Track = iter) -> dict[str, Any]:
    """Return taps, mapped taps and what hooks showed, by source and family."""
    steps = [(count_families, source) for source in SOURCES]
    steps += [(run_under_hooks, title) for title in ("transformers 4.57", *FOLDERS)]
    steps += [(run_graphs, source) for source in ("onnx", "onnx_dynamo")]
    figures: dict[str, Any] = {"both_ways": {}, "hooks": {}}
    for step, name in progress(steps):
        part = "both_ways" if step is count_families else "hooks"
        figures[part][name] = step(name)
    return figures


# --- names ----------------------------------------------------------------------------------------


def count_families(source: str) -> dict[str, Any]:
    """Count each family's taps that a source has a name for."""
    return {family: count_both_ways(family, source) for family in FAMILIES}


def count_both_ways(family: str, source: str) -> dict[str, Any]:
    """Count the taps of a family's goldens that a source has a name for, and that come back."""
    named = back = 0
    nameless: set[str] = set()
    for folder in find_goldens(bundled() / family):
        shapes = shapes_of(read_golden(folder).description)
        taps = [name for name in shapes if name not in read_golden(folder).description["outputs"]]
        first = first_names(taps, source)
        theirs = {tap: one.theirs for tap, one in first.items()}
        dump = {one.beside: () for one in first.values() if one.beside}
        dump |= {name: shapes[tap] for tap, name in theirs.items()}
        found = resolve(dump, shapes, source)
        named += len(theirs)
        back += sum(found.named[t].name == n for t, n in theirs.items() if t in found.named)
        nameless |= {_place(tap) for tap in taps if tap not in theirs}
    return {"named": named, "back": back, "nameless": sorted(nameless)}


def shapes_of(description: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of a golden's taps and outputs."""
    both = {**description["taps"], **description["outputs"]}
    return {name: tuple(x["shape"]) for name, x in both.items()}


def _place(tap: str) -> str:
    bare = tap.removeprefix("roberta.").removeprefix("transformer.")
    return ".".join("{i}" if part.isdecimal() else part for part in bare.split("."))


# --- hooks ----------------------------------------------------------------------------------------


def run_under_hooks(title: str) -> dict[str, Any]:
    """Run an original under hooks and judge its names; say why where it is not here."""
    source = title.partition(" ")[0]
    path = os.environ.get(FOLDERS.get(title, ""), "")
    if title in FOLDERS and not path:
        return {"left_out": f"{FOLDERS[title]} is not set"}
    every = (f"{f.parent.name}/{f.name}" for f in find_goldens())
    cases = list(CASES.get(source) or (case for case in every if runs(case, title)))
    return judge(source, run_original(source, path, cases), cases)


def run_graphs(source: str) -> dict[str, Any]:
    """Run exported graphs and judge their names."""
    cases = CASES[source]
    return judge(source, {case: export(case, source) for case in cases}, cases)


def export(case: str, source: str) -> dict[str, numpy.ndarray]:
    """Export transformers 4.57 to ONNX and run the graph, in float32."""
    import transformers

    from tools.parity_figures.foreign_onnx import run_onnx

    golden = read_golden(bundled() / case)
    kind = getattr(transformers, golden.description["architecture"])
    model = kind.from_pretrained(golden.folder, attn_implementation="eager").eval()
    inputs = {name: x for name, x in golden.inputs().items() if name != "labels"}
    return run_onnx(model, inputs, dynamo=source == "onnx_dynamo").values


def runs(case: str, title: str) -> bool:
    """Whether an original runs a case as the golden has it."""
    golden = read_golden(bundled() / case)
    if golden.name == "xlm/lm_adaptive" or "head_mask" in golden.inputs():
        return False  # 4.57 fails on the one; with the other no module shows probabilities
    if title != "transformers 5":
        return True
    from tools import second_witness

    config = json.loads((golden.folder / "config.json").read_text(encoding="utf-8"))
    return not second_witness.dropped(golden, config)


def run_original(source: str, path: str, cases: list[str]) -> dict[str, dict[str, numpy.ndarray]]:
    """Run an original under hooks, in a process of its own; return its dumps by case."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "dumps.npz"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))}
        command = [sys.executable, "-W", "ignore", "-m", "tools.parity_figures.maps_hooks"]
        subprocess.run(
            [*command, source, str(out), *cases],
            cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        dumps: dict[str, dict[str, numpy.ndarray]] = {case: {} for case in cases}
        with numpy.load(out) as arrays:
            for full in arrays.files:
                family, case, name = full.split("/", 2)
                dumps[f"{family}/{case}"][name] = arrays[full]
    return dumps


def judge(
    source: str,
    dumps: Mapping[str, Mapping[str, numpy.ndarray]],
    cases: Iterable[str],
) -> dict[str, Any]:
    """Resolve dumps and compare each tap with refimpl's, by family."""
    figures: dict[str, Any] = {}
    limit = LIMITS.get(source, 1e-12)
    for case in cases:
        golden = read_golden(bundled() / case)
        truth = truth_of(golden, token_types=source != "fairseq")
        naming, errors = errors_of(source, dumps[case], truth, golden)
        unshown = UNSHOWN.get((source, case), "(?!)")  # which matches nothing
        known = [t for t in foreign_names(truth.taps, source)
                 if not _never_shown(source, t) and not re.search(unshown, t)]  # fmt: skip
        one = figures.setdefault(
            golden.name.partition("/")[0],
            {"cases": 0, "taps": 0, "seen": 0, "wrong": [], "not_seen": [], "worst": 0.0},
        )
        one["cases"] += 1
        one["taps"] += len(known)
        one["seen"] += sum(tap in errors for tap in known)
        one["not_seen"] += [f"{case}: {tap}" for tap in known if tap not in errors]
        one["wrong"] += [f"{case}: {tap} as {naming.named[tap].name}"
                         for tap, error in errors.items() if not error <= limit]  # fmt: skip
        one["worst"] = max([one["worst"], *(e for e in errors.values() if e <= limit)])
    return figures


def _never_shown(source: str, tap: str) -> bool:
    """What an original does not show: scores, but for our adapter; constants of a graph."""
    if source == "onnx_dynamo":
        constant = ("position_embeddings", "transformer.position_embeddings")
        return tap in constant or tap.endswith("token_type_embeddings")
    return source == "transformers" and tap.endswith(".scores")


def truth_of(golden: Golden, *, token_types: bool = True) -> Dump:
    """refimpl's run of a case in float64, with its token types or without."""
    inputs = {n: x for n, x in golden.inputs().items() if n != "return_dict"}
    with tempfile.TemporaryDirectory() as folder:
        tensors = load_file(golden.folder / "model.safetensors")
        for name in tensors if not token_types else ():
            if "token_type_embeddings" in name:
                tensors[name] = numpy.zeros_like(tensors[name])
        config = (golden.folder / "config.json").read_bytes()
        (Path(folder) / "config.json").write_bytes(config)
        save_file(tensors, Path(folder) / "model.safetensors")
        kind = golden.description["architecture"]
        model = load(folder, kind, dtype="float64", kernels="plain")
        return run_reference(model, inputs)


def errors_of(
    source: str, dump: Mapping[str, numpy.ndarray], truth: Dump, golden: Golden
) -> tuple[Naming, dict[str, float]]:
    """Return the naming of a dump and, for each tap, how far it is off where there is no padding.

    fairseq and XLM write zeros where there is padding, or leave their own there.
    """
    expected = truth.values
    naming = resolve(
        {n: x.shape for n, x in dump.items()}, {n: x.shape for n, x in expected.items()}, source
    )
    mask = golden.inputs().get("attention_mask")
    real = None if source not in ("fairseq", "xlm") or mask is None or mask.ndim != 2 else mask > 0
    errors = {}
    for tap in truth.taps:
        if tap in naming.named:
            given = naming.named[tap]
            theirs, ours = given.take(dump[given.name]), expected[tap]
            errors[tap] = _error(theirs, ours, _rows(tap, golden, real))
    return naming, errors


def _rows(tap: str, golden: Golden, real: numpy.ndarray | None) -> numpy.ndarray | None:
    """Which places are text, of the texts of its language where the tap is an adapter's."""
    language = tap.partition(".adapter_modules.")[2].partition(".")[0]
    spoken = golden.inputs().get("lang_ids")
    if not language or spoken is None or real is None:
        return real
    config = json.loads((golden.folder / "config.json").read_text(encoding="utf-8"))
    return real[spoken == config["languages"].index(language)]


def _error(theirs: numpy.ndarray, ours: numpy.ndarray, real: numpy.ndarray | None) -> float:
    """The largest difference, in units of the largest number, but at least of 1."""
    if theirs.shape != ours.shape:
        return float("inf")
    if real is not None and ours.ndim >= 2 and ours.shape[:2] == real.shape:
        theirs, ours = theirs[real], ours[real]
    elif real is not None and ours.ndim == 4 and ours.shape[2:] == real.shape[1:] * 2:
        pairs = numpy.broadcast_to((real[:, :, None] & real[:, None])[:, None], ours.shape)
        theirs, ours = theirs[pairs], ours[pairs]
    if not ours.size:
        return 0.0
    theirs, ours = theirs.astype(float), ours.astype(float)
    return float(abs(theirs - ours).max() / max(1.0, abs(ours).max()))


# --- tables ---------------------------------------------------------------------------------------


def table(figures: dict[str, Any]) -> str:
    """Return the figures as two tables in Markdown."""
    lines = ["| Source | " + " | ".join(FAMILIES.values()) + " |", "|---" * 5 + "|"]
    for source, families in figures["both_ways"].items():
        cells = [f"{x['back']} of {x['named']}" if x["named"] else "–" for x in families.values()]
        lines.append(f"| `{source}` | " + " | ".join(cells) + " |")
    heads = ("Hooks in", "Family", "Cases", "Taps seen", "Wrong", "Largest error")
    lines += ["", f"| {' | '.join(heads)} |", "|---" * 6 + "|"]
    for title, families in figures["hooks"].items():
        if "left_out" in families:
            lines.append(f"| {title} | not run: {families['left_out']} | | | | |")
            continue
        for family, x in families.items():
            seen, wrong = f"{x['seen']} of {x['taps']}", len(x["wrong"])
            cells = [title, FAMILIES[family], x["cases"], seen, wrong, f"{x['worst']:.1e}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
