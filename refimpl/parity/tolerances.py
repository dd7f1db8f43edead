"""Tolerances are data: how far off an honest run of each kind of tap was measured to be."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources


def role(name: str) -> str:
    """The kind of value that a tap or output holds: the last word of its name.

    >>> role("roberta.encoder.layer.0.attention.self.query"), role("hidden_states.2")
    ('query', 'hidden_states')
    """
    return [word for word in name.split(".") if not word.isdecimal()][-1]


def tolerance(dtype: str, name: str, case: str = "") -> float:
    """The largest relative error that a tap or output may have in a run of ``dtype``.

    A golden ``case`` in which honest runs are further off than elsewhere has tolerances of its own.
    Raises ``ValueError`` where nothing was measured.
    """
    rows = table()
    for key in ((dtype, role(name), case), (dtype, role(name), ""), (dtype, "*", "")):
        if key in rows:
            return rows[key]
    raise ValueError(f"dtype: no tolerance was measured for {name} in {dtype}")


@cache
def table() -> dict[tuple[str, str, str], float]:
    """The rows of ``tolerances.toml``: (dtype, role, case or "") -> tolerance."""
    text = resources.files("refimpl.parity").joinpath("tolerances.toml").read_text("utf-8")
    rows = tomllib.loads(text)["tolerance"]
    return {
        (row["dtype"], row["role"], row.get("case", "")): float(row["tolerance"]) for row in rows
    }
