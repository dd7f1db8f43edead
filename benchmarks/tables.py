"""How the tables of docs/performance.md are written."""

from __future__ import annotations

from collections.abc import Sequence


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown.

    >>> print(markdown(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "|" + "|".join(line) + "|" if line[0] == "---" else "| " + " | ".join(line) + " |"
        for line in lines
    )


def verdict(value: float, target: float, at_most: bool = True) -> str:
    """Return whether a target is met, and if not, by how much it is missed.

    >>> verdict(0.97, 1.0), verdict(1.004, 1.0), verdict(0.64, 0.7, at_most=False)
    ('met', 'missed by 0.004', 'missed by 0.06')
    """
    missed = value - target if at_most else target - value
    return "met" if missed <= 0 else f"missed by {missed:.2g}"


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, with a digit or two behind the point.

    >>> milliseconds(0.0123456), milliseconds(3.2)
    ('12.35', '3200.0')
    """
    return f"{seconds * 1e3:.{2 if seconds < 0.1 else 1}f}"
