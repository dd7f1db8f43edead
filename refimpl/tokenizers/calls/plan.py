"""How a call truncates and pads: its arguments, checked and spelled out.

Source: transformers 4.57.6 ``PreTrainedTokenizerBase._get_padding_truncation_strategies``.
Differs: where the original logs a message, or silently returns something else than was asked for
(no maximum length is known; a length, a stride or a multiple has no effect), ``make_plan`` raises
``ValueError``. Its ``truncation=None`` (a ``max_length`` alone truncates) is not taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from refimpl.tokenizers.calls.arguments import kind

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


class Plan(NamedTuple):
    """How a call truncates and pads."""

    padding: str | None = None  # None, "longest", "max_length"
    truncation: str | None = None  # None, "longest_first", "only_first", "only_second"
    max_length: int | None = None  # an int wherever padding or truncation reads it
    side: str = "right"  # of the padding: "right", "left"
    stride: int = 0  # how many tokens two windows have in common
    overflow: bool = False  # whether what is cut off follows in further windows
    multiple_of: int = 1  # rows are padded up to a multiple of this


def make_plan(
    padding: bool | str = False,
    truncation: bool | str = False,
    max_length: int | None = None,
    padding_side: str = "right",
    model_max_length: int | None = None,
    *,
    stride: int = 0,
    overflow: bool = False,
    multiple_of: int | None = None,
) -> Plan:
    """Check the arguments of a call and return them as a :class:`Plan`.

    >>> plan = make_plan(True, "only_first", model_max_length=512)
    >>> plan.padding, plan.truncation, plan.max_length
    ('longest', 'only_first', 512)

    ``model_max_length`` stands in where ``max_length`` is needed and not given; ``None`` says that
    the model has no limit. Raises ``ValueError`` for an unknown strategy or side, for a length
    that is needed and not known, and for a ``max_length``, ``stride`` or ``multiple_of`` (a call's
    ``pad_to_multiple_of``) that nothing would use; ``TypeError`` for one that is no int.
    """
    pad_to = _choose("padding", padding, PADDINGS)
    cut = _choose("truncation", truncation, TRUNCATIONS)
    if padding_side not in SIDES:
        raise ValueError(f"padding_side: expected 'right' or 'left', got {padding_side!r}")
    if cut is not None or pad_to == "max_length":
        length = _needed_length(max_length, model_max_length, padding, truncation)
    elif max_length is not None:
        raise ValueError(
            "max_length: expected truncation=True or padding='max_length' beside it, without "
            f"which it has no effect, got max_length={max_length!r}, padding={padding!r}, "
            f"truncation={truncation!r}"
        )
    else:
        length = None
    _check_stride(stride, overflow, truncation, cut)
    multiple = _check_multiple(multiple_of, pad_to, cut, length)
    return Plan(pad_to, cut, length, padding_side, stride, overflow, multiple)


def _choose(name: str, value: bool | str, table: Mapping[bool | str, str | None]) -> str | None:
    # The type first: in a dictionary 1 is True and 0 is False.
    if isinstance(value, (bool, str)) and value in table:
        return table[value]
    raise ValueError(f"{name}: expected one of {', '.join(map(repr, table))}, got {value!r}")


def _needed_length(
    given: int | None, of_model: int | None, padding: bool | str, truncation: bool | str
) -> int:
    length = of_model if given is None else given
    if length is None:
        raise ValueError(
            f"max_length: expected an int with padding={padding!r}, truncation={truncation!r}, "
            "as this tokenizer has no model_max_length, got None"
        )
    return _check_int("max_length", length, 1)


def _check_int(name: str, value: int, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got {kind(value)}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return value


def _check_stride(stride: int, overflow: bool, truncation: bool | str, cut: str | None) -> None:
    if _check_int("stride", stride, 0) and (cut is None or not overflow):
        raise ValueError(
            "stride: expected truncation=True and return_overflowing_tokens=True beside it, "
            f"without which it has no effect, got stride={stride}, truncation={truncation!r}, "
            f"return_overflowing_tokens={overflow!r}"
        )


def _check_multiple(
    given: int | None, pad_to: str | None, cut: str | None, length: int | None
) -> int:
    if given is None:
        return 1
    multiple = _check_int("pad_to_multiple_of", given, 1)
    if pad_to is None:
        raise ValueError(
            "pad_to_multiple_of: expected padding=True or padding='max_length' beside it, without "
            f"which it has no effect, got pad_to_multiple_of={given}"
        )
    if cut is not None and length is not None and length % multiple:
        raise ValueError(
            f"pad_to_multiple_of: expected a divisor of max_length, which is {length}, as rows "
            f"are truncated to that too, got {given}"
        )
    return multiple
