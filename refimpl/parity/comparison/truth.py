"""What a candidate is judged against: a checkpoint, a golden case, or a dump in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.tables import TabledTensors
from refimpl.checkpoints.weights import DeviceTensors, Weights
from refimpl.models.model import ARCHITECTURES, Model, load
from refimpl.parity.comparison.axes import Call, call_of
from refimpl.parity.dumps import read_dump
from refimpl.parity.dumps.dump import Dump
from refimpl.parity.floors import find_arithmetic, represent_inputs
from refimpl.parity.goldens import Golden, join, read_golden, split
from refimpl.parity.reference import run_reference

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """What is known of the right answer before the arithmetic is."""

    name: str
    model: Model | None  # in float64; None where there is but a dump
    call: Inputs  # arrays and flags
    known: Dump | None = None  # in float64, on the weights as they are
    golden: Golden | None = None

    @property
    def arrays(self) -> dict[str, numpy.ndarray]:
        """The arrays of the call, without its switches."""
        call = split(self.call)
        found = {k: numpy.asarray(x) for k, x in call.items() if not isinstance(x, bool)}
        return {k: x for k, x in found.items() if x.dtype != object}

    def about_call(self) -> Call:
        """What is known of rows and positions."""
        return call_of(self.model, self.arrays)

    def with_tables(self) -> Reference:
        """The same with the word embeddings as a table, of which only rows in use are converted."""
        if self.model is None or not isinstance(self.model.weights.arrays, DeviceTensors):
            return self
        weights = Weights(TabledTensors(self.model.weights.arrays))
        return replace(self, model=replace(self.model, weights=weights))

    def storing(self, arithmetic: str) -> Reference:
        """The same with the weights and inputs as an arithmetic stores them.

        The truth is float64 on those: how they were rounded is no matter of the candidate's.

        Raises ``ValueError`` where the weights differ then, and there is only a dump.
        """
        how = find_arithmetic(arithmetic)
        if self.model is None:
            if how.stored is not None:
                raise ValueError(
                    f"{self.name}: its truth is on weights that are not rounded; "
                    f"{arithmetic} needs the checkpoint"
                )
            return self
        stored, call = how.weights(self.model), represent_inputs(how, self.call)
        if stored is self.model and all(_same(x, call[name]) for name, x in self.call.items()):
            return self
        return replace(self, model=stored, call=call, known=None)

    def truth(self) -> Dump:
        """Every tap and output in float64."""
        if self.known is not None:
            return self.known
        assert self.model is not None  # one of the two is there
        return run_reference(self.model, self.call)


def open_reference(
    reference: str | Path | Dump, candidate: Dump, inputs: Inputs | None
) -> Reference:
    """Return what a candidate is judged against.

    ``reference`` is a golden case, a checkpoint (folder or hub id) or a dump in float64 (or the
    file of one). The call of a golden case is its own; of a checkpoint it is ``inputs``, or those
    that the candidate's dump holds. A dump whose ``about`` names a checkpoint is used with it.

    Raises ``ValueError`` where no call is known, ``CheckpointError`` for files.
    """
    own = _with_a_call(reference)
    if own is None:
        model = load(str(reference), dtype="float64", kernels="plain")
        return Reference(str(reference), model, _call(model, candidate, inputs))
    if inputs is not None:
        raise ValueError(f"inputs: expected none, {own.name} has its own")
    return own


def _with_a_call(reference: str | Path | Dump) -> Reference | None:
    """A golden case or a dump; None for a checkpoint."""
    if isinstance(reference, Dump):
        return _of_dump(reference, "the reference's dump")
    path = Path(reference)
    if (path / "golden.json").exists():
        return _of_golden(read_golden(path))
    if path.is_file() or (path.is_dir() and not (path / "config.json").exists()):
        return _of_dump(read_dump(path), str(path))
    return None


def _of_golden(golden: Golden) -> Reference:
    model = load(
        golden.folder, golden.description["architecture"], dtype="float64", kernels="plain"
    )
    about = {
        "made_by": golden.description["made_by"]["implementation"],
        "architecture": golden.description["architecture"],
    }
    known = Dump(golden.part("tap"), golden.part("output"), golden.part("input"), about)
    return Reference(golden.name, model, golden.inputs(), known, golden)


def _of_dump(dump: Dump, name: str) -> Reference:
    floats = {x.dtype for x in dump.values.values() if x.dtype.kind == "f"}
    if floats - {numpy.dtype("float64")} or not floats:
        got = ", ".join(sorted(map(str, floats))) or "no floats"
        raise ValueError(f"{name}: expected a reference in float64, got {got}")
    call = {**join(dump.inputs), **dump.flags}
    checkpoint = dump.about.get("checkpoint")
    if not isinstance(checkpoint, str) or not dump.inputs:
        return Reference(name, None, call, dump)
    architecture = dump.about.get("architecture")
    model = load(checkpoint, architecture, dtype="float64", kernels="plain")
    return Reference(name, model, call, dump)


def _same(x: Any, y: Any) -> bool:
    return x is y or numpy.array_equal(x, y)


def _call(model: Model, candidate: Dump, inputs: Inputs | None) -> Inputs:
    """The call of a checkpoint: with all outputs, for the candidate may have any."""
    entry = ARCHITECTURES[model.architecture]
    known = {**entry.inputs(model.config), **dict.fromkeys(entry.flags)}
    if inputs is None:
        given = {**join(candidate.inputs), **candidate.flags}
        inputs = {k: x for k, x in given.items() if k in known}
    if not {"input_ids", "inputs_embeds"} & set(inputs):
        raise ValueError(
            "inputs: expected input_ids in the candidate's dump (input.input_ids), or inputs="
        )
    return {"output_hidden_states": True, "output_attentions": True, **inputs}
