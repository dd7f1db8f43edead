"""The widths of the published models that no golden can have: every tap in float64.

XLM-R-XL and -XXL, X-MOD large (pre-norm) and XLM's hundred languages have their true sizes here,
vocabulary and all, but one layer or two. Random weights, written and run by the original in a
process of its own; one model after another, each deleted before the next is written.
"""

import json
import shutil
import subprocess
import sys

import numpy
import pytest

from refimpl.parity.compare import NORM, compare_exact, compare_floats
from tests.oracle.originals import load_ours, run_ours

pytestmark = pytest.mark.large

# facebook/xlm-roberta-xl and -xxl but for the 36 and 48 layers, facebook/xmod-large-prenorm but
# for the 24, FacebookAI/xlm-mlm-100-1280 but for the 16.
XL = {
    "vocab_size": 250880, "max_position_embeddings": 514, "type_vocab_size": 1,
    "layer_norm_eps": 1e-5, "num_attention_heads": 32, "num_hidden_layers": 1, "pad_token_id": 1,
}  # fmt: skip
LANGUAGES = [f"l{i:02}_XX" for i in range(81)]
PUBLISHED = {
    "xl": ("XLMRobertaXL", "ForMaskedLM", XL | {"hidden_size": 2560, "intermediate_size": 10240}),
    "xxl": ("XLMRobertaXL", "ForMaskedLM", XL | {"hidden_size": 4096, "intermediate_size": 16384}),
    "xmod_large_prenorm": ("Xmod", "ForMaskedLM", {
        "vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "hidden_size": 1024, "num_attention_heads": 16,
        "intermediate_size": 4096, "num_hidden_layers": 2, "pad_token_id": 1, "pre_norm": True,
        "adapter_reduction_factor": 4, "adapter_layer_norm": True,
        "adapter_reuse_layer_norm": False, "ln_before_adapter": False, "languages": LANGUAGES,
    }),
    "xlm_100": ("XLM", "WithLMHeadModel", {
        "vocab_size": 200000, "emb_dim": 1280, "n_heads": 16, "n_layers": 2,
        "max_position_embeddings": 512, "n_langs": 100, "use_lang_emb": False, "pad_index": 2,
        "pad_token_id": 2, "layer_norm_eps": 1e-12,
    }),
}  # fmt: skip
WRITE_AND_RUN = """
import json, sys
from pathlib import Path
import torch, transformers
from transformers.modeling_utils import no_init_weights
from golden.make import record
from golden.make.random_weights import randomise
from golden.make.write import write_tensors

folder = Path(sys.argv[1])
family, head, config, inputs = json.loads(sys.argv[2])
config = getattr(transformers, f"{family}Config")(**config, attn_implementation="eager")
with no_init_weights():
    model = getattr(transformers, f"{family}{head}")(config).eval()
model.tie_weights()
# The word table is filled in place, because its copies would not fit.
words = model.get_input_embeddings().weight
table, words.data = words.data, words.data[:1]
randomise(model, seed=11)
words.data = table.normal_(generator=torch.Generator().manual_seed(12))
model.save_pretrained(folder, max_shard_size="100GB")
inputs = {name: torch.tensor(x) for name, x in inputs.items()}
taps, outputs = record.run(model.double(), inputs)
write_tensors(folder / "golden", {name: x.numpy() for name, x in {**taps, **outputs}.items()})
"""


def make_inputs(config):
    """Two texts of twelve tokens; the second ends early."""
    pad = config["pad_token_id"]
    ids = numpy.random.default_rng(3).integers(4, config["vocab_size"], (2, 12))
    ids[0, :2] = config["vocab_size"] - 1, 0
    ids[1, 7:] = pad
    inputs = {"input_ids": ids, "attention_mask": (ids != pad).astype("int64")}
    if "languages" in config:
        inputs["lang_ids"] = numpy.array([80, 8])
    if "n_langs" in config:
        inputs["langs"] = numpy.full_like(ids, 99)
    return inputs


@pytest.fixture(params=PUBLISHED)
def checkpoint(request, tmp_path):
    """The folder of a checkpoint and its golden, and the inputs; deleted after use."""
    pytest.importorskip("transformers")
    family, head, config = PUBLISHED[request.param]
    inputs = make_inputs(config)
    lists = {name: x.tolist() for name, x in inputs.items()}
    said = json.dumps([family, head, config, lists])
    try:
        subprocess.run([sys.executable, "-c", WRITE_AND_RUN, str(tmp_path), said], check=True)
        yield tmp_path, inputs
    finally:
        shutil.rmtree(tmp_path)


def test_every_tap_agrees_in_float64(checkpoint):
    from safetensors.numpy import load_file

    folder, inputs = checkpoint
    truth = load_file(folder / "golden")
    ours = run_ours(load_ours(folder), inputs)
    actual = {**ours.taps, **ours.outputs}
    assert set(actual) == set(truth)
    worst = 0.0
    for name, expected in truth.items():
        if expected.dtype.kind == "f":
            verdict = compare_floats(name, actual[name], expected, NORM, "float64")
            worst = max(worst, verdict.error)
        else:
            verdict = compare_exact(name, actual[name], expected)
        assert verdict.ok, verdict
    print(f"\n{len(truth)} values, at worst {worst:.1e} off")
