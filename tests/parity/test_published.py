"""Published numbers, recomputed: on stand-ins made of the goldens, and the verdicts on them.

No published weights are at hand. A stand-in is the checkpoint of a golden with a registry of its
own, whose numbers are what the original computed; so every way from a registry to a verdict is
walked, but for the size.
"""

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from refimpl.checkpoints.registry import Number, read_registry
from refimpl.errors import CheckpointError
from refimpl.models.model import load
from refimpl.parity import published
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.published import verify_checkpoint
from refimpl.parity.recompute import (
    NotRecomputed,
    Subject,
    join_words,
    judge,
    recompute,
    take,
)
from refimpl.tokenizers import load_tokenizer
from tests.parity.stand_in import ID, StandIn, number, statuses, within

GOLDENS = bundled()
FIRST, LAST = "roberta.embeddings.LayerNorm", "roberta.encoder.layer.0.output.LayerNorm"


# --- made of goldens ------------------------------------------------------------------------------


def of_golden(folder, case, dtype="float64"):
    """A copy of a golden's checkpoint without numbers, and the golden."""
    golden = read_golden(GOLDENS / case)
    shutil.copytree(golden.folder, folder / "checkpoint")
    return StandIn(folder / "checkpoint", case.partition("/")[0], dtype, golden), golden


def inputs_of(golden):
    """The ids of a golden's call, and what else the encoder looks at."""
    names = ("input_ids", "attention_mask", "lang_ids", "langs")
    return {name: x.tolist() for name, x in golden.part("input").items() if name in names}


def stand_in_of_text(folder, write, dtype="float64"):
    """Numbers of every kind that the golden from text to logits holds."""
    made, golden = of_golden(folder, "xlm_roberta/from_text", dtype)
    given, taps = inputs_of(golden), golden.part("tap")
    logits, last = golden.part("output")["logits"], taps[LAST]
    of_last = (given, "last_hidden_state", last, LAST)
    made.add_array("whole", *of_last)
    made.add_array("slice", *of_last, take=[":", "1:3", "0:5"], part=last[:, 1:3, :5])
    made.add_array("sum", *of_last, reduce="sum")
    made.add_array("mean", *of_last, reduce="mean")
    made.add_array("largest", *of_last, take=[0], part=last[0], reduce="max")
    made.add_array("embeddings", given, "embeddings", taps[FIRST], FIRST, reduce="mean")
    some = {"take": [":", ":", [7, -1]], "part": logits[:, :, [7, -1]]}
    made.add_array("logits", given, "logits", logits, "logits", **some)
    shapes = {"last_hidden_state": list(last.shape), "hidden_states": 2}
    made.add("shape", "shape", given, shapes)
    places = taps["roberta.embeddings.position_ids"].tolist()
    made.add("places", "position_ids", {"input_ids": given["input_ids"]}, places)
    add_texts(made, golden, given, logits)
    return made.write(write)


def add_texts(made, golden, given, logits):
    """Their ids; the same without padding; the best pieces for the mask, by the original."""
    texts, reads = golden.description["texts"], load_tokenizer(made.folder)
    rows = [
        [i for i, real in zip(ids, mask, strict=True) if real]
        for ids, mask in zip(given["input_ids"], given["attention_mask"], strict=True)
    ]
    made.add("ids", "tokenizer", {"texts": texts}, rows)
    bare = {"texts": texts, "add_special_tokens": False}
    made.add("bare_ids", "tokenizer", bare, [ids[1:-1] for ids in rows])
    made.add("ids_again", "tokenizer", {"texts": [None] * len(rows)}, rows)
    padded = {"input_ids": [rows[-1], [*rows[-1], 1, 1]]}
    allowed = within(made.allowed(LAST, golden.part("tap")[LAST]))
    made.add("padding", "invariance", padded, "equal", tolerance=allowed)
    odds = numpy.exp(logits[0, rows[0].index(reads.mask_token_id)])
    odds /= odds.sum()
    best = [
        {"id": i, "piece": reads.convert_ids_to_tokens(i), "probability": float(odds[i])}
        for i in numpy.argsort(-odds)[:3].tolist()
    ]
    # A probability is off by at most half of what its scores are off by.
    allowed = within(made.allowed("logits", logits))
    made.add("fillings", "fill_mask", {"texts": texts[:1]}, [best], tolerance=allowed)


