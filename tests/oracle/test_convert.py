"""Files in the originals' layouts, converted: what transformers makes of the folder.

Random models of transformers are written as fairseq and XLM's authors write theirs, converted, and
loaded by transformers: no name missing, none unexpected, every tensor bit for bit, equal outputs.
"""

import copy
import json

import pytest
from safetensors.numpy import load_file

from refimpl.checkpoints import writing
from refimpl.checkpoints.convert import convert
from refimpl.tokenizers import load_tokenizer

pytestmark = pytest.mark.oracle

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from golden.make.case import make_model  # noqa: E402
from tests.oracle import original_files as files  # noqa: E402
from tests.oracle.originals import adaptive_softmax_of_places  # noqa: E402

ROBERTA = {
    "vocab_size": len(files.pieces()) + 2,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 18,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}
XMOD = {"languages": ["sw_KE", "en_XX", "de_DE"], "default_language": "de_DE"}
LARGE = {
    "pre_norm": True,
    "adapter_layer_norm": True,
    "adapter_reuse_layer_norm": False,
    "ln_before_adapter": False,
    "adapter_reduction_factor": 4,
}
XLM = {
    "vocab_size": 40,
    "emb_dim": 12,
    "n_layers": 2,
    "n_heads": 3,
    "n_langs": 3,
    "max_position_embeddings": 16,
}
LANGUAGES = ["ar", "de", "en"]
IDS = torch.tensor([[0, 17, 5, 23, 2], [0, 9, 2, 1, 1]])


def make(family, head, config):
    """A random model, its token types zero as fairseq has none."""
    model = make_model(family, head, config, 7)
    if family != "XLM":
        model.base_model.embeddings.token_type_embeddings.weight.data.zero_()
    return model


def write_fairseq(folder, model, *, old=False, words=None, options=None):
    """Write a model as an archive of fairseq unpacks to."""
    folder.mkdir()
    tensors = files.fairseq_tensors(model.state_dict())
    tensors = files.as_in_2019(tensors, torch.cat) if old else tensors
    options = files.fairseq_options(model.config.to_dict()) | (options or {})
    state = files.fairseq_file(tensors, options, old=old)
    torch.save(state, folder / "model.pt", _use_new_zipfile_serialization=not old)
    files.beside_fairseq_file(folder, words)
    return folder


def write_xlm(path, model, *, words=None, legacy=True, prefix="", key="model", **params):
    """Write a model as a file of XLM's authors."""
    config = model.config.to_dict()
    tensors = files.xlm_tensors(model.state_dict(), prefix)
    if config["asm"]:
        tensors.pop("pred_layer.proj.weight", None)  # tying makes it, nothing reads it
    options = files.xlm_params(config, LANGUAGES[: config["n_langs"]]) | params
    words = files.xlm_words(config["vocab_size"]) if words is None else words
    state = files.xlm_file(tensors, options | {"pred_probs": torch.ones(3)}, words, key)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    return path


def load_quietly(kind, folder):
    """Load a folder with a class of transformers, which must find each tensor, and no other."""
    loaded, info = kind.from_pretrained(
        folder, output_loading_info=True, dtype="auto", attn_implementation="eager"
    )
    assert {key: names for key, names in info.items() if names} == {}
    return loaded.eval()


def assert_loads_as(folder, model, call):
    """Load a folder with the class of a model; every tensor and every output must be its."""
    loaded = load_quietly(type(model), folder)
    expected, actual = model.state_dict(), loaded.state_dict()
    assert set(actual) == set(expected)
    for name, x in expected.items():
        assert actual[name].dtype == x.dtype, name
        assert torch.equal(actual[name], x), name
    with torch.no_grad(), adaptive_softmax_of_places():
        outputs = [copy.deepcopy(x).double()(**call).to_tuple() for x in (model.eval(), loaded)]
    for one, other in zip(*outputs, strict=True):
        assert torch.equal(one, other)


def call_of(model):
    languages = {"lang_ids": torch.tensor([0, 2])} if model.config.model_type == "xmod" else {}
    return {"input_ids": IDS, "attention_mask": (IDS != 1).long(), **languages}


# --- fairseq --------------------------------------------------------------------------------------

MODELS = {
    "xlmr": ("XLMRoberta", {}),
    "xlmr.untied": ("XLMRoberta", {"tie_word_embeddings": False}),
    "xlmr.xl": ("XLMRobertaXL", {}),
    "xmod.base": ("Xmod", XMOD),
    "xmod.large.prenorm": ("Xmod", XMOD | LARGE),
}


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
@pytest.mark.parametrize("name", MODELS)
def test_fairseq(tmp_path, name, half, old):
    family, config = MODELS[name]
    model = make(family, "ForMaskedLM", ROBERTA | config)
    model = model.half() if half else model
    convert(write_fairseq(tmp_path / "source", model, old=old), tmp_path / "dest")
    assert_loads_as(tmp_path / "dest", model, call_of(model))


