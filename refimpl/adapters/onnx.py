"""What an ONNX model computes, value by value: all of them marked as outputs, run by onnxruntime.

A graph names its values after what the exporter knew. torch's older exporter knew the module and
wrote ``/encoder/layer.0/attention/self/query/Add_output_0``. The newer one writes ``linear_3`` and
keeps the module beside it, in the node's metadata; such a value is called here as
``encoder.layer.0.attention.self.query/linear``, and ``about["graph_names"]`` has its own name.

Whoever looks changes what is looked at. An operator that onnxruntime would fuse with the next
cannot be fused when its result is an output, so a model may round differently here than where it
is used, and a wrong fusion does not show. Compare the outputs of the model as it is as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

from refimpl.errors import CheckpointError, MissingExtra
from refimpl.parity.dumps.dump import Dump

LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_SCOPES = "pkg.torch.onnx.name_scopes"
_NARROW = ("tensor(bfloat16)", "tensor(float8", "tensor(float4")  # NumPy has no such dtype
_WORDS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")
_TYPES = {f"tensor({word})": word for word in _WORDS} | {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


def dump(
    model_path: str | Path,
    inputs: Mapping[str, Any],
    *,
    providers: Sequence[str] | None = None,
    optimisation: str = "none",
    threads: int = 0,
) -> Dump:
    """Run an ONNX model; return its outputs, and the result of every node as a tap.

    ``inputs`` are arrays or lists by the names of the graph's inputs. ``providers`` are those of
    onnxruntime, None its CPU. ``optimisation`` is how much the graph is rewritten before it runs:
    "none", "basic", "extended" or "all", onnxruntime's own default. ``threads`` is how many an
    operator may use, 0 leaves it to onnxruntime. The file is not changed. Weights beside it
    (external data) are read by onnxruntime and may have any size.

    What lies inside the bodies of ``If`` and ``Loop`` cannot be an output and is left out, and so
    are results that are no tensors. Results of fewer bits than float16 has are given as float32,
    with no rounding.

    Raises ``MissingExtra`` without onnx and onnxruntime, ``CheckpointError`` for a file that is no
    ONNX model or does not run, ``ValueError`` for inputs that do not fit and for a provider or an
    optimisation that is not known.
    """
    onnx, runtime = _package("onnx"), _package("onnxruntime")
    path = Path(model_path)
    options = _options(runtime, path, optimisation, threads)
    chosen = _providers(runtime, providers)
    model = _read(onnx, path)
    outputs = [value.name for value in model.graph.output]
    names = _names(model.graph)
    _mark(onnx, model.graph, [name for name in names if name not in outputs])
    session = _open(runtime, path, model, options, chosen)
    narrow = _widen(onnx, model.graph, session)
    if narrow:
        session = _open(runtime, path, model, options, chosen)
    fed = _fitting(session, inputs)
    computed = {narrow.get(name, name): x for name, x in _run(path, session, fed).items()}
    taps = {called: computed[raw] for raw, called in names.items() if raw in computed}
    return Dump(
        {called: x for called, x in taps.items() if called not in outputs},
        {name: computed[name] for name in outputs if name in computed},
        fed,
        {
            "made_by": f"onnxruntime {runtime.__version__}",
            "providers": chosen,
            "optimisation": optimisation,
            "graph_names": {called: raw for raw, called in names.items() if raw != called},
        },
    )


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise MissingExtra(name, "onnx") from None


def _providers(runtime: Any, wanted: Sequence[str] | None) -> list[str]:
    """Return the providers, which onnxruntime would leave out silently where they are missing."""
    chosen = ["CPUExecutionProvider"] if wanted is None else list(wanted)
    available = runtime.get_available_providers()
    for provider in chosen:
        if provider not in available:
            known = ", ".join(available)
            raise ValueError(f"providers: expected some of {known}, got {provider!r}")
    return chosen


# --- the graph ------------------------------------------------------------------------------------


def _read(onnx: Any, path: Path) -> Any:
    """Read a model without the weights beside it; functions of its own become plain nodes."""
    if not path.is_file():
        raise CheckpointError(f"{path}: expected an ONNX model, found no such file")
    try:
        model = onnx.load_model(path, load_external_data=False)
        if model.functions:
            model = _package("onnx.inliner").inline_local_functions(model)
    except Exception as error:  # protobuf's errors are of its own, and differ by version
        raise CheckpointError(f"{path}: is no ONNX model: {_line(error)}") from None
    if not model.graph.node or not model.graph.output:
        raise CheckpointError(f"{path}: expected an ONNX model with nodes and outputs, got none")
    return model


def _names(graph: Any) -> dict[str, str]:
    """Return what nodes compute: the names in the graph, and what they are called in the dump."""
    called: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
        for raw in filter(None, node.output):
            called[raw] = _name_in_module(raw, re.findall(r"'([^']*)'", scopes), counts)
    return called


def _name_in_module(raw: str, scopes: list[str], counts: Counter[str]) -> str:
    """Return "module/operation", numbered within the module, for the result of an operation.

    An operation of torch may be several nodes: the last has its name, the others are no results.

    >>> counts, scopes = Counter(), ["", "encoder", "encoder.self", "matmul_7"]
    >>> _name_in_module("matmul_7", scopes, counts), _name_in_module("val_3", scopes, counts)
    ('encoder.self/matmul', 'val_3')
    >>> _name_in_module("matmul_9", [*scopes[:3], "matmul_9"], counts)
    'encoder.self/matmul_1'
    """
    if len(scopes) < 2 or raw != scopes[-1]:
        return raw
    place = f"{scopes[-2]}/{re.sub(r'_[0-9]+$', '', raw)}"
    counts[place] += 1
    return place if counts[place] == 1 else f"{place}_{counts[place] - 1}"


def _mark(onnx: Any, graph: Any, names: list[str]) -> None:
    """Make values outputs; their types onnxruntime finds by itself."""
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)


def _widen(onnx: Any, graph: Any, session: Any) -> dict[str, str]:
    """Put a cast to float32 behind outputs that no NumPy array can hold.

    Returns the values' own names by those of their casts. float32 holds every such number.
    """
    narrow = [one.name for one in session.get_outputs() if one.type.startswith(_NARROW)]
    kept = [value for value in graph.output if value.name not in narrow]
    del graph.output[:]
    graph.output.extend(kept)
    casts = {f"{name}/as_float32": name for name in narrow}
    for cast, name in casts.items():
        node = onnx.helper.make_node("Cast", [name], [cast], to=onnx.TensorProto.FLOAT)
        graph.node.append(node)
        graph.output.append(onnx.ValueInfoProto(name=cast))
    return casts


# --- running --------------------------------------------------------------------------------------


def _options(runtime: Any, path: Path, optimisation: str, threads: int) -> Any:
    if optimisation not in LEVELS:
        raise ValueError(f"optimisation: expected one of {', '.join(LEVELS)}, got {optimisation!r}")
    options = runtime.SessionOptions()
    level = getattr(runtime.GraphOptimizationLevel, LEVELS[optimisation])
    options.graph_optimization_level = level
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    beside = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(beside, str(path.parent.resolve()))
    return options


def _open(runtime: Any, path: Path, model: Any, options: Any, providers: list[str]) -> Any:
    try:
        data = model.SerializeToString()
    except Exception as error:  # protobuf's own, at two gigabytes
        told = f"cannot be written with more outputs: {_line(error)}; keep its weights beside it"
        raise CheckpointError(f"{path}: {told} (external data)") from None
    try:
        return runtime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each status
        raise CheckpointError(f"{path}: onnxruntime cannot load it: {_line(error)}") from None


def _fitting(session: Any, inputs: Mapping[str, Any]) -> dict[str, numpy.ndarray]:
    """Return the inputs as the graph takes them: all of them, and no other."""
    taken = {one.name: one for one in session.get_inputs()}
    for name in inputs:
        if name not in taken:
            raise ValueError(f"the model takes no input {name!r}; it takes {', '.join(taken)}")
    missing = [name for name in taken if name not in inputs]
    if missing:
        raise ValueError(f"expected the inputs {', '.join(taken)}, got no {', '.join(missing)}")
    return {name: _as_type(one, inputs[name]) for name, one in taken.items()}


def _as_type(one: Any, value: Any) -> numpy.ndarray:
    """Return an array of the type that an input has in the graph, with the same numbers."""
    try:
        x = numpy.asarray(value)
    except ValueError:
        told = f"{one.name}: expected an array, got rows of different lengths"
        raise ValueError(told) from None
    name = _TYPES.get(one.type)
    dtype = numpy.dtype(name) if name else None
    if dtype is None or x.dtype.kind not in "fiub" or (x.dtype.kind == "f") > (dtype.kind == "f"):
        raise ValueError(f"{one.name}: expected {one.type}, got {x.dtype}")
    fixed = [n if isinstance(n, int) else -1 for n in one.shape]
    if len(fixed) != x.ndim or any(n not in (-1, m) for n, m in zip(fixed, x.shape, strict=True)):
        raise ValueError(f"{one.name}: expected shape {one.shape}, got {list(x.shape)}")
    y = x.astype(dtype)
    if x.dtype.kind != "f" and not numpy.array_equal(y, x):
        raise ValueError(f"{one.name}: expected numbers that fit into {dtype}, got {x.dtype}")
    return y


def _run(path: Path, session: Any, fed: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """Run all nodes; return those results that are tensors of numbers."""
    names = [one.name for one in session.get_outputs() if one.type in _TYPES]
    try:
        return dict(zip(names, session.run(names, fed), strict=True))
    except Exception as error:  # as above
        raise CheckpointError(f"{path}: onnxruntime cannot run it: {_line(error)}") from None


def _line(error: Exception) -> str:
    """Return the first line of a message, without onnxruntime's own prefix."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^(\[ONNXRuntimeError\] : \d+ : \w+ : )", "", first)[:300]