@pytest.fixture
def of_text(tmp_path, write):
    """The stand-in with numbers of most kinds."""
    return stand_in_of_text(tmp_path, write)


# --- it holds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_number_of_a_stand_in_holds(tmp_path, write, dtype):
    made = stand_in_of_text(tmp_path, write, dtype)
    report = made.verify()
    assert (report.id, report.exit_code, report.held) == (ID, 0, True)
    assert set(statuses(report).values()) == {"held"}
    assert len(report.findings) == len(made.numbers) == 14
    assert all(finding.values > 0 for finding in report.findings)


@pytest.mark.parametrize(("backend", "kernels"), [("numpy", "plain"), ("strict", "fused")])
def test_it_holds_on_every_backend(of_text, backend, kernels):
    assert of_text.verify(backend=backend, kernels=kernels).held


def test_it_holds_with_weights_that_are_not_kept(of_text):
    assert of_text.verify(stream=True).held


OTHERS = [
    "xmod/mixed_languages", "xmod/masked_lm", "xmod/pre_norm", "xlm_roberta_xl/masked_lm",
    "xlm_roberta_xl/hidden_states", "xlm/lm", "xlm/padding_right",
]  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_hidden_states_and_scores_of_other_families_hold(tmp_path, write, case):
    made, golden = of_golden(tmp_path, case)
    for name in ("last_hidden_state", "logits"):
        if name in golden.part("output"):
            whole = golden.part("output")[name]
            made.add_array(name, inputs_of(golden), name, whole, name)
    report = made.write(write).verify(published_as=ID)
    assert report.findings
    assert set(statuses(report).values()) == {"held"}


def test_generation_is_recomputed(tmp_path, write):
    made, _ = of_golden(tmp_path, "xlm/lm")
    ids = load(made.folder, dtype="float64").generate([[5, 7]], max_length=9).tolist()
    made.add("right", "generation", {"input_ids": [[5, 7]], "max_length": 9}, ids)
    other = [[*ids[0][:-1], ids[0][-1] + 1]]
    made.add("wrong", "generation", {"input_ids": [[5, 7]], "max_length": 9}, other)
    report = made.write(write).verify(published_as=ID)
    assert statuses(report) == {"right": "held", "wrong": "not held"}


def test_vectors_have_position_ids_too(tmp_path, write):
    made, _ = of_golden(tmp_path, "xmod/masked_lm")
    expected = [[2, 3, 4, 5], [2, 3, 4, 5]]
    made.add("right", "position_ids", {"inputs_embeds": [2, 4]}, expected)
    made.add("wrong", "position_ids", {"inputs_embeds": [2, 4]}, [[0, 1, 2, 3]] * 2)
    report = made.write(write).verify(published_as=ID)
    assert statuses(report) == {"right": "held", "wrong": "not held"}


# --- it does not ----------------------------------------------------------------------------------

HIDDEN = {"whole", "slice", "sum", "mean", "largest"}


@pytest.mark.parametrize(
    ("tensor", "parted"),
    [
        ("lm_head.dense.bias", {"logits", "fillings"}),
        ("roberta.encoder.layer.0.output.LayerNorm.bias", HIDDEN | {"logits", "fillings"}),
        ("roberta.embeddings.LayerNorm.bias", HIDDEN | {"embeddings", "logits", "fillings"}),
    ],
)
def test_one_wrong_tensor_parts_what_depends_on_it(of_text, checkpoint, tensor, parted):
    def change(tensors):
        tensors[tensor] += 1e-3 * numpy.arange(len(tensors[tensor]), dtype=numpy.float32)
        return tensors

    folder = checkpoint("from_text", tensors=change)
    shutil.copy(folder / "model.safetensors", of_text.folder)
    report = of_text.verify()
    found = statuses(report)
    assert {name for name, status in found.items() if status != "held"} == parted
    assert {found[name] for name in parted} == {"not held"}
    assert (report.exit_code, report.held) == (1, False)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("slice", lambda expected: (numpy.array(expected) + 1e-9).tolist()),
        ("shape", lambda expected: {**expected, "hidden_states": 4}),
        ("places", lambda expected: [[x + 1 for x in row] for row in expected]),
        ("ids", lambda expected: [[*ids[:-1], 3] for ids in expected]),
        ("ids", lambda expected: [ids[:-1] for ids in expected]),
        ("fillings", lambda expected: [best[::-1] for best in expected]),
        ("fillings", lambda best: [[{**x, "piece": x["piece"] + "s"} for x in best[0]]]),
        ("fillings", lambda best: [[{"probability": x["probability"] + 1e-6} for x in best[0]]]),
    ],
)
def test_a_number_that_is_another_does_not_hold(of_text, write, name, change):
    for entry in of_text.numbers:
        if entry["name"] == name:
            entry["expected"] = change(entry["expected"])
    found = statuses(of_text.write(write).verify())
    assert {other for other, status in found.items() if status == "not held"} == {name}


