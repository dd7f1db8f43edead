"""Operation cards: a port passes or fails one operation after another, without a model.

    report = judge(read_dump("cards_of_my_port.npz"))
    print(report.sentence)

``docs/cards.md`` tells of the files and of the verdict.
"""

from refimpl.parity.cards.card import Card, CardCase, cards_folder, read_cards, read_floors
from refimpl.parity.cards.exporting import export_cards
from refimpl.parity.cards.judging import CardReport, CardVerdict, CaseVerdict, judge

__all__ = [
    "Card",
    "CardCase",
    "CardReport",
    "CardVerdict",
    "CaseVerdict",
    "cards_folder",
    "export_cards",
    "judge",
    "read_cards",
    "read_floors",
]
