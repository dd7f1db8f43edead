"""What onnxruntime computes inside exported originals, value by value, and what it cannot load."""

import json
import sys
from functools import cache

import numpy
import pytest

from refimpl import CheckpointError, MissingExtra, ops
from refimpl.adapters.onnx import LEVELS, dump
from refimpl.models.model import load
from refimpl.parity.floors import measure_errors, measure_floors
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.names import resolve
from refimpl.parity.names.recognise import recognise
from refimpl.parity.reference import run_reference
from tests.compare import assert_same

pytestmark = pytest.mark.oracle

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CASES = (
    "xlm/padding_left",
    "xlm_roberta/masked_lm",
    "xlm_roberta_xl/padding_left",
    "xmod/ln_after",
    "xlm_roberta/hidden_states",
)
FOLDED = {"position_ids", "embeddings.token_type_embeddings", "position_embeddings"}  # constants


def original(case, **config):
    """Return an original in float32, its config changed."""
    import transformers

    folder = bundled() / case
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    architecture = getattr(transformers, name)
    return architecture.from_pretrained(folder, attn_implementation="eager", **config).eval()


@cache
def exported(case, optimisation="none", dynamo=False):
    """Return what onnxruntime computes for a case."""
    from tools.parity_figures.foreign_onnx import run_onnx

    inputs = read_golden(bundled() / case).inputs()
    return run_onnx(original(case), inputs, optimisation=optimisation, dynamo=dynamo)


@cache
def reference(case):
    """Return the true values of a case, and what float32 may be off by."""
    model = load(bundled() / case, dtype="float64", kernels="plain")
    inputs = read_golden(bundled() / case).inputs()
    return run_reference(model, inputs), measure_floors(model, inputs, "float32")


def assert_rounding(actual, case):
    """Every value is the truth but for float32 rounding."""
    truth, floors = reference(case)
    assert set(actual) <= set(truth.values)
    for name, x in actual.items():
        assert x.shape == truth.values[name].shape
        units = floors.units(name, measure_errors(x, truth.values[name]))
        assert units <= floors.multiplier, (name, units)


# --- exported originals ---------------------------------------------------------------------------


@pytest.mark.parametrize("optimisation", LEVELS)
@pytest.mark.parametrize("case", CASES)
def test_the_outputs_are_the_originals(case, optimisation):
    run = exported(case, optimisation)
    assert list(run.outputs) == list(reference(case)[0].outputs)
    assert_rounding(run.outputs, case)


@pytest.mark.parametrize("case", CASES)
def test_every_tap_is_there_under_its_name(case):
    run = exported(case)
    assert_taps(run, case)
    assert run.about["graph_names"] == {}


@pytest.mark.parametrize("case", ["xlm/padding_left", "xlm_roberta/padding_left"])
def test_the_newer_exporter_keeps_the_modules_beside_the_values(case):
    run = exported(case, dynamo=True)
    assert_taps(run, case)
    name = "attentions.0.q_lin" if "xlm/" in case else "encoder.layer.0.attention.self.query"
    assert f"{name}/linear" in run.taps
    assert run.about["graph_names"][f"{name}/linear"] == "linear"


def assert_taps(run, case):
    truth = reference(case)[0].values
    shapes = {name: x.shape for name, x in truth.items()}
    naming = resolve({name: x.shape for name, x in run.values.items()}, shapes)
    named = {name: given.take(run.values[given.name]) for name, given in naming.named.items()}
    assert_rounding(named, case)
    for name in set(truth) - set(named) - FOLDED:  # the graph gives it out under another name
        assert any(numpy.array_equal(truth[name], truth[other]) for other in named), name


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("activation", ["gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh"])
def test_an_activation_in_steps_is_its_last_one(activation, opset):
    from tools.parity_figures.foreign_onnx import run_onnx

    model = original("xlm_roberta/masked_lm", hidden_act=activation)
    run = run_onnx(model, read_golden(bundled() / "xlm_roberta/masked_lm").inputs(), opset=opset)
    shapes = {name: x.shape for name, x in reference("xlm_roberta/masked_lm")[0].values.items()}
    named = resolve({name: x.shape for name, x in run.values.items()}, shapes, "onnx").named
    tap = "roberta.encoder.layer.0.intermediate"
    right = ops.ACTIVATIONS[activation](run.values[named[f"{tap}.dense"].name].astype("float64"))
    module = "/roberta/encoder/layer.0/intermediate/intermediate_act_fn/"
    steps = {n: abs(x - right).max() for n, x in run.values.items() if n.startswith(module)}
    assert named[tap].name == min(steps, key=steps.get)