def test_a_part_of_another_shape_does_not_hold(of_text, write):
    for entry in of_text.numbers:
        if entry["name"] == "slice":
            entry["value"]["shape"] = [2, 5, 768]
    found = statuses(of_text.write(write).verify())
    assert {name for name, status in found.items() if status == "not held"} == {"slice"}


def test_padding_that_is_looked_at_does_not_hold(of_text, monkeypatch):
    honest = Subject.run

    def without_mask(self, inputs):
        return honest(self, {name: x for name, x in inputs.items() if name != "attention_mask"})

    monkeypatch.setattr(Subject, "run", without_mask)
    assert statuses(of_text.verify())["padding"] == "not held"


@pytest.mark.parametrize(("change", "said"), [
    (lambda x: x * numpy.nan, "are not finite"), (lambda x: x[:, :1], "expected [2, 1], got"),
])  # fmt: skip
def test_values_that_cannot_be_judged_do_not_hold(of_text, monkeypatch, change, said):
    monkeypatch.setattr("refimpl.parity.recompute.take", lambda x, places: change(x))
    (whole,) = [f for f in of_text.verify().findings if f.number.name == "whole"]
    assert whole.status == "not held"
    assert said in whole.worst.note or "expected [" in whole.worst.note


# --- verdicts -------------------------------------------------------------------------------------


def wrong_shape(made, **more):
    made.add("wrong", "shape", {"input_ids": [[5]]}, {"last_hidden_state": [1, 1, 13]}, **more)


@pytest.mark.parametrize(("trust", "code"), [("high", 1), ("medium", 0), ("low", 0)])
def test_only_high_trust_decides(of_text, write, trust, code):
    wrong_shape(of_text, trust=trust)
    report = of_text.write(write).verify()
    assert statuses(report)["wrong"] == "not held"
    assert report.exit_code == code


@pytest.mark.parametrize(("trust", "code"), [("high", 2), ("medium", 0), ("low", 0)])
def test_what_fails_says_why(of_text, write, trust, code):
    of_text.add("fails", "shape", {"input_ids": [[10**6]]}, {"hidden_states": 2}, trust=trust)
    report = of_text.write(write).verify()
    (failed,) = [f for f in report.findings if f.number.name == "fails"]
    assert (failed.status, report.exit_code) == ("failed", code)
    assert failed.reason.startswith(
        "ValueError: input_ids: expected ids from 0 to 301, got 1000000"
    )


def test_nothing_of_high_trust_is_no_verdict(of_text, write):
    of_text.numbers = [{**entry, "trust": "medium"} for entry in of_text.numbers]
    report = of_text.write(write).verify()
    assert set(statuses(report).values()) == {"held"}
    assert (report.exit_code, report.held) == (2, False)


def test_no_number_at_all_is_no_verdict(of_text, write):
    of_text.numbers = []
    assert of_text.write(write).verify().exit_code == 2


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (number("x", "score", {}, [1]), "kind 'score': expected one of hidden, mlm_logits"),
        (number("x", "hidden", {}, [1], not_recomputed="weights unknown"), "weights unknown"),
        (number("x", "generation", {}, [1]), "needs ...WithLMHeadModel or ...ForCausalLM, this is"),
        (
            number("x", "token_classification", {"text": "a"}, [1]),
            "needs ...ForTokenClassification",
        ),
    ],
)
def test_what_cannot_be_recomputed_is_left_out_with_the_reason(of_text, write, entry, reason):
    of_text.numbers.append(entry)
    report = of_text.write(write).verify()
    (found,) = [f for f in report.findings if f.number.name == "x"]
    assert found.status == "not recomputed"
    assert found.reason.startswith(reason)
    assert report.exit_code == 0


