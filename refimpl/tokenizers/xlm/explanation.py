"""How a text became ids, step by step: to read on a terminal, or field by field in a notebook.

Plain text, aligned by the width that characters have on a terminal; no colours.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from refimpl.tokenizers.xlm.bpe import Merge, symbols_of
from refimpl.tokenizers.xlm.steps import Steps


class Stage(NamedTuple):
    """A step, and the text (or the words) after it."""

    name: str
    text: str
    changed: bool  # by this step
    words: tuple[str, ...] = ()  # of the steps that know words


class Word(NamedTuple):
    """A word, merge by merge; a special token has no merges, and of a long word none are kept."""

    text: str
    merges: tuple[Merge, ...]
    tokens: tuple[str, ...]
    ids: tuple[int, ...]


class Explanation(NamedTuple):
    """What every step did: ``print`` it, or look at ``stages`` and ``words``."""

    text: str
    lang: str
    stages: tuple[Stage, ...]
    words: tuple[Word, ...]
    unk_token_id: int

    @property
    def tokens(self) -> list[str]:
        """All tokens, in order."""
        return [token for word in self.words for token in word.tokens]

    @property
    def ids(self) -> list[int]:
        """All ids, in order."""
        return [i for word in self.words for i in word.ids]

    def __str__(self) -> str:
        return "\n".join([*self._stage_lines(), *self._word_lines(), *self._token_lines()])

    def _stage_lines(self) -> list[str]:
        width = max(len(stage.name) for stage in self.stages)
        lines = [f"language {self.lang}; * marks a step that changed something", ""]
        for stage in self.stages:
            mark = "*" if stage.changed else " "
            lines.append(f"{mark} {stage.name:{width}}  {visible(stage.text)}".rstrip())
        return lines

    def _word_lines(self) -> list[str]:
        lines = []
        for word in self.words:
            if not word.merges:
                continue
            joined = [" ".join(merge.pair) for merge in word.merges]
            width = max(map(terminal_width, joined))
            rank_width = max(len(str(merge.rank)) for merge in word.merges)
            lines += ["", visible(word.text)]
            lines.append(f"  {'':{rank_width}}  {'':{width}}  {' '.join(symbols_of(word.text))}")
            for merge, pair in zip(word.merges, joined, strict=True):
                padding = " " * (width - terminal_width(pair))
                symbols = " ".join(merge.symbols)
                lines.append(f"  {merge.rank:{rank_width}}  {pair}{padding}  {symbols}")
        return lines

    def _token_lines(self) -> list[str]:
        if not self.ids:
            return ["", "no tokens"]
        width = max(len(str(i)) for i in self.ids)
        lines = [""]
        for token, i in zip(self.tokens, self.ids, strict=True):
            note = "  unknown" if i == self.unk_token_id else ""
            lines.append(f"{i:{width}}  {visible(token)}{note}")
        return lines


def visible(text: str) -> str:
    r"""Write characters that would not be seen as escapes.

    >>> print(visible("a\u200bb\xa0c"))
    a\u200bb\xa0c
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def terminal_width(text: str) -> int:
    r"""Return how many columns a text takes on a terminal.

    >>> terminal_width("ab"), terminal_width("世界"), terminal_width("e\u0301")
    (2, 4, 1)
    """
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "FW")
        for char in text
    )


def tell_stages(text: str, parts: Sequence[str], lower: bool, steps: Steps) -> list[Stage]:
    """Return what each step leaves of a text; the odd ones of its ``parts`` are special tokens.

    The parts are lower-cased already, where ``lower`` says so.
    """
    now = list(parts)
    stages = [Stage("text", text, False)]

    def add(name: str, shown: str, before: str | None = None) -> None:
        stages.append(Stage(name, shown, shown != (stages[-1].text if before is None else before)))

    if lower:
        add("lower case", "".join(now))
    if len(now) > 1:
        stages.append(Stage("special tokens", _between_bars(now), True))
    for step in steps.before:
        before = "".join(now)
        now[::2] = [step.plain(part) for part in now[::2]]
        add(step.name, "".join(now), before)
    cut = [steps.cut.plain(part) if i % 2 == 0 else [part] for i, part in enumerate(now)]
    words = [word for part in cut for word in part]
    stages.append(Stage(steps.cut.name, _between_bars(words), len(words) > 1, tuple(words)))
    if steps.after is not None:
        last = steps.after.plain
        folded = [last(w) if i % 2 == 0 else w for i, part in enumerate(cut) for w in part]
        shown = _between_bars(folded)
        stages.append(Stage(steps.after.name, shown, folded != words, tuple(folded)))
    return stages


def _between_bars(words: Sequence[str]) -> str:
    return " | ".join(word for word in words if word)


def tell_word(
    text: str, merges: Sequence[Merge], tokens: Sequence[str], id_of: Callable[[str], int]
) -> Word:
    """Return a word with its merges, tokens and ids."""
    return Word(text, tuple(merges), tuple(tokens), tuple(map(id_of, tokens)))
