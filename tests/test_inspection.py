"""Looking into checkpoints: what is told of sound ones, and of broken ones in one line each."""

import doctest
import json
import math
import os
import struct
import subprocess
import sys
import tracemalloc

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file

from refimpl import inspection
from refimpl.checkpoints.registry import read_registry
from refimpl.errors import CheckpointError
from refimpl.inspection import TOKENIZER_FILES, inspect_checkpoint, outline, usual_values
from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES, load
from refimpl.parity.goldens import bundled, find_goldens

GOLDENS = bundled()
REGISTRY = read_registry()
KNOWN = [c for c in REGISTRY.checkpoints if c.tensors is not None]


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(inspection)
    assert (failed, tried) == (0, 1)


# --- a sound one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", find_goldens(), ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_golden_is_found_to_be_whole(folder):
    found = inspect_checkpoint(folder, values=False)
    assert (found.problems, found.missing, found.unexpected, found.misshapen) == ((), (), (), ())
    assert found.family == folder.parent.name
    assert found.architecture == json.loads((folder / "golden.json").read_text())["architecture"]
    stored = load_file(folder / "model.safetensors")
    assert {t.name: t.shape for t in found.tensors} == {n: x.shape for n, x in stored.items()}
    assert sum(tensor.bytes for tensor in found.tensors) == sum(x.nbytes for x in stored.values())


def test_parameters_are_counted_once_where_tied():
    found = inspect_checkpoint(GOLDENS / "xlm_roberta" / "masked_lm", values=False)
    stored = load_file(found.folder / "model.safetensors")
    assert found.parameters == sum(x.size for x in stored.values())
    words = "roberta.embeddings.word_embeddings.weight"
    assert found.ties == {"lm_head.decoder.weight": words}


def test_sizes_and_switches(checkpoint):
    changes = {"layer_norm_eps": 0.5, "type_vocab_size": 1, "max_position_embeddings": 514}
    found = inspect_checkpoint(checkpoint("model", config=changes), values=False)
    assert found.switches == {"layer_norm_eps": (0.5, 1e-5)}
    assert found.sizes["hidden_size"] == 12
    assert "layer_norm_eps" not in found.sizes


def test_what_is_usual_is_what_published_configs_say():
    def usual(name, key):
        kind = ARCHITECTURES[name].config
        return usual_values(kind, kind.__module__.rpartition(".")[2], REGISTRY)[key]

    assert usual("XLMRobertaModel", "layer_norm_eps") == 1e-5  # the class default is 1e-12
    assert usual("XmodModel", "pre_norm") is False
    assert usual("XLMModel", "use_lang_emb") is True
    assert usual("XLMRobertaModel", "is_decoder") is False  # in no published file


@pytest.mark.parametrize(
    ("name", "is_tokenizer"), [*((f, True) for f in TOKENIZER_FILES), ("x.model", False)]
)
def test_tokenizer_files(checkpoint, name, is_tokenizer):
    folder = checkpoint("model")
    (folder / name).touch()
    found = inspect_checkpoint(folder, values=False).tokenizer_files
    assert found == ((name,) if is_tokenizer else ())


# --- values ---------------------------------------------------------------------------------------


def values_of(folder, write, x):
    """Write an array to a checkpoint of its own and return what is told of it."""
    write(folder / "model.safetensors", {"x": x})
    (tensor,) = inspect_checkpoint(folder).tensors
    return tensor


KINDS = [numpy.float64, numpy.float32, numpy.float16, numpy.int64, numpy.int8, numpy.bool_]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_values_are_those_of_numpy(tmp_path_factory, write, kind, data):
    shape = data.draw(arrays.array_shapes(min_dims=0, min_side=0, max_side=7))
    x = data.draw(arrays.arrays(kind, shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "PIECE", 16)  # so that there are many
        told = values_of(tmp_path_factory.mktemp("x"), write, x)
    wide = x.astype(numpy.float64)
    finite = wide[numpy.isfinite(wide)]
    assert (told.name, told.shape, told.bytes) == ("x", x.shape, x.nbytes)
    assert (told.nans, told.infinite) == (numpy.isnan(wide).sum(), numpy.isinf(wide).sum())
    if not finite.size:
        assert (told.smallest, told.largest, told.mean) == (None, None, None)
        return
    assert (told.smallest, told.largest) == (finite.min(), finite.max())
    exact = math.fsum(v / finite.size for v in finite.tolist())
    # Two roundings for each element, each of half an ulp of the largest.
    assert abs(told.mean - exact) <= 4 * finite.size * numpy.spacing(abs(finite).max() / 2)


def test_bfloat16_is_told_in_its_own_name_and_numbers(tmp_path):
    bits = numpy.array([0x3F80, 0xC000, 0x7FC0, 0xFF80], "<u2")  # 1, -2, NaN, -infinity
    header = json.dumps({"x": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}})
    raw = struct.pack("<Q", len(header)) + header.encode() + bits.tobytes()
    (tmp_path / "model.safetensors").write_bytes(raw)
    (told,) = inspect_checkpoint(tmp_path).tensors
    assert told[1:] == ((2, 2), "BF16", 8, -2.0, 1.0, -0.5, 1, 1, "")


