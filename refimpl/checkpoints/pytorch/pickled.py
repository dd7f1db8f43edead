"""What is read from a pickle: names that stay names, objects that are not made, and containers.

Source: ``__reduce__`` of the containers in CPython, and of Python 2.7, in which old files were
written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from refimpl.errors import CheckpointError

# What things take in memory, in bytes, rather too much than too little; measured under CPython.
STEP = 64  # any opcode: what it makes, and its place in a container
LIST, TUPLE, DICT, SET = 32, 32, 48, 192  # these containers, beside their opcode
ENTRY = 48  # a place in the memo, in a dictionary, in a set
TEXT, CHARACTER = 48, 4  # a string; each of its characters, where one needs so much
CALL = 512  # what a function makes, or a record

Charge = Callable[[int], None]


@dataclass(frozen=True)
class Global:
    """A name in a pickle ("torch.float32"): the name of something, and no more than the name."""

    name: str


@dataclass
class Record:
    """An object of a class that is not made: its name, what it would be made of, its state."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


def describe(value: Any) -> str:
    """Return a few words on a value from a file: its type where it may be large, or endless.

    >>> describe({"a": 1}), describe(-7), describe("x" * 50)
    ('a dict', '-7', "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'...")
    """
    if isinstance(value, str | bytes):
        return repr(value[:40]) + ("..." if len(value) > 40 else "")
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, Global | Record):
        return value.name
    return f"a {type(value).__name__}"


def checked_key(key: Any) -> Any:
    """Return a key of a dictionary or set, if looking it up takes no longer than it should.

    A file can choose numbers that all have the same hash, and tuples so deep that to hash one is
    too much for the interpreter's stack. The hashes of strings are secret.
    """
    plain = (str, bytes, bool, type(None))
    if type(key) in plain or (type(key) is int and abs(key) < 2**60):
        return key
    if type(key) is tuple and len(key) < 10 and all(type(part) in plain for part in key):
        return key
    raise CheckpointError(
        f"key: expected a string, an int of 60 bits or a short tuple of strings, "
        f"got {describe(key)}"
    )


def fill_dict(items: dict[Any, Any], flat: list[Any], charge: Charge) -> None:
    """Fill a dictionary with keys and values in turn."""
    if len(flat) % 2:
        raise CheckpointError("expected a value for every key")
    charge(ENTRY * (len(flat) // 2))
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        items[checked_key(key)] = value


def fill_set(items: set[Any], values: list[Any], charge: Charge) -> None:
    """Fill a set."""
    charge(ENTRY * len(values))
    items.update(map(checked_key, values))


# --- containers that a pickle makes by their names ------------------------------------------------


def _ordered_dict(args: tuple[Any, ...], charge: Charge) -> dict[Any, Any]:
    """``OrderedDict()``, or of a list of pairs, as Python 2 wrote it."""
    pairs = args[0] if args else []
    if len(args) > 1 or type(pairs) is not list:
        raise CheckpointError("OrderedDict: expected nothing, or a list of pairs")
    items: dict[Any, Any] = {}
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise CheckpointError(f"OrderedDict: expected a pair, got {describe(pair)}")
        fill_dict(items, [*pair], charge)
    return items


def _default_dict(args: tuple[Any, ...], _: Charge) -> dict[Any, Any]:
    """``defaultdict(factory)``: what a missing key would be made of is left aside."""
    if len(args) > 1:
        raise CheckpointError("defaultdict: expected a factory")
    return {}


def _set(args: tuple[Any, ...], charge: Charge) -> set[Any]:
    """``set([...])``: how protocol 2 writes sets."""
    if len(args) != 1 or type(args[0]) is not list:
        raise CheckpointError("set: expected a list")
    charge(SET)
    items: set[Any] = set()
    fill_set(items, args[0], charge)
    return items


def _bytes(args: tuple[Any, ...], charge: Charge) -> bytes:
    """``encode(text, "latin1")``, or ``bytes()``: how protocol 2 writes bytes."""
    if not args:
        return b""
    if len(args) != 2 or type(args[0]) is not str or args[1] != "latin1":
        raise CheckpointError("encode: expected a string and 'latin1'")
    charge(len(args[0]))
    try:
        return args[0].encode("latin1")
    except UnicodeEncodeError:
        raise CheckpointError("encode: expected characters of latin1") from None


CONTAINERS: dict[str, Callable[[tuple[Any, ...], Charge], Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "builtins.set": _set,
    "builtins.bytes": _bytes,
    "_codecs.encode": _bytes,
}
