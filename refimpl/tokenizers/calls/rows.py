"""The rows of a call: tokens laid into a template of special tokens, and padded.

Every field of a call (ids, types, masks, offsets) has the same form, so one function lays all of
them out: special values at the special places, values of the tokens in between, then padding.

Source: transformers 4.57.6 ``prepare_for_model`` and ``_pad``; the tokenizers library (Rust),
``TemplateProcessing`` and ``Encoding``, for offsets, words and sequence numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from refimpl.tokenizers.calls.plan import Plan
from refimpl.tokenizers.calls.windows import Window, make_windows

Template = tuple[int | str, ...]  # ids of special tokens, and "A" and "B" for the two texts
T = TypeVar("T")


class Span(NamedTuple):
    """A token, and where it stands in the text that it was cut from."""

    id: int
    start: int  # the characters text[start:end] of the text as it was given
    end: int
    word: int  # which word of the text, from 0


def lay(
    template: Template, special: Sequence[T], a: Sequence[T], b: Sequence[T], window: Window
) -> list[T]:
    """Put what a window has of two texts in the places of a template, ``special`` in the others.

    >>> template = (0, "A", 2, 2, "B", 2)
    >>> lay(template, template, [11, 12], [21, 22], Window(0, 2, 1, 2))
    [0, 11, 12, 2, 2, 22, 2]
    >>> lay(template, "(.)(.)", "abc", "xyz", Window(1, 3, 0, 1))
    ['(', 'b', 'c', ')', '(', 'x', ')']
    """
    row: list[T] = []
    for part, value in zip(template, special, strict=True):
        if part == "A":
            row += a[window.start : window.stop]
        elif part == "B":
            row += b[window.pair_start : window.pair_stop]
        else:
            row.append(value)
    return row


def padded(row: list[T], width: int, value: T, side: str) -> list[T]:
    """Bring a row to ``width`` with ``value``; leave one that is longer as it is.

    >>> padded([7, 8], 4, 1, "right"), padded([7, 8], 4, 1, "left"), padded([7, 8], 1, 1, "left")
    ([7, 8, 1, 1], [1, 1, 7, 8], [7, 8])
    """
    fill = [value] * (width - len(row))
    return row + fill if side == "right" else fill + row


def common_width(lengths: Sequence[int], plan: Plan) -> int:
    """Return the length that rows are padded to, 0 where they are not.

    >>> common_width([3, 5], Plan("longest", multiple_of=4))
    8
    """
    if plan.padding is None:
        return 0
    width = max(lengths) if plan.padding == "longest" else plan.max_length or 0
    return -(-width // plan.multiple_of) * plan.multiple_of


class Rows:
    """All rows of a call: which tokens of which text stand where.

    Arguments: ``first`` and ``second``, the ids of each text and of its pair; ``template``;
    ``types``, the token type of each part of the template; ``plan``; ``pad_id``; ``spans``, a
    function from the number of a text and 0 or 1 (its pair) to the places of its tokens, called
    only where they are asked for.
    """

    def __init__(
        self,
        first: Sequence[list[int]],
        second: Sequence[list[int]] | None,
        template: Template,
        types: tuple[int, ...],
        plan: Plan,
        pad_id: int,
        spans: Callable[[int, int], Sequence[Span]],
    ) -> None:
        self.first, self.second = first, second
        self.template, self.types, self.pad_id, self.side = template, types, pad_id, plan.side
        self.spans = spans
        n_special = sum(isinstance(part, int) for part in template)
        self.samples: list[int] = []  # which text each row is of
        self.windows: list[Window] = []
        for i, ids in enumerate(first):
            n_pair = None if second is None else len(second[i])
            windows = make_windows(len(ids), n_pair, plan, n_special)
            self.samples += [i] * len(windows)
            self.windows += windows
        self.lengths = [
            w.stop - w.start + w.pair_stop - w.pair_start + n_special for w in self.windows
        ]
        self.width = common_width(self.lengths, plan)

    def fields(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Return fields by their names in transformers, a list with one item for each row."""
        makers: dict[str, Callable[[], list[Any]]] = {
            "input_ids": self.input_ids,
            "token_type_ids": self.token_type_ids,
            "attention_mask": self.attention_mask,
            "special_tokens_mask": self.special_tokens_mask,
            "offset_mapping": lambda: [self.offsets(row) for row in range(len(self.windows))],
            "length": lambda: [max(n, self.width) for n in self.lengths],
            "overflow_to_sample_mapping": lambda: self.samples,
        }
        return {name: makers[name]() for name in names}

    def input_ids(self) -> list[list[int]]:
        """Return the ids of each row."""
        second = self.second or self.first  # which a template without "B" never looks at
        special = [part if isinstance(part, int) else 0 for part in self.template]
        rows = [
            lay(self.template, special, self.first[i], second[i], window)
            for i, window in zip(self.samples, self.windows, strict=True)
        ]
        return [padded(row, self.width, self.pad_id, self.side) for row in rows]

    def attention_mask(self) -> list[list[int]]:
        """Return 0 where there is padding, 1 elsewhere: at a pad token in the text too."""
        return [padded([1] * n, self.width, 0, self.side) for n in self.lengths]

    def token_type_ids(self) -> list[list[int]]:
        """Return the type of each token; 0 at padding."""
        a, b = (dict(zip(self.template, self.types, strict=True)).get(x, 0) for x in "AB")
        return [self._laid(row, self.types, a, b, 0) for row in range(len(self.windows))]

    def special_tokens_mask(self) -> list[list[int]]:
        """Return 0 at the tokens of the texts, 1 at special tokens around them and at padding."""
        ones = [1] * len(self.template)
        return [self._laid(row, ones, 0, 0, 1) for row in range(len(self.windows))]

    def spread(self, values: Sequence[T]) -> list[list[T]]:
        """Return the value that each text has at every place of its rows, padding too."""
        widths = [max(n, self.width) for n in self.lengths]
        return [[values[i]] * n for i, n in zip(self.samples, widths, strict=True)]

    def sequence_ids(self, row: int) -> list[int | None]:
        """Return 0 at the text, 1 at its pair, None elsewhere."""
        return self._laid(row, [None] * len(self.template), 0, 1, None)

    def word_ids(self, row: int) -> list[int | None]:
        """Return the number of each token's word in its text, None elsewhere."""
        return [None if span is None else span.word for span in self.row_of_spans(row)]

    def offsets(self, row: int) -> list[tuple[int, int]]:
        """Return (start, end) of each token in its text, (0, 0) elsewhere."""
        spans = self.row_of_spans(row)
        return [(0, 0) if span is None else (span.start, span.end) for span in spans]

    def row_of_spans(self, row: int) -> list[Span | None]:
        """Return the span of each token of the texts, None elsewhere."""
        sample = self.samples[row]
        a: Sequence[Span | None] = self.spans(sample, 0)
        b: Sequence[Span | None] = [] if self.second is None else self.spans(sample, 1)
        laid = lay(self.template, [None] * len(self.template), a, b, self.windows[row])
        return padded(laid, self.width, None, self.side)

    def _laid(self, row: int, special: Sequence[T], a: T, b: T, pad: T) -> list[T]:
        """Lay out a row whose tokens all have the value of their text."""
        window = self.windows[row]
        first, second = [a] * window.stop, [b] * window.pair_stop
        laid = lay(self.template, special, first, second, window)
        return padded(laid, self.width, pad, self.side)
