"""A diagnosis of files: a checkpoint or a golden case, and a dump under anybody's names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from refimpl.parity.comparison.naming import name_values
from refimpl.parity.comparison.tokens import compare_inputs
from refimpl.parity.comparison.truth import open_reference
from refimpl.parity.comparison.verdict import DIFF
from refimpl.parity.diagnosis.diagnosis import Diagnosis, diagnose
from refimpl.parity.diagnosis.scan import Track
from refimpl.parity.dumps import Dump, read_dump


def diagnose_files(
    reference: str | Path,
    candidate: str | Path | Dump,
    *,
    arithmetic: str | None = None,
    names: str | None = None,
    map_file: str | Path | None = None,
    outputs_only: bool = False,
    track: Track = iter,
) -> Diagnosis:
    """Diagnose the dump of a candidate; see :func:`refimpl.parity.diagnosis.diagnose`.

    ``reference`` is a checkpoint (a folder or a hub id) or a golden case. A golden case says what
    the call is; for a checkpoint the dump does. ``names`` says whose names the dump has and
    ``map_file`` adds to these.

    Raises ``ValueError`` where the inputs are not the same or unknown, ``CheckpointError`` for
    files.
    """
    given = candidate if isinstance(candidate, Dump) else read_dump(Path(candidate))
    right = open_reference(reference, given, None)
    if right.model is None:
        raise ValueError(f"{right.name}: expected a checkpoint or a golden case, got a dump")
    for verdict in compare_inputs(given.inputs, right.arrays):
        if verdict.status == DIFF:
            raise ValueError(f"{verdict.name}: {verdict.note}: expected the inputs of {right.name}")
    named = name_values(given, right.truth(), names, map_file)
    found = diagnose(
        right.model,
        Dump(named.values, {}, right.arrays, given.about),
        arithmetic=arithmetic,
        inputs=right.call,
        outputs_only=outputs_only,
        track=track,
    )
    return replace(found, unknown=tuple(named.unknown))