def test_numbers_at_the_end_of_the_range_have_a_mean(tmp_path, write):
    largest = numpy.finfo(numpy.float64).max
    told = values_of(tmp_path, write, numpy.array([largest, largest, -largest, largest]))
    assert (told.smallest, told.largest, told.infinite) == (-largest, largest, 0)
    assert told.mean == largest / 2


def test_values_that_are_no_numbers_are_problems(tmp_path, write):
    write(tmp_path / "model.safetensors", {"x": numpy.array([1, numpy.nan, numpy.inf, -numpy.inf])})
    found = inspect_checkpoint(tmp_path)
    assert found.problems[-2:] == ("x: 1 values are NaN", "x: 2 values are infinite")
    assert found.exit_code == 1


def write_sparse(folder, shapes):
    """Write zeros of any size: a header, and a file with a hole behind it."""
    header, start = {}, 0
    for name, shape in shapes.items():
        end = start + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + start)


def test_a_tensor_of_any_size_is_looked_through_in_little_memory(tmp_path):
    write_sparse(tmp_path, {"x": (4096, 16_384)})
    tracemalloc.start()
    try:
        (told,) = inspect_checkpoint(tmp_path).tensors
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (told.bytes, told.largest) == (2**28, 0.0)
    assert peak < told.bytes / 8


# --- names ----------------------------------------------------------------------------------------


def without(*names):
    return lambda tensors: {n: x for n, x in tensors.items() if n not in names}


def renamed(old, new):
    return lambda tensors: {new if n == old else n: x for n, x in tensors.items()}


@pytest.mark.parametrize(
    ("case", "config", "tensors"),
    [
        ("model", {}, without("pooler.dense.bias")),
        ("model", {}, without("pooler.dense.bias", "pooler.dense.weight")),
        ("model", {"vocab_size": 30}, None),
        ("model", {"num_hidden_layers": 1}, None),
        ("model", {"num_hidden_layers": 3}, None),
        ("model", {}, renamed("embeddings.LayerNorm.bias", "embeddings.LayerNorm.beta")),
        ("model", {}, renamed("embeddings.LayerNorm.bias", "embeddings.Norm.bias")),
        ("masked_lm", {"tie_word_embeddings": False}, None),
        ("masked_lm", {}, lambda t: {**t, "roberta.pooler.dense.bias": numpy.zeros(12)}),
        ("masked_lm", {}, lambda t: {**t, "roberta.embeddings.position_ids": numpy.arange(16)}),
        ("masked_lm", {}, without("roberta.embeddings.word_embeddings.weight")),
        ("masked_lm", {"architectures": ["XLMRobertaModel"]}, None),
        ("model", {"architectures": ["XLMRobertaForMaskedLM"]}, None),
        ("xlm/sinusoidal", {}, without("position_embeddings.weight")),
        ("xlm/lm", {"asm": True, "asm_cutoffs": [9], "asm_div_value": 2.0}, None),
        ("xmod/masked_lm", {"languages": ["en_XX"]}, None),
    ],
)
def test_what_is_listed_is_what_loading_complains_of(checkpoint, case, config, tensors):
    folder = checkpoint(case, config=config, tensors=tensors)
    found = inspect_checkpoint(folder, values=False)
    assert (found.problems, found.exit_code) == ((), 0)
    lists = {"missing": found.missing, "unexpected": found.unexpected, "misshapen": found.misshapen}
    try:
        load(folder)
        said = ""
    except CheckpointError as error:
        said = str(error)
    for kind, names in lists.items():
        assert (f"{kind} ({len(names)}): " in said) == bool(names)
        assert all(name in said for name in names)


