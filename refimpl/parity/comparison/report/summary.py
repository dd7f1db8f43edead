"""The head of the report: the verdict in a sentence, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from refimpl.parity.compare import DIFF, NAN
from refimpl.parity.comparison.report.marks import DOCS, broken, count, number, text
from refimpl.parity.comparison.verdict import ComparisonReport, Verdict
from refimpl.parity.comparison.words import rule, sentence
from refimpl.parity.faults import CATALOGUE, Fault

if TYPE_CHECKING:
    from refimpl.parity.diagnosis import Answer, Diagnosis

_SENTENCE = 1000  # characters at most
_ANSWERS = 5  # that are told of a diagnosis


def summary(report: ComparisonReport, diagnosis: Diagnosis | None) -> str:
    """The head of the page."""
    state = ("held", "parts", "empty")[report.exit_code]
    said = broken(sentence(report), _SENTENCE)
    start = "Not held: " if report.first is not None else ""
    said = start + said if start else said[:1].upper() + said[1:]
    parts = [f'<h1 id="verdict" class="{state}">{said}.</h1>']
    if report.first is not None:
        parts.append(
            '<p class="js" hidden><a id="to-first" href="#tap">Open the first that parts</a></p>'
        )
    if rule(report):
        parts.append(f"<p>Judged as {text(rule(report))}.</p>")
    parts += [f'<p class="note"><b>Note:</b> {broken(note)}.</p>' for note in report.notes]
    if diagnosis is not None:
        parts.append(_diagnosis(diagnosis))
    elif report.first is not None and report.first.status in (DIFF, NAN):
        parts.append(_known(report.first, report))
    return "\n".join(filter(None, parts))


def _diagnosis(diagnosis: Diagnosis) -> str:
    """What the mistake is, and how well it explains the candidate."""
    if diagnosis.right:
        said = "no mistake: the candidate computes what the reference does."
    elif diagnosis.answers:
        said = ", or ".join(_answer(answer) for answer in diagnosis.answers[:_ANSWERS]) + "."
    else:
        why = f": {broken(diagnosis.abstained)}" if diagnosis.abstained else ""
        said = f"no known mistake explains it{why}."
    how = f" In {text(diagnosis.arithmetic)}." if diagnosis.arithmetic else ""
    return f'<p class="diagnosis"><b>Diagnosis:</b> {said}{how}</p>'


def _answer(answer: Answer) -> str:
    faults = zip(answer.faults, answer.names, strict=True)
    named = " and ".join(f"{text(f.title)} ({_link(f, words)})" for f, words in faults)
    return (
        f"{named}, which brings the error from {number(answer.before)} down to "
        f"{number(answer.after)} floor units over {count(answer.values, 'value')}"
    )


def _known(first: Verdict, report: ComparisonReport) -> str:
    """Mistakes of the catalogue that may show first where the candidate parts."""
    family = _family(report.truth.taps)
    found = [
        fault
        for fault in CATALOGUE.values()
        if fault.may_part_first(first.name) and family in fault.families
    ]
    if not found:
        return ""
    items = "".join(f"<li>{text(f.title)} ({_link(f, f.name)})</li>" for f in found)
    title = count(len(found), "known mistake")
    verb = "shows" if len(found) == 1 else "show"
    return f"<details><summary>{title} {verb} there first</summary><ul>{items}</ul></details>"


def _family(names: Iterable[str]) -> str:
    """The family whose taps have these names.

    >>> _family(["embeddings", "attentions.0.q_lin"])
    'xlm'
    """
    words = {word for name in names for word in name.split(".")}
    if "q_lin" in words:
        return "xlm"
    if "adapter_modules" in words:
        return "xmod"
    return "xlm_roberta_xl" if "self_attn_layer_norm" in words else "xlm_roberta"


def _link(fault: Fault, words: str) -> str:
    return f'<a href="{DOCS}faults/#{text(fault.name)}"><code>{text(words)}</code></a>'
