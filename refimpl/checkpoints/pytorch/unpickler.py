"""A pickle read as data: no name in it is looked up, no function of it is called.

A pickle is a program for a small machine with a stack and a memo. Python's own machine imports
whatever the program names and calls it, so a file can run anything. This one knows plain values
(numbers, strings, lists, dictionaries and the like) and a vocabulary that its caller gives: names
that stay names, names of functions that the caller has written, and names of classes that become
:class:`Record`. Any other name is an error that says it.

A program of a few bytes could also ask for all the memory there is, or keep a processor busy for
hours. So every step is charged for the memory that it may take, a pickle that asks for more than
``LIMIT`` is refused, and so are the keys of dictionaries with which look-ups can be made slow.

Source: the opcodes as Python's pickletools describes them, those of protocols 2 to 5 that picklers
write for data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from refimpl.checkpoints.pytorch.pickled import (
    CALL,
    CHARACTER,
    CONTAINERS,
    DICT,
    ENTRY,
    LIST,
    SET,
    STEP,
    TEXT,
    TUPLE,
    Global,
    Record,
    describe,
    fill_dict,
    fill_set,
)
from refimpl.errors import CheckpointError

LIMIT = 160 * 2**20  # bytes of memory, as they are charged

LONGEST_INT = 16  # bytes; longer ones can be neither printed nor multiplied in short time
LONGEST_NAME = 1000  # bytes, or characters

Function = Callable[[tuple[Any, ...]], Any]


@dataclass(frozen=True)
class Vocabulary:
    """All names that a pickle may use, beside those of Python's own containers."""

    functions: Mapping[str, Function]  # called with the arguments in the pickle
    constants: Collection[str]  # stay names
    records: Collection[str]  # stay names, and become records where they are called
    persistent: Function  # what an id stands for that leads out of the pickle


class Unpickled(NamedTuple):
    """What a pickle made."""

    value: Any
    end: int  # where the pickle ends
    charged: int  # bytes that the value may take


def unpickle(data: memoryview, start: int, words: Vocabulary) -> Unpickled:
    """Return what the pickle at ``start`` makes.

    Raises ``CheckpointError``, which says at which byte, for a pickle that is broken or too large
    or uses a name that is not among ``words``.
    """
    machine = _Machine(data, start, words)
    try:
        return Unpickled(machine.run(), machine.at, machine.spent)
    except CheckpointError as error:
        raise CheckpointError(f"pickle, byte {machine.begun}: {error}") from None


