"""The fixtures, for pytest: ``pytest_plugins = ["refimpl.testing.plugin"]`` in a conftest.py.

``refimpl_case`` runs a test once for each bundled golden; the marker
``@pytest.mark.refimpl(family="xmod", limit=5, path=None)`` says for which. ``refimpl_cards`` judges
single operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from refimpl.parity.cards import CardReport
from refimpl.testing.assertions import Candidate, GoldenCase, assert_card, assert_cards, find_cases


class Cards:
    """What the fixture ``refimpl_cards`` is."""

    def check(
        self, name: str, function: Callable[..., Any], arithmetic: str = "float32"
    ) -> CardReport:
        """:func:`refimpl.testing.assert_card`: a function of the port's on all cases of a card."""
        return assert_card(name, function, arithmetic)

    def check_all(self, candidate: Candidate, arithmetic: str | None = None) -> CardReport:
        """:func:`refimpl.testing.assert_cards`: a dump of the outputs of many cards."""
        return assert_cards(candidate, arithmetic)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "refimpl(family=None, limit=None, path=None): which goldens refimpl_case takes"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``refimpl_case`` once for each golden."""
    if "refimpl_case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("refimpl")
    cases = find_cases(*marker.args, **marker.kwargs) if marker else find_cases()
    metafunc.parametrize("refimpl_case", cases, ids=[case.name for case in cases], indirect=True)


@pytest.fixture
def refimpl_case(request: pytest.FixtureRequest) -> GoldenCase:
    """One golden: ``folder``, ``inputs``, ``architecture`` and ``check(candidate)``."""
    case: GoldenCase = request.param
    return case


@pytest.fixture(scope="session")
def refimpl_cards() -> Cards:
    """The operation cards: ``check("layer_norm", function)``."""
    return Cards()
