"""Published numbers on stand-ins made by the original: every kind, every family, live.

The original makes a small random checkpoint and computes the numbers; ``refimpl verify
--checkpoint --registry`` recomputes them. Then one weight is changed, and what depends on it, and
nothing else, no longer holds.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load_file, save_file

from refimpl.parity.goldens import bundled
from tests.parity.stand_in import ID, StandIn, statuses, within

pytestmark = pytest.mark.oracle

TOY = bundled().parent / "golden" / "tokenizers" / "xlm_roberta" / "sentencepiece.bpe.model"
TEXTS = ["The lamp <mask> in the window.", "水 und <mask>"]
NAMED = "Anna lives in the old town, with Peter."

ROBERTA = {
    "vocab_size": 302, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
    "intermediate_size": 17, "max_position_embeddings": 40, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
}  # fmt: skip
XLM = {
    "vocab_size": 61, "emb_dim": 12, "n_layers": 2, "n_heads": 3, "n_langs": 3,
    "max_position_embeddings": 40, "pad_index": 2, "pad_token_id": 2, "lang_id": 1,
    "mask_token_id": 0,
}  # fmt: skip
XMOD = ROBERTA | {"languages": ["en_XX", "de_DE", "eu_ES"]}


class Original:
    """A random model of the original, in float64, saved with the toy vocabulary beside it."""

    def __init__(self, folder, family, head, config, *, safe=True):
        import torch
        from transformers import XLMRobertaTokenizer

        from golden.make.case import make_model

        self.model = make_model(family, head, config, seed=7).double()
        self.model.save_pretrained(folder, safe_serialization=safe)
        self.tokenizer, self.torch = None, torch
        if family != "XLM":
            shutil.copy(TOY, folder)
            self.tokenizer = XLMRobertaTokenizer(str(TOY))
        name = {"XLM": "xlm", "XLMRoberta": "xlm_roberta", "XLMRobertaXL": "xlm_roberta_xl"}
        self.stand_in = StandIn(Path(folder), name.get(family, "xmod"))

    def run(self, inputs):
        """Run the model on lists; return its outputs as arrays."""
        from golden.make import record

        given = {name: self.torch.tensor(x) for name, x in inputs.items()}
        _, out = record.run(self.model, {**given, "output_hidden_states": True})
        states = [x.numpy() for name, x in out.items() if name.startswith("hidden_states.")]
        return states, out["logits"].numpy() if "logits" in out else None

    def add_arrays(self, inputs):
        """Add numbers of hidden states and scores: whole, in part, and reduced."""
        states, logits = self.run(inputs)
        add, last = self.stand_in.add_array, states[-1]
        add("whole", inputs, "last_hidden_state", last, "last_hidden_state")
        column = {"take": [":", ":", -1], "part": last[:, :, -1]}
        add("column", inputs, "last_hidden_state", last, "last_hidden_state", **column)
        for reduce in ("sum", "mean", "max"):
            some = {"take": [0], "part": last[0], "reduce": reduce}
            add(reduce, inputs, "last_hidden_state", last, "last_hidden_state", **some)
        add("embeddings", inputs, "embeddings", states[0], "hidden_states", reduce="sum")
        if logits is not None and logits.ndim == 3 and logits.shape[-1] > 10:
            corner = {"take": [0, [0, 2], [1, -1]], "part": logits[0][[0, 2]][:, [1, -1]]}
            add("scores", inputs, "logits", logits, "logits", **corner)
        shapes = {"last_hidden_state": list(last.shape), "hidden_states": len(states)}
        self.stand_in.add("shape", "shape", inputs, shapes)

    def add_positions(self, ids):
        """Add the position ids of ids, as the original makes them."""
        module = sys.modules[type(self.model).__module__]
        pads = self.torch.tensor(ids)
        places = module.create_position_ids_from_input_ids(pads, padding_idx=1).tolist()
        self.stand_in.add("places", "position_ids", {"input_ids": ids}, places)

    def add_padding(self, ids, **more):
        """Add that padding changes nothing."""
        states, _ = self.run({"input_ids": [ids], **more})
        allowed = within(self.stand_in.allowed("", states[-1]))
        rows = [ids, [*ids, 1, 1, 1]]
        self.stand_in.add("padding", "invariance", {"input_ids": rows}, "equal", tolerance=allowed)

    def add_ids(self, *texts):
        """Add token ids, with special tokens and without."""
        for name, special in (("ids", True), ("bare_ids", False)):
            rows = [self.tokenizer(t, add_special_tokens=special)["input_ids"] for t in texts]
            inputs = {"texts": list(texts), "add_special_tokens": special}
            self.stand_in.add(name, "tokenizer", inputs, rows)
        text, pair = texts[:2]
        pattern = {"single": [0, "text", 2], "pair": [0, "text", 2, 2, "text_pair", 2]}
        self.stand_in.add("pair", "tokenizer", {"text": text, "text_pair": pair}, pattern)

    def add_fillings(self, **more):
        """Add the best pieces for a mask, as the original's pipeline finds them."""
        from transformers import FillMaskPipeline

        pipeline = FillMaskPipeline(self.model, self.tokenizer, top_k=3)
        rows = [
            [
                {"id": x["token"], "probability": x["score"],
                 "piece": self.tokenizer.convert_ids_to_tokens(x["token"])}
                for x in pipeline(text)
            ]
            for text in TEXTS
        ]  # fmt: skip
        allowed = within(self.stand_in.allowed("", numpy.ones(1)))
        inputs = {"texts": TEXTS, **more}
        self.stand_in.add("fillings", "fill_mask", inputs, rows, tolerance=allowed)


