"""Golden strength: which known mistakes a set of goldens would miss, and cases made by refimpl.

    for finding in score(read_fixtures(find_goldens(path), "float32")):
        print(finding.fault, finding.status)

A golden that a wrong port passes is worth nothing. So every mistake of the catalogue is made on
purpose, and judged by the goldens as ``refimpl compare`` would judge it.
"""

from refimpl.parity.strength.case import make_case
from refimpl.parity.strength.fixture import Fixture, read_fixture, read_fixtures
from refimpl.parity.strength.fresh import fresh
from refimpl.parity.strength.gates import GATES, Gate, GateScore, score_gates
from refimpl.parity.strength.score import (
    CAUGHT,
    EQUIVALENT,
    MISSED,
    Finding,
    Question,
    Score,
    questions,
    score,
)

__all__ = [
    "CAUGHT",
    "EQUIVALENT",
    "GATES",
    "MISSED",
    "Finding",
    "Fixture",
    "Gate",
    "GateScore",
    "Question",
    "Score",
    "fresh",
    "make_case",
    "questions",
    "read_fixture",
    "read_fixtures",
    "score",
    "score_gates",
]