@pytest.mark.parametrize("case", CASES)
def test_every_tap_is_recognised_without_a_name(case):
    run, (truth, floors) = exported(case), reference(case)

    def limit(name):
        return floors.limit(name).rms / numpy.sqrt(numpy.mean(truth.values[name] ** 2.0))

    values = {f"t{i}": x for i, x in enumerate(run.values.values())}
    found = recognise(values, truth.values, limit)
    for name, one in found.items():
        assert_rounding(one.take(values[name]), case)
    every = {name for one in found.values() for name in (*one.names, *one.same)}
    assert set(truth.values) - every <= {*FOLDED, "loss"}


def test_the_inputs_are_kept_as_the_graph_took_them():
    run = exported("xlm_roberta/masked_lm")
    ids = read_golden(bundled() / "xlm_roberta/masked_lm").part("input")["input_ids"]
    assert_same(run.inputs["input_ids"], ids)
    assert run.about["made_by"].startswith("onnxruntime ")


# --- graphs written by hand -----------------------------------------------------------------------


def graph(*nodes, inputs=(("x", "FLOAT", [2, "n"]),), outputs=("y",), **more):
    """Return a model of these nodes: (operator, inputs, outputs, attributes)."""
    made = [onnx.helper.make_node(kind, of, to, **options) for kind, of, to, options in nodes]
    takes = [
        onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)
        for name, kind, shape in inputs
    ]
    gives = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs]
    body = onnx.helper.make_graph(made, "by hand", takes, gives, more.pop("initializer", []))
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("ours", 1)]
    return onnx.helper.make_model(body, opset_imports=opsets, ir_version=10, **more)


TWICE = ("Add", ["x", "x"], ["twice"], {})
X = numpy.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], numpy.float32)


@pytest.fixture
def saved(tmp_path):
    """A function that writes a model of these nodes and returns its path."""

    def save(*nodes, **more):
        path = tmp_path / "model.onnx"
        onnx.save_model(graph(*nodes, **more), path)
        return path

    return save


def test_every_result_of_a_node_is_a_tap(saved):
    row = onnx.numpy_helper.from_array(X[0], "row")
    normed = ("LayerNormalization", ["twice", "row"], ["normed", "", "inverse"], {})
    run = dump(saved(TWICE, normed, ("Neg", ["inverse"], ["y"], {}), initializer=[row]), {"x": X})
    assert {name: x.shape for name, x in run.taps.items()} == {
        "twice": (2, 3),
        "normed": (2, 3),
        "inverse": (2, 1),
    }
    assert_same(run.taps["twice"], 2 * X)
    assert_same(run.outputs["y"], -run.taps["inverse"])


def test_lists_and_other_integers_become_what_the_graph_takes(saved):
    path = saved(("Cast", ["i"], ["y"], {"to": 1}), inputs=(("i", "INT64", ["n"]),))
    assert dump(path, {"i": [1, 2]}).outputs["y"].tolist() == [1.0, 2.0]
    run = dump(path, {"i": numpy.asarray([3, 4], numpy.uint8)})
    assert_same(run.inputs["i"], numpy.asarray([3, 4], numpy.int64))


def test_bfloat16_comes_as_float32_with_the_same_numbers(saved):
    down, up = ("Cast", ["x"], ["narrow"], {"to": 16}), ("Cast", ["narrow"], ["y"], {"to": 1})
    run = dump(saved(down, up), {"x": X / 3})
    assert run.taps["narrow"].dtype == numpy.float32
    assert_same(run.taps["narrow"], run.outputs["y"])
    assert list(run.taps) == ["narrow"]


def test_float16_stays_float16(saved):
    down, up = ("Cast", ["x"], ["narrow"], {"to": 10}), ("Cast", ["narrow"], ["y"], {"to": 1})
    assert_same(dump(saved(down, up), {"x": X / 3}).taps["narrow"], (X / 3).astype(numpy.float16))


def test_functions_of_the_model_are_opened(saved):
    inside = [onnx.helper.make_node("Add", ["a", "a"], ["inner"])]
    inside.append(onnx.helper.make_node("Neg", ["inner"], ["b"]))
    opset = [onnx.helper.make_opsetid("", 20)]
    made = onnx.helper.make_function("ours", "Both", ["a"], ["b"], inside, opset)
    path = saved(("Both", ["x"], ["y"], {"domain": "ours"}), functions=[made])
    run = dump(path, {"x": X})
    assert [x.tolist() for x in run.taps.values()] == [(2 * X).tolist()]
    assert_same(run.outputs["y"], -2 * X)