def write(path, tensors):
    save_file({name: numpy.array(x, order="C") for name, x in tensors.items()}, path)


def assert_held(stand_in, **options):
    report = stand_in.write(write).verify(**options)
    assert {name: x for name, x in statuses(report).items() if x != "held"} == {}
    assert len(report.findings) == len(stand_in.numbers) > 0
    assert report.exit_code == 0


def change(stand_in, tensor):
    """Make one tensor of the checkpoint another."""
    file = stand_in.folder / "model.safetensors"
    tensors = load_file(file)
    tensors[tensor] = tensors[tensor] + 1e-4 * numpy.arange(tensors[tensor].shape[-1])
    save_file(tensors, file)


def parted(stand_in):
    return {n for n, status in statuses(stand_in.verify()).items() if status == "not held"}


ARRAYS = {"whole", "column", "sum", "mean", "max"}
SCORES = {"scores", "fillings"}
LAST_NORM = "roberta.encoder.layer.1.output.LayerNorm.bias"
FIRST_NORM = "roberta.embeddings.LayerNorm.bias"


@pytest.fixture
def masked_lm(tmp_path):
    """XLM-RoBERTa with numbers of all the kinds that a masked language model has."""
    original = Original(tmp_path / "masked_lm", "XLMRoberta", "ForMaskedLM", ROBERTA)
    ids = [[0, 17, 5, 301, 40, 2], [0, 9, 2, 1, 1, 1]]
    mask = [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]
    original.add_arrays({"input_ids": ids, "attention_mask": mask})
    original.add_positions(ids)
    original.add_padding(ids[0])
    original.add_ids(*TEXTS, NAMED)
    original.add_fillings()
    return original.stand_in


def test_a_masked_language_model_holds(masked_lm):
    assert_held(masked_lm)


@pytest.mark.parametrize(
    ("tensor", "wrong"),
    [
        ("lm_head.bias", SCORES),
        (LAST_NORM, ARRAYS | SCORES),
        (FIRST_NORM, ARRAYS | SCORES | {"embeddings"}),
        ("roberta.encoder.layer.0.attention.self.value.weight", ARRAYS | SCORES),
    ],
)
def test_one_weight_parts_what_depends_on_it(masked_lm, tensor, wrong):
    masked_lm.write(write)
    change(masked_lm, tensor)
    assert parted(masked_lm) == wrong


def test_a_pytorch_file_holds_as_well(tmp_path):
    original = Original(tmp_path / "bin", "XLMRoberta", "ForMaskedLM", ROBERTA, safe=False)
    assert (tmp_path / "bin" / "pytorch_model.bin").exists()
    original.add_arrays({"input_ids": [[0, 17, 5, 2]]})
    assert_held(original.stand_in)


def test_an_encoder_alone_and_one_that_normalises_first_hold(tmp_path):
    for name in ("XLMRoberta", "XLMRobertaXL"):
        original = Original(tmp_path / name, name, "Model", ROBERTA)
        original.add_arrays({"input_ids": [[0, 17, 5, 301, 40, 2]]})
        original.add_padding([0, 17, 5, 2])
        assert_held(original.stand_in)


def test_a_large_one_holds_and_breaks(tmp_path):
    original = Original(tmp_path / "xl", "XLMRobertaXL", "ForMaskedLM", ROBERTA)
    ids = [[0, 17, 5, 301, 40, 2]]
    original.add_arrays({"input_ids": ids})
    original.add_positions(ids)
    original.add_fillings()
    assert_held(original.stand_in)
    change(original.stand_in, "roberta.encoder.LayerNorm.bias")
    assert parted(original.stand_in) == ARRAYS | SCORES


