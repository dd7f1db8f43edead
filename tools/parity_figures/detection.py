"""Whether a mistake in the original is found where it was made: in float32, tap by tap.

Every mistake of the catalogue is made in the original (transformers, its modules patched by
``tests/oracle/mistakes``), which is run in float32 with hooks on all modules. ``compare`` judges
the dump against the checkpoint. A mistake is found at the right tap when the first value that it
calls no rounding is one of those that the catalogue names; the tests make some a step earlier or
later, and these are counted by themselves. So is what float32 does not show where it was made, with
the usual weights, but with others does. Equivalents should not be found in the outputs.
"""

from __future__ import annotations

import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from refimpl.parity.comparison import ComparisonReport, compare
from refimpl.parity.comparison.verdict import MISSING
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.faults import CATALOGUE, place_of
from tools.parity_figures.cases import run_all

Track = Callable[..., Iterable[Any]]
RUNS = 32  # honest runs for each model's floors
# The tests make these a step earlier or later than the catalogue: by changing what a module
# returns, where the catalogue changes what goes on from it, or the other way round.
NEIGHBOURS = {
    "words_scaled": ("words",),
    "padding_vector_zeroed": ("words",),
    "positions_behind_embedding_norm": ("positions",),
    "xlm_languages_behind_norm": ("languages",),
    "query_bias_not_scaled": ("query",),
    "final_norm_added": ("ffn_norm",),
    "norm_before_residual": ("attention_out",),
    "xmod_adapter_adds_nothing": ("ffn_norm", "attention_norm"),
}
# What float32 does not show where it was made is made again with these weights, and this eps.
EDGES, EPS = "edges", {"layer_norm_eps": 1e-6}


class Found(NamedTuple):
    """What became of one mistake in one family."""

    fault: str
    family: str
    first: str  # the first value that is no rounding; "" for none
    at: str  # "named", "neighbour": where the test makes it; "elsewhere", "nowhere"
    weights: str  # "spread", or EDGES where these were tried after them
    error: str = ""  # why it could not be run

    @property
    def right(self) -> bool:
        """Whether it was found where it was made."""
        return self.at in ("named", "neighbour")


def measure(progress: Track = iter) -> dict[str, Any]:
    """Make every mistake in the original, and judge what comes."""
    cases = ["/".join(map(str, key)) for key in mistakes()]
    found = run_all("detection", cases, look_at, progress)
    return summarise([Found(*one) for one in found])


def mistakes() -> dict[tuple[str, str, int], Any]:
    """All mistakes that the tests make in the original: fault, family, which one of several."""
    from tests.oracle.mistakes import answers, attention, embeddings, layers
    from tests.oracle.mistakes.registry import MISTAKES

    assert all((answers, attention, embeddings, layers))  # they fill MISTAKES
    return dict(MISTAKES)