class _Machine:
    """The state of one run, and what the opcodes do to it."""

    def __init__(self, data: memoryview, start: int, words: Vocabulary) -> None:
        self.data, self.at, self.words = data, start, words
        self.begun = start  # where the opcode stands that is run
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # for every open mark, the stack below it
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Global] = {}
        self.spent = 0

    def run(self) -> Any:
        """Run to the opcode STOP and return what is then on the stack."""
        if bytes(self.data[self.at : self.at + 1]) != b"\x80":
            raise CheckpointError("expected a pickle of protocol 2 to 5")
        while (opcode := self.opcode()) != _STOP:
            self.charge(STEP)
            step = _OPCODES.get(opcode)
            if step is None:
                raise CheckpointError(f"opcode {_opcode_name(opcode)} is not allowed")
            step(self)
        value = self.pop()
        if self.stack or self.below:
            raise CheckpointError("expected one value, found more on the stack")
        return value

    def charge(self, size: int) -> None:
        """Count memory that is about to be taken."""
        self.spent += size
        if self.spent > LIMIT:
            raise CheckpointError(f"asks for more than {LIMIT // 2**20} MB of objects")

    # --- the program ------------------------------------------------------------------------------

    def take(self, count: int) -> memoryview:
        """Return the next ``count`` bytes of the program."""
        end = self.at + count
        if end > len(self.data):
            left = len(self.data) - self.at
            raise CheckpointError(f"cut short: expected {count} bytes more, found {left}")
        part, self.at = self.data[self.at : end], end
        return part

    def number(self, form: struct.Struct) -> Any:
        """Return the next number of the program."""
        at = self.at
        self.at = at + form.size
        if self.at > len(self.data):
            raise CheckpointError("cut short: expected a number")
        return form.unpack_from(self.data, at)[0]

    def opcode(self) -> int:
        """Return the next opcode of the program."""
        at = self.begun = self.at
        if at == len(self.data):
            raise CheckpointError("cut short: expected an opcode")
        self.at = at + 1
        return self.data[at]

    def text(self, count: int) -> str:
        """Return the next ``count`` bytes of the program as the string that they encode."""
        part = self.take(count)
        self.charge(TEXT + CHARACTER * count)
        try:
            return str(part, "utf-8")
        except UnicodeDecodeError:
            raise CheckpointError("expected a string in UTF-8") from None

    def line(self) -> str:
        """Return the next line of the program."""
        part = bytes(self.data[self.at : self.at + LONGEST_NAME])
        length = part.find(b"\n")
        if length < 0:
            raise CheckpointError("expected the name of a module or a class")
        line = self.text(length)
        self.at += 1
        return line

    # --- the stack --------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Take a value from the stack."""
        if not self.stack:
            raise CheckpointError("expected a value on the stack, found none")
        return self.stack.pop()

    def top(self) -> Any:
        """Return the value on top of the stack."""
        value = self.pop()
        self.push(value)
        return value

    def container(self, kind: type) -> Any:
        """Return the value on top, which must be a ``kind``: the opcode fills it."""
        value = self.top()
        if type(value) is not kind:
            raise CheckpointError(f"expected a {kind.__name__} to fill, got {describe(value)}")
        return value

    def since_mark(self) -> list[Any]:
        """Close the last mark and return what was pushed since."""
        if not self.below:
            raise CheckpointError("expected a mark on the stack, found none")
        values, self.stack = self.stack, self.below.pop()
        return values

    # --- opcodes: containers ----------------------------------------------------------------------

    def mark(self) -> None:
        """Open a mark."""
        self.charge(STEP)
        self.below.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> None:
        """Make a tuple of the last ``count`` values."""
        if len(self.stack) < count:
            raise CheckpointError(f"expected {count} values on the stack")
        self.charge(TUPLE)
        self.stack[-count:] = [tuple(self.stack[-count:])]

    # --- opcodes: the memo ------------------------------------------------------------------------

    def put(self, place: int) -> None:
        """Keep the value on top."""
        self.charge(ENTRY)
        self.memo[place] = self.top()

    def get(self, place: int) -> None:
        """Push a value that was kept."""
        if place not in self.memo:
            raise CheckpointError(f"expected a value at place {place} of the memo, found none")
        self.push(self.memo[place])

    # --- opcodes: names ---------------------------------------------------------------------------

    def name(self, module: Any, name: Any) -> None:
        """Push a name, if it may be used."""
        if type(module) is not str or type(name) is not str:
            raise CheckpointError("expected the name of a module and of a class")
        if len(module) + len(name) > LONGEST_NAME:
            raise CheckpointError(f"expected a name of up to {LONGEST_NAME} characters")
        full = f"{'builtins' if module == '__builtin__' else module}.{name}"  # so in Python 2
        if full not in self.names:
            self.charge(CALL + CHARACTER * len(full))
            words = self.words
            known = (CONTAINERS, words.functions, words.constants, words.records)
            if not any(full in names for names in known):
                raise CheckpointError(
                    f"refused {full[:200]!r}: no name that a file of tensors needs; nothing was run"
                )
            self.names[full] = Global(full)
        self.push(self.names[full])

    def call(self) -> None:
        """Replace a name and its arguments by what they make."""
        args, function = self.pop(), self.pop()
        if type(args) is not tuple or type(function) is not Global:
            raise CheckpointError(
                f"expected a name and a tuple, got {describe(function)} and {describe(args)}"
            )
        self.charge(CALL)
        name, words = function.name, self.words
        if name in CONTAINERS:
            self.push(CONTAINERS[name](args, self.charge))
        elif name in words.functions:
            self.push(words.functions[name](args))
        elif name in words.records:
            self.push(Record(name, args))
        else:
            raise CheckpointError(f"{name}: expected a function or a class, got a constant")

    def build(self) -> None:
        """Give an object its state; that of a dictionary (``_metadata``) is left aside."""
        state, value = self.pop(), self.top()
        if type(value) is Record:
            value.state = state
        elif type(value) is not dict or type(state) is not dict:
            raise CheckpointError(f"{describe(value)} has no state, got {describe(state)}")

    def persistent(self) -> None:
        """Replace an id by what it stands for."""
        self.charge(CALL)
        self.push(self.words.persistent(self.pop()))


