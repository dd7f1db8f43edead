"""From the names that stand in a checkpoint file to the names that an architecture reads.

Files of different ages call the same tensor by different names, leave out what is tied, and carry
along buffers that are no weights. Here every such difference is written down; what remains
unexplained is an error, and all of it is reported at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from refimpl.checkpoints.folder import Tensors
from refimpl.errors import CheckpointError

Shape = tuple[int, ...]

_TENSORFLOW_WORDS = {"gamma": "weight", "beta": "bias"}


@dataclass(frozen=True)
class NameRules:
    """What may differ between a checkpoint's tensor names and the names an architecture reads.

    ``base`` is the prefix under which a class with a head keeps the encoder ("roberta").
    """

    base: str
    old_names: Mapping[str, str] = field(default_factory=dict)  # file's name -> our name
    ties: Mapping[str, str] = field(default_factory=dict)  # our name -> the tensor it is tied to
    buffers: Collection[str] = ()  # no weights: constants that old files carry along
    unused: Collection[str] = ()  # modules that a file may hold and the class does not have
    optional: Collection[str] = ()  # modules that the class may have and a file need not hold


class Names(NamedTuple):
    """A checkpoint's names beside those that an architecture reads."""

    wanted: dict[str, Shape]  # what the class reads, without optional modules the file lacks
    found: dict[str, str]  # current name -> name in the file, tied ones too
    unexpected: list[str]  # in the file, and no one knows what for
    ties: dict[str, str]  # tensors of the class that may be another one

    @property
    def missing(self) -> list[str]:
        """What the class reads and the file lacks."""
        return [name for name in self.wanted if name not in self.found]

    def misshapen(self, tensors: Tensors) -> list[str]:
        """What has another shape in the file than the class reads, both told."""
        return [
            f"{name}: expected {shape}, got {tensors.shape(self.found[name])}"
            for name, shape in self.wanted.items()
            if name in self.found and tensors.shape(self.found[name]) != shape
        ]


def compare_names(tensors: Tensors, expected: Mapping[str, Shape], rules: NameRules) -> Names:
    """Set the names in a checkpoint beside those that an architecture reads."""
    found = _current_names(tensors, rules, with_head=any(_under(n, [rules.base]) for n in expected))
    known = {*expected, *rules.buffers}
    unexpected = [n for n in found if n not in known and not _under(n, rules.unused)]
    ties = {name: other for name, other in rules.ties.items() if name in expected}
    found |= {name: found[other] for name, other in ties.items() if other in found}
    absent = {m for m in rules.optional if not any(_under(n, [m]) for n in found)}
    wanted = {n: shape for n, shape in expected.items() if not _under(n, absent)}
    return Names(wanted, found, unexpected, ties)


def match_names(
    tensors: Tensors, expected: Mapping[str, Shape], rules: NameRules
) -> dict[str, str]:
    """Return, for each tensor name that the architecture reads, the name it has in the file.

    Raises one ``CheckpointError`` that lists every missing, unexpected and misshapen tensor.
    """
    names = compare_names(tensors, expected, rules)
    _complain(
        missing=[f"{name} {names.wanted[name]}" for name in names.missing],
        unexpected=names.unexpected,
        misshapen=names.misshapen(tensors),
    )
    return {name: names.found[name] for name in names.wanted}


def _current_names(tensors: Tensors, rules: NameRules, *, with_head: bool) -> dict[str, str]:
    """Return current name -> name in the file.

    The encoder alone, read from a checkpoint with a head, is what stands under its prefix.
    """
    # Of two names for one tensor the old one counts, last: so the original reads lm_head.
    names = sorted(tensors, key=lambda n: n in rules.old_names)
    prefix = rules.base + "."
    if not with_head and any(n.startswith(prefix) for n in names):
        return {_current(n.removeprefix(prefix), rules): n for n in names if n.startswith(prefix)}
    return {_current(n, rules): n for n in names}


def _current(name: str, rules: NameRules) -> str:
    """Rename ``LayerNorm.gamma`` and ``.beta`` and what ``rules`` say."""
    stem, _, last = name.rpartition(".")
    if stem.lower().endswith(("layernorm", "layer_norm")):
        name = f"{stem}.{_TENSORFLOW_WORDS.get(last, last)}"
    return rules.old_names.get(name, name)


def _under(name: str, modules: Collection[str]) -> bool:
    return any(name.startswith(m + ".") for m in modules)


def _complain(**lists: list[str]) -> None:
    parts = [f"{kind} ({len(names)}): {', '.join(names)}" for kind, names in lists.items() if names]
    if parts:
        raise CheckpointError("tensors do not match the config: " + "; ".join(parts))
