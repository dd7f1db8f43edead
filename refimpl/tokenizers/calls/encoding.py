"""What a call of a tokenizer returns: a mapping that knows where its tokens come from."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, NamedTuple

from refimpl.backend import Backend, get_backend
from refimpl.tokenizers.calls.arguments import kind

if TYPE_CHECKING:
    from refimpl.tokenizers.calls.rows import Rows


class CharSpan(NamedTuple):
    """The characters of a text from ``start`` up to ``end``."""

    start: int
    end: int


@Mapping.register
class Encoding:
    """What a call of a tokenizer returns: a read-only mapping whose keys are also attributes.

    >>> enc = Encoding({"input_ids": [0, 5, 2], "attention_mask": [1, 1, 1]})
    >>> enc["input_ids"] == enc.input_ids == dict(**enc)["input_ids"]
    True

    It tells too where each token comes from: :meth:`sequence_ids`, :meth:`word_ids`,
    :meth:`char_to_token`, :meth:`token_to_chars`. This is found out when it is first asked, and
    does not go along into a copy or a pickle.

    Our ``Encoding`` is their ``BatchEncoding``, as their Rust tokenizers return it.
    """

    def __init__(self, fields: Mapping[str, Any], rows: Rows | None = None) -> None:
        self._fields = dict(fields)
        self._rows = rows

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

    def __getstate__(self) -> dict[str, Any]:
        return {"_fields": self._fields, "_rows": None}

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

    # where tokens come from

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return, for each token of a row, 0 (the text), 1 (its pair) or None (special, padding).

        Raises ``IndexError`` for a row that is not there, ``ValueError`` in a copy.
        """
        return self._row(batch_index).sequence_ids(batch_index)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return, for each token of a row, the number of its word in its text, or None.

        With ``is_split_into_words`` that is the word's place in the list. Errors as above.
        """
        return self._row(batch_index).word_ids(batch_index)

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """Return the place in its row of the first token that holds a character of the text.

        ``char_to_token(char)`` asks row 0, ``char_to_token(row, char)`` any;
        ``sequence_index`` is 1 for the pair. None where no token of the row does.
        Errors as above.
        """
        row, char = _row_and_place(batch_or_char_index, char_index)
        rows = self._row(row)
        places = zip(rows.offsets(row), rows.sequence_ids(row), strict=True)
        for i, ((start, end), sequence) in enumerate(places):
            if sequence == sequence_index and start <= char < end:
                return i
        return None

    def token_to_chars(
        self, batch_or_token_index: int, token_index: int | None = None
    ) -> CharSpan | None:
        """Return the characters of a token, ``text[start:end]``; None where it is of no text.

        ``token_to_chars(token)`` asks row 0, ``token_to_chars(row, token)`` any. Errors as above.
        """
        row, token = _row_and_place(batch_or_token_index, token_index)
        spans = self._row(row).row_of_spans(row)
        if not 0 <= token < len(spans):
            raise IndexError(f"expected a token from 0 to {len(spans) - 1}, got {token}")
        span = spans[token]
        return None if span is None else CharSpan(span.start, span.end)

    def _row(self, row: int) -> Rows:
        if self._rows is None:
            raise ValueError("expected the Encoding that a tokenizer returned, got a copy of it")
        if not 0 <= row < len(self._rows.windows):
            raise IndexError(f"expected a row from 0 to {len(self._rows.windows) - 1}, got {row}")
        return self._rows


def _row_and_place(first: int, second: int | None) -> tuple[int, int]:
    """Return a row and a place in it; the place alone means row 0."""
    return (0, first) if second is None else (first, second)


def hand_over(
    fields: Mapping[str, list[Any]], rows: Rows, is_list: bool, backend: str | Backend | None
) -> Encoding:
    """Return the fields of a call as lists, those of one text flat, or as arrays of a backend."""
    if backend is not None:
        return Encoding(as_arrays(fields, backend), rows)
    if is_list:
        return Encoding(fields, rows)
    return Encoding({name: value[0] for name, value in fields.items()}, rows)


def as_arrays(fields: Mapping[str, list[Any]], backend: str | Backend) -> dict[str, Any]:
    """Return fields as arrays (int64) of a backend.

    Raises ``ValueError`` for rows of different lengths, ``TypeError`` for what is no backend, and
    what ``get_backend`` raises.
    """
    if not isinstance(backend, (str, Backend)):
        raise TypeError(f"backend: expected a name or a Backend, got {kind(backend)}")
    to = get_backend(backend) if isinstance(backend, str) else backend
    lengths = {len(row) for row in fields["input_ids"]}
    if len(lengths) > 1:
        raise ValueError(
            f"backend: expected rows of one length to make arrays of, got {min(lengths)} to "
            f"{max(lengths)} tokens (padding=True makes them one length)"
        )
    return {name: to.asarray(rows, dtype=to.xp.int64) for name, rows in fields.items()}
