"""Whole runs on tiny checkpoints: scores, batches of any size, resuming, languages."""

import json
import math

import numpy
import pytest

from refimpl import load, load_tokenizer, to_numpy
from refimpl.validate import Options, validate, write_predictions
from refimpl.validate.ner import NER
from refimpl.validate.task import Setting

TASKS = ("nli", "ner", "qa", "mlm")


class StoppedError(Exception):
    """What stops a run in a test."""


def stop_after(count):
    """Return a tracker that lets so many batches through."""

    def track(batches, total):
        for i, batch in enumerate(batches):
            if i == count:
                raise StoppedError
            yield batch

    return track


@pytest.mark.parametrize("task", TASKS)
def test_the_size_of_batches_does_not_matter(headed, files, task):
    runs = [
        validate(
            headed(task), task, files[task], Options(batch_tokens=n), dtype="float64", packed=p
        )
        for n, p in ((1, False), (100, False), (100, True), (100_000, True))
    ]
    assert len({rounded(run.metrics) for run in runs}) == 1
    assert len({rounded(run.predictions) for run in runs}) == 1


def rounded(value):
    """A text of what is equal but for the last bits."""
    return json.dumps(json.loads(json.dumps(value), parse_float=lambda x: f"{float(x):.9g}"))


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_goes_on_to_the_same_result(headed, files, tmp_path, task):
    options, state = Options(batch_tokens=60), tmp_path / "state"
    whole = validate(headed(task), task, files[task], options)
    for count in (1, 2):
        with pytest.raises(StoppedError):
            validate(headed(task), task, files[task], options, state=state,
                     track=stop_after(count))  # fmt: skip
    resumed = validate(headed(task), task, files[task], options, state=state)
    assert resumed.predictions == whole.predictions
    assert resumed.metrics == whole.metrics
    assert 0 < resumed.speed.rows < whole.speed.rows
    again = validate(headed(task), task, files[task], options, state=state)
    assert (again.metrics, again.speed.rows) == (whole.metrics, 0)


def test_a_state_of_another_run_is_refused(headed, files, tmp_path):
    state = tmp_path / "state"
    validate(headed("nli"), "nli", files["nli"], state=state)
    with pytest.raises(ValueError, match="is of another run: options was"):
        validate(headed("nli"), "nli", files["nli"], Options(max_length=20), state=state)
    files["nli"].write_text(files["nli"].read_text() + "\n")
    with pytest.raises(ValueError, match="is of another run: data was"):
        validate(headed("nli"), "nli", files["nli"], state=state)
    with pytest.raises(ValueError, match="is of another run: task was"):
        validate(headed("mlm"), "mlm", files["mlm"], state=state)


def test_nli_is_the_share_of_right_labels_by_language(headed, files):
    report = validate(headed("nli"), "nli", files["nli"], Options(max_length=30))
    model, tok = load(headed("nli")), load_tokenizer(headed("nli"))
    names, right = list(model.config.id2label.values()), {"en": [], "sw": []}
    for line in files["nli"].read_text().splitlines()[1:]:
        lang, label, text, pair = line.split("\t")
        enc = tok(text, pair, truncation=True, max_length=30)
        best = to_numpy(model(**enc).logits)[0].argmax()
        right[lang].append(names[best] == label)
    everything = right["en"] + right["sw"]
    assert report.metrics["accuracy"] == sum(everything) / len(everything)
    for lang, own in right.items():
        assert report.metrics["languages"][lang] == {
            "examples": len(own), "accuracy": sum(own) / len(own)
        }  # fmt: skip
    assert sum(sum(x.values()) for x in report.metrics["confusion"].values()) == 24


def test_a_word_has_the_tag_of_its_first_piece(headed, files):
    report = validate(headed("ner"), "ner", files["ner"], dtype="float64")
    model, tok = load(headed("ner"), dtype="float64"), load_tokenizer(headed("ner"))
    words = report.predictions[0]["tokens"]
    assert words == ["Anna", "saw", "Rome"]
    enc = tok(words, is_split_into_words=True)
    best = to_numpy(model(**enc).logits)[0].argmax(axis=-1)
    ids = enc.word_ids()
    tags = [model.config.id2label[str(best[ids.index(word)])] for word in range(3)]
    assert report.predictions[0]["predicted"] == tags
    assert len(report.predictions[1]["predicted"]) == 62  # of several windows
    setting = Setting(model, tok, Options())
    rows = NER.rows(setting, NER.read(files["ner"], setting))
    assert rows[0].note == [(word, ids.index(word)) for word in range(3)]
    assert len(set(ids)) < len(ids) - 1  # words of more than one piece
    assert [word for row in rows[1:] for word, _ in row.note] == list(range(62))
    assert {"PER", "LOC"} <= set(report.metrics["types"])


