"""A case of one's own: made from a checkpoint, checked by verify, whole or not there."""

import json
import shutil

import numpy
import pytest

import refimpl
from refimpl.errors import CheckpointError
from refimpl.parity.compare import NORM
from refimpl.parity.floors import read_floors
from refimpl.parity.goldens import bundled, read_golden
from refimpl.parity.strength import make_case, read_fixture
from refimpl.parity.strength.case import weight_files

CHECKPOINT = bundled() / "xlm_roberta" / "masked_lm"
CALL = {"input_ids": [[0, 17, 5, 2]], "output_attentions": True}


def test_a_case_is_what_verify_takes(tmp_path):
    made = make_case(CHECKPOINT, CALL, tmp_path / "case", what="a text", runs=2)
    assert made.description["what"] == "a text"
    assert made.description["architecture"] == "XLMRobertaForMaskedLM"
    assert made.description["made_by"]["implementation"].startswith("refimpl,")
    assert made.description["flags"] == {"output_attentions": True}
    assert list(made.part("output")) == ["logits", "attentions.0", "attentions.1"]
    assert made.changed_files() == []
    report = refimpl.verify(tmp_path / "case")
    assert report.exit_code == 0
    assert report.cases[0].comparisons[0].name == "roberta.embeddings.word_embeddings"
    exact = refimpl.verify(tmp_path / "case", dtype="float64", kernels="plain")
    assert all(c.error == 0 for c in exact.cases[0].comparisons)


def test_a_case_has_the_floors_that_were_asked_for(tmp_path):
    made = make_case(
        CHECKPOINT, CALL, tmp_path / "case", arithmetics=("float32", "bfloat16"), runs=2
    )
    assert read_floors(made, "bfloat16").runs == 2
    assert read_floors(made, "float16") is None
    assert read_fixture(tmp_path / "case").floors.runs == 2


def test_a_case_of_keys_that_an_earlier_call_kept(tmp_path):
    golden = read_golden(bundled() / "xmod" / "kept_keys")
    make_case(golden.folder, golden.inputs(), tmp_path / "case", runs=2)
    again = read_golden(tmp_path / "case")
    for kind in ("input", "tap", "output"):
        ours, theirs = again.part(kind), golden.part(kind)
        assert list(ours) == list(theirs)
        assert all(numpy.abs(ours[n] - x).max() < NORM for n, x in theirs.items())


def test_weights_are_copied_linked_or_left_out(tmp_path):
    for weights in ("copy", "link", "leave"):
        made = make_case(CHECKPOINT, CALL, tmp_path / weights, weights=weights, runs=1)
        assert "model.safetensors" in made.description["sha256"]
    assert not (tmp_path / "copy" / "model.safetensors").is_symlink()
    assert (tmp_path / "link" / "model.safetensors").is_symlink()
    left = refimpl.verify(tmp_path / "leave")
    assert left.exit_code == 2
    assert "model.safetensors" in left.cases[0].error
    shutil.copy(CHECKPOINT / "model.safetensors", tmp_path / "leave")
    assert refimpl.verify(tmp_path / "leave").exit_code == 0
    with pytest.raises(ValueError, match="weights: expected one of copy, link, leave, got 'zip'"):
        make_case(CHECKPOINT, CALL, tmp_path / "other", weights="zip")


def test_another_class_stands_in_the_config(tmp_path):
    made = make_case(
        CHECKPOINT, CALL, tmp_path / "case", architecture="XLMRobertaForCausalLM", runs=1
    )
    config = json.loads((made.folder / "config.json").read_text())
    assert config["architectures"] == ["XLMRobertaForCausalLM"]
    assert refimpl.verify(made.folder).exit_code == 0


def test_weights_in_shards_come_with_their_index(tmp_path):
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "y", "b": "x"}}')
    files = [file.name for file in weight_files(tmp_path)]
    assert files == ["pytorch_model.bin.index.json", "x", "y"]
    with pytest.raises(CheckpointError, match=r"expected one of model\.safetensors"):
        weight_files(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({}, "expected one of input_ids and inputs_embeds, got neither"),
        ({"input_ids": [[0, 99]]}, "input_ids"),
        ({"input_ids": [[0, 5]], "words": [[1]]}, "takes no 'words'"),
    ],
)
def test_a_call_that_cannot_be_leaves_nothing_behind(tmp_path, call, error):
    with pytest.raises((ValueError, TypeError), match=error):
        make_case(CHECKPOINT, call, tmp_path / "case")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_taken_is_left_as_it_is(tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "mine").touch()
    with pytest.raises(CheckpointError, match="expected a folder that is new or empty"):
        make_case(CHECKPOINT, CALL, tmp_path / "case", runs=1)
    assert [x.name for x in (tmp_path / "case").iterdir()] == ["mine"]
