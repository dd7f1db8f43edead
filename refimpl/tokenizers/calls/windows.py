"""Truncation: what is kept of a text or a pair, and the windows that the rest is cut into.

Pure functions on numbers of tokens. Special tokens count, but are not in the windows.

Source: transformers 4.57.6 ``PreTrainedTokenizerBase.truncate_sequences`` where nothing follows
the first window; the tokenizers library (Rust), ``truncate_encodings``, ``Encoding::truncate`` and
``Encoding::merge_with``, where the rest follows.
Differs: ``ValueError`` where theirs logs a message and keeps more than ``max_length``, or where
the Rust library panics.
"""

from __future__ import annotations

from typing import NamedTuple

from refimpl.tokenizers.calls.plan import Plan


class Window(NamedTuple):
    """The tokens of one row: ``start`` to ``stop`` of the text, and those of its pair."""

    start: int
    stop: int
    pair_start: int = 0
    pair_stop: int = 0


def make_windows(n: int, n_pair: int | None, plan: Plan, n_special: int) -> list[Window]:
    """Return the rows that a text of ``n`` tokens (and its pair) becomes; one, where it fits.

    >>> make_windows(10, None, Plan(None, "longest_first", 6, stride=1, overflow=True), 2)
    [Window(start=0, stop=4, pair_start=0, pair_stop=0), \
Window(start=3, stop=7, pair_start=0, pair_stop=0), \
Window(start=6, stop=10, pair_start=0, pair_stop=0)]

    Windows of one text keep its order. Where "longest_first" cuts both, each window of the text
    comes with each of the pair: the first with the first, then the others of the text with all of
    the pair, then the first of the text with the others of the pair.
    Raises ``ValueError`` where ``max_length`` leaves no room, or not more than ``stride``.
    """
    size, size_pair = keep(n, n_pair, plan, n_special)
    if not plan.overflow:
        return [Window(0, size, 0, size_pair)]
    room = (plan.max_length or 0) - n_special
    if plan.stride and plan.stride >= room:
        raise ValueError(
            f"stride: expected less than the {room} tokens that max_length={plan.max_length} "
            f"leaves beside {n_special} special ones, got {plan.stride}"
        )
    first = _pieces("text", n, size, plan)
    second = _pieces("text_pair", n_pair or 0, size_pair, plan)
    rows = [(first[0], second[0])]
    rows += [(one, two) for one in first[1:] for two in second]
    rows += [(first[0], two) for two in second[1:]]
    return [Window(*one, *two) for one, two in rows]


def keep(n: int, n_pair: int | None, plan: Plan, n_special: int) -> tuple[int, int]:
    """Return how many tokens a text and its pair have in their (first) window.

    >>> keep(4, 2, Plan(None, "longest_first", 7), n_special=3)
    (2, 2)
    >>> keep(4, 2, Plan(None, "longest_first", 7), n_special=4)
    (2, 1)

    "longest_first" shortens the longer text down to the other, then both; the odd token is the
    first text's or, in windows, the longer text's (the second's, where both are equally long).
    "only_first" and "only_second" leave the other text whole. A text that is cut alone keeps a
    token, while "longest_first" may empty a pair.

    Raises ``ValueError`` where only the second text may be cut and there is none.
    """
    excess = n + (n_pair or 0) + n_special - (plan.max_length or 0)
    if plan.truncation is None or excess <= 0:
        return n, n_pair or 0
    if plan.truncation == "longest_first" and n_pair is not None:
        return _keep_longest_first(n, n_pair, plan, n_special)
    if plan.truncation == "only_second":
        if n_pair is None:
            raise ValueError(
                f"truncation: expected a text_pair for 'only_second' to cut, got none, and the "
                f"text needs {n_special + n} ids where max_length is {plan.max_length}"
            )
        return n, _keep_one("text_pair", n_pair, excess, plan)
    return _keep_one("text", n, excess, plan), n_pair or 0


def _keep_one(name: str, n: int, excess: int, plan: Plan) -> int:
    if n <= excess:
        least = (plan.max_length or 0) + excess - max(n - 1, 0)
        raise ValueError(
            f"max_length: expected at least {least} with truncation={plan.truncation!r}, which "
            f"may cut {name} down to one id, got {plan.max_length}"
        )
    return n - excess


def _keep_longest_first(n: int, n_pair: int, plan: Plan, n_special: int) -> tuple[int, int]:
    room = (plan.max_length or 0) - n_special
    if room < 0:
        raise ValueError(
            f"max_length: expected at least {n_special}, the special tokens of a pair, got "
            f"{plan.max_length}"
        )
    half = room // 2
    if n <= half:
        return n, room - n
    if n_pair <= half:
        return room - n_pair, n_pair
    odd_is_second = plan.overflow and n <= n_pair
    return (half, room - half) if odd_is_second else (room - half, half)


def _pieces(name: str, n: int, size: int, plan: Plan) -> list[tuple[int, int]]:
    """Cut ``n`` tokens into (start, stop) of ``size`` at most, each ``stride`` before the last."""
    if size == n:
        return [(0, n)]
    if size == 0:
        raise ValueError(
            f"max_length: expected room for tokens of {name} in each window, got {plan.max_length}"
        )
    if plan.stride >= size:
        raise ValueError(
            f"stride: expected less than the {size} tokens of {name} that fit a window of "
            f"max_length={plan.max_length}, got {plan.stride}"
        )
    step = size - plan.stride
    starts = range(0, n - plan.stride, step)
    return [(start, min(start + size, n)) for start in starts]