@pytest.mark.parametrize("family", ["XLMRoberta", "XLMRobertaXL", "Xmod"])
def test_a_classification_head(tmp_path, family):
    config = ROBERTA | {"num_labels": 3} | (XMOD if family == "Xmod" else {})
    model = make(family, "ForSequenceClassification", config)
    checkpoint = convert(write_fairseq(tmp_path / "source", model), tmp_path / "dest")
    assert checkpoint.architecture == f"{family}ForSequenceClassification"
    assert_loads_as(tmp_path / "dest", model, call_of(model))


@pytest.mark.parametrize("name", ["gelu_accurate", "relu"])
def test_other_activations(tmp_path, name):
    act = {"gelu_accurate": "gelu_new", "relu": "relu"}[name]
    model = make("XLMRoberta", "ForSequenceClassification", ROBERTA | {"hidden_act": act})
    source = write_fairseq(tmp_path / "source", model, options={"activation_fn": name})
    convert(source, tmp_path / "dest")
    assert_loads_as(tmp_path / "dest", model, call_of(model))


def test_in_another_dtype(tmp_path):
    model = make("XLMRoberta", "ForMaskedLM", ROBERTA)
    source = write_fairseq(tmp_path / "source", model)
    convert(source, tmp_path / "half", dtype="float16")
    assert_loads_as(tmp_path / "half", copy.deepcopy(model).half(), call_of(model))
    convert(tmp_path / "half", tmp_path / "single", dtype="float32")
    assert_loads_as(tmp_path / "single", copy.deepcopy(model).half().float(), call_of(model))


# --- XLM ------------------------------------------------------------------------------------------

XLM_MODELS = {
    "mlm": {},
    "relu": {"gelu_activation": False},
    "sinusoidal": {"sinusoidal_embeddings": True},
    "one_language": {"n_langs": 1},
    "no_language_embeddings": {"use_lang_emb": False},
    "untied": {"tie_word_embeddings": False},
    "adaptive": {
        "asm": True,
        "asm_cutoffs": [9, 20],
        "asm_div_value": 2.0,
        "tie_word_embeddings": False,
    },
}


def xlm_call(model):
    return {"input_ids": IDS, "langs": torch.full_like(IDS, model.config.n_langs - 1)}


@pytest.mark.parametrize("name", XLM_MODELS)
def test_xlm(tmp_path, name):
    model = make("XLM", "WithLMHeadModel", XLM | XLM_MODELS[name])
    convert(write_xlm(tmp_path / "a.pth", model), tmp_path / "dest")
    assert_loads_as(tmp_path / "dest", model, xlm_call(model))


@pytest.mark.parametrize("architecture", ["XLMModel", "XLMWithLMHeadModel"])
def test_xlm_encoder_of_a_translation_model(tmp_path, architecture):
    model = make("XLM", "WithLMHeadModel", XLM)
    source = write_xlm(tmp_path / "a.pth", model, prefix="module.", key="encoder", legacy=False)
    convert(source, tmp_path / "dest", architecture=architecture)
    model = model.transformer if architecture == "XLMModel" else model
    assert_loads_as(tmp_path / "dest", model, {"input_ids": IDS, "langs": torch.zeros_like(IDS)})


def test_xlm_as_the_script_of_transformers_has_it(tmp_path):
    """The rules of ``convert_xlm_original_pytorch_checkpoint_to_pytorch.py``, restated."""
    model = make("XLM", "WithLMHeadModel", XLM)
    state = torch.load(write_xlm(tmp_path / "a.pth", model), weights_only=False)
    convert(tmp_path / "a.pth", tmp_path / "dest")
    del state["params"]["para_dataset"]  # it cannot be written to a config.json
    params = {n: x for n, x in state["params"].items() if not torch.is_tensor(x)}
    theirs = transformers.XLMConfig.from_dict(params).to_dict()
    ours = transformers.XLMConfig.from_pretrained(tmp_path / "dest").to_dict()
    # Its file has no number of positions: 512 is the class's default, and all published models'.
    says_more = {"architectures", "dtype", "max_position_embeddings"}
    for name in transformers.XLMConfig().to_dict().keys() - says_more:
        assert ours[name] == theirs[name], name
    words = {}
    for word, i in state["dico_word2id"].items():
        ends = i > 13 and "@@" not in word
        words[word + "</w>" if ends else word.replace("@@", "")] = i
    assert json.loads((tmp_path / "dest" / "vocab.json").read_text()) == words


