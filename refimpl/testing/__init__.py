"""For other people's tests: one assertion on what a port computed, and pytest fixtures.

    assert_parity(port_outputs, "xlm_roberta/padding_left")

The fixtures are in :mod:`refimpl.testing.plugin`. ``docs/porting.md`` shows a suite of five lines.
"""

from refimpl.testing.assertions import (
    GoldenCase,
    assert_card,
    assert_cards,
    assert_parity,
    find_cases,
    golden_folder,
)

__all__ = [
    "GoldenCase",
    "assert_card",
    "assert_cards",
    "assert_parity",
    "find_cases",
    "golden_folder",
]
