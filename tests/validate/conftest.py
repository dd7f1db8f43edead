"""For these tests: checkpoints with heads, made once."""

import json

import pytest

from tests.validate import checkpoints as c

MADE = {
    "nli": ("XLMRobertaForSequenceClassification", c.ROBERTA | c.NLI),
    "ner": ("XLMRobertaForTokenClassification", c.ROBERTA | c.NER),
    "qa": ("XLMRobertaForQuestionAnswering", c.ROBERTA),
    "mlm": ("XLMRobertaForMaskedLM", c.ROBERTA),
    "xmod": ("XmodForSequenceClassification", c.XMOD | c.NLI),
    "xlm": ("XLMWithLMHeadModel", c.XLM),
    "xlm_qa": ("XLMForQuestionAnswering", c.XLM),
}


@pytest.fixture(scope="session")
def headed(tmp_path_factory):
    """A function from a name of MADE to its folder."""
    folders = {}

    def get(name):
        if name not in folders:
            folder = tmp_path_factory.mktemp("headed") / name
            toy = "xlm" if name.startswith("xlm") else "xlm_roberta"
            folders[name] = c.make(folder, *MADE[name], toy)
        return folders[name]

    return get


@pytest.fixture
def files(tmp_path):
    """A file of data for each task, by its name."""
    labels = ["neutral", "entailment", "contradiction"]
    pairs = [
        "\t".join(
            [("en", "sw")[i % 2], labels[i % 3], c.TEXTS[i % 4], c.TEXTS[i // 4 % 4] * (1 + i % 5)]
        )
        for i in range(24)
    ]
    questions = [
        {"id": str(i), "question": "Who is there?", "context": " ".join(c.TEXTS * (1 + i % 2)),
         "answers": ["the old book"] if i % 3 else [], "lang": "en"}
        for i in range(6)
    ]  # fmt: skip
    made = {
        "nli": ("nli.tsv", "\n".join(["language\tgold_label\tsentence1\tsentence2", *pairs])),
        "ner": ("ner.tsv", "Anna B-PER\nsaw O\nRome B-LOC\n\nThe O\nlamp O\n" + "A O\n" * 60),
        "qa": ("qa.jsonl", "\n".join(map(json.dumps, questions))),
        "mlm": ("mlm.txt", "\n\n".join([*c.TEXTS, " ".join(c.TEXTS)])),
    }
    for name, (file, text) in made.items():
        (tmp_path / file).write_text(text, encoding="utf-8")
        made[name] = tmp_path / file
    return made
