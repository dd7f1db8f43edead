"""JSON that may be large, or hostile: its size, its depth and the number of its values are bound.

As Python objects a value takes up to a hundred bytes, whatever it takes in the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from refimpl.checkpoints.folder import size_of
from refimpl.errors import CheckpointError
from refimpl.parity.dumps.numbers import shown

LARGEST = 2 * 2**30  # bytes: base64 of 1.5 GB of numbers
MOST_VALUES = 4_000_000


def read_json_file(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises ``CheckpointError`` for a file that is missing, broken, too large, or has an object with
    two values of one name.
    """
    size = size_of(path)
    if size > LARGEST:
        raise CheckpointError(f"{path}: expected up to {LARGEST} bytes of JSON, found {size}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    return parse_json(data, path)


def parse_json(data: bytes, where: object) -> Any:
    """Return the value in a JSON text; ``CheckpointError`` naming ``where``, as above."""
    # Every value begins an object or a list, or follows a comma, so there are no more of them.
    values = sum(data.count(sign) for sign in (b"{", b"[", b","))
    if values > MOST_VALUES:
        raise CheckpointError(f"{where}: expected up to {MOST_VALUES} values, found {values}")
    try:
        return json.loads(data, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: expected JSON: {error}") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"two values of the name {shown(twice)}")
    return found