_BYTE, _UINT16, _UINT32, _UINT64 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q"))
_INT32, _DOUBLE = struct.Struct("<i"), struct.Struct(">d")
_STOP = ord(".")


def _protocol(machine: _Machine) -> None:
    version = machine.number(_BYTE)
    if not 2 <= version <= 5:
        raise CheckpointError(f"expected a pickle of protocol 2 to 5, got {version}")


def _frame(machine: _Machine) -> None:
    """Look whether the frame is all there; its bytes are then read as any others."""
    length = machine.number(_UINT64)
    left = len(machine.data) - machine.at
    if length > left:
        raise CheckpointError(f"cut short: expected a frame of {length} bytes, found {left}")


def _long(machine: _Machine, form: struct.Struct) -> None:
    length = machine.number(form)
    if not 0 <= length <= LONGEST_INT:
        raise CheckpointError(f"expected an int of up to {LONGEST_INT} bytes, got {length}")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


def _bytes(machine: _Machine, form: struct.Struct) -> None:
    part = machine.take(machine.number(form))
    machine.charge(len(part))
    machine.push(bytes(part))


def _number(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.number(form))


def _text(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda m: m.push(m.text(m.number(form)))


def _constant(value: Any) -> Callable[[_Machine], None]:
    return lambda m: m.push(value)


def _container(kind: type, charge: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        machine.charge(charge)
        machine.push(kind())

    return push


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.container(list).append(value)


def _appends(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.container(list).extend(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    fill_dict(machine.container(dict), [key, value], machine.charge)


def _set_items(machine: _Machine) -> None:
    flat = machine.since_mark()
    fill_dict(machine.container(dict), flat, machine.charge)


def _add_items(machine: _Machine) -> None:
    values = machine.since_mark()
    fill_set(machine.container(set), values, machine.charge)


_OPCODES: dict[int, Callable[[_Machine], None]] = {
    ord(code): step
    for code, step in {
        b"\x80": _protocol,
        b"\x95": _frame,
        b"N": _constant(None),
        b"\x88": _constant(True),
        b"\x89": _constant(False),
        b"K": _number(_BYTE),
        b"M": _number(_UINT16),
        b"J": _number(_INT32),
        b"G": _number(_DOUBLE),
        b"\x8a": lambda m: _long(m, _BYTE),
        b"\x8b": lambda m: _long(m, _INT32),
        b"\x8c": _text(_BYTE),
        b"X": _text(_UINT32),
        b"\x8d": _text(_UINT64),
        b"U": _text(_BYTE),  # a str of Python 2
        b"T": _text(_UINT32),
        b"C": lambda m: _bytes(m, _BYTE),
        b"B": lambda m: _bytes(m, _UINT32),
        b"\x8e": lambda m: _bytes(m, _UINT64),
        b"]": _container(list, LIST),
        b"}": _container(dict, DICT),
        b")": _constant(()),
        b"\x8f": _container(set, SET),
        b"(": _Machine.mark,
        b"t": lambda m: m.push(tuple(m.since_mark())),
        b"\x85": lambda m: m.tuple_of(1),
        b"\x86": lambda m: m.tuple_of(2),
        b"\x87": lambda m: m.tuple_of(3),
        b"a": _append,
        b"e": _appends,
        b"s": _set_item,
        b"u": _set_items,
        b"\x90": _add_items,
        b"0": _Machine.pop,
        b"1": _Machine.since_mark,
        b"2": lambda m: m.push(m.top()),
        b"q": lambda m: m.put(m.number(_BYTE)),
        b"r": lambda m: m.put(m.number(_UINT32)),
        b"\x94": lambda m: m.put(len(m.memo)),
        b"h": lambda m: m.get(m.number(_BYTE)),
        b"j": lambda m: m.get(m.number(_UINT32)),
        b"c": lambda m: m.name(m.line(), m.line()),
        b"\x93": _stack_global,
        b"R": _Machine.call,
        b"\x81": _Machine.call,  # a class's __new__: what it would make is not made either
        b"b": _Machine.build,
        b"Q": _Machine.persistent,
    }.items()
}


def _opcode_name(opcode: int) -> str:
    import pickletools

    names = {op.code: op.name for op in pickletools.opcodes}
    return names.get(chr(opcode), f"{opcode:#x}")
