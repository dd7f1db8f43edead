"""Recomputing the numbers that were published for a checkpoint, and judging each.

The goldens prove the arithmetic on small checkpoints; this proves a real one: its files, their
conversion and the run as a whole, against what its authors and others printed of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from refimpl.checkpoints.folder import find_folder
from refimpl.checkpoints.registry import BUNDLED, Number, Published, Registry, read_registry
from refimpl.errors import CheckpointError, MissingExtra
from refimpl.inspection import TOKENIZER_FILES, outline
from refimpl.models.model import load
from refimpl.parity.compare import Comparison
from refimpl.parity.recompute import NotRecomputed, Subject, recompute
from refimpl.tokenizers import load_tokenizer

HELD, PARTED, LEFT_OUT, FAILED = "held", "not held", "not recomputed", "failed"

DECISIVE = "high"  # the trust whose numbers decide; those of less trust are reported beside them


class Finding(NamedTuple):
    """What became of one published number."""

    number: Number
    status: str  # held, not held, not recomputed, failed
    values: int = 0  # how many arrays, rows or entries were compared
    worst: Comparison | None = None  # the first that parts, else the one nearest to its tolerance
    reason: str = ""  # why it was not recomputed, or failed

    @property
    def decides(self) -> bool:
        """Whether the verdict depends on it."""
        return self.number.trust == DECISIVE and self.status != LEFT_OUT


@dataclass(frozen=True)
class PublishedReport:
    """What became of all numbers of a checkpoint."""

    id: str
    findings: tuple[Finding, ...]

    @property
    def held(self) -> bool:
        """Whether there are numbers of high trust, and all of them held."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0: all of high trust held. 1: some did not. 2: some failed, or there was none."""
        decisive = [finding.status for finding in self.findings if finding.decides]
        if not decisive or FAILED in decisive:
            return 2
        return 1 if PARTED in decisive else 0


Watch = Callable[[Iterator[Finding], int], Iterable[Finding]]


def verify_checkpoint(
    path: str | os.PathLike[str],
    *,
    registry: Path = BUNDLED,
    published_as: str | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    backend: str = "numpy",
    dtype: str = "float32",
    kernels: str = "fused",
    stream: bool = False,
    watch: Watch = lambda findings, total: findings,
) -> PublishedReport:
    """Recompute every number that ``registry`` has of the checkpoint at ``path``, and judge it.

    Which checkpoint it is, is said by ``published_as`` or by ``path`` where that is a hub id; else
    it is the one in the registry that has the same config and tensor shapes. ``tokenizer`` is a
    folder or hub id that holds it; None is ``path``. X-MOD's checkpoints come without one.
    ``backend``, ``dtype``, ``kernels`` and ``stream`` are those of :func:`refimpl.load`. ``watch``
    is given the findings as they come, and their number, and hands them on.

    Only numbers of high trust decide. Those of medium and low trust are recomputed and reported:
    their sources are uncertain of the checkpoint, the inputs or the number, so that a part of
    them is known not to hold.

    Raises ``CheckpointError`` for files that are missing or broken and for a checkpoint that is
    none or more than one of the registry's, ``ValueError`` for a ``published_as`` that it does not
    have, and for an unknown dtype, backend or kernels.
    """
    known = read_registry(registry)
    folder = find_folder(path)
    published = identify(path, folder, known, published_as)
    model = load(folder, dtype=dtype, backend=backend, kernels=kernels, stream=stream)
    subject = Subject(model, known, *find_tokenizer(folder, tokenizer))
    numbers = known.numbers_of(published.id)
    found = watch((find(subject, number) for number in numbers), len(numbers))
    return PublishedReport(published.id, tuple(found))


def identify(
    path: str | os.PathLike[str], folder: Path, registry: Registry, published_as: str | None = None
) -> Published:
    """Return which published checkpoint a folder is to be: as told, as called, or as it looks.

    Raises ``ValueError`` for a name that no checkpoint has, ``CheckpointError`` for a folder that
    looks like none or like several.
    """
    if published_as is not None:
        told = registry.find(published_as)
        if told is None:
            known = ", ".join(published.id for published in registry.checkpoints)
            raise ValueError(f"as: expected one of {known}, got {published_as!r}")
        return told
    called = registry.find(str(path))
    if called is not None:
        return called
    matches = outline(folder, registry).matches
    alike = [match.id for match in matches if match.whole]
    if len(alike) == 1:
        return next(published for published in registry.checkpoints if published.id == alike[0])
    if alike:
        found = f"{', '.join(alike)} have its config and tensor shapes"
    else:
        found = "no checkpoint in the registry has its config and tensor shapes"
    raise CheckpointError(f"{folder}: {found}; say which it is (--as ID)")


def find_tokenizer(folder: Path, path: str | os.PathLike[str] | None) -> tuple[Any, str]:
    """Load the tokenizer at ``path``, or in the folder; where there is none, say why."""
    home = folder if path is None else find_folder(path)
    if path is None and not any((home / file).exists() for file in TOKENIZER_FILES):
        return None, "no tokenizer in the folder (--tokenizer)"
    return load_tokenizer(home), ""


def find(subject: Subject, number: Number) -> Finding:
    """Recompute one number. What goes wrong is its finding; the other numbers are not lost."""
    try:
        comparisons = list(recompute(subject, number))
    except NotRecomputed as reason:
        return Finding(number, LEFT_OUT, reason=str(reason))
    except (CheckpointError, MissingExtra, RuntimeError, ValueError, TypeError, LookupError) as e:
        said = " ".join(str(e).split())
        return Finding(number, FAILED, reason=f"{type(e).__name__}: {said}")
    if not comparisons:
        return Finding(number, FAILED, reason="the registry expects nothing")
    parted = next((c for c in comparisons if not c.ok), None)
    worst = parted or max(comparisons, key=lambda c: c.share)
    return Finding(number, PARTED if parted else HELD, len(comparisons), worst)


def as_dict(report: PublishedReport) -> dict[str, Any]:
    """A report in JSON's types."""
    return {
        "checkpoint": report.id,
        "held": report.held,
        "exit_code": report.exit_code,
        "numbers": [
            {
                "name": number.name,
                "kind": number.kind,
                "status": status,
                "trust": number.trust,
                "source": number.source,
                "error": worst.error if worst else None,
                "tolerance": worst.tolerance if worst else None,
                "values": values,
                "at": worst.name if worst else "",
                "reason": reason or (worst.note if worst else ""),
                "note": number.note,
            }
            for number, status, values, worst, reason in report.findings
        ],
    }
