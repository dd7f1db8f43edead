"""Which function runs under an operation's name: the plain one, or another one for a while.

A twin that is faster, one that rounds in another order, one with a mistake in it: each takes the
place of a plain operation for the length of a ``with`` block, wherever the operation is called,
so that no architecture file has a switch for it.

    with replace(gelu_erf=gelu_tanh):
        model(input_ids=...)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

NONE: Mapping[str, Callable[..., Any]] = MappingProxyType({})
_replacements: ContextVar[Mapping[str, Callable[..., Any]]] = ContextVar("replaced", default=NONE)
_plain: dict[str, Callable[..., Any]] = {}


def operation(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function an operation: it can be replaced, by its name."""
    name = function.__name__
    _plain[name] = function

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        chosen: Callable[P, R] = _replacements.get().get(name, function)
        return chosen(*args, **kwargs)

    return run


def plain(name: str) -> Callable[..., Any]:
    """Return an operation as it is written, replaced or not.

    Raises ``ValueError`` for a name that no operation has.
    """
    if name not in _plain:
        raise ValueError(f"expected the name of an operation, got {name!r}")
    return _plain[name]


def running(name: str) -> Callable[..., Any]:
    """Return the function that runs under an operation's name at this moment.

    A replacement that is to act upon what is there already takes this for its base, before its own
    block opens. Raises ``ValueError`` for a name that no operation has.
    """
    return _replacements.get().get(name, plain(name))


def replaced() -> bool:
    """Tell whether any operation is replaced at this moment."""
    return bool(_replacements.get())


@contextmanager
def replace(**functions: Callable[..., Any]) -> Iterator[None]:
    """Let other functions run under the names of operations inside the block, also those of
    earlier blocks that are still open. A replacement finds what it replaces with :func:`plain`.

    Raises ``ValueError`` for a name that no operation has.
    """
    for name in functions:
        plain(name)
    token = _replacements.set({**_replacements.get(), **functions})
    try:
        yield
    finally:
        _replacements.reset(token)
