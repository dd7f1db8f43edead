"""Assertions on what a port computed. They raise ``AssertionError`` with the verdict in words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refimpl.parity.cards import Card, CardReport, judge, read_cards
from refimpl.parity.comparison import ComparisonReport, Verdict, compare, rule, sentence
from refimpl.parity.comparison.words import number
from refimpl.parity.dumps import Dump, read_dump
from refimpl.parity.goldens import bundled, find_goldens, read_golden
from refimpl.parity.values import dump_values

Candidate = Mapping[str, Any] | Dump | str | os.PathLike[str]
SHOWN = 8  # rows of a table

# --- a call of a model ----------------------------------------------------------------------------


def assert_parity(
    candidate: Candidate,
    reference: str | os.PathLike[str] | Dump | None = None,
    *,
    arithmetic: str | None = None,
    names: str | None = None,
    map_file: str | Path | None = None,
    ignore_padding: bool = False,
    runs: int | None = None,
) -> ComparisonReport:
    """Assert that what a port computed is the reference but for rounding; return the report.

    ``candidate`` is a mapping of names to arrays (taps and outputs), a dump, or the path of one.
    ``reference`` is a bundled golden ("xlm_roberta/padding_left"), the folder of a golden or of a
    checkpoint, a hub id, or a dump in float64; None is the checkpoint that the candidate's dump
    names. The rest is as in :func:`refimpl.parity.comparison.compare`.

    Raises ``AssertionError`` with the verdict, the values that part and the rule, where it parts
    or where nothing could be compared; ``ValueError`` and ``CheckpointError`` for what is missing.

    >>> report = assert_parity(bundled() / "xmod/model", "xmod/model")
    >>> report.held
    True
    """
    given = as_dump(candidate)
    report = compare(
        _reference(given, reference),
        given,
        arithmetic=arithmetic,
        names=names,
        map_file=map_file,
        ignore_padding=ignore_padding,
        runs=runs,
    )
    if not report.held:
        raise AssertionError("\n".join(_told(report)))
    return report


def as_dump(candidate: Candidate) -> Dump:
    """Return a candidate as a dump, whichever way it is given.

    Raises ``TypeError`` for anything else than a mapping of arrays, a dump or a path.
    """
    if isinstance(candidate, Dump):
        return candidate
    if isinstance(candidate, (str, os.PathLike)):
        return read_dump(candidate)
    if isinstance(candidate, Mapping):
        return dump_values(candidate)
    got = type(candidate).__name__
    raise TypeError(f"candidate: expected a mapping of arrays, a dump or a path, got {got}")


def _reference(given: Dump, reference: str | os.PathLike[str] | Dump | None) -> str | Path | Dump:
    if isinstance(reference, Dump):
        return reference
    if reference is not None:
        return golden_folder(reference)
    named = given.about.get("checkpoint")
    if not isinstance(named, str):
        raise ValueError("reference: expected a golden, a checkpoint or a dump: the candidate "
                         "names no checkpoint")  # fmt: skip
    return named


def golden_folder(name: str | os.PathLike[str]) -> str | Path:
    """Return the folder of a bundled golden ("xmod/model"); what is none comes back as it is."""
    folder = bundled() / name
    is_bundled = not Path(name).exists() and (folder / "golden.json").exists()
    return folder if is_bundled else str(name)


def _told(report: ComparisonReport) -> Iterator[str]:
    """The lines of a report that parts."""
    yield f"{report.candidate} against {report.reference}: {sentence(report)}"
    rows = [v for v in report.verdicts if v.parts]
    for verdict in rows[:SHOWN]:
        yield _row(verdict)
    if len(rows) > SHOWN:
        yield f"  ... and {len(rows) - SHOWN} more"
    for name, near in list(report.unknown.items())[:SHOWN]:
        yield f"  unknown name {name!r}" + (f"; did you mean {near[0]}?" if near else "")
    yield from (f"  {note}" for note in report.notes)
    if rule(report):
        yield f"  {rule(report)}"


def _row(verdict: Verdict) -> str:
    said = ", ".join(filter(None, (verdict.origin, verdict.where, verdict.note)))
    units = "" if verdict.units is None else f"{number(verdict.units)} floor units"
    return "  ".join(filter(None, (f"  {verdict.status:5}", verdict.name, units, said)))


# --- goldens --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GoldenCase:
    """A golden as a port's test takes it: a checkpoint, a call, and :meth:`check`."""

    name: str  # "xlm_roberta/padding_left"
    folder: Path  # config.json and model.safetensors, as transformers writes them
    architecture: str  # "XLMRobertaForMaskedLM"
    inputs: Mapping[str, Any]  # arguments of the call: arrays, reals among them in float64; flags

    def check(self, candidate: Candidate, **options: Any) -> ComparisonReport:
        """:func:`assert_parity` of a candidate with this case."""
        return assert_parity(candidate, self.folder, **options)


