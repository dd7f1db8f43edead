"""Running the reference with faults in it, any number of them in one forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy

from refimpl import taps as plain_taps
from refimpl.backend import Array, to_numpy
from refimpl.checkpoints.weights import Weights
from refimpl.models.inputs import check_inputs
from refimpl.models.model import ARCHITECTURES, Model
from refimpl.parity.compare import relative_error
from refimpl.parity.faults.fault import Fault, Function
from refimpl.parity.faults.run import Run
from refimpl.parity.goldens import flatten
from refimpl.replacing import replace as replace_operations
from refimpl.replacing import running


class LazyTensors(Mapping[str, Array]):
    """Tensors by name, each looked up when it is used."""

    def __init__(self, names: Iterable[str], look_up: Callable[[str], Array]) -> None:
        self._names = dict.fromkeys(names)
        self._look_up = look_up

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._look_up(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def why_not(fault: Fault, model: Model, inputs: Mapping[str, Any]) -> str:
    """Say why a fault cannot matter for a model and a call of it; "" where it can."""
    return _refusal(fault, _begin(model, inputs))


def _refusal(fault: Fault, run: Run) -> str:
    if run.family not in fault.families:
        return f"{fault.name} is no fault of {run.family}"
    run = replace(run, parameters=fault.parameters)
    return next((f"{fault.name} needs {n.text}" for n in fault.needs if not n.holds(run)), "")


def applies(fault: Fault, model: Model, inputs: Mapping[str, Any]) -> bool:
    """Whether a fault can matter for a model and a call of it."""
    return not why_not(fault, model, inputs)


def run_faulty(
    model: Model,
    inputs: Mapping[str, Any],
    faults: Iterable[Fault],
    editor: plain_taps.Editor | None = None,
) -> tuple[dict[str, Array], Any]:
    """Return the taps, in order, and the outputs of ``model(**inputs)`` with the faults in it.

    Each fault acts on what those before it left. Where two put a function of their own in the
    place of one operation, the later counts; where the later only wraps it, both do. The taps are
    those that the port would show. Operations run as written (``kernels="plain"``), or, within a
    block of :func:`refimpl.replacing.replace`, as they do there. ``editor`` may let something else
    go on from a tap than what the port computed there; the faults act upon that.

    Raises ``ValueError`` where a fault does not apply, and what the model raises for bad inputs.
    """
    faults, run = tuple(faults), _begin(model, inputs)
    for fault in faults:
        if reason := _refusal(fault, run):
            raise ValueError(reason)
    for fault in faults:
        run = _prepare(run, fault)
    views = [(fault, replace(run, parameters=fault.parameters)) for fault in faults]
    watch = _Watch(run, views, editor)
    # A port that overflows, or divides by zero, goes on with what comes out.
    with numpy.errstate(all="ignore"), replace_operations(**watch.operations()):
        with plain_taps.edit(watch.edit):
            outputs = run.model(**run.inputs)
        for fault, view in views:
            if fault.outputs is not None:
                outputs = fault.outputs(view, outputs)
    return run.taps, outputs


Effect = dict[str, float]  # a tap or an output -> how far it is off

# What changes nothing by more than this does not show: a float32 run is further off by itself.
VISIBLE = 1e-6
# What changes by less than this did not change: in float64 rounding stays far below.
CHANGED = 1e-10


def first_changed(found: Effect) -> str:
    """The first tap or output that a fault changes, in the order of the computation; "" for none.

    >>> first_changed({"scores": 2e-16, "probs": 0.5, "context": 0.1})
    'probs'
    """
    return next((name for name, error in found.items() if error > CHANGED), "")


def shows(found: Effect) -> bool:
    """Whether a fault changes any value so far that a float32 port would show it."""
    return max(found.values()) > VISIBLE


def effect(right: tuple[dict[str, Array], Any], faulty: tuple[dict[str, Array], Any]) -> Effect:
    """How far each tap and output parts from the right run, in the order of the computation.

    Both arguments are what :func:`run_faulty` returns, the first without faults. The measure is
    the relative error of :func:`refimpl.parity.compare.relative_error`; infinity where a value is
    missing, of another shape, or finite on one side only.
    """
    ours = {**right[0], **flatten(right[1])}
    theirs = {**faulty[0], **flatten(faulty[1])}
    return {name: _part(theirs.get(name), x) for name, x in ours.items()} | {
        name: math.inf for name in theirs if name not in ours
    }


def _part(theirs: Array | None, ours: Array) -> float:
    if theirs is None or tuple(theirs.shape) != tuple(ours.shape):
        return math.inf
    theirs, ours = to_numpy(theirs), to_numpy(ours)
    finite = numpy.isfinite(ours)
    if (numpy.isfinite(theirs) != finite).any():
        return math.inf
    return relative_error(theirs[finite], ours[finite])


def _begin(model: Model, inputs: Mapping[str, Any]) -> Run:
    """The run before any fault: inputs checked, on the host, as the model itself checks them."""
    entry = ARCHITECTURES[model.architecture]
    forms = entry.inputs(model.config)
    given = {name: x for name, x in inputs.items() if x is not None}
    kept = given.get(entry.state)
    past = 0 if kept is None else kept[0][0].shape[2]
    checked = check_inputs(
        {name: x for name, x in given.items() if name in forms},
        forms,
        entry.sizes(model.config),
        past,
    )
    rest = {name: x for name, x in given.items() if name not in checked}
    model = replace(model, kernels="plain")
    call = {**checked, **rest}
    return Run(model, call, model, call)


def _prepare(run: Run, fault: Fault) -> Run:
    """Change what there is before the forward pass: weights, config, inputs."""
    run = replace(run, parameters=fault.parameters)
    if fault.weights is not None:
        run = replace(run, model=replace(run.model, weights=_change_weights(run, fault)))
    if fault.config is not None:
        run = replace(run, model=replace(run.model, config=fault.config(run)))
    if fault.inputs is not None:
        run = replace(run, inputs=fault.inputs(run))
    return run


def _change_weights(run: Run, fault: Fault) -> Weights:
    names = [
        name
        for name in ARCHITECTURES[run.original.architecture].parameters(run.original.config)
        if name.rpartition(".")[0] in run.weights  # a pooler, or a table, may be missing
    ]
    tensors = LazyTensors(names, run.weights.__getitem__)
    assert fault.weights is not None
    change = fault.weights
    return Weights(LazyTensors(names, lambda name: change(run, tensors, name)))


class _Watch:
    """Stands at every tap: keeps what passes, and lets the faults change it."""

    def __init__(
        self, run: Run, views: list[tuple[Fault, Run]], editor: plain_taps.Editor | None
    ) -> None:
        self._run = run
        self._views = views
        self._editor = editor
        self._given: list[Array] = []  # to the linear map or norm that ran since the last tap

    def operations(self) -> dict[str, Function]:
        """The faults' operations, one upon the other, and two that are watched."""
        functions = {name: running(name) for name in ("linear", "layer_norm")}
        for fault, view in self._views:
            for name, change in fault.operations.items():
                functions[name] = change(view, functions.get(name, running(name)))
        for name in ("linear", "layer_norm"):
            functions[name] = self._watched(functions[name])
        return functions

    def _watched(self, function: Function) -> Function:
        def run(x: Array, *args: Any, **options: Any) -> Array:
            y = function(x, *args, **options)
            self._given = [x]
            return y

        return run

    def edit(self, name: str, x: Array) -> Array:
        """Keep the value of a tap as the faults make it; return what goes on from there."""
        for given in self._given:
            self._run.into[name] = given
        for fault, view in self._views:
            if fault.taps is not None:
                x = fault.taps(view, name, x)
        self._run.taps[name] = x
        if self._editor is not None:
            x = self._editor(name, x)
        for fault, view in self._views:
            if fault.onward is not None:
                x = fault.onward(view, name, x)
        self._run.onward[name] = x
        self._given = []
        return x