@pytest.mark.parametrize("pre_norm", [False, True])
def test_languages_hold_and_break(tmp_path, pre_norm):
    original = Original(tmp_path / "xmod", "Xmod", "ForMaskedLM", XMOD | {"pre_norm": pre_norm})
    ids = [[0, 17, 5, 301, 40, 2], [0, 9, 11, 12, 13, 2], [0, 17, 5, 301, 40, 2]]
    original.add_arrays({"input_ids": ids, "lang_ids": [0, 2, 1]})
    original.add_positions(ids)
    original.model.set_default_language("de_DE")
    original.add_fillings(language="de_DE")
    assert_held(original.stand_in)
    change(original.stand_in, "roberta.encoder.layer.1.output.adapter_modules.eu_ES.dense2.bias")
    assert parted(original.stand_in) == {"whole", "column"}  # the second text's alone
    change(original.stand_in, "roberta.encoder.layer.1.output.adapter_modules.de_DE.dense2.bias")
    assert parted(original.stand_in) == {"whole", "column", "fillings"}


def test_xlm_generates_and_breaks(tmp_path):
    original = Original(tmp_path / "xlm", "XLM", "WithLMHeadModel", XLM)
    original.add_arrays({"input_ids": [[14, 5, 7, 9, 2]], "langs": [[1, 1, 0, 0, 0]],
                         "attention_mask": [[1, 1, 1, 1, 0]]})  # fmt: skip
    options = {"do_sample": False, "max_length": 20, "eos_token_id": None, "pad_token_id": 2}
    prompt = original.torch.tensor([[14, 7]])
    continued = original.model.generate(prompt, **options).tolist()
    inputs = {"input_ids": [[14, 7]], "max_length": 20}
    original.stand_in.add("generated", "generation", inputs, continued)
    assert_held(original.stand_in)
    file = original.stand_in.folder / "model.safetensors"
    tensors = load_file(file)
    best = continued[0][-1]
    tensors["pred_layer.proj.bias"][(best + 1) % 61] += 1e3
    save_file(tensors, file)
    assert "generated" in parted(original.stand_in)


def words_of(tokens):
    """Join what the original's pipeline says of tokens: here, no word has punctuation inside."""
    words = []
    for token in tokens:
        alone = token["word"] in {",", "."}
        if token["word"].startswith("▁") or alone or not words:
            words.append({"word": "", "label": token["entity"], "score": 1.0})
        same = token["entity"] == words[-1]["label"]
        words[-1]["word"] += token["word"].removeprefix("▁")
        words[-1]["score"] *= float(token["score"] if same else 1 - token["score"])
    return [word for word in words if word["label"] != "O"]


def test_named_words_and_tokens_hold_and_break(tmp_path):
    from transformers import TokenClassificationPipeline

    names = {0: "O", 1: "I-PER", 2: "I-LOC"}
    config = ROBERTA | {"id2label": names, "label2id": {x: i for i, x in names.items()}}
    folder = tmp_path / "named"
    original = Original(folder, "XLMRoberta", "ForTokenClassification", config)
    pipeline = TokenClassificationPipeline(
        model=original.model, tokenizer=original.tokenizer, ignore_labels=[]
    )
    tokens = pipeline(NAMED)
    printed = [
        {"index": t["index"], "piece": t["word"], "label": t["entity"], "score": float(t["score"])}
        for t in tokens
    ]
    # The pipeline's own softmax is in float32 or float64, as it likes.
    # Of scores up to 8, half an ulp of which is 4 ulps of 1: rounded, taken from one another,
    # powers of e, their sum, a quotient. Words are products of a few.
    allowed = within(64 * float(numpy.finfo("float32").eps))
    add = original.stand_in.add
    add("tokens", "token_classification", {"text": NAMED}, printed[2:5], tolerance=allowed)
    words = words_of(tokens)
    assert {word["label"] for word in words} <= {"I-PER", "I-LOC"}
    add("words", "token_classification", {"text": NAMED}, words, tolerance=allowed)
    assert_held(original.stand_in)
    change(original.stand_in, "classifier.bias")
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"] += numpy.array([0, 0.01, 0])
    save_file(tensors, folder / "model.safetensors")
    assert parted(original.stand_in) == {"tokens", "words"}


def test_the_command_holds_and_breaks(masked_lm):
    masked_lm.write(write)

    def verify():
        command = [sys.executable, "-m", "refimpl", "verify", "--checkpoint", masked_lm.folder,
                   "--registry", masked_lm.registry, "--dtype", "float64", "--json"]  # fmt: skip
        done = subprocess.run(
            list(map(str, command)), capture_output=True, encoding="utf-8", timeout=300
        )
        return done.returncode, json.loads(done.stdout)

    code, told = verify()
    assert (code, told["checkpoint"]) == (0, ID)
    assert {x["status"] for x in told["numbers"]} == {"held"}
    change(masked_lm, LAST_NORM)
    code, told = verify()
    assert code == 1
    wrong = {x["name"] for x in told["numbers"] if x["status"] == "not held"}
    assert wrong == ARRAYS | SCORES