def summarise(found: list[Found]) -> dict[str, Any]:
    """The figures of the study."""
    import numpy
    import torch
    import transformers

    wrong = [one for one in found if not CATALOGUE[one.fault].equivalent]
    equivalents = [one for one in found if CATALOGUE[one.fault].equivalent]
    usual = [one for one in wrong if one.weights != EDGES]
    return {
        "versions": {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "runs": RUNS,
        "faults": len({one.fault for one in wrong}),
        "made": len(wrong),
        "found": sum(bool(one.first) for one in wrong),
        "right": sum(one.right for one in wrong),
        "right_as_named": sum(one.at == "named" for one in usual),
        "right_at_neighbour": sum(one.at == "neighbour" for one in usual),
        "neighbours": {name: list(places) for name, places in NEIGHBOURS.items()},
        "right_with_other_weights": [
            one._asdict() for one in wrong if one.right and one.weights == EDGES
        ],
        "at": dict(Counter(place_of(one.first) for one in wrong if one.right).most_common()),
        "not_right": [one._asdict() for one in wrong if not one.right],
        "equivalents": len(equivalents),
        "equivalents_not_where_named": [
            one._asdict() for one in equivalents if one.first and not one.right
        ],
        "not_made": sorted(set(CATALOGUE) - {one.fault for one in found}),
    }


def look_at(case: str) -> Found:
    """Make one of the mistakes, called as "fault/family/number"."""
    name, family, number = case.split("/")
    return look(name, family, mistakes()[name, family, int(number)])


def look(name: str, family: str, of: Any) -> Found:
    """Make one mistake, and return where ``compare`` first sees it."""
    from tests.oracle.mistakes.registry import draw

    one = draw(family, of)
    found = judge(name, family, one, of)
    if found.right or found.error or CATALOGUE[name].equivalent:
        return found
    return judge(name, family, replace(one, config={**one.config, **EPS}), of, EDGES)


def judge(name: str, family: str, one: Any, of: Any, weights: str = "spread") -> Found:
    """Make one mistake in one model."""
    from golden.make.case import make_model

    seed = zlib.crc32(name.encode())
    model = make_model(one.family, one.head, one.config, seed, weights).float()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        model.save_pretrained(folder)
        try:
            dump = run_wrong(model, family, one.inputs, of, patch)
            patch.undo()
            report = compare(Path(folder), dump, inputs=one.inputs, arithmetic="float32", runs=RUNS)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            print(f"{name}, {family}: {error}", file=sys.stderr)
            return Found(name, family, "", "nowhere", weights, str(error)[:200])
    if report.first is None:
        return Found(name, family, "", "nowhere", weights)
    return Found(name, family, report.first.name, where(name, candidates(report)), weights)


def where(name: str, values: list[str]) -> str:
    """Whether a fault may begin at one of some values, and who says so."""
    if any(CATALOGUE[name].may_part_first(value) for value in values):
        return "named"
    near = NEIGHBOURS.get(name, ())
    return "neighbour" if any(place_of(value) in near for value in values) else "elsewhere"


def candidates(report: ComparisonReport) -> list[str]:
    """The first value that is wrong, and those right before it that the port did not show."""
    assert report.first is not None
    at = report.verdicts.index(report.first)
    shown = (i for i in range(at - 1, -1, -1) if report.verdicts[i].status != MISSING)
    return [one.name for one in report.verdicts[next(shown, -1) + 1 : at + 1]]


def run_wrong(model: Any, family: str, inputs: dict[str, Any], of: Any, patch: Any) -> Dump:
    """Run the original with the mistake in it, in float32, and return all that hooks see."""
    import torch

    from golden.make import record
    from tests.oracle.mistakes import port as port_module
    from tests.oracle.mistakes.port import Port
    from tests.oracle.originals import adaptive_softmax_of_places, as_tensors

    port, seen = Port(model, family, dict(inputs), patch), []
    patch.setattr(port_module, "attend", watched(seen))
    of.make(port)
    tensors = {
        n: x.float() if torch.is_tensor(x) and x.is_floating_point() else x
        for n, x in as_tensors(port.inputs).items()
    }
    with adaptive_softmax_of_places():
        taps, outputs = record.run(model, tensors)
    taps = {n: x.numpy() for n, x in taps.items()}
    if "inputs_embeds" in inputs:  # then XLM looks up its word table for token types only
        words = ("transformer.embeddings", "embeddings")
        taps = {f"{n}.token_types" if n in words else n: x for n, x in taps.items()}
    places = [n.removesuffix("context") for n in taps if n.endswith(".context")]
    for place, stages in zip(places, seen, strict=bool(seen)):
        taps |= {place + word: x for word, x in stages.items()}
    answers = port.outputs({n: x.numpy() for n, x in outputs.items()})
    return Dump(taps, answers, {}, {"made_by": "transformers"})


def watched(seen: list[dict[str, Any]]) -> Callable[..., Any]:
    """The tests' attention in steps, which hooks on modules do not see into; ``seen`` does."""
    from tests.oracle.mistakes.port import attend, lowest

    def watch(port: Any, *given: Any, mask: Any = None, probs: Any = None, **changes: Any) -> Any:
        stages: dict[str, Any] = {}
        seen.append(stages)

        def masked(torch: Any, scores: Any, allowed: Any) -> Any:
            stages["scores"] = scores.detach().numpy().copy()
            return (mask or lowest)(torch, scores, allowed)

        def probabilities(weights: Any, allowed: Any) -> Any:
            weights = weights if probs is None else probs(weights, allowed)
            stages["probs"] = weights.detach().numpy().copy()
            return weights

        return attend(port, *given, mask=masked, probs=probabilities, **changes)

    return watch


def table(figures: dict[str, Any]) -> str:
    """How many were found, and where."""
    made, others = figures["made"], figures["right_with_other_weights"]
    rows = {
        "made": made,
        "found": figures["found"],
        "found first where they were made": figures["right"],
        "- at a value that the catalogue names": figures["right_as_named"],
        "- where the original makes it, one step beside that": figures["right_at_neighbour"],
        "- only with other weights and eps, where float32 shows more": len(others),
    }
    lines = [
        f"{figures['faults']} mistakes, made in transformers {figures['versions']['transformers']} "
        f"{made} times (one for each family that can make it, or more); floors of "
        f"{figures['runs']} honest runs.",
        "",
        "| | Mistakes |",
        "|---|---|",
        *(f"| {what} | {count} ({count / made:.1%}) |" for what, count in rows.items()),
        "",
        f"Not found where it was made: {_names(x['fault'] for x in figures['not_right'])}. A step "
        f"beside: {_names(figures['neighbours'])}. Only with other weights: "
        f"{_names(x['fault'] for x in others)}.",
        "",
        "| First seen at | Mistakes |",
        "|---|---|",
    ]
    lines += [f"| {place} | {count} |" for place, count in figures["at"].items()]
    return "\n".join(lines)


def _names(faults: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(set(faults))) or "none"
