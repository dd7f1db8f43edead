"""The words in which the catalogue says how a fault changes the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from refimpl.backend import Array, arange, namespace
from refimpl.parity.faults.fault import (
    ConfigChange,
    Function,
    InputChange,
    OperationChange,
    OutputChange,
    TapChange,
    Tensors,
    WeightChange,
)
from refimpl.parity.faults.run import Run, place_of
from refimpl.replacing import plain

# --- config and inputs ----------------------------------------------------------------------------


def settings(**values: Any) -> ConfigChange:
    """Other values in the config. A function is called with the run."""

    def change(run: Run) -> Any:
        made = {name: x(run) if callable(x) else x for name, x in values.items()}
        return replace(run.config, **made)

    return change


def setting_from_parameter(key: str, parameter: str) -> ConfigChange:
    """The fault's parameter as a value of the config."""
    return lambda run: replace(run.config, **{key: run.parameters[parameter]})


def without_input(*names: str) -> InputChange:
    """Inputs that the port never gets to see."""
    return lambda run: {name: x for name, x in run.inputs.items() if name not in names}


def with_input(name: str, value: Callable[[Run], Any]) -> InputChange:
    """An input that the port makes for itself."""
    return lambda run: {**run.inputs, name: value(run)}


# --- weights --------------------------------------------------------------------------------------


def weights_of(
    places: tuple[str, ...], last: str, change: Callable[[Array], Array]
) -> WeightChange:
    """Change the tensors called ``last`` ("weight", "bias") of the modules at some places."""

    def of(run: Run, tensors: Tensors, name: str) -> Array:
        module, _, word = name.rpartition(".")
        x = tensors[name]
        return change(x) if word == last and place_of(module) in places else x

    return of


def read_instead(other: Callable[[Run, str], str]) -> WeightChange:
    """Read another tensor of the checkpoint: ``other`` gives its name for a name."""
    return lambda run, tensors, name: tensors[other(run, name)]


def zeros(x: Array) -> Array:
    """(...) -> (...): what stands there where something was never added."""
    return namespace(x).zeros_like(x)


def ones(x: Array) -> Array:
    """(...) -> (...)"""
    return namespace(x).ones_like(x)


def is_norm(module: str) -> bool:
    """Whether a module, by its name, is a layer norm.

    >>> is_norm("layer_norm1.0"), is_norm("encoder.LayerNorm"), is_norm("lm_head.dense")
    (True, True, False)
    """
    words = [word for word in module.split(".") if not word.isdecimal()]
    return "norm" in words[-1].lower()


def weights_of_norms(last: str, change: Callable[[Array], Array]) -> WeightChange:
    """Change the tensors called ``last`` of every layer norm."""

    def of(run: Run, tensors: Tensors, name: str) -> Array:
        module, _, word = name.rpartition(".")
        return change(tensors[name]) if word == last and is_norm(module) else tensors[name]

    return of


# --- operations -----------------------------------------------------------------------------------


def put(function: Function) -> OperationChange:
    """Another function in the place of an operation."""
    return lambda run, base: function


def put_plain(name: str) -> OperationChange:
    """Another operation of the project in the place of one."""
    return lambda run, base: plain(name)


def with_options(**options: Callable[[Run, Any], Any]) -> OperationChange:
    """The same operation, called with other options: functions of the run and what was meant."""

    def change(run: Run, base: Function) -> Function:
        def call(*args: Any, **given: Any) -> Any:
            made = {name: value(run, given.get(name)) for name, value in options.items()}
            return base(*args, **{**given, **made})

        return call

    return change


def in_float32(function: Function) -> Function:
    """Compute narrower dtypes in float32 and cast back, as the plain operations do."""

    def call(x: Array, *args: Array, **options: Any) -> Array:
        xp = namespace(x)
        if xp.finfo(x.dtype).bits >= 32:
            return function(x, *args, **options)
        wide = [xp.astype(array, xp.float32) for array in (x, *args)]
        return xp.astype(function(*wide, **options), x.dtype)

    return call


# --- taps and outputs -----------------------------------------------------------------------------


def at(*places: str, become: Callable[[Run, str, Array], Array]) -> TapChange:
    """Change the taps at some places; ``become`` takes the run, the tap's name and its value."""
    return lambda run, name, x: become(run, name, x) if place_of(name) in places else x


def skipped(run: Run, name: str, x: Array) -> Array:
    """What the linear map or the norm of a tap was given: as if it were not there."""
    return run.into[name]


def value_of(place: str) -> TapChange:
    """The latest value of another place: what lies between was skipped."""
    return lambda run, name, x: run.onward[run.latest(place)]


def fields(**changes: Callable[[Run, Any], Any]) -> OutputChange:
    """Other values in some fields of the output; a function takes the run and the output."""

    def change(run: Run, outputs: Any) -> Any:
        return outputs._replace(**{name: value(run, outputs) for name, value in changes.items()})

    return change


# --- arrays ---------------------------------------------------------------------------------------


def counted(ids: Array, start: int) -> Array:
    """ids (B, S) -> ids (B, S): start, start + 1, ... in every row."""
    row = arange(ids.shape[1], like=ids) + start
    return namespace(ids).broadcast_to(row, ids.shape)


def softmax_over(axis: int) -> Function:
    """The softmax over another axis."""

    def softmax(x: Array) -> Array:
        xp = namespace(x)
        e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
        return e / xp.sum(e, axis=axis, keepdims=True)

    return softmax