def find_cases(
    family: str | None = None, limit: int | None = None, path: str | Path | None = None
) -> list[GoldenCase]:
    """Return the goldens at or under ``path`` (None: the bundled ones), of one family or of all.

    Raises ``ValueError`` for a family that has none, ``CheckpointError`` where there is no golden.
    """
    folders = find_goldens(path)
    known = sorted({folder.resolve().parent.name for folder in folders})
    if family is not None and family not in known:
        raise ValueError(f"family: expected one of {', '.join(known)}, got {family!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected 1 or more, got {limit}")
    chosen = [f for f in folders if family in (None, f.resolve().parent.name)][:limit]
    return [_case(folder) for folder in chosen]


def _case(folder: Path) -> GoldenCase:
    golden = read_golden(folder)
    architecture = golden.description["architecture"]
    return GoldenCase(golden.name, golden.folder, architecture, golden.inputs())


# --- operation cards ------------------------------------------------------------------------------


def assert_cards(candidate: Candidate, arithmetic: str | None = None) -> CardReport:
    """Assert that the outputs ``<card>.<case>.output`` of a port are those of the cards.

    Raises ``AssertionError`` with the operations that are wrong, where one is or nothing is there.
    """
    report = judge(as_dump(candidate), arithmetic)
    if not report.held:
        raise AssertionError("\n".join([report.sentence, *card_rows(report)]))
    return report


def assert_card(name: str, function: Callable[..., Any], arithmetic: str = "float32") -> CardReport:
    """Call a port's function on every case of a card, and assert that it is right.

    It is called with the card's inputs by name: arrays of NumPy, reals in ``arithmetic`` (float32
    for bfloat16), and plain numbers. Raises ``AssertionError``, ``ValueError`` for an unknown card.
    """
    cards = read_cards()
    if name not in cards:
        raise ValueError(f"card: expected one of {', '.join(cards)}, got {name!r}")
    return assert_cards(dict(_answers(cards[name], function, arithmetic)), arithmetic)


def _answers(
    card: Card, function: Callable[..., Any], arithmetic: str
) -> Iterator[tuple[str, Any]]:
    dtype = "float32" if arithmetic == "bfloat16" else arithmetic
    for case in card.cases.values():
        if arithmetic in case.arithmetics:
            given = card.arguments(case)
            is_real = {n: getattr(getattr(x, "dtype", None), "kind", "") == "f"
                       for n, x in given.items()}  # fmt: skip
            cast = {n: x.astype(dtype) if is_real[n] else x for n, x in given.items()}
            yield case.key, function(**cast)


def card_rows(report: CardReport) -> Iterable[str]:
    """Lines of a table: the cards that are wrong, each with its first wrong case."""
    for card in report.judged:
        case = card.first
        if case is not None:
            units = "" if case.units is None else f", {number(case.units)} floor units"
            why = f"; uses {', '.join(card.inherited)}" if card.inherited else ""
            note = f" ({case.note})" if case.note else ""
            yield f"  {case.status:8} {case.name}: {case.what}{units}{note}{why}"