# --- published checkpoints ------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path):
    """A function that writes an empty shell of a published checkpoint: config, names and shapes."""

    def write(name, architecture=None, **changes):
        facts = REGISTRY.find(name)
        values = {**facts.config, **facts.inferred, **changes}
        name = architecture or facts.architecture
        entry = ARCHITECTURES[name]
        config = parse_config(entry.config, values, tmp_path)
        tied = entry.rules(config).ties
        values["architectures"] = [name]
        (tmp_path / "config.json").write_text(json.dumps(values))
        write_sparse(tmp_path, {n: s for n, s in entry.parameters(config).items() if n not in tied})
        return inspect_checkpoint(tmp_path, values=False)

    return write


@pytest.mark.parametrize("facts", KNOWN, ids=lambda c: c.id)
def test_a_published_checkpoint_is_known_again(published, facts):
    found = published(facts.id)
    assert (found.problems, found.missing, found.misshapen) == ((), (), ())
    assert found.parameters == facts.parameters
    assert len(found.tensors) == facts.tensors
    alike = [match.id for match in found.matches if match.whole]
    assert facts.id in alike
    config = {**facts.config, **facts.inferred}
    for other in map(REGISTRY.find, alike):  # those that no shape tells apart
        assert {**other.config, **other.inferred}.items() >= {
            key: config[key] for key in ("vocab_size", "layer_norm_eps")
        }.items()


def test_what_is_said_of_one_that_differs(published):
    (match,) = published("xlm-roberta-base", layer_norm_eps=1e-12).matches
    assert match.part == "checkpoint"
    assert match.differing == {"layer_norm_eps": (1e-12, 1e-5)}
    assert not match.whole


def test_labels_and_flags_are_no_difference(published):
    (match,) = published("xlm-roberta-base", num_labels=7, use_cache=False).matches
    assert match.whole


def test_an_encoder_is_known_again_under_another_head(published):
    found = published("xlm-roberta-base", "XLMRobertaForTokenClassification")
    (match,) = found.matches
    assert (match.id, match.part) == ("FacebookAI/xlm-roberta-base", "encoder")
    assert not match.whole


def test_an_adaptive_softmax_is_another_head_on_the_same_encoder(published):
    cut = {"asm": True, "asm_cutoffs": [1000], "asm_div_value": 4.0}
    matches = published("FacebookAI/xlm-mlm-enfr-1024", **cut).matches
    assert [match.part for match in matches] == ["encoder", "encoder"]


def test_one_more_layer_is_no_published_checkpoint(published):
    assert published("xlm-roberta-base", num_hidden_layers=13).matches == ()


def test_values_that_were_only_inferred_do_not_count(published):
    # Of facebook/xlm-roberta-xl the epsilon was not seen; of xlm-roberta-base it was.
    (match,) = published("facebook/xlm-roberta-xl", layer_norm_eps=1e-12).matches
    assert match.whole


# --- broken ones ----------------------------------------------------------------------------------


def test_a_folder_without_anything(tmp_path):
    found = inspect_checkpoint(tmp_path)
    assert found.tensors == ()
    assert [problem.partition(": ")[2][:20] for problem in found.problems] == [
        "no such file",
        "expected one of mode",
    ]
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "config.json: expected a JSON file"),
        ("[]", "config.json: expected a JSON object, got list"),
        ("{}", "architectures: expected one class of XLMModel"),
        ('{"architectures": ["BertModel"]}', "architectures: expected one class of XLMModel"),
        ('{"architectures": "XLMModel"}', "architectures: expected one class of XLMModel"),
        ('{"architectures": [["XLMModel"]]}', "architectures: expected one class of XLMModel"),
        (
            '{"architectures": ["XLMRobertaModel"], "hidden_size": "12"}',
            "hidden_size: expected int, got '12'",
        ),
        (
            '{"architectures": ["XLMRobertaModel"], "hidden_act": "swish2"}',
            "hidden_act: expected one of",
        ),
    ],
)
def test_a_broken_config_leaves_the_tensors(checkpoint, content, said):
    folder = checkpoint("model")
    (folder / "config.json").write_text(content)
    found = inspect_checkpoint(folder)
    (problem,) = found.problems
    assert said in problem
    assert "\n" not in problem
    assert len(found.tensors) == 39
    assert all(tensor.nans == 0 for tensor in found.tensors)


