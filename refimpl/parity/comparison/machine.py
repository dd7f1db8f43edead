"""A comparison for machines: JSON with fixed keys, and JUnit's XML."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from refimpl.parity.comparison.verdict import INPUT, MISSING, ComparisonReport, Verdict
from refimpl.parity.comparison.words import number, rule, sentence

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_dict(report: ComparisonReport) -> dict[str, Any]:
    """A report in JSON's types. Numbers that are not finite are "inf", "-inf" and "nan"."""
    first = report.first
    return {
        "reference": report.reference,
        "candidate": report.candidate,
        "arithmetic": report.arithmetic,
        "ignore_padding": report.ignore_padding,
        "held": report.held,
        "exit_code": report.exit_code,
        "verdict": sentence(report),
        "first": None if first is None else first.name,
        "rule": {
            "text": rule(report),
            "runs": report.floors.runs,
            "quantile": report.floors.quantile,
            "multiplier": report.floors.multiplier,
        },
        "counts": report.counts(),
        "notes": list(report.notes),
        "unknown": {name: list(near) for name, near in report.unknown.items()},
        "values": [plain(asdict(verdict)) for verdict in report.verdicts],
    }


def plain(value: Any) -> Any:
    """A value in JSON's types, which have no infinity: it is "inf", and "nan" for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def as_junit(report: ComparisonReport) -> str:
    """A report as JUnit's XML: a test case for each input, tap and output, in order."""
    judged = [v for v in report.verdicts if v.kind != INPUT or v.status != MISSING]
    suite = ElementTree.Element(
        "testsuite",
        name=f"refimpl compare {_legal(report.reference)}",
        tests=str(len(judged)),
        failures=str(sum(v.parts for v in judged)),
        errors="0" if report.exit_code != 2 else "1",
        skipped=str(sum(v.status == MISSING for v in judged)),
    )
    for verdict in judged:
        _add_case(suite, verdict)
    if report.exit_code == 2:
        case = ElementTree.SubElement(suite, "testcase", classname="refimpl", name="compare")
        ElementTree.SubElement(case, "error", message=_legal(sentence(report)))
    words = "\n".join((sentence(report), rule(report), *report.notes))
    ElementTree.SubElement(suite, "system-out").text = _legal(words)
    ElementTree.indent(suite)
    text = ElementTree.tostring(suite, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_case(suite: ElementTree.Element, verdict: Verdict) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"refimpl.{verdict.kind}", name=_legal(verdict.name)
    )
    if verdict.status == MISSING:
        ElementTree.SubElement(case, "skipped", message="not in the candidate's dump")
    if verdict.parts:
        failure = ElementTree.SubElement(case, "failure", type=verdict.status)
        failure.set("message", _legal(_message(verdict)))


def _message(verdict: Verdict) -> str:
    sizes = [("floor units", verdict.units), ("introduced", verdict.introduced)]
    said = [f"{what} {number(x)}" for what, x in sizes if x is not None]
    origin = verdict.origin and f"{verdict.origin}" + (verdict.since and f" since {verdict.since}")
    return ", ".join(filter(None, (origin, *said, verdict.where, verdict.note)))


def _legal(text: str) -> str:
    """What XML may hold: a name out of a file may hold more."""
    return NOT_XML.sub("?", text)
