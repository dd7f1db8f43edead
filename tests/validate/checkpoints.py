"""Tiny checkpoints with a head and a toy tokenizer: random weights, made when a test asks."""

import json
import shutil

import numpy
from safetensors.numpy import save_file

from refimpl.models.config import parse_config
from refimpl.models.model import ARCHITECTURES
from refimpl.parity.goldens import bundled

TOYS = bundled() / "tokenizers"
ROBERTA = {
    "model_type": "xlm-roberta",
    "vocab_size": 302,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 11,
    "max_position_embeddings": 42,
}
XMOD = {**ROBERTA, "model_type": "xmod", "languages": ["en_XX", "sw_KE"]}
XLM = {
    "model_type": "xlm",
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 1,
    "n_langs": 4,
    "max_position_embeddings": 40,
    "start_n_top": 3,
    "end_n_top": 2,
}
NLI = {"id2label": {"0": "entailment", "1": "neutral", "2": "contradiction"}}
NER = {"id2label": {str(i): x for i, x in enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))}}
TEXTS = ("The lamp is on.", "A lamp.", "She saw the old book and the lamp.", "He is there, too.")


def make(folder, architecture, config, toy="xlm_roberta"):
    """Write a checkpoint of a class into a folder; return the folder."""
    folder.mkdir()
    for file in (TOYS / toy).iterdir():
        shutil.copy(file, folder)
    if toy == "xlm":
        words = json.loads((TOYS / "xlm" / "vocab.json").read_text("utf-8"))
        config = {"vocab_size": len(words), **config}
    config = {"architectures": [architecture], **config}
    (folder / "config.json").write_text(json.dumps(config))
    entry = ARCHITECTURES[architecture]
    parsed = parse_config(entry.config, config, folder / "config.json")
    draw, tied = numpy.random.default_rng(0), entry.rules(parsed).ties
    tensors = {
        name: (0.3 * draw.standard_normal(shape)).astype("float32")
        for name, shape in entry.parameters(parsed).items()
        if name not in tied
    }
    save_file(tensors, folder / "model.safetensors")
    return folder