def test_broken_weights_leave_the_config(checkpoint):
    folder = checkpoint("model")
    (folder / "model.safetensors").write_bytes(b"\0" * 8)
    found = inspect_checkpoint(folder)
    (problem,) = found.problems
    assert "model.safetensors: expected a safetensors file" in problem
    assert (found.architecture, found.sizes["hidden_size"]) == ("XLMRobertaModel", 12)
    assert (found.missing, found.parameters) == ((), None)  # nothing is known of names


def test_a_tensor_that_numpy_cannot_hold_leaves_the_others(tmp_path):
    write_sparse(tmp_path, {"deep": (1,) * 70, "flat": (3,)})
    found = inspect_checkpoint(tmp_path)
    deep, flat = found.tensors
    assert (deep.nans, flat.nans) == (None, 0)
    assert "deep: shape" in found.problems[-1]
    assert outline(tmp_path, REGISTRY).tensors[0].problem == ""


def test_no_such_folder():
    with pytest.raises(CheckpointError, match=r"^nowhere: no such folder$"):
        inspect_checkpoint("nowhere")


# --- the command ----------------------------------------------------------------------------------


def run(*arguments, **options):
    command = [sys.executable, "-m", "refimpl", "inspect", *map(str, arguments)]
    return subprocess.run(command, encoding="utf-8", timeout=120, **options)


def test_a_pipe_gets_every_name_in_full(checkpoint):
    folder = checkpoint("model", tensors=renamed("pooler.dense.bias", "x" * 300 + "\n\x1b[2J"))
    done = run(folder, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for tensor in inspect_checkpoint(folder).tensors:
        if tensor.name.isprintable():
            assert any(line.split()[0] == tensor.name for line in lines)
    shown = "'" + "x" * 300 + "\\n\\x1b[2J'"
    assert f"unexpected  {shown}" in lines
    assert "missing     pooler.dense.bias" in lines
    assert sum(line.startswith(shown) for line in lines) == 1


def test_without_values(checkpoint):
    done = run(checkpoint("model"), "--no-values", capture_output=True)
    assert "mean" not in done.stdout
    assert "embeddings.LayerNorm.bias" in done.stdout


def test_in_json(checkpoint):
    folder = checkpoint("model", tensors=lambda t: {**t, "more": numpy.array([numpy.inf, 1.5])})
    done = run(folder, "--json", capture_output=True)
    told = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (done.returncode, told["exit_code"]) == (1, 1)
    assert told["problems"] == ["more: 1 values are infinite"]
    (more,) = [tensor for tensor in told["tensors"] if tensor["name"] == "more"]
    assert (more["shape"], more["largest"], more["infinite"]) == ([2], 1.5, 1)
    assert told["matches"] == []


def test_exit_codes(tmp_path):
    assert run(GOLDENS / "xlm" / "model", capture_output=True).returncode == 0
    broken = run(tmp_path, capture_output=True)
    assert broken.returncode == 1
    assert broken.stdout.count("\nproblem ") == 2
    nowhere = run("nowhere", capture_output=True)
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
    assert nowhere.stderr == "refimpl: nowhere: no such folder\n"


def test_what_is_published_is_named(published, tmp_path):
    published("facebook/xmod-base-30-125k")
    done = run(tmp_path, "--no-values", capture_output=True)
    for name in ("facebook/xmod-base-30-125k", "facebook/xmod-base-30-195k"):
        assert f"match       config and tensor shapes are those of {name}\n" in done.stdout
    published("xlm-roberta-base", layer_norm_eps=1e-12)
    done = run(tmp_path, "--no-values", capture_output=True)
    said = "tensor shapes are those of FacebookAI/xlm-roberta-base; layer_norm_eps is 1e-12, there"
    assert f"match       {said} 1e-05\n" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")
def test_a_terminal_gets_a_table_and_progress():
    import pty

    outer, inner = pty.openpty()
    settings = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    done = run(GOLDENS / "xlm_roberta" / "model", stdout=inner, stderr=inner, env=settings)
    os.close(inner)
    said = b""
    while True:
        try:
            said += os.read(outer, 2**16)
        except OSError:  # the end
            break
    os.close(outer)
    assert done.returncode == 0
    shown = said.decode()
    assert "reading" in shown
    assert "┃" in shown
    assert "embeddings.LayerNorm.weight" in shown
    assert "…" not in shown  # long names are folded, not cut
