"""The XLM authors' checkpoints, brought to Hugging Face layout.

A ``.pth`` file is a dictionary: ``model``, the tensors; ``params``, the options of the training
run; ``dico_id2word`` and more, the vocabulary. A file of a translation model has ``encoder`` and
``decoder`` in place of ``model``; Hugging Face has a class for the encoder only.

Tensors keep their names, behind ``transformer.`` but for ``pred_layer.``, the layer that predicts
words. Words are marked the other way round: the authors end a piece that goes on with ``@@``,
Hugging Face ends one that does not with ``</w>``.

    id2word       <s> </s> <pad> <unk> <special0> ... <special9>   the      th@@   e
    vocab.json    <s> </s> <pad> <unk> <special0> ... <special9>   the</w>  th     e</w>

Source: facebookresearch/XLM ``xlm/trainer.py`` (``save_checkpoint``), ``xlm/model/transformer.py``,
``xlm/data/dictionary.py``; ``convert_xlm_original_pytorch_checkpoint_to_pytorch.py`` of
transformers. Differs: that script takes every ``@@`` out of a word, not only the one at its end,
and copies all options to config.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from refimpl.checkpoints.originals import common as originals
from refimpl.checkpoints.originals.common import Layout, Options, layer_norm, linear, table
from refimpl.checkpoints.pytorch.pickled import describe
from refimpl.checkpoints.writing import Checkpoint, Pending, json_bytes
from refimpl.errors import CheckpointError

WITH_HEAD, WITHOUT_HEAD = "XLMWithLMHeadModel", "XLMModel"
SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10)))
GOES_ON, ENDS = "@@", "</w>"
PROJ = "pred_layer.proj"
OTHER_MODELS = ("layer_norm15.", "encoder_attn.", "memories.")  # decoders, memory layers


@dataclass(frozen=True)
class Model:
    """What the tensors say about a model."""

    path: Path
    words: int
    positions: int
    width: int
    layers: int
    language_rows: int  # of the table of languages, 0 without one
    predicts: bool  # it has the layer that predicts words
    adaptive: bool  # which is an adaptive softmax


def from_original_xlm(
    path: Path, tree: Mapping[str, Any], architecture: str | None = None, codes: Path | None = None
) -> Checkpoint:
    """Return a checkpoint of the XLM authors as a Hugging Face one.

    Arguments: ``path``, the file; ``tree``, what it holds; ``architecture``, the class to make of
    it, "XLMWithLMHeadModel" or "XLMModel" (None: the former, if the file predicts words);
    ``codes``, the file of BPE codes that belongs to it, which becomes merges.txt.

    Raises ``CheckpointError`` for what is missing, contradictory, or no XLM.
    """
    options = originals.options_of(path, tree.get("params"))
    if options is None:
        raise CheckpointError(f"{path}: params: expected the options of the run, found none")
    key = "model" if "model" in tree else "encoder"
    tensors = without_module(originals.tensors_of(path, key, tree.get(key)))
    model = measure(path, tensors)
    architecture = choose(model, architecture)
    layout = layout_of(model, "" if architecture == WITHOUT_HEAD else "transformer.")
    if architecture == WITH_HEAD:
        layout |= prediction_layout(options, model)
    left_out = ["pred_layer."] if architecture == WITHOUT_HEAD else []
    ours = originals.rename(path, architecture, tensors, layout, left_out)
    config = {
        "architectures": [architecture],
        **config_of(options, model),
        **tie(options, model, ours),
    }
    words = words_of(model, tree.get("dico_id2word"))
    settings = {
        "tokenizer_class": "XLMTokenizer",
        "model_max_length": model.positions,
        "do_lowercase_and_remove_accent": is_lower_case(words),
        **languages_of(options, config["n_langs"]),
    }
    files = {
        "vocab.json": json_bytes(vocabulary_of(path, words)),
        "tokenizer_config.json": json_bytes(settings),
    }
    if codes is not None:
        files["merges.txt"] = read_codes(codes)
    return Checkpoint(config, ours, files, notes_on(options, model, tree, architecture, codes))


def notes_on(
    options: Options, model: Model, tree: Mapping[str, Any], architecture: str, codes: Path | None
) -> list[str]:
    """Say what is not in the result, and what the file cannot tell."""
    notes = ["left out: the decoder, for which transformers has no class"]
    notes = notes if "decoder" in tree else []
    if model.predicts and architecture == WITHOUT_HEAD:
        notes.append("left out: the layer that predicts words")
    if codes is None:
        notes.append("no merges.txt, without which there is no tokenizer: it needs the BPE codes")
    if options.get("clm_steps", list) and not options.get("mlm_steps", list):
        notes.append(
            "trained as a causal language model (clm_steps): to run it as one, set causal to true "
            "in config.json"
        )
    return notes


# --- tensors --------------------------------------------------------------------------------------


def without_module(tensors: dict[str, Pending]) -> dict[str, Pending]:
    """Return the tensors without the prefix that training on several GPUs gives them all."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): x for name, x in tensors.items()}
    return tensors


