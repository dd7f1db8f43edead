"""A second witness: do the goldens, made by transformers 4.57.6, hold in transformers 5 too?

    python tools/second_witness.py [FOLDER ...] [--json]

Run it under an interpreter that has torch and transformers 5. Every golden case at or under the
folders (without one: all that are bundled) is loaded there in float64, run on its inputs, and every
output is compared, and every tap that the newer modules still have under its name. What
transformers 5 no longer has is skipped, with the reason.

Prints a line for each case. Exit code 0: all that ran agrees. 1: something does not. 2: something
could not be run, or this is not transformers 5.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import transformers
from transformers.cache_utils import Cache, EncoderDecoderCache

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from golden.make import record
from golden.make.xlm import pred_layer_of_places
from refimpl.errors import CheckpointError
from refimpl.parity.compare import NORM, Comparison, compare_exact, compare_floats
from refimpl.parity.goldens import Golden, case_name, find_goldens, read_golden

AGREES, DIFFERS, SKIPPED, FAILED = "agrees", "differs", "skipped", "failed"


class Verdict(NamedTuple):
    """What became of a case."""

    case: str
    status: str
    note: str = ""  # the reason, or the first value that differs
    outputs: int = 0  # how many were compared
    taps: int = 0
    gone: int = 0  # taps that transformers 5 computes under no such name
    error: float = 0.0  # the largest of a value that agrees


def dropped(golden: Golden, config: dict[str, Any]) -> str:
    """Say what the case needs that transformers 5 no longer has; "" where it has all."""
    inputs, taps = golden.description["inputs"], golden.description["taps"]
    if "head_mask" in inputs:
        return "head_mask: no argument any more, and passed over without a word"
    if any(name.startswith("past_key_values") for name in inputs):
        return "past_key_values: arrays of an earlier call are no cache any more"
    axes = {name: len(x["shape"]) for name, x in inputs.items()}
    if axes.get("input_ids") == 2 and axes.get("attention_mask") == 3:
        return "attention_mask (B, S, T): a mask for each query is not taken any more"
    if config.get("position_embedding_type", "absolute") != "absolute":
        return "position_embedding_type: positions are always absolute"
    if config.get("pruned_heads"):
        return "pruned_heads: heads are not pruned any more"
    if "lm_head.decoder" in taps and not config.get("tie_word_embeddings", True):
        return "lm_head.bias: not read into an untied head, whose bias is zero then"
    return ""


def witness(golden: Golden) -> Verdict:
    """Run a case with transformers 5."""
    config = json.loads((golden.folder / "config.json").read_text(encoding="utf-8"))
    reason = dropped(golden, config)
    if reason:
        return Verdict(golden.name, SKIPPED, reason)
    inputs = {n: torch.tensor(x) if n in golden.description["inputs"] else x
              for n, x in golden.inputs().items()}  # fmt: skip
    taps, outputs = run(load(golden, config), inputs)
    of_outputs = list(compare(golden.part("output"), outputs))
    of_taps = list(compare({n: x for n, x in golden.part("tap").items() if n in taps}, taps))
    wrong = [c for c in (*of_taps, *of_outputs) if not c.ok]
    errors = [c.error for c in (*of_taps, *of_outputs) if c.ok]
    gone = len(golden.description["taps"]) - len(of_taps)
    note = describe(wrong[0]) if wrong else ""
    return Verdict(golden.name, DIFFERS if wrong else AGREES, note, len(of_outputs), len(of_taps),
                   gone, max(errors, default=0.0))  # fmt: skip


def load(golden: Golden, config: dict[str, Any]) -> Any:
    """Load the case's checkpoint in float64; every weight must be in it, and be read."""
    kind = getattr(transformers, golden.description["architecture"])
    # An adaptive softmax has no matrix to tie; transformers 5 tries to, and fails.
    untied = {"tie_word_embeddings": False} if config.get("asm") else {}
    model, report = kind.from_pretrained(
        golden.folder,
        dtype="float64",
        attn_implementation="eager",
        output_loading_info=True,
        **untied,
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            raise ValueError(f"{what}: {', '.join(sorted(map(str, report[what])))}")
    return model.eval()


def run(model: Any, inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return taps and outputs of a call, XLM's adaptive softmax mended as for the goldens."""
    with ExitStack() as stack:
        pred_layer = getattr(model, "pred_layer", None)
        if getattr(pred_layer, "asm", False):
            stack.enter_context(
                mock.patch.object(type(pred_layer), "forward", pred_layer_of_places)
            )
        stack.enter_context(torch.no_grad())
        stack.enter_context(record._float64_stays())
        recorder = stack.enter_context(record.Recorder(model))
        outputs = model(**inputs)
    kept = {name: as_tuples(x) for name, x in outputs.items() if x is not None}
    return recorder.taps, record.flatten(kept)


def as_tuples(value: Any) -> Any:
    """Return a cache in the form that the goldens have: keys and values, layer by layer."""
    if isinstance(value, EncoderDecoderCache):
        own, cross = as_tuples(value.self_attention_cache), as_tuples(value.cross_attention_cache)
        return tuple(a + b for a, b in zip(own, cross, strict=True)) if cross else own
    if isinstance(value, Cache):
        return tuple((x.keys, x.values) for x in value.layers if x.keys is not None)
    return value


def compare(expected: dict[str, Any], actual: dict[str, Any]) -> Iterator[Comparison]:
    """Compare the golden's values, by name."""
    for name, truth in expected.items():
        if name not in actual:
            yield Comparison(name, "MISSING", note="expected, and not computed")
        elif truth.dtype.kind == "f":
            yield compare_floats(name, actual[name].numpy(), truth, NORM, "float64")
        else:
            yield compare_exact(name, actual[name].numpy(), truth)


def describe(comparison: Comparison) -> str:
    """Return a comparison in a line."""
    said = comparison.note or f"error {comparison.error:.2g}"
    return f"{comparison.name}: {comparison.status}, {said}"


def line(verdict: Verdict) -> str:
    """Return a verdict in a line."""
    if verdict.status == AGREES:
        return (f"agrees   {verdict.case}: {verdict.outputs} outputs, {verdict.taps} taps "
                f"({verdict.gone} gone), worst error {verdict.error:.1e}")  # fmt: skip
    return f"{verdict.status:8} {verdict.case}: {verdict.note}"


def main() -> int:
    """Judge all cases; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    if transformers.__version__.partition(".")[0] != "5":
        print(f"expected transformers 5, found {transformers.__version__}", file=sys.stderr)
        return 2
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        folders = [f for root in arguments.folders or [None] for f in find_goldens(root)]
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 2
    verdicts = []
    for folder in folders:
        try:
            verdict = witness(read_golden(folder))
        except Exception as error:  # whatever a case meets there, the others are still judged
            verdict = Verdict(case_name(folder), FAILED, f"{type(error).__name__}: {error}")
        verdicts.append(verdict)
        if not arguments.json:
            print(line(verdict), flush=True)
    counts = {s: sum(v.status == s for v in verdicts) for s in (AGREES, DIFFERS, SKIPPED, FAILED)}
    if arguments.json:
        about = {"transformers": transformers.__version__, "torch": torch.__version__}
        cases = [v._asdict() for v in verdicts]
        print(json.dumps({**about, "counts": counts, "cases": cases}, indent=1))
    else:
        print(", ".join(f"{n} {status}" for status, n in counts.items()))
    return 2 if counts[FAILED] else int(counts[DIFFERS] > 0)


if __name__ == "__main__":
    sys.exit(main())