def test_without_a_tokenizer_texts_are_left_out_by_name(of_text):
    (of_text.folder / "sentencepiece.bpe.model").unlink()
    report = of_text.verify()
    left_out = {n for n, status in statuses(report).items() if status == "not recomputed"}
    assert left_out == {"ids", "bare_ids", "ids_again", "fillings"}
    assert {f.reason for f in report.findings if f.status == "not recomputed"} == {
        "no tokenizer in the folder (--tokenizer)"
    }
    assert report.exit_code == 0


def test_a_tokenizer_from_elsewhere(of_text, tmp_path):
    (tmp_path / "vocabulary").mkdir()
    shutil.move(of_text.folder / "sentencepiece.bpe.model", tmp_path / "vocabulary")
    assert set(statuses(of_text.verify(tokenizer=tmp_path / "vocabulary")).values()) == {"held"}


def test_a_broken_tokenizer_is_an_error(of_text):
    (of_text.folder / "sentencepiece.bpe.model").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"sentencepiece.bpe.model"):
        of_text.verify()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"expected": {"array": "none", "sha256": ""}}, "CheckpointError: .*found none"),
        ({"expected": {"array": "whole", "sha256": "0"}}, "ValueError: array 'whole': not the one"),
        ({"value": {"of": "pooler"}}, "KeyError: 'pooler'"),
        ({"value": {}}, "KeyError: 'of'"),
        ({"value": {"of": "embeddings", "reduce": "median"}}, "KeyError: 'median'"),
        ({"value": {"of": "embeddings", "take": [9]}}, "IndexError: "),
        ({"value": {"of": "embeddings", "take": ["a:b"]}}, "ValueError: "),
        ({"tolerance": {"absolute": 1}}, "KeyError: 'atol'"),
        ({"inputs": {"ids": [[5]]}}, "TypeError: XLMRobertaForMaskedLM takes no 'ids'"),
        ({"kind": "tokenizer", "inputs": {"texts": []}, "expected": []}, "expects nothing"),
        ({"kind": "tokenizer", "inputs": {"texts": ["a", "b"]}, "expected": [[0]]}, "ValueError: "),
        ({"expected": [[1], [2, 3]]}, "ValueError: "),
    ],
)
def test_a_registry_that_makes_no_sense_fails_in_one_line(of_text, write, more, said):
    value = {"of": "last_hidden_state", "take": [0, 0, "0:1"]}
    entry = number("x", "hidden", {"input_ids": [[5]]}, [1.0], value=value)
    of_text.numbers.append({**entry, **more})
    report = of_text.write(write).verify()
    assert (report.findings[-1].status, report.exit_code) == ("failed", 2)
    assert re.search(said, report.findings[-1].reason)
    assert "\n" not in report.findings[-1].reason


# --- which checkpoint it is -----------------------------------------------------------------------


def test_it_is_told_by_config_and_shapes_or_by_name(of_text):
    assert of_text.verify().id == ID
    assert of_text.verify(published_as="stand-in").id == ID
    with pytest.raises(ValueError, match=r"^as: expected one of someone/stand-in, got 'other'$"):
        of_text.verify(published_as="other")


def test_a_hub_id_is_its_own_name(of_text, monkeypatch, write):
    of_text.config = {**of_text.config, "layer_norm_eps": 0.5}  # it does not look like it
    of_text.write(write)
    monkeypatch.setattr(published, "find_folder", lambda path: of_text.folder)
    report = verify_checkpoint("stand-in", registry=of_text.registry, dtype="float64")
    assert report.id == ID


def test_one_that_looks_like_none_is_an_error(of_text, write):
    of_text.config = {**of_text.config, "layer_norm_eps": 0.5}
    of_text.write(write)
    with pytest.raises(CheckpointError, match=r"no checkpoint in the registry has its config and"):
        of_text.verify()
    assert of_text.verify(published_as=ID).held


def test_one_that_looks_like_two_is_an_error(of_text, write):
    entries = [{"id": name, "family": "xlm_roberta", "class": "XLMRobertaForMaskedLM",
                "config": of_text.config} for name in ("a/b", "a/c")]  # fmt: skip
    of_text.write(write, checkpoints=entries)
    with pytest.raises(CheckpointError, match=r"a/b, a/c have its config and tensor shapes; say"):
        of_text.verify()


# --- parts ----------------------------------------------------------------------------------------