def test_pseudo_perplexity_masks_each_token_in_turn(headed, files):
    report = validate(headed("mlm"), "mlm", files["mlm"], Options(limit=1), dtype="float64")
    model, tok = load(headed("mlm"), dtype="float64"), load_tokenizer(headed("mlm"))
    ids, logs = tok.encode("The lamp is on."), []
    for place in range(1, len(ids) - 1):
        masked = [*ids[:place], tok.mask_token_id, *ids[place + 1 :]]
        scores = to_numpy(model(input_ids=[masked]).logits)[0, place]
        logs.append(scores[ids[place]] - numpy.logaddexp.reduce(scores))
    assert report.metrics["tokens"] == len(logs)
    assert rounded([report.metrics["log_probability"]]) == rounded([math.fsum(logs)])


def test_an_answer_is_a_part_of_its_context(headed, files):
    report = validate(headed("qa"), "qa", files["qa"], Options(max_length=24, stride=4))
    contexts = [json.loads(line)["context"] for line in files["qa"].read_text().splitlines()]
    assert all(
        x["prediction"] in text for x, text in zip(report.predictions, contexts, strict=True)
    )
    assert all("no_answer_lead" in x for x in report.predictions)
    metrics = report.metrics
    assert (metrics["answerable"]["examples"], metrics["unanswerable"]["examples"]) == (4, 2)
    one = validate(headed("qa"), "qa", files["qa"], Options(null_threshold=1e9, max_length=24))
    assert all(x["prediction"] for x in one.predictions)
    none = validate(headed("qa"), "qa", files["qa"], Options(null_threshold=-1e9, max_length=24))
    assert none.metrics["unanswerable"]["exact_match"] == 1
    assert none.metrics["exact_match"] == 2 / 6


def test_squads_own_form(headed, tmp_path):
    path = tmp_path / "squad.json"
    asked = {"id": "q", "question": " Who?", "answers": [{"text": "lamp", "answer_start": 2}]}
    value = {"data": [{"paragraphs": [{"context": "A lamp.", "qas": [asked]}]}]}
    path.write_text(json.dumps(value))
    report = validate(headed("qa"), "qa", path)
    assert report.predictions[0]["answers"] == ["lamp"]
    path.write_text(json.dumps({"data": [{"paragraphs": [{"qas": [asked]}]}]}))
    with pytest.raises(ValueError, match="expected SQuAD's form; there is no 'context'"):
        validate(headed("qa"), "qa", path)


def test_xlm_with_its_languages_and_its_beams(headed, files):
    report = validate(headed("xlm"), "mlm", files["mlm"], Options(lang="en"))
    assert report.metrics["languages"]["en"]["examples"] == report.examples == 5
    report = validate(headed("xlm_qa"), "qa", files["qa"], Options(max_length=24))
    assert report.examples == 6


def test_xmod_sends_each_text_through_its_language(headed, files):
    path = files["nli"]
    report = validate(headed("xmod"), "nli", path)
    swahili = path.read_text().replace("\nen\t", "\nsw\t")
    path.write_text(swahili)
    other = validate(headed("xmod"), "nli", path)
    pairs = list(zip(report.predictions, other.predictions, strict=True))
    assert all((a["scores"] == b["scores"]) == bool(i % 2) for i, (a, b) in enumerate(pairs))


def test_predictions_are_lines_of_json(headed, files, tmp_path):
    report = validate(headed("nli"), "nli", files["nli"])
    path = tmp_path / "out.jsonl"
    write_predictions(path, report)
    assert [json.loads(line) for line in path.read_text().splitlines()] == report.predictions
    with pytest.raises(ValueError, match=r"output: .*No such file"):
        write_predictions(tmp_path / "nowhere" / "out.jsonl", report)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("name", "task", "options", "said"),
    [
        ("mlm", "nli", {}, "expects ...ForSequenceClassification, got XLMRobertaForMaskedLM"),
        ("nli", "sts", {}, "task: expected one of nli, ner, qa, mlm, got 'sts'"),
        ("nli", "nli", {"max_length": 41}, "max_length: expected up to 40, got 41"),
        ("nli", "nli", {"labels": {"neutral": "9"}}, "labels: expected one of entailment"),
        ("nli", "nli", {"columns": {"lang": "x"}}, "expected a column 'x', got language"),
        ("xmod", "nli", {"columns": {"lang": "sentence1"}}, "lang: expected one of en_XX, sw_KE"),
        ("qa", "qa", {"normalise": "mlqa", "columns": {"lang": "id"}}, "lang: expected one of en"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(headed, files, name, task, options, said):
    with pytest.raises(ValueError, match=said):
        validate(headed(name), task, files.get(task, files["nli"]), Options(**options))


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", 0), ("batch_tokens", 0), ("stride", -1), ("normalise", "x"), ("max_length", 0)],
)
def test_options_that_no_run_can_have(field, value):
    with pytest.raises(ValueError, match=f"{field}: expected"):
        Options(**{field: value})
