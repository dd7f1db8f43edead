"""``refimpl trace`` and ``refimpl export``: what they write and print, and what goes wrong."""

import importlib
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest
import typer
from typer.testing import CliRunner

from refimpl.models.model import ARCHITECTURES, load
from refimpl.parity.comparison import compare
from refimpl.parity.dumps import FORMATS, Dump, list_dump, read_dump, write_dump
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.reference import run_reference
from refimpl.tokenizers import load_tokenizer
from tests.parity.dumps.drawn import assert_equal

module = importlib.import_module("refimpl.cli.trace")  # a function has that name too
app = typer.Typer(pretty_exceptions_enable=False)
app.command("trace")(module.trace)
app.command("export")(module.export)

LEFT = bundled() / "xlm_roberta" / "padding_left"
TEXT = bundled() / "xlm_roberta" / "from_text"
MIXED = bundled() / "xmod" / "mixed_languages"
XLM = bundled() / "xlm" / "model"


def run(*arguments):
    """Run a command in this process, which saves a second each time."""
    done = CliRunner().invoke(app, [str(x) for x in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return SimpleNamespace(stdout=done.stdout, stderr=done.stderr, code=done.exit_code)


def traced(tmp_path, *arguments):
    """What a trace writes to a file."""
    done = run("trace", *arguments, "-o", tmp_path / "x.safetensors")
    assert (done.code, done.stderr) == (0, "")
    return read_dump(tmp_path / "x.safetensors")


# --- what is traced -------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["xlm_roberta/padding_left", "xmod/hidden_states", "xlm/causal"])
def test_a_golden_brings_its_inputs_and_flags(case, tmp_path):
    golden = read_golden(bundled() / case)
    dump = traced(tmp_path, golden.folder)
    expected = run_reference(load(golden.folder, dtype="float64", kernels="plain"), golden.inputs())
    about = {**expected.about, "checkpoint": str(golden.folder.resolve())}
    assert_equal(dump, replace(expected, about=about))
    for kind, part in (("input", dump.inputs), ("tap", dump.taps), ("output", dump.outputs)):
        assert list(part) == list(golden.description[f"{kind}s"])
    assert dump.about["flags"] == golden.description["flags"]


def test_the_expected_position_ids_are_among_the_taps(tmp_path):
    positions = traced(tmp_path, LEFT).taps["embeddings.position_ids"]
    assert positions.tolist() == [[2, 3, 4, 5, 6], [1, 1, 2, 3, 4]]


def test_texts_are_one_padded_batch(tmp_path):
    texts = ["The river.", "Who?"]
    dump = traced(tmp_path, TEXT, "--text", texts[0], "--text", texts[1])
    encoded = load_tokenizer(TEXT)(texts, padding=True)
    assert dump.inputs["input_ids"].tolist() == encoded["input_ids"]
    assert dump.inputs["attention_mask"].tolist() == encoded["attention_mask"]
    assert dump.inputs["attention_mask"].min() == 0
    one = traced(tmp_path, TEXT, "--text", texts[0])
    assert one.inputs["input_ids"].shape[0] == 1


def test_rows_of_ids(tmp_path):
    dump = traced(tmp_path, LEFT, "--ids", "0,5,6,2", "--ids", "0 2")
    assert dump.inputs["input_ids"].tolist() == [[0, 5, 6, 2], [0, 2, 1, 1]]
    assert dump.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize("form", ["npz", "onnx", "polygraphy", "raw"])
def test_inputs_of_a_dump_of_any_format(form, tmp_path):
    assert run("export", LEFT, "-o", tmp_path / "inputs", "--to", form).code == 0
    dump = traced(tmp_path, LEFT, "--inputs", tmp_path / "inputs")
    assert_equal(dump, traced(tmp_path, LEFT))


def test_foreign_inputs(tmp_path):
    numpy.savez(tmp_path / "mine.npz", input_ids=numpy.asarray([[0, 5, 2]]), other=numpy.ones(2))
    dump = traced(tmp_path, LEFT, "--inputs", tmp_path / "mine.npz")
    assert {name: x.tolist() for name, x in dump.inputs.items()} == {"input_ids": [[0, 5, 2]]}


def test_the_language_of_xmod(tmp_path):
    languages = load(MIXED).config.languages
    ids = ("--ids", "0,5,2", "--ids", "0,2")
    dump = traced(tmp_path, MIXED, *ids, "--lang", languages[1], "--lang", languages[0])
    assert dump.inputs["lang_ids"].tolist() == [1, 0]
    dump = traced(tmp_path, MIXED, *ids, "--lang", languages[1])
    assert dump.inputs["lang_ids"].tolist() == [1, 1]


def test_the_language_of_xlm(tmp_path):
    dump = traced(tmp_path, XLM, "--ids", "0,5,1", "--ids", "0", "--lang", "3")
    assert dump.inputs["langs"].tolist() == [[3, 3, 3], [3, 3, 3]]
    assert dump.inputs["input_ids"].tolist() == [[0, 5, 1], [0, 2, 2]]


def test_options_of_the_model(tmp_path):
    dump = traced(
        tmp_path, TEXT, "--ids", "0,5,2", "--dtype", "float32", "--architecture",
        "XLMRobertaModel", "--kernels", "fused", "--backend", "strict",
    )  # fmt: skip
    assert (dump.about["architecture"], dump.about["dtype"]) == ("XLMRobertaModel", "float32")
    assert dump.outputs["last_hidden_state"].dtype == "float32"
    assert not any(name.startswith("lm_head") for name in dump.taps)


# --- what is printed and written ------------------------------------------------------------------


def test_without_an_output_the_list_is_printed(tmp_path):
    done = run("trace", LEFT)
    assert done.code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "input  input_ids  I64 (2, 5)"
    assert "tap    embeddings.position_ids  I64 (2, 5)" in lines
    assert lines[-1] == "output pooler_output  F64 (2, 12)"
    assert len(lines) == len(list_dump(read_dump(LEFT))["tensors"])


def test_json_is_the_list(tmp_path):
    done = run("trace", LEFT, "--json", "-o", tmp_path / "x.safetensors")
    assert json.loads(done.stdout) == json.loads((tmp_path / "x.json").read_text())


@pytest.mark.parametrize("form", FORMATS)
def test_every_format(form, tmp_path):
    done = run("trace", LEFT, "--export", form, "-o", tmp_path / "mine")
    assert (done.code, done.stdout) == (0, f"{tmp_path / 'mine'}: 2 inputs, 31 taps, 2 outputs\n")
    assert_equal(read_dump(tmp_path / "mine"), traced(tmp_path, LEFT))


@pytest.mark.parametrize("form", FORMATS)
def test_export_of_a_golden_is_the_goldens_own_numbers(form, tmp_path):
    assert run("export", LEFT, "-o", tmp_path / "mine", "--to", form).code == 0
    assert_equal(read_dump(tmp_path / "mine"), read_dump(LEFT))


# --- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([LEFT, "--ids", "0,x"], r"ids[0]: expected numbers such as 0,5,6,2, got '0,x'"),
        ([LEFT, "--ids", ""], "ids[0]: expected numbers"),
        ([LEFT, "--ids", "9" * 5000], "ids[0]: expected numbers"),
        ([LEFT, "--ids", "0,99999"], "input_ids: "),
        ([LEFT, "--ids", "0,2", "--inputs", LEFT], "one of --text, --ids and --inputs, got --ids"),
        ([LEFT, "--lang", "sw"], "lang: expected --text or --ids beside it"),
        ([LEFT, "--ids", "0,2", "--lang", "sw"], "lang: XLMRobertaModel is not told a language"),
        ([MIXED, "--ids", "0,2", "--lang", "xx"], "lang: expected one of "),
        ([XLM, "--ids", "0,2", "--lang", "xx"], "lang: expected one of the numbers, got 'xx'"),
        ([XLM, "--ids", "0,2", "--lang", "1", "--lang", "2"], "lang: expected one language, or 1"),
        ([LEFT, "--text", "Hi"], "padding_left"),
        ([LEFT, "--inputs", "missing.npz"], "missing.npz: no such file"),
        ([LEFT, "--export", "hdf5"], "format: expected one of safetensors, npz"),
        ([LEFT, "--dtype", "int8"], "dtype: expected one of"),
        ([LEFT, "--architecture", "Bert"], "architecture: expected one of"),
        ([LEFT, "--backend", "abacus"], "backend: expected"),
        (["missing"], "missing: no such folder"),
    ],
)  # fmt: skip
def test_bad_options(arguments, said, tmp_path):
    done = run("trace", *arguments, "-o", tmp_path / "x.safetensors")
    assert (done.code, done.stdout) == (2, "")
    assert re.fullmatch(r"refimpl: [^\n]*\n", done.stderr)
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_no_golden_needs_inputs(tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((LEFT / name).read_bytes())
    done = run("trace", tmp_path)
    assert done.stderr == "refimpl: expected one of --text, --ids and --inputs\n"


def test_a_dump_without_inputs(tmp_path):
    write_dump(tmp_path / "x.safetensors", Dump({"x": numpy.ones(2)}))
    done = run("trace", LEFT, "--inputs", tmp_path / "x.safetensors")
    assert done.code == 2
    assert "holds no inputs: they are called input.NAME, or input_ids" in done.stderr


def test_a_place_that_cannot_be_written_is_known_before_anything_is_computed(tmp_path):
    done = run("trace", LEFT, "-o", tmp_path / "missing" / "x.safetensors")
    assert (done.code, done.stderr) == (
        2,
        f"refimpl: output: there is no folder {tmp_path}/missing\n",
    )
    done = run("trace", LEFT, "-o", tmp_path)
    assert done.code == 2
    assert list(tmp_path.iterdir()) == []


def test_every_class_that_reads_ids_can_be_traced(tmp_path):
    """One case of each class, its own inputs."""
    seen = set()
    for folder in sorted(bundled().glob("*/*/golden.json")):
        architecture = json.loads(folder.read_text())["architecture"]
        if architecture not in seen:
            seen.add(architecture)
            assert traced(tmp_path, folder.parent).about["architecture"] == architecture
    assert seen == set(ARCHITECTURES)


def test_a_dump_in_float64_can_be_the_reference(tmp_path):
    """It says of which checkpoint it is, and so honest runs can be measured."""
    write_dump(tmp_path / "right.safetensors", traced(tmp_path, LEFT))
    port = traced(tmp_path, LEFT, "--dtype", "float32")
    assert compare(tmp_path / "right.safetensors", port).held