def measure(path: Path, tensors: Mapping[str, Pending]) -> Model:
    """Return what names and shapes say about a model; ``CheckpointError`` if it is no XLM."""
    for name in tensors:
        if name.startswith(OTHER_MODELS):
            raise CheckpointError(
                f"{path}: {name:.150}: expected an encoder without memory layers; transformers "
                "has no class for others"
            )
    words, width = originals.find(path, tensors, "embeddings.weight", 2).shape
    positions = originals.find(path, tensors, "position_embeddings.weight", 2).shape[0]
    layers = {m[1] for name in tensors if (m := re.match(r"attentions\.([0-9]+)\.", name))}
    languages = tensors.get("lang_embeddings.weight")
    return Model(
        path=path,
        words=words,
        positions=positions,
        width=width,
        layers=len(layers),
        language_rows=languages.shape[0] if languages and languages.shape else 0,
        predicts=any(name.startswith("pred_layer.") for name in tensors),
        adaptive=f"{PROJ}.head.weight" in tensors,
    )


def layout_of(model: Model, prefix: str) -> Layout:
    """The tensors of an encoder: our name, the authors', the shape."""
    D = model.width

    layout = table("position_embeddings", "position_embeddings", model.positions, D)
    if model.language_rows:
        layout |= table("lang_embeddings", "lang_embeddings", model.language_rows, D)
    layout |= table("embeddings", "embeddings", model.words, D)
    layout |= layer_norm("layer_norm_emb", "layer_norm_emb", D)
    for i in range(model.layers):
        for part in ("q_lin", "k_lin", "v_lin", "out_lin"):
            name = f"attentions.{i}.{part}"
            layout |= linear(name, name, D, D)
        layout |= layer_norm(f"layer_norm1.{i}", f"layer_norm1.{i}", D)
        layout |= linear(f"ffns.{i}.lin1", f"ffns.{i}.lin1", 4 * D, D)
        layout |= linear(f"ffns.{i}.lin2", f"ffns.{i}.lin2", D, 4 * D)
        layout |= layer_norm(f"layer_norm2.{i}", f"layer_norm2.{i}", D)
    return {prefix + ours: rest for ours, rest in layout.items()}


