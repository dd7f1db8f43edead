"""Checkpoints in the layouts of fairseq and of XLM's authors, made from Hugging Face ones.

The way back, written apart from refimpl's way there: names are rewritten one rule after another,
as in the table of renamings in the originals' sources. Tensors may be of PyTorch, which then saves
them, or of NumPy: ``save`` writes the same file without PyTorch.
"""

import argparse
import io
import pickle
import re
import shutil
import zipfile
from collections import OrderedDict

import numpy

from refimpl.parity.goldens import bundled

SPM = bundled() / "tokenizers" / "xlm_roberta" / "sentencepiece.bpe.model"


def pieces(path=SPM):
    """The pieces of a SentencePiece file, in order."""
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(i) for i in range(len(model))]


# --- fairseq --------------------------------------------------------------------------------------

FAIRSEQ = [
    (r"^roberta\.embeddings\.word_embeddings\.", "encoder.sentence_encoder.embed_tokens."),
    (r"^roberta\.embeddings\.position_embeddings\.", "encoder.sentence_encoder.embed_positions."),
    (r"^roberta\.embeddings\.LayerNorm\.", "encoder.sentence_encoder.layernorm_embedding."),
    (r"^roberta\.encoder\.LayerNorm\.", "encoder.sentence_encoder.layer_norm."),
    (r"^roberta\.encoder\.layer\.", "encoder.sentence_encoder.layers."),
    (r"\.attention\.self\.query\.", ".self_attn.q_proj."),
    (r"\.attention\.self\.key\.", ".self_attn.k_proj."),
    (r"\.attention\.self\.value\.", ".self_attn.v_proj."),
    (r"\.attention\.output\.dense\.", ".self_attn.out_proj."),
    (r"\.attention\.(output\.LayerNorm|self_attn_layer_norm)\.", ".self_attn_layer_norm."),
    (r"\.intermediate\.dense\.", ".fc1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.fc2."),
    (r"(layers\.\d+)\.(output\.)?LayerNorm\.", r"\1.final_layer_norm."),
    (r"\.output\.adapter_layer_norm\.", ".adapter_layer_norm."),
    (r"\.output\.adapter_modules\.(\w+)\.dense([12])\.", r".adapter_modules.\1.fc\2."),
    (r"^lm_head\.decoder\.weight", "lm_head.weight"),
    (r"^lm_head\.", "encoder.lm_head."),
    (r"^classifier\.", "classification_heads.mnli."),
]
OLD = [
    (r"^encoder\.", "decoder."),
    (r"\.layernorm_embedding\.", ".emb_layer_norm."),
    (r"\.self_attn_layer_norm\.", ".layer_norms.0."),
    (r"(layers\.\d+)\.final_layer_norm\.", r"\1.layer_norms.1."),
]
NOT_THERE = ("token_type_embeddings.weight", "lm_head.decoder.bias", "pooler.dense.weight",
             "pooler.dense.bias")  # fmt: skip


def rewrite(name, rules):
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name


def fairseq_tensors(tensors):
    """A model's tensors, with both of two tied ones, as fairseq of today saves them."""
    return OrderedDict(
        (rewrite(name, FAIRSEQ), x) for name, x in tensors.items() if not name.endswith(NOT_THERE)
    )


def as_in_2019(tensors, join=numpy.concatenate):
    """The same as fairseq saved them then; ``join`` makes one array of three."""
    old = OrderedDict()
    for name, x in tensors.items():
        attention = re.fullmatch(r"(.*\.self_attn\.)q_proj\.(weight|bias)", name)
        if attention:
            parts = [tensors[f"{attention[1]}{p}_proj.{attention[2]}"] for p in "qkv"]
            old[rewrite(f"{attention[1]}in_proj_{attention[2]}", OLD)] = join(parts)
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            old[rewrite(name, OLD)] = x
    return old


def fairseq_options(config):
    """The options of a run that trains a model with such a config.json."""
    options = {
        "arch": "xmod_base" if config["model_type"] == "xmod" else "roberta_base",
        "task": "multilingual_masked_lm",
        "encoder_layers": config["num_hidden_layers"],
        "encoder_embed_dim": config["hidden_size"],
        "encoder_ffn_embed_dim": config["intermediate_size"],
        "encoder_attention_heads": config["num_attention_heads"],
        "activation_fn": "gelu",
        "pooler_activation_fn": "tanh",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "pooler_dropout": 0.0,
        "max_positions": config["max_position_embeddings"] - 2,
        "encoder_layerdrop": 0,
        "encoder_layers_to_keep": None,
        "untie_weights_roberta": not config.get("tie_word_embeddings", True),
    }
    if config["model_type"] == "xmod":
        options |= {
            "languages": list(config["languages"]),
            "adapter_modules": True,
            "adapter_layer_norm": config["adapter_layer_norm"],
            "adapter_reuse_layer_norm": config["adapter_reuse_layer_norm"],
            "ln_before_adapter": config["ln_before_adapter"],
            "bottleneck": config["adapter_reduction_factor"],
            "encoder_normalize_before": config["pre_norm"],
        }
    if config["model_type"] == "xlm-roberta-xl":
        options |= {"encoder_normalize_before": True, "layernorm_embedding": False}
    return options


