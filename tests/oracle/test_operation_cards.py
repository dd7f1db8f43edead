"""The originals themselves pass the cards in every arithmetic; with a mistake, one fails."""

import pytest

from refimpl.parity.cards import judge, read_cards
from refimpl.parity.dumps import Dump

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.oracle

from golden.make.ops import CARDS  # noqa: E402
from golden.make.ops_card import described, tensors_of  # noqa: E402
from tools.parity_figures import cards, cards_torch  # noqa: E402


@pytest.mark.parametrize("arithmetic", ["float64", "float32", "float16", "bfloat16"])
def test_the_originals_hold(arithmetic):
    bundled = read_cards()
    wrong, total = cards_torch.false_alarms(bundled)[f"{arithmetic}, transformers on PyTorch"]
    assert (wrong, total) == (
        0,
        sum(
            arithmetic in case.arithmetics
            for card in bundled.values()
            for case in card.cases.values()
        ),
    )


@pytest.mark.parametrize(
    ("card", "name"),
    [(card, name) for card, mistakes in cards_torch.MISTAKES.items() for name in mistakes],
)
def test_a_mistake_is_localised(card, name):
    with cards_torch.Exchanged(cards_torch.MISTAKES[card][name]):
        given = cards_torch.answers()
    assert [verdict.name for verdict in judge(Dump(given), "float32").wrong] == [card]


def test_every_mistake_in_our_own_operations_is_localised():
    found = list(cards.inject(read_cards()))
    assert len(found) > 250
    assert [x for x in found if not x.localised] == []


@pytest.mark.parametrize("name", CARDS)
def test_the_cards_are_what_the_originals_compute_today(name):
    card, bundled = CARDS[name], read_cards()[name]
    tensors = tensors_of(card)
    told = described(card, tensors)
    assert (told["what"], told["uses"]) == (bundled.what, list(bundled.uses))
    for key, case in bundled.cases.items():
        assert tensors[f"{key}.output"].dtype == case.output.dtype
        for given, x in case.inputs.items():
            assert (tensors[f"{key}.input.{given}"] == x).all()
    outputs = {f"{name}.{key}.output": tensors[f"{key}.output"] for key in bundled.cases}
    report = judge(Dump(outputs), "float64")
    assert report.held, report.sentence