def prediction_layout(options: Options, model: Model) -> Layout:
    """The tensors of the layer that predicts words: one matrix, or an adaptive softmax.

    Raises ``CheckpointError`` for clusters that do not get narrower.
    """
    D = model.width
    if not model.adaptive:
        return linear(PROJ, PROJ, model.words, D)
    bounds = [*cutoffs_of(options, model), model.words]
    div_value = options.need("asm_div_value", float)
    if div_value <= 1:
        raise CheckpointError(f"{model.path}: asm_div_value: expected more than 1, got {div_value}")
    layout = linear(f"{PROJ}.head", f"{PROJ}.head", bounds[0] + len(bounds) - 1, D)
    for i, (low, high) in enumerate(pairwise(bounds)):
        narrow = int(D // div_value ** (i + 1))
        for j, shape in enumerate([(narrow, D), (high - low, narrow)]):
            name = f"{PROJ}.tail.{i}.{j}.weight"
            layout[name] = (name, shape)
    return layout


def cutoffs_of(options: Options, model: Model) -> list[int]:
    """Return where the clusters of an adaptive softmax begin: a list, or still "8000,20000".

    Raises ``CheckpointError`` where they do not rise, or pass the last word.
    """
    value = originals.plain(options.values.get("asm_cutoffs"))
    parts = value.split(",") if isinstance(value, str) else value
    try:
        cutoffs = [int(part) for part in parts]
    except (TypeError, ValueError):
        cutoffs = []
    if not cutoffs or any(a >= b for a, b in pairwise([0, *cutoffs, model.words])):
        raise CheckpointError(
            f"{model.path}: asm_cutoffs: expected rising numbers below {model.words}, got "
            f"{describe(value)}"
        )
    return cutoffs


def tie(options: Options, model: Model, tensors: dict[str, Pending]) -> dict[str, bool]:
    """Drop the matrix that predicts words where it is the embeddings; say it where it is not."""
    if model.adaptive:
        return {"tie_word_embeddings": False}
    if f"{PROJ}.weight" not in tensors:
        return {}
    if originals.same_numbers(tensors["transformer.embeddings.weight"], tensors[f"{PROJ}.weight"]):
        del tensors[f"{PROJ}.weight"]
        return {}
    options.agree("share_inout_emb", bool, False, f"{PROJ}.weight")
    return {"tie_word_embeddings": False}


# --- config ---------------------------------------------------------------------------------------


def choose(model: Model, architecture: str | None) -> str:
    """Return the class to make.

    Raises ``CheckpointError`` for one that the file does not hold.
    """
    classes = [WITH_HEAD, WITHOUT_HEAD] if model.predicts else [WITHOUT_HEAD]
    if architecture is None:
        return classes[0]
    if architecture not in classes:
        raise CheckpointError(
            f"architecture: expected {' or '.join(classes)} of {model.path}, got {architecture!r}"
        )
    return architecture


def config_of(options: Options, model: Model) -> dict[str, Any]:
    """Return the config, from the tensors and the options of the run.

    Raises ``CheckpointError`` for heads that do not divide the width.
    """
    options.agree("emb_dim", int, model.width, "embeddings.weight")
    options.agree("n_layers", int, model.layers, "attentions")
    options.agree("n_words", int, model.words, "embeddings.weight")
    options.agree("asm", bool, model.adaptive, "pred_layer")
    heads = options.need("n_heads", int)
    if heads < 1 or model.width % heads:
        raise CheckpointError(
            f"{model.path}: n_heads: expected a divisor of {model.width}, the width, got {heads}"
        )
    n_langs = options.need("n_langs", int)
    if model.language_rows:
        options.agree("n_langs", int, model.language_rows, "lang_embeddings.weight")
    use_lang_emb = bool(model.language_rows) or n_langs == 1
    options.agree("use_lang_emb", bool, use_lang_emb, "lang_embeddings.weight")
    config = {
        "model_type": "xlm",
        "vocab_size": model.words,
        "emb_dim": model.width,
        "n_layers": model.layers,
        "n_heads": heads,
        "n_langs": n_langs,
        "use_lang_emb": use_lang_emb,
        "max_position_embeddings": model.positions,
        "dropout": options.get("dropout", float, 0.1),
        "attention_dropout": options.get("attention_dropout", float, 0.1),
        "gelu_activation": options.need("gelu_activation", bool),
        "sinusoidal_embeddings": options.get("sinusoidal_embeddings", bool, False),
        "causal": options.get("causal", bool, False),
        "asm": model.adaptive,
        "is_encoder": True,
        "layer_norm_eps": 1e-12,
        **{f"{token}_index": i for i, token in enumerate(("bos", "eos", "pad", "unk"))},
        "mask_index": SPECIAL.index("<special1>"),
        "bos_token_id": 0,
        "pad_token_id": 2,
        **languages_of(options, n_langs),
    }
    if model.adaptive:
        config["asm_cutoffs"] = cutoffs_of(options, model)
        config["asm_div_value"] = options.need("asm_div_value", float)
    return config


def languages_of(options: Options, count: int) -> dict[str, dict[str, Any]]:
    """Return the tables of languages, from id to name and from name to id.

    Raises ``CheckpointError`` where not every language has a name.
    """
    given = options.get("id2lang", dict, {})
    names = [given.get(i) for i in range(len(given))]
    if len(given) not in (0, count) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            f"{options.path}: id2lang: expected the names of {count} languages by their ids, got "
            f"{describe(given)}"
        )
    if not given:
        return {}
    return {
        "id2lang": {str(i): name for i, name in enumerate(names)},
        "lang2id": {str(name): i for i, name in enumerate(names)},
    }