def fairseq_file(tensors, options, *, old=False):
    """What a fairseq file holds: today's, or one of 2019."""
    options = argparse.Namespace(**options)
    return {
        "args": options if old else None,
        "cfg": None if old else {"_name": None, "model": options, "task": {"_name": "x"}},
        "model": tensors,
        "criterion": None,
        "optimizer_history": [{"num_updates": 7, "best_loss": 1.25}],
        "task_state": {},
        "extra_state": {"metrics": OrderedDict(), "previous_training_time": 1.5},
    }


def beside_fairseq_file(folder, words=None):
    """Write what lies beside a fairseq file: a dict.txt of ``words``, the SentencePiece file."""
    words = pieces()[3:] if words is None else words
    text = "".join(f"{word} {len(words) - i}\n" for i, word in enumerate(words))
    (folder / "dict.txt").write_text(text, encoding="utf-8")
    shutil.copy(SPM, folder)


# --- XLM's authors --------------------------------------------------------------------------------

XLM_SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]


def xlm_words(count):
    """A vocabulary of made-up words, as XLM's authors mark them."""
    words = [f"w{i}" if i % 2 else f"w{i}@@" for i in range(count - len(XLM_SPECIAL))]
    return [*XLM_SPECIAL, *words]


def xlm_params(config, languages):
    """The options of a run that trains such a model: as ``vars(params)`` of the authors."""
    params = {
        "dump_path": "/checkpoint/dumped",
        "encoder_only": True,
        "emb_dim": config["emb_dim"],
        "n_layers": config["n_layers"],
        "n_heads": config["n_heads"],
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "gelu_activation": config["gelu_activation"],
        "share_inout_emb": config.get("tie_word_embeddings", True) and not config["asm"],
        "sinusoidal_embeddings": config["sinusoidal_embeddings"],
        "use_lang_emb": config["use_lang_emb"],
        "asm": config["asm"],
        "n_words": config["vocab_size"],
        "n_langs": config["n_langs"],
        "langs": languages,
        "id2lang": dict(enumerate(languages)),
        "lang2id": {name: i for i, name in enumerate(languages)},
        "mlm_steps": [(name, None) for name in languages],
        "clm_steps": [],
        "para_dataset": {("ar", "de"): {"train": ("a.pth", "b.pth")}},
        "bos_index": 0,
        "eos_index": 1,
        "pad_index": 2,
        "unk_index": 3,
        "mask_index": 5,
    }
    if config["asm"]:
        params |= {"asm_cutoffs": config["asm_cutoffs"], "asm_div_value": config["asm_div_value"]}
    return params


def xlm_tensors(tensors, prefix=""):
    """A model's tensors, with both of two tied ones, as XLM's authors save them."""
    return OrderedDict(
        (prefix + name.removeprefix("transformer."), x) for name, x in tensors.items()
    )


def xlm_file(tensors, params, words, key="model"):
    """What a file of XLM's authors holds."""
    return {
        "epoch": 3,
        "best_metrics": {"valid_en_mlm_ppl": 9.5},
        key: tensors,
        "dico_id2word": dict(enumerate(words)),
        "dico_word2id": {word: i for i, word in enumerate(words)},
        "dico_counts": dict.fromkeys(words, 0),
        "params": params,
    }


# --- torch.save without PyTorch -------------------------------------------------------------------

STORAGES = {"<f4": b"FloatStorage", "<f2": b"HalfStorage", "<f8": b"DoubleStorage"}


class _Name:
    def __init__(self, module, name):
        self.line = b"c" + module + b"\n" + name + b"\n"


class _Storage:
    def __init__(self, key, array):
        kind = _Name(b"torch", STORAGES[array.dtype.str])
        self.id = ("storage", kind, str(key), "cpu", array.size)


class _Pickler(pickle._Pickler):  # the one in Python: it lets a name be written as it is
    def __init__(self, file, arrays):
        super().__init__(file, 2)
        self.arrays = arrays  # by the object's id: tied arrays share a storage

    def persistent_id(self, obj):
        return obj.id if isinstance(obj, _Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Name):
            self.write(obj.line)
        else:
            super().save(obj, save_persistent_id)

    def reducer_override(self, obj):
        if not isinstance(obj, numpy.ndarray):
            return NotImplemented
        key = list(self.arrays).index(id(obj)) if id(obj) in self.arrays else len(self.arrays)
        self.arrays[id(obj)] = obj
        strides = tuple(n // obj.itemsize for n in obj.strides)
        args = (_Storage(key, obj), 0, obj.shape, strides, False, OrderedDict())
        return _Rebuild(), args


class _Rebuild(_Name):
    def __init__(self):
        super().__init__(b"torch._utils", b"_rebuild_tensor_v2")

    def __call__(self):
        """The pickler wants something that can be called."""


def save(value, path):
    """Write a value as ``torch.save`` does since 1.6: NumPy arrays as tensors."""
    arrays, pickled = {}, io.BytesIO()
    _Pickler(pickled, arrays).dump(value)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled.getvalue())
        for key, array in enumerate(arrays.values()):
            file.writestr(f"archive/data/{key}", numpy.ascontiguousarray(array).tobytes())
        file.writestr("archive/version", b"3\n")
    return path