# --- pytorch_model.bin ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MODELS, "mlm"])
def test_pytorch_model_bin(tmp_path, name):
    if name in MODELS:
        family, config = MODELS[name]
        model = make(family, "ForMaskedLM", ROBERTA | config)
        call = call_of(model)
    else:
        model = make("XLM", "WithLMHeadModel", XLM)
        call = xlm_call(model)
    model.config.save_pretrained(tmp_path / "source")
    state = model.state_dict()
    for key, x in state.items():  # as a matrix that is stored transposed
        if key.endswith(("lin1.weight", "intermediate.dense.weight")):
            state[key] = x.t().contiguous().t()
    config_file = tmp_path / "source" / "config.json"
    config = json.loads(config_file.read_text()) | {"architectures": [type(model).__name__]}
    config_file.write_text(json.dumps(config))
    torch.save(
        state | {f"{model.base_model_prefix}.embeddings.position_ids": torch.arange(18)[None]},
        tmp_path / "source" / "pytorch_model.bin",
    )
    convert(tmp_path / "source", tmp_path / "dest")
    assert_loads_as(tmp_path / "dest", model, call)
    # The same tensors as save_pretrained writes: of two tied ones one.
    model.save_pretrained(tmp_path / "theirs")
    names = [set(load_file(tmp_path / x / "model.safetensors")) for x in ("dest", "theirs")]
    assert names[0] == names[1]


# --- tokenizers -----------------------------------------------------------------------------------

TEXTS = ["The lamp is on the table.", "a", "Große Bücher", "ที่นี่", "1984 = 42?"]
ALL = files.pieces()[3:]
FILLING = [f"madeupword{i:04}" for i in range(6)]
DICTS = {
    "published": ALL,
    "reversed": ALL[::-1],
    "pruned": [word for i, word in enumerate(ALL) if i % 5 or len(word) == 1],
    "padded": [*ALL, *FILLING],
    "mask_inside": [*ALL, "<mask>", *FILLING],
}


def fairseq_ids(words, text):
    """The ids of fairseq's ``XLMRModel.encode``: pieces looked up in dict.txt, else <unk>."""
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(files.SPM))
    ids = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words])}
    return [0, *(ids.get(piece, 3) for piece in model.encode(text, out_type=str)), 2]


@pytest.mark.parametrize("name", DICTS)
def test_ids_are_fairseqs(tmp_path, name):
    words = DICTS[name]
    rows = 4 + len(words) + ("<mask>" not in words)
    model = make("XLMRoberta", "ForMaskedLM", ROBERTA | {"vocab_size": rows})
    convert(write_fairseq(tmp_path / "source", model, words=words), tmp_path / "dest")
    slow = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path / "dest")
    fast = transformers.AutoTokenizer.from_pretrained(tmp_path / "dest")
    tokenizers = [slow, fast, load_tokenizer(tmp_path / "dest")]
    assert fast.is_fast
    mask = 4 + (words.index("<mask>") if "<mask>" in words else len(words))
    same = 0
    for tokenizer in tokenizers:
        assert tokenizer.mask_token_id == mask
        assert tokenizer.model_max_length == 16
        for text in TEXTS:
            expected = fairseq_ids(words, text)
            if name != "pruned" or 3 not in expected:  # else smaller pieces may be found
                assert list(tokenizer(text)["input_ids"]) == expected
                same += 1
    assert same >= (6 if name == "pruned" else 3 * len(TEXTS))


def test_xlm_tokenizer(tmp_path):
    words = [*files.XLM_SPECIAL, "lo@@", "w", "lower", "e", "r", "n@@", "l@@", "o@@", "w@@", "e@@"]
    model = make("XLM", "WithLMHeadModel", XLM | {"vocab_size": len(words)})
    codes = tmp_path / "codes"
    codes.write_text("l o 30\nlo w</w> 20\ne r</w> 10", encoding="utf-8")  # no newline at the end
    source = write_xlm(tmp_path / "a.pth", model, words=words)
    checkpoint = convert(source, tmp_path / "dest", codes=codes)
    assert checkpoint.notes == []
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "dest")
    assert type(tokenizer).__name__ == "XLMTokenizer"
    assert tokenizer.bpe_ranks == {("l", "o"): 0, ("lo", "w</w>"): 1, ("e", "r</w>"): 2}
    assert tokenizer.lang2id == {"ar": 0, "de": 1, "en": 2}
    assert tokenizer.id2lang == {"0": "ar", "1": "de", "2": "en"}
    assert tokenizer.do_lowercase_and_remove_accent is True
    assert tokenizer.model_max_length == 16
    ids = {word: i for i, word in enumerate(words)}
    assert tokenizer.tokenize("loe ne", lang="en") == ["lo", "e</w>", "n", "e</w>"]
    expected = [0, ids["lo@@"], ids["e"], ids["n@@"], ids["e"], 1]
    assert tokenizer("loe ne")["input_ids"] == expected


def test_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_BYTES", 9000)
    model = make("XLMRoberta", "ForMaskedLM", ROBERTA)
    convert(write_fairseq(tmp_path / "source", model), tmp_path / "dest")
    assert len(list((tmp_path / "dest").glob("model-*-of-00003.safetensors"))) == 3
    assert_loads_as(tmp_path / "dest", model, call_of(model))