# --- vocabulary -----------------------------------------------------------------------------------


def words_of(model: Model, id2word: Any) -> list[str]:
    """Return the words in the order of their ids; ``CheckpointError`` where there are others."""
    if not isinstance(id2word, Mapping):
        raise CheckpointError(f"{model.path}: dico_id2word: expected the words, found none")
    words = [id2word.get(i) for i in range(len(id2word))]
    if len(words) != model.words or not all(isinstance(word, str) for word in words):
        raise CheckpointError(
            f"{model.path}: dico_id2word: expected {model.words} words, one for each row of "
            f"embeddings.weight, got {len(words)}"
        )
    if tuple(words[: len(SPECIAL)]) != SPECIAL:
        raise CheckpointError(
            f"{model.path}: dico_id2word: expected {', '.join(SPECIAL)} first, got "
            f"{', '.join(map(str, words[: len(SPECIAL)]))[:200]}"
        )
    return [str(word) for word in words]


def vocabulary_of(path: Path, words: list[str]) -> dict[str, int]:
    """Return vocab.json: word -> id, marked as Hugging Face does.

    >>> list(vocabulary_of(Path(), [*SPECIAL, "the", "th@@", "@@@"]))[-3:]
    ['the</w>', 'th', '@']

    Raises ``CheckpointError`` where two words would be one so marked.
    """
    vocabulary: dict[str, int] = {}
    for i, word in enumerate(words):
        marked = word
        if i >= len(SPECIAL):
            marked = word.removesuffix(GOES_ON) if word.endswith(GOES_ON) else word + ENDS
        if marked in vocabulary:
            raise CheckpointError(
                f"{path}: dico_id2word: {describe(word)} and {describe(words[vocabulary[marked]])} "
                f"are one word, {describe(marked)}, to a Hugging Face tokenizer"
            )
        vocabulary[marked] = i
    return vocabulary


def is_lower_case(words: list[str]) -> bool:
    """Say whether the text was brought to lower case before it was cut into these words.

    No option of a run tells. The vocabularies of such texts have no capital Latin letter (that of
    XNLI-15 none in 94,986 words, though Cyrillic ones), others have thousands; one in a thousand
    words decides.
    """
    capital = sum(bool(re.search("[A-Z]", word)) for word in words)
    return capital * 1000 <= len(words)


def read_codes(path: Path) -> bytes:
    """Return a file of BPE codes as merges.txt: a line is two pieces, and how often they met.

    Raises ``CheckpointError`` where the file is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: expected BPE codes in UTF-8: {error}") from None
    lines = text.removesuffix("\n").split("\n")
    for i, line in enumerate(lines, 1):
        if not re.fullmatch("[^ ]+ [^ ]+( [0-9]+)?", line):
            raise CheckpointError(
                f"{path}: line {i}: expected two pieces and a count, got {line[:60]!r}"
            )
    return ("\n".join(lines) + "\n").encode()
