"""The study of names: how many taps each map knows, both ways, and whether hooks agree.

Both ways: each tap of every bundled golden has a name in the source, and that name, in a dump,
leads back to the tap. Hooks: dumps of the originals themselves (``maps_hooks.py``), resolved and
compared with refimpl's own float64 run of the same checkpoint.

The originals that no package index has are given by folders: ``REFIMPL_FAIRSEQ``, ``REFIMPL_XLM``
(checkouts), ``REFIMPL_TRANSFORMERS5`` and ``REFIMPL_TRANSFORMER_LENS`` (what stands on the path:
``A:B``). One that is not given is left out, and the figures say so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
from safetensors.numpy import load_file, save_file

from refimpl.models.model import load
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.goldens import Golden, bundled, find_goldens, read_golden
from refimpl.parity.names import SOURCES, Naming, foreign_names, resolve
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
    "transformer_lens": ("xlm_roberta/masked_lm", "xlm_roberta/masked_lm_untied"),
}
# Where the originals are, as the environment says.
FOLDERS = {
    "transformers 5": "REFIMPL_TRANSFORMERS5",
    "fairseq": "REFIMPL_FAIRSEQ",
    "xlm": "REFIMPL_XLM",
    "transformer_lens": "REFIMPL_TRANSFORMER_LENS",
}


def measure(progress: Callable[[str], None]) -> dict[str, Any]:
    """Return taps, mapped taps and what hooks showed, by source and family."""
    both_ways = {}
    for source in SOURCES:
        progress(f"names of {source}")
        both_ways[source] = {family: count_both_ways(family, source) for family in FAMILIES}
    return {"both_ways": both_ways, "hooks": dict(_hooks(progress))}


# --- names ----------------------------------------------------------------------------------------


def count_both_ways(family: str, source: str) -> dict[str, Any]:
    """Count the taps of a family's goldens that a source has a name for, and that come back."""
    named = back = 0
    nameless: set[str] = set()
    for folder in find_goldens(bundled() / family):
        shapes = shapes_of(read_golden(folder).description)
        taps = [name for name in shapes if name not in read_golden(folder).description["outputs"]]
        theirs = foreign_names(taps, source)
        dump = {name: shapes[tap] for tap, name in theirs.items()}
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


def _hooks(progress: Callable[[str], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    all_cases = [f"{f.parent.name}/{f.name}" for f in find_goldens()]
    for title in ("transformers 4.57", *FOLDERS):
        source = title.partition(" ")[0]
        path = os.environ.get(FOLDERS.get(title, ""), "")
        if title in FOLDERS and not path:
            yield title, {"left_out": f"{FOLDERS[title]} is not set"}
            continue
        cases = CASES.get(source, [c for c in all_cases if runs(c, title)])
        progress(f"hooks in {title}: {len(cases)} cases")
        yield title, judge(source, run_original(source, path, cases), cases)


def runs(case: str, title: str) -> bool:
    """Whether an original runs a case as the golden has it."""
    golden = read_golden(bundled() / case)
    if title != "transformers 5":
        return golden.name != "xlm/lm_adaptive"  # 4.57 fails on it
    sys.path.insert(0, str(ROOT / "tools"))
    import json

    import second_witness

    config = json.loads((golden.folder / "config.json").read_text(encoding="utf-8"))
    return golden.name != "xlm/lm_adaptive" and not second_witness.dropped(golden, config)


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
    source: str, dumps: Mapping[str, Mapping[str, numpy.ndarray]], cases: list[str]
) -> dict[str, Any]:
    """Resolve dumps and compare each tap with refimpl's, by family."""
    figures: dict[str, Any] = {}
    for case in cases:
        golden = read_golden(bundled() / case)
        truth = truth_of(golden, token_types=source != "fairseq")
        naming, errors = errors_of(source, dumps[case], truth, golden)
        known = [t for t in foreign_names(truth.taps, source) if not _never_shown(source, t)]
        one = figures.setdefault(
            golden.name.partition("/")[0],
            {"cases": 0, "taps": 0, "seen": 0, "wrong": [], "not_seen": [], "worst": 0.0},
        )
        one["cases"] += 1
        one["taps"] += len(known)
        one["seen"] += sum(tap in errors for tap in known)
        one["not_seen"] += [f"{case}: {tap}" for tap in known if tap not in errors]
        one["wrong"] += [f"{case}: {tap} as {naming.named[tap].name}"
                         for tap, error in errors.items() if not error <= 1e-12]  # fmt: skip
        one["worst"] = max([one["worst"], *(e for e in errors.values() if e <= 1e-12)])
    return figures


def _never_shown(source: str, tap: str) -> bool:
    """What only ``refimpl.adapters.torch`` shows of transformers: the scores."""
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
    real = None if source == "transformers" or mask is None or mask.ndim != 2 else mask > 0
    errors = {}
    for tap in truth.taps:
        if tap in naming.named:
            given = naming.named[tap]
            theirs, ours = given.take(dump[given.name]), expected[tap]
            errors[tap] = _error(theirs, ours, real)
    return naming, errors


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
    lines += ["", "| Hooks in | Family | Cases | Taps seen | Wrong | Largest error |", "|---" * 6 + "|"]
    for title, families in figures["hooks"].items():
        if "left_out" in families:
            lines.append(f"| {title} | not run: {families['left_out']} | | | | |")
            continue
        for family, x in families.items():
            seen, wrong = f"{x['seen']} of {x['taps']}", len(x["wrong"])
            cells = [title, FAMILIES[family], x["cases"], seen, wrong, f"{x['worst']:.1e}"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