def test_examples_in_docstrings():
    failed, tried = doctest.testmod(sys.modules["refimpl.parity.recompute"])
    assert (failed, tried) == (0, 6)


def test_take_is_indexing():
    x = numpy.arange(120).reshape(2, 3, 4, 5)
    assert (take(x, []) == x).all()
    assert (take(x, [":", 0]) == x[:, 0]).all()
    assert (take(x, [0, ":", -1]) == x[0, :, -1]).all()
    assert (take(x, ["1:", [2, 0], ":", [0, -1]]) == x[1:, [2, 0]][..., [0, -1]]).all()
    assert (take(x, [":", ":", ":-1", 3]) == x[:, :, :-1, 3]).all()


@pytest.mark.parametrize(
    ("actual", "expected", "held", "error", "limit"),
    [
        ([1.0, 2.0], [1.0, 2.0], True, 0.0, 0.25),
        ([1.25, 100.0], [1.0, 100.0], True, 0.25, 0.375),
        ([1.5, 100.0], [1.0, 100.0], False, 0.5, 0.375),
        ([1.0, 112.0], [1.0, 100.0], True, 12.0, 12.75),
        ([1.0, 113.0], [1.0, 100.0], False, 13.0, 12.75),
        ([1.5, 113.0], [1.0, -100.0], False, 213.0, 12.75),
    ],
)
def test_a_tolerance_is_that_of_each_element(actual, expected, held, error, limit):
    entry = Number("n", None, "hidden", "s", "high", tolerance={"atol": 0.25, "rtol": 0.125})
    found = judge(entry, "x", numpy.array(actual), numpy.array(expected))
    assert (found.ok, found.error) == (held, error)
    assert found.tolerance == limit or found.error == 0


def test_without_a_tolerance_only_the_same_will_do():
    entry = Number("n", None, "hidden", "s", "high")
    assert judge(entry, "x", numpy.array(0.5), numpy.array(0.5)).ok
    assert not judge(entry, "x", numpy.array(0.5), numpy.nextafter(0.5, 1)).ok


def classified(tokens, expected, atol=1e-9):
    """Judge what a model says of a text that is cut into ``tokens``: piece, label, probability."""
    labels = {"0": "O", "1": "PER", "2": "LOC"}
    names = list(labels.values())
    scores = numpy.zeros((1, len(tokens), 3))
    for row, (_, label, probability) in zip(scores[0], tokens, strict=True):
        row[:] = (1 - probability) / 2
        row[names.index(label)] = probability
    config = SimpleNamespace(id2label=labels, labels=3)
    out = SimpleNamespace(logits=numpy.log(scores), hidden_states=[scores])
    reads = SimpleNamespace(
        encode=lambda text: list(range(len(tokens))),
        convert_ids_to_tokens=lambda ids: [piece for piece, _, _ in tokens],
    )

    class Model:
        architecture = "XLMRobertaForTokenClassification"

        def __call__(self, **inputs):
            return out

    model = Model()
    model.config = config
    entry = Number("n", None, "token_classification", "s", "high", {"text": "t"}, {}, expected,
                   {"atol": atol, "rtol": 0.0})  # fmt: skip
    return [c.ok for c in recompute(Subject(model, None, reads), entry)]


TOKENS = [
    ("<s>", "PER", 0.9), ("▁Am", "PER", 0.5), ("élie", "PER", 0.5), (".", "O", 0.9),
    ("▁in", "O", 0.9), ("▁Mos", "LOC", 0.5), ("kau", "PER", 0.75), ("</s>", "O", 0.9),
]  # fmt: skip


def test_named_words_are_joined_and_counted():
    words = [("Amélie", "PER", 0.25), ("Moskau", "LOC", 0.125)]
    expected = [{"word": w, "label": label, "score": s} for w, label, s in words]
    assert classified(TOKENS, expected) == [True] * 7
    assert classified(TOKENS, expected[:1])[0] is False  # there is another
    assert not all(classified(TOKENS, [{**expected[0], "score": 0.5}, expected[1]]))
    assert not all(classified(TOKENS, [{**expected[0], "label": "LOC"}, expected[1]]))


