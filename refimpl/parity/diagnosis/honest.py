"""Honest runs with faults in them: how far a port that makes a mistake is off by rounding alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy

from refimpl import ops
from refimpl.backend import to_numpy
from refimpl.models.model import Model
from refimpl.parity.diagnosis.subject import Values
from refimpl.parity.faults import Fault, run_faulty
from refimpl.parity.faults.fault import Function
from refimpl.parity.faults.run import Run
from refimpl.parity.floors import Arithmetic, Implementation, draw_implementation, represent_inputs
from refimpl.parity.floors.narrow import round_like, widen
from refimpl.parity.goldens import flatten
from refimpl.parity.reference import Forced
from refimpl.parity.staged import Stages, attention_in
from refimpl.replacing import replace as replace_operations

Given = Mapping[str, numpy.ndarray]
# What a kernel computes in float32 at once, whatever the mistake in it.
IN_ONE_KERNEL = ("layer_norm", "gelu_erf", "gelu_tanh", "silu", "relu", "tanh")


def run_honestly(
    how: Arithmetic,
    number: int,
    computing: Model,
    inputs: Mapping[str, Any],
    faults: Iterable[Fault] = (),
    given: Given | None = None,
) -> Values:
    """Return the taps and outputs of the ``number``-th honest implementation, faults in it.

    ``computing`` is what ``how.computing`` made of the model. With ``given`` values each operation
    is fed with these.
    """
    drawn = draw_implementation(how, number)
    stages = _stages(drawn)
    forced = Forced(computing, given or {}, stages)
    attend = attention_in(stages, lambda role, x: how.keep(forced.put_stage(role, x)))
    operations = {**drawn.operations(), "scaled_dot_product_attention": attend}
    faults = [_in_kernels(fault) for fault in faults]
    with numpy.errstate(all="ignore"), replace_operations(**operations):
        taps, outputs = run_faulty(
            computing,
            represent_inputs(how, inputs),
            faults,
            lambda name, x: how.keep(forced.put(name, x)),
        )
    values = {**taps, **flatten(outputs)}
    return {name: numpy.asarray(to_numpy(x)) for name, x in values.items()}


def _stages(drawn: Implementation) -> Stages:
    """Attention as drawn, but for a softmax that a fault put in the place of the right one."""

    def probs(scores: Any, mask: Any, softmax: Function) -> Any:
        if softmax in (ops.softmax, ops.softmax_float32):
            return drawn.probs(scores, mask, softmax)
        return round_like(softmax(ops.mask_scores(widen(scores), mask)), scores)

    return Stages(drawn.scores, probs, drawn.context)


def _in_kernels(fault: Fault) -> Fault:
    """The same fault, its norms and activations rounded once, at the end."""
    changed = {
        name: _rounded_at_the_end(change) if name in IN_ONE_KERNEL else change
        for name, change in fault.operations.items()
    }
    return replace(fault, operations=changed)


def _rounded_at_the_end(change: Callable[[Run, Function], Function]) -> Any:
    def of(run: Run, base: Function) -> Function:
        function = change(run, base)

        def kernel(x: Any, *arrays: Any, **options: Any) -> Any:
            y = function(widen(x), *map(widen, arrays), **options)
            return round_like(y, arrays[0] if arrays else x)

        return kernel

    return of
