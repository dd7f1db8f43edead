"""How well operation cards find a mistake: every one is injected, the failing cards are counted.

A mistake is localised where exactly the card of its operation is wrong, and no other but those that
use that operation, which the report says of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy

from refimpl.parity.cards import Card, judge, read_cards, read_floors
from refimpl.parity.cards.card import ARITHMETICS
from refimpl.parity.cards.measuring import run_card
from refimpl.parity.cards.reference import FUNCTIONS
from refimpl.parity.compare import MISSING
from refimpl.parity.dumps import Dump
from refimpl.parity.faults import CATALOGUE, Fault
from refimpl.parity.floors import draw_implementation, find_arithmetic
from refimpl.replacing import plain, replace
from tools.parity_figures.card_mutations import OPERATIONS, STEPS, Change

Track = Callable[[Iterable[Any]], Iterable[Any]]
Arrays = dict[str, numpy.ndarray]
HELD_OUT = range(1000, 1050)  # numbers of honest implementations; floors are of 0 to 63

# Faults that change no operation: they give it something else, which they take from the call.
OF_THE_CALL = {
    "positions_of_vectors_skip_padding": "positions are counted from the call's attention_mask",
    "two_masks_added": "the mask of one step reaches the next",
    "xlm_padding_not_zeroed": "attention gets the mask of the call, hidden states do not",
    "xlm_causal_masks_padding": "attention gets the padding of the call as well",
    "lm_head_follows_hidden_act": "the head calls another operation, itself right",
}
# The cards that should be wrong, where they are not those of the operations that a fault changes.
SHOWS_AT = {
    # The original's positions of vectors begin again with every call, so that is no mistake.
    "positions_restart_behind_cache": ("position_ids_from_padding",),
}
RUN = SimpleNamespace(width=24, heads=9, config=SimpleNamespace(hidden_act="relu"))


class Injected(NamedTuple):
    """One mistake in one port, and what became of the cards."""

    name: str
    operations: tuple[str, ...]  # the cards that should be wrong
    wrong: tuple[str, ...]  # those that are
    equivalent: bool = False  # whether the catalogue has an argument that no model shows it

    @property
    def localised(self) -> bool:
        """Whether exactly the right cards are wrong; what is equivalent may show there or not."""
        own = set(self.operations)
        return set(self.wrong) == own or (self.equivalent and not self.wrong)


def answers(
    cards: Mapping[str, Card], dtype: str = "float32", changes: Mapping[str, Change] | None = None
) -> Arrays:
    """Everything a port made of our plain operations dumps; a case in which it fails is missing."""
    found: Arrays = {}
    for name, card in cards.items():
        change = (changes or {}).get(name, dict)
        for case in card.cases.values():
            if dtype in case.arithmetics:
                with suppress(Exception), numpy.errstate(all="ignore"):
                    arguments = change(card.arguments(case))
                    cast = {n: _cast(x, dtype) for n, x in arguments.items()}
                    found[case.key] = numpy.asarray(FUNCTIONS[name](**cast))
    return found


def _cast(x: Any, dtype: str) -> Any:
    is_real = isinstance(x, numpy.ndarray) and x.dtype.kind == "f"
    return x.astype(dtype) if is_real else x


def catalogue() -> Iterator[tuple[Fault, tuple[str, ...], dict[str, Callable[..., Any]]]]:
    """The faults of the catalogue that change operations: with their cards and functions."""
    for fault in CATALOGUE.values():
        if fault.operations and fault.name not in OF_THE_CALL:
            run: Any = SimpleNamespace(**vars(RUN), parameters=fault.parameters)
            functions = {n: change(run, plain(n)) for n, change in fault.operations.items()}
            if fault.name == "distances_not_scaled":
                functions = {n: _only_with_distances(n, f) for n, f in functions.items()}
            yield fault, SHOWS_AT.get(fault.name, tuple(fault.operations)), functions


def _only_with_distances(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def attend(*arrays: Any, **options: Any) -> Any:
        with_them = options.get("position_scores") is not None
        return (function if with_them else plain(name))(*arrays, **options)

    return attend


def inject(cards: Mapping[str, Card], track: Track = iter) -> Iterator[Injected]:
    """Inject every mistake into a float32 port, one after another."""
    mistakes = [
        (f"{f.name} (catalogue)", ops, functions, bool(f.equivalent))
        for f, ops, functions in catalogue()
    ]
    for operation, mutations in OPERATIONS.items():
        for name, mutation in mutations.items():
            function = mutation(plain(operation))
            mistakes.append((f"{operation}: {name}", (operation,), {operation: function}, False))
    for name, operations, functions, equivalent in track(mistakes):
        with replace(**functions):
            yield injected(name, operations, answers(cards), equivalent)
    for step, changes in STEPS.items():
        for name, change in changes.items():
            given = answers(cards, changes={step: change})
            yield injected(f"{step}: {name}", (step,), given)


def injected(
    name: str, operations: tuple[str, ...], given: Arrays, equivalent: bool = False
) -> Injected:
    """Judge a port with a mistake in it. A case that fails to run at all shows nothing here."""
    report = judge(Dump(given), "float32")
    wrong = tuple(
        card.name
        for card in report.wrong
        if any(not case.held and case.status != MISSING for case in card.cases)
    )
    return Injected(name, operations, wrong, equivalent)


def false_alarms(cards: Mapping[str, Card], arithmetic: str) -> tuple[int, int]:
    """How many verdicts on held-out honest implementations are wrong, and how many there were."""
    wrong = total = 0
    for number in HELD_OUT:
        drawn = draw_implementation(find_arithmetic(arithmetic), number)
        given = {
            case.key: run_card(card, case, drawn, number)
            for card in cards.values()
            for case in card.cases.values()
            if arithmetic in case.arithmetics
        }
        verdicts = [case for card in judge(Dump(given), arithmetic).judged for case in card.cases]
        wrong += sum(not case.held for case in verdicts)
        total += len(verdicts)
    return wrong, total


# --- the figure -----------------------------------------------------------------------------------


def measure(progress: Track = iter) -> dict[str, Any]:
    """Inject everything into a port on NumPy and, where PyTorch is installed, on PyTorch; count
    the false alarms on implementations that were not in the floors.
    """
    cards = read_cards()
    floors = read_floors()["float32"]
    ports = {"NumPy, float32": list(inject(cards, progress))}
    honest = {f"{a}, held-out": false_alarms(cards, a) for a in ARITHMETICS}
    versions = {"numpy": numpy.__version__}
    if find_spec("torch"):
        from tools.parity_figures import cards_torch

        ports["PyTorch, float32"] = list(cards_torch.inject())
        honest |= cards_torch.false_alarms(cards)
        versions |= cards_torch.versions()
    return {
        "cards": len(cards),
        "cases": sum(len(card.cases) for card in cards.values()),
        "runs": floors.runs,
        "multiplier": floors.multiplier,
        "implementations": len(HELD_OUT),
        "left_out": OF_THE_CALL,
        "versions": versions,
        "ports": {name: _counts(found) for name, found in ports.items()},
        "false_alarms": {name: list(counts) for name, counts in honest.items()},
    }


def _counts(found: list[Injected]) -> dict[str, Any]:
    return {
        "injected": len(found),
        "localised": sum(x.localised for x in found),
        "equivalent": [x.name for x in found if x.equivalent],
        "not_localised": {x.name: list(x.wrong) for x in found if not x.localised},
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| Port | Mistakes injected | Localised to exactly the operation |", "|---|---|---|"]
    for name, port in figures["ports"].items():
        share = port["localised"] / port["injected"]
        lines.append(f"| {name} | {port['injected']} | {port['localised']} ({share:.1%}) |")
    lines += ["", "| Honest implementation | Verdicts | Wrong |", "|---|---|---|"]
    for name, (wrong, total) in figures["false_alarms"].items():
        lines.append(f"| {name} | {total:,} | {wrong} |")
    return "\n".join(lines) + "\n"
