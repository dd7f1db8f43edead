"""How strong the bundled goldens are: which known mistakes they notice, and what gates would.

Every mistake of the catalogue is committed on purpose in every family that can make it, and judged
by the bundled goldens. Beside them: gates in common use, on the same goldens; and two blind sets,
the same calls with weights as a model has before training, and one unpadded text of such a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from refimpl.parity.floors import MULTIPLIER, RUNS
from refimpl.parity.goldens import find_goldens
from refimpl.parity.strength import (
    CAUGHT,
    EQUIVALENT,
    GATES,
    MISSED,
    Fixture,
    Score,
    fresh,
    questions,
    read_fixture,
    score,
    score_gates,
)

Track = Callable[..., Iterable[Any]]
ARITHMETICS = ("float32", "float16", "bfloat16")
# One class of each family, whose call becomes one unpadded text.
PLAIN = ("xlm/lm", "xlm_roberta/masked_lm", "xlm_roberta_xl/masked_lm", "xmod/causal_lm")
TEXT = {"input_ids": [[0, 17, 5, 23, 2]]}


def measure(progress: Track = iter) -> dict[str, Any]:
    """Score the bundled goldens in each arithmetic, and the gates and blind sets in float32."""
    figures: dict[str, Any] = {"runs": RUNS, "multiplier": MULTIPLIER, "arithmetics": {}}
    for name in ARITHMETICS:
        fixtures = [read_fixture(folder, name) for folder in find_goldens()]
        found, _ = _score(fixtures, name, progress)
        figures["goldens"] = len(fixtures)
        figures["arithmetics"][name] = _summary(found)
    figures["sets"] = {name: _set(fixtures, progress) for name, fixtures in _sets().items()}
    return figures


def _sets() -> dict[str, list[Fixture]]:
    bundled = [read_fixture(folder, "float32") for folder in find_goldens()]
    texts = [{**TEXT, "langs": [[1] * 5]} if f.family == "xlm" else TEXT for f in bundled]
    pairs = zip(bundled, texts, strict=True)
    return {
        "the bundled goldens": bundled,
        "the same calls, fresh weights": [fresh(f) for f in bundled],
        "one unpadded text, fresh weights": [fresh(f, t) for f, t in pairs if f.name in PLAIN],
    }


def _score(
    fixtures: Sequence[Fixture], arithmetic: str, progress: Track
) -> tuple[Score, list[Any]]:
    asked = questions(fixtures)
    answers = tuple(progress(score(asked), total=len(asked)))
    return Score(arithmetic, MULTIPLIER, answers), list(zip(asked, answers, strict=True))


def _set(fixtures: Sequence[Fixture], progress: Track) -> dict[str, Any]:
    """What floors, and each gate, catch of the mistakes with one set of fixtures."""
    found, pairs = _score(fixtures, "float32", progress)
    gates = score_gates(progress(pairs, total=len(pairs)), fixtures, runs=2)
    caught = len(found.of(CAUGHT))
    return {
        "fixtures": len(fixtures),
        "asked": caught + len(found.of(MISSED)),
        "caught": caught,
        "gates": {gate.gate: gate._asdict() for gate in gates},
    }


def _summary(found: Score) -> dict[str, Any]:
    weakest = found.weakest
    return {
        "asked": len(found.of(CAUGHT)) + len(found.of(MISSED)),
        "caught": len(found.of(CAUGHT)),
        "share": found.share,
        "missed": [f"{one.fault} ({one.family})" for one in found.of(MISSED)],
        "equivalent": {one.fault: one.note for one in found.of(EQUIVALENT)},
        "weakest": None if weakest is None else weakest._asdict(),
    }


def table(figures: dict[str, Any]) -> str:
    """Two tables: the score in each arithmetic, and the gates."""
    lines = [
        f"{figures['goldens']} goldens, {figures['runs']} honest runs for each floor; noticed is "
        f"what stands more than {figures['multiplier']:g} floors above the truth at some value.",
        "",
        "| Arithmetic | Mistakes noticed | Share | The weakest, in floors | Missed |",
        "|---|---|---|---|---|",
    ]
    for name, one in figures["arithmetics"].items():
        weakest = one["weakest"]
        cells = (
            name,
            f"{one['caught']} of {one['asked']}",
            f"{one['share']:.1%}",
            f"{weakest['units']:.3g} (`{weakest['fault']}`)",
            ", ".join(one["missed"]) or "none",
        )
        lines.append(f"| {' | '.join(cells)} |")
    sets = figures["sets"]
    lines += [
        "",
        "What else would notice, in float32 (in brackets: honest runs that it takes for wrong):",
        "",
        f"| Judged by | {' | '.join(sets)} |",
        f"|---|{'---|' * len(sets)}",
    ]
    own = " | ".join(f"{one['caught']} of {one['asked']}" for one in sets.values())
    lines.append(f"| floors, every value | {own} |")
    for name, gate in GATES.items():
        cells = []
        for one in (x["gates"][name] for x in sets.values()):
            cells.append(f"{one['caught']} ({one['alarms']} of {one['honest']})")
        lines.append(f"| {gate.title} | {' | '.join(cells)} |")
    return "\n".join(lines)
