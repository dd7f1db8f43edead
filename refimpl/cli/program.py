"""A command that is given a program to run: everything behind ``--``, word by word."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

_WORDS = "refimpl.program"


class WithProgram(TyperCommand):
    """A command of which the words behind ``--`` are no arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what stands behind ``--`` for :func:`program_of`, and parse the rest."""
        if "--" in args:
            place = args.index("--")
            args, ctx.meta[_WORDS] = args[:place], args[place + 1 :]
        return super().parse_args(ctx, args)


def program_of(ctx: typer.Context) -> list[str] | None:
    """The program of a call, word by word; None where there is no ``--``."""
    words: list[str] | None = ctx.meta.get(_WORDS)
    return words