def test_named_tokens_are_looked_up():
    entry = {"index": 5, "piece": "▁Mos", "label": "LOC", "score": 0.5}
    assert classified(TOKENS, [entry]) == [True] * 4
    for change in ({"index": 4}, {"piece": "Mos"}, {"label": "PER"}, {"score": 0.6}):
        assert not all(classified(TOKENS, [{**entry, **change}]))


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["▁a", "b", "▁c"], ["ab", "c"]),
        (["a", "b"], ["ab"]),
        (["▁a", ".", "b"], ["a", ".", "b"]),
        (["▁a", "..", "b"], ["a..b"]),
        (["▁", "。", "。"], ["", "。", "。"]),
        ([], []),
    ],
)
def test_where_words_begin(pieces, words):
    tokens = [{"piece": piece, "label": "O", "score": 1.0} for piece in pieces]
    assert [word["word"] for word in join_words(tokens)] == words


# --- the published vocabulary ---------------------------------------------------------------------


def published_vocabulary():
    folder = os.environ.get("REFIMPL_PUBLISHED")
    if not folder or not (Path(folder) / "xlm-roberta" / "sentencepiece.bpe.model").is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-roberta/sentencepiece.bpe.model")
    return load_tokenizer(Path(folder) / "xlm-roberta")


def test_the_published_vocabulary_gives_all_published_ids():
    registry = read_registry()
    subject = Subject(None, registry, published_vocabulary())
    compared = 0
    for entry in registry.numbers_of("FacebookAI/xlm-roberta-base"):
        if entry.kind == "tokenizer":
            try:
                comparisons = list(recompute(subject, entry))
            except NotRecomputed:
                assert entry.not_recomputed
                continue
            assert [c.name for c in comparisons if not c.ok] == []
            compared += len(comparisons)
    assert compared == 15


# --- the command ----------------------------------------------------------------------------------


def run(*arguments):
    command = [sys.executable, "-m", "refimpl", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)


def test_the_command_prints_every_number_with_its_source_and_trust(of_text):
    done = run("--checkpoint", of_text.folder, "--registry", of_text.registry, "--dtype", "float64")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("held           high   ")]) == 14
    assert len([line for line in lines if line.endswith(", of the original")]) == 14
    assert lines[-2:] == ["high trust: 14 held", f"{ID}: held"]


def test_the_command_in_json(of_text, write):
    wrong_shape(of_text, note="nobody knows")
    of_text.write(write)
    done = run("--checkpoint", of_text.folder, "--registry", of_text.registry, "--dtype", "float64",
               "--as", "stand-in", "--json")  # fmt: skip
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"], told["held"]) == (1, 1, False)
    assert told["checkpoint"] == ID
    first, *_, last = told["numbers"]
    assert (first["name"], first["status"], first["trust"]) == ("whole", "held", "high")
    assert 0 < first["error"] <= first["tolerance"]
    assert (last["name"], last["status"], last["note"]) == ("wrong", "not held", "nobody knows")
    assert "expected" in last["reason"]


def test_the_command_says_what_does_not_hold(of_text, write):
    wrong_shape(of_text, trust="low", note="nobody knows")
    of_text.add("fails", "shape", {"input_ids": [[999]]}, {"hidden_states": 2}, trust="medium")
    of_text.write(write)
    done = run("--checkpoint", of_text.folder, "--registry", of_text.registry, "--dtype", "float64")
    assert done.returncode == 0
    assert "not held       low    wrong" in done.stdout
    assert "nobody knows" in done.stdout
    assert "failed         medium fails" in done.stdout
    assert done.stdout.endswith(
        f"high trust: 14 held\nmedium trust: 1 failed\nlow trust: 1 not held\n{ID}: held\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--checkpoint", "nowhere"], "nowhere: no such folder"),
        (["--checkpoint", GOLDENS / "xmod" / "model"], "no checkpoint in the registry has its"),
        (["--checkpoint", GOLDENS / "xmod" / "model", "--as", "x"], "as: expected one of Facebook"),
        (["--checkpoint", ".", "--registry", "none.json"], "none.json: no such file"),
        ([GOLDENS, "--checkpoint", "."], "expected goldens or --checkpoint, got both"),
        (["--registry", "x"], "--registry: expected --checkpoint beside it"),
        (["--as", "x"], "--as: expected --checkpoint beside it"),
        (["--stream"], "--stream: expected --checkpoint beside it"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments, said):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("refimpl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_says_how_trust_enters_the_verdict():
    assert "high trust decide" in " ".join(run("--help").stdout.split())
