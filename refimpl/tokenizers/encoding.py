"""What every tokenizer of the family does with ids: batch, truncate, pad, hand over.

    texts -> as_batch -> (text -> ids, special tokens: each tokenizer's own) -> truncate -> pad
          -> Encoding

Pure functions on lists, and the small mapping that a call returns.

Source: transformers 4.57.6 tokenization_utils_base.py (``_get_padding_truncation_strategies``,
``truncate_sequences``, ``pad``), as its Python ("slow") tokenizers use it.
Differs: where the original logs a message and returns something else than was asked for (no
maximum length is known, ``max_length`` is too small or has no effect), these functions raise
``ValueError``.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, NamedTuple

Texts = str | Sequence[str]

PADDINGS: dict[bool | str, str | None] = {
    False: None,
    True: "longest",
    "longest": "longest",
    "max_length": "max_length",
    "do_not_pad": None,
}
TRUNCATIONS: dict[bool | str, str | None] = {
    False: None,
    True: "longest_first",
    "longest_first": "longest_first",
    "only_first": "only_first",
    "only_second": "only_second",
    "do_not_truncate": None,
}
SIDES = ("right", "left")


@Mapping.register
class Encoding:
    """What a call of a tokenizer returns: a read-only mapping whose keys are also attributes.

    >>> enc = Encoding({"input_ids": [0, 5, 2], "attention_mask": [1, 1, 1]})
    >>> enc["input_ids"] == enc.input_ids == dict(**enc)["input_ids"]
    True

    Our ``Encoding`` is their ``BatchEncoding``, without tensors.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __getattr__(self, name: str) -> Any:
        # Called for names not found otherwise; copy and pickle ask before _fields exists.
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(f"an Encoding has no {name!r}")
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._fields == dict(other)

    def __repr__(self) -> str:
        return f"Encoding({self._fields!r})"

    def keys(self) -> KeysView[str]:
        """Return the names, in order."""
        return self._fields.keys()

    def values(self) -> ValuesView[Any]:
        """Return the lists, in order."""
        return self._fields.values()

    def items(self) -> ItemsView[str, Any]:
        """Return the names with their lists, in order."""
        return self._fields.items()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the list of that name, or ``default`` where there is none."""
        return self._fields.get(key, default)


class Plan(NamedTuple):
    """How a call truncates and pads: its arguments, checked and spelled out."""

    padding: str | None  # None, "longest", "max_length"
    truncation: str | None  # None, "longest_first", "only_first", "only_second"
    max_length: int | None  # an int wherever padding or truncation reads it
    side: str  # of the padding: "right", "left"


def make_plan(
    padding: bool | str,
    truncation: bool | str,
    max_length: int | None,
    padding_side: str,
    model_max_length: int | None,
) -> Plan:
    """Check the arguments of a call and return them as a :class:`Plan`.

    >>> make_plan(True, "only_first", None, "right", model_max_length=512)
    Plan(padding='longest', truncation='only_first', max_length=512, side='right')

    ``model_max_length`` stands in where ``max_length`` is needed and not given; ``None`` says that
    the model has no limit. Raises ``ValueError`` for an unknown strategy or side, for a length
    that is needed and not known, and for a ``max_length`` that nothing would use; ``TypeError``
    for a ``max_length`` that is no int.
    """
    pad_to = _choose("padding", padding, PADDINGS)
    cut = _choose("truncation", truncation, TRUNCATIONS)
    if padding_side not in SIDES:
        raise ValueError(f"padding_side: expected 'right' or 'left', got {padding_side!r}")
    given = f"padding={padding!r}, truncation={truncation!r}"
    if cut is None and pad_to != "max_length":
        if max_length is not None:
            raise ValueError(
                "max_length: expected truncation=True or padding='max_length' beside it, "
                f"without which it has no effect, got max_length={max_length!r}, {given}"
            )
        return Plan(pad_to, cut, None, padding_side)
    if max_length is None:
        max_length = model_max_length
    if max_length is None:
        raise ValueError(
            f"max_length: expected an int with {given}, as this tokenizer has no "
            "model_max_length, got None"
        )
    return Plan(pad_to, cut, _check_length(max_length), padding_side)


def _choose(name: str, value: bool | str, table: Mapping[bool | str, str | None]) -> str | None:
    # The type first: in a dictionary 1 is True and 0 is False.
    if isinstance(value, (bool, str)) and value in table:
        return table[value]
    raise ValueError(f"{name}: expected one of {', '.join(map(repr, table))}, got {value!r}")


def _check_length(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"max_length: expected an int, got {kind(value)}")
    if value < 1:
        raise ValueError(f"max_length: expected at least 1, got {value}")
    return value


def as_batch(text: Texts, text_pair: Texts | None) -> tuple[list[tuple[str, str | None]], bool]:
    """Return the rows ``(text, its pair or None)`` of a call, and whether it got lists.

    >>> as_batch("Who?", "Me.")
    ([('Who?', 'Me.')], False)
    >>> as_batch(["one", "two"], None)
    ([('one', None), ('two', None)], True)

    Raises ``TypeError`` for anything but a text or a list (or tuple) of texts and for one of
    each, ``ValueError`` for an empty list and for lists of different lengths.
    """
    if isinstance(text, str):
        if text_pair is not None and not isinstance(text_pair, str):
            raise TypeError(f"text_pair: expected a str, as text is one, got {kind(text_pair)}")
        return [(text, text_pair)], False
    first = _check_texts("text", text)
    if text_pair is None:
        return [(one, None) for one in first], True
    if isinstance(text_pair, str):
        raise TypeError(f"text_pair: expected a list, as text is one, got {kind(text_pair)}")
    second = _check_texts("text_pair", text_pair)
    if len(first) != len(second):
        raise ValueError(
            f"text_pair: expected {len(first)} texts, as many as text has, got {len(second)}"
        )
    return list(zip(first, second, strict=True)), True


def _check_texts(name: str, value: Texts) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name}: expected a str or a list of str, got {kind(value)}")
    if not value:
        raise ValueError(f"{name}: expected at least one text, got an empty list")
    for i, one in enumerate(value):
        if not isinstance(one, str):
            raise TypeError(f"{name}[{i}]: expected a str, got {kind(one)}")
    return list(value)


def kind(value: object) -> str:
    """Say what came instead: the start of its ``repr`` and its type."""
    return "None" if value is None else f"{value!r:.60} ({type(value).__name__})"


def truncate(
    ids: list[int], pair: list[int] | None, plan: Plan, n_special: int
) -> tuple[list[int], list[int] | None]:
    """Drop ids from the right end until they and ``n_special`` special tokens fit ``max_length``.

    >>> plan = Plan(None, "longest_first", 7, "right")
    >>> truncate([11, 12, 13, 14], [21, 22], plan, n_special=3)
    ([11, 12], [21, 22])
    >>> truncate([11, 12, 13, 14], [21, 22], plan, n_special=4)
    ([11, 12], [21])

    "longest_first" takes one id after the other from the longer text, and from the pair where
    both are equally long; "only_first" and "only_second" leave the other text whole. As in the
    original, a text that is cut alone keeps an id, while "longest_first" may empty a pair.
    Raises ``ValueError`` where ``max_length`` cannot be reached this way.
    """
    excess = len(ids) + len(pair or []) + n_special - (plan.max_length or 0)
    if plan.truncation is None or excess <= 0:
        return ids, pair
    if plan.truncation == "longest_first" and pair is not None:
        return _cut_longest_first(ids, pair, excess, plan)
    if plan.truncation == "only_second":
        if pair is None:
            raise ValueError(
                f"truncation: expected a text_pair for 'only_second' to cut, got none, and the "
                f"text needs {n_special + len(ids)} ids where max_length is {plan.max_length}"
            )
        return ids, _cut_one("text_pair", pair, excess, plan)
    return _cut_one("text", ids, excess, plan), pair


def _cut_one(name: str, ids: list[int], excess: int, plan: Plan) -> list[int]:
    if len(ids) <= excess:
        least = (plan.max_length or 0) + excess - max(len(ids) - 1, 0)
        raise ValueError(
            f"max_length: expected at least {least} with truncation={plan.truncation!r}, which "
            f"may cut {name} down to one id, got {plan.max_length}"
        )
    return ids[:-excess]


def _cut_longest_first(
    ids: list[int], pair: list[int], excess: int, plan: Plan
) -> tuple[list[int], list[int]]:
    keep, keep_pair = len(ids), len(pair)
    if excess > keep + keep_pair:
        raise ValueError(
            f"max_length: expected at least {(plan.max_length or 0) + excess - keep - keep_pair}, "
            f"the special tokens of a pair, got {plan.max_length}"
        )
    for _ in range(excess):
        if keep > keep_pair:
            keep -= 1
        else:
            keep_pair -= 1
    return ids[:keep], pair[:keep_pair]


def pad(rows: list[list[int]], plan: Plan, pad_id: int) -> tuple[list[list[int]], list[list[int]]]:
    """Bring rows to one length with ``pad_id``; return them and their attention masks.

    >>> pad([[0, 7, 2], [0, 2]], Plan("longest", None, None, "right"), pad_id=1)
    ([[0, 7, 2], [0, 2, 1]], [[1, 1, 1], [1, 1, 0]])

    A mask is 0 exactly where this function wrote ``pad_id``: a pad token written in the text has
    a 1. A row longer than the length asked for stays whole: to shorten is truncation's work.
    """
    width = 0
    if plan.padding == "longest":
        width = max(map(len, rows))
    elif plan.padding == "max_length":
        width = plan.max_length or 0
    fill = [max(width - len(row), 0) for row in rows]
    masks = [[1] * len(row) for row in rows]
    if plan.side == "left":
        return (
            [[pad_id] * n + row for n, row in zip(fill, rows, strict=True)],
            [[0] * n + mask for n, mask in zip(fill, masks, strict=True)],
        )
    return (
        [row + [pad_id] * n for n, row in zip(fill, rows, strict=True)],
        [mask + [0] * n for n, mask in zip(fill, masks, strict=True)],
    )


def collate(rows: list[list[int]], batched: bool, plan: Plan, pad_id: int) -> Encoding:
    """Pad the rows of a call and name them: lists of lists for a batch, flat lists for one text.

    >>> collate([[0, 7, 2]], False, Plan("max_length", None, 4, "left"), pad_id=1)
    Encoding({'input_ids': [1, 0, 7, 2], 'attention_mask': [0, 1, 1, 1]})

    As in the original, one text (not a batch of one) that has no ids at all is not padded.
    """
    if not batched and rows == [[]]:
        return Encoding({"input_ids": [], "attention_mask": []})
    ids, masks = pad(rows, plan, pad_id)
    if not batched:
        return Encoding({"input_ids": ids[0], "attention_mask": masks[0]})
    return Encoding({"input_ids": ids, "attention_mask": masks})
