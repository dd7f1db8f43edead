"""The table of tolerances: every row says what was measured, and every value has a row."""

import tomllib
from importlib import resources

import pytest

from refimpl.parity.goldens import find_goldens, read_golden
from refimpl.parity.tolerances import tolerance

ROWS = tomllib.loads(
    resources.files("refimpl.parity").joinpath("tolerances.toml").read_text("utf-8")
)["tolerance"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['dtype']}-{row['role']}")
def test_a_row_says_what_was_measured_and_where_and_is_not_loose(row):
    assert row["where"]
    assert row["measured"] <= row["tolerance"]
    if row["dtype"] == "float64":
        assert row["tolerance"] == 1e-12  # the norm of the project
    else:
        assert row["tolerance"] <= 10 * row["measured"]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_every_float_of_every_golden_has_a_row(dtype):
    for folder in find_goldens():
        golden = read_golden(folder)
        for kind in ("tap", "output"):
            for name, x in golden.part(kind).items():
                if x.dtype.kind == "f":
                    tolerance(dtype, name)


def test_what_was_not_measured_has_no_tolerance():
    with pytest.raises(ValueError, match=r"no tolerance was measured for .*entropy in float32"):
        tolerance("float32", "encoder.layer.0.entropy")
    with pytest.raises(ValueError, match="no tolerance was measured for query in bfloat16"):
        tolerance("bfloat16", "query")