def test_results_that_are_no_tensors_are_left_out(saved):
    rows = ("SplitToSequence", ["x"], ["rows"], {"axis": 0})
    run = dump(saved(rows, ("ConcatFromSequence", ["rows"], ["y"], {"axis": 0})), {"x": X})
    assert list(run.taps) == []
    assert_same(run.outputs["y"], X)


def test_constants_are_no_taps(saved):
    one = onnx.numpy_helper.from_array(numpy.asarray(1.0, numpy.float32))
    run = dump(
        saved(("Constant", [], ["one"], {"value": one}), ("Add", ["x", "one"], ["y"], {})), {"x": X}
    )
    assert list(run.taps) == []
    assert_same(run.outputs["y"], X + 1)


def test_weights_beside_the_file_are_read_and_the_files_stay_as_they_are(tmp_path):
    weight = onnx.numpy_helper.from_array(X.T.copy(), "w")
    model = graph(
        ("MatMul", ["x", "w"], ["xw"], {}), ("Neg", ["xw"], ["y"], {}), initializer=[weight]
    )
    path = tmp_path / "model.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(before) == {"model.onnx", "weights.bin"}
    assert_same(dump(path, {"x": X}).taps["xw"], X @ X.T)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CheckpointError, match=r"model\.onnx: onnxruntime cannot load it: "):
        dump(path, {"x": X})


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "expected the inputs x, got no x"),
        ({"x": X, "mask": X}, "the model takes no input 'mask'; it takes x"),
        ({"x": X[0]}, r"x: expected shape \[2, 'n'\], got \[3\]"),
        ({"x": X[:1]}, r"x: expected shape \[2, 'n'\], got \[1, 3\]"),
        ({"x": [["a"], ["b"]]}, r"x: expected tensor\(float\), got <U1"),
        ({"x": X.astype(complex)}, r"x: expected tensor\(float\), got complex128"),
        ({"x": [[1.0], [2.0, 3.0]]}, "x: expected an array, got rows of different lengths"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(saved, inputs, message):
    with pytest.raises(ValueError, match=message):
        dump(saved(TWICE, ("Neg", ["twice"], ["y"], {})), inputs)


@pytest.mark.parametrize("ids", [[1.5], [2**40]])
def test_numbers_that_are_no_such_integers_are_refused(saved, ids):
    path = saved(("Cast", ["i"], ["y"], {"to": 1}), inputs=(("i", "INT32", ["n"]),))
    with pytest.raises(ValueError, match="i: expected"):
        dump(path, {"i": ids})


def test_options_that_are_not_known_are_refused(saved):
    path = saved(TWICE, ("Neg", ["twice"], ["y"], {}))
    with pytest.raises(ValueError, match=r"providers: expected some of .*CPU.*, got 'TPU'"):
        dump(path, {"x": X}, providers=["TPU"])
    with pytest.raises(ValueError, match=r"optimisation: expected one of none, .* got 'fast'"):
        dump(path, {"x": X}, optimisation="fast")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    for content in (b"", b"not a model", b"\x08\x0a\x12\x04\xff\xff"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.onnx: "):
            dump(path, {"x": X})
    with pytest.raises(CheckpointError, match="found no such file"):
        dump(tmp_path / "none.onnx", {"x": X})
    with pytest.raises(CheckpointError, match="found no such file"):
        dump(tmp_path, {"x": X})


def test_a_model_that_does_not_load_or_run_is_refused(saved):
    with pytest.raises(CheckpointError, match="onnxruntime cannot load it: "):
        dump(saved(("NoSuchOperator", ["x"], ["y"], {})), {"x": X})
    path = saved(("MatMul", ["x", "x"], ["y"], {}), inputs=(("x", "FLOAT", ["m", "n"]),))
    with pytest.raises(CheckpointError, match="onnxruntime cannot run it: "):
        dump(path, {"x": X})


def test_without_the_packages_the_extra_is_named(monkeypatch, tmp_path):
    for package in ("onnx", "onnxruntime"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtra, match=rf"{package} is not installed.*refimpl\[onnx\]"):
                dump(tmp_path / "model.onnx", {})
