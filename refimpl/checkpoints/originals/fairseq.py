"""fairseq's checkpoints of XLM-R, XLM-R-XL and -XXL, and X-MOD, brought to Hugging Face layout.

An archive of fairseq unpacks to ``model.pt``, ``dict.txt`` and ``sentencepiece.bpe.model``. Which
of the models it is, and how large, the tensors say; the options of the training run (``args``
until 2020, ``cfg`` since) say what no shape can tell: the number of heads, the activation, where
X-MOD's adapters normalise. What both say must agree.

The encoder's tensors have changed their names. Old names are brought to today's first:

    decoder.sentence_encoder.            sentence_encoder.         (and encoder.sentence_encoder.)
    emb_layer_norm                       layernorm_embedding
    layers.0.self_attn.in_proj_weight    q_proj, k_proj, v_proj, one below the other
    layers.0.layer_norms.0, .1           self_attn_layer_norm, final_layer_norm

Source: fairseq ``models/roberta/model.py``, ``models/xmod/``, ``models/transformer/``,
``modules/multihead_attention.py`` (their ``upgrade_state_dict_named``); the conversion scripts of
transformers for ``roberta``, ``xlm_roberta_xl`` and ``xmod``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy

from refimpl.checkpoints.originals import common as originals
from refimpl.checkpoints.originals.common import Layout, Options, layer_norm, linear, table
from refimpl.checkpoints.originals.fairseq_config import (
    ENCODER,
    FIRST_POSITION,
    Model,
    config_of,
    options_of,
)
from refimpl.checkpoints.originals.fairseq_vocabulary import (
    DICT,
    MODEL,
    Vocabulary,
    read_vocabulary,
)
from refimpl.checkpoints.writing import Checkpoint, Pending, json_bytes
from refimpl.errors import CheckpointError

HEADS = "classification_heads"
MASKED_LM, CLASSIFICATION = "ForMaskedLM", "ForSequenceClassification"
WORDS = "roberta.embeddings.word_embeddings.weight"
TYPES = "roberta.embeddings.token_type_embeddings.weight"
DECODER = "lm_head.decoder.weight"


def from_fairseq(
    path: Path, tree: Mapping[str, Any], architecture: str | None = None, head: str | None = None
) -> Checkpoint:
    """Return a fairseq checkpoint as a Hugging Face one.

    Arguments: ``path``, the file, beside which ``dict.txt`` and the SentencePiece model lie;
    ``tree``, what it holds; ``architecture``, the class to make of it: "...ForMaskedLM" or
    "...ForSequenceClassification" (None: the latter where there is a classification head);
    ``head``, the name of that head, needed where there are several.

    Raises ``CheckpointError`` for what is missing, contradictory, or none of the models.
    """
    options = options_of(path, tree)
    tensors = dict(current_names(path, originals.tensors_of(path, "model", tree.get("model"))))
    model = measure(path, tensors)
    vocabulary = read_vocabulary(path.parent)
    if model.rows < vocabulary.size:
        raise CheckpointError(
            f"{path}: {ENCODER}.embed_tokens.weight: expected a row for each of the "
            f"{vocabulary.size} ids of {DICT}, got {model.rows}"
        )
    architecture, head = choose(model, architecture, head)
    left_out = [f"{HEADS}.{name}." for name in model.classifiers if name != head]
    left_out += [] if head is None else ["lm_head."]
    layout = layout_of(model) | head_layout(model, head)
    ours = originals.rename(path, architecture, tensors, layout, left_out)
    ours[TYPES] = row_of_zeros(ours[WORDS])
    config = {"architectures": [architecture], **config_of(options, model, head)}
    config |= tie(options, ours) if head is None else {}
    settings = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "model_max_length": model.positions - FIRST_POSITION,
    }
    return Checkpoint(
        config,
        ours,
        files={MODEL: vocabulary.model, "tokenizer_config.json": json_bytes(settings)},
        notes=[*notes_on_vocabulary(model, vocabulary), *notes_on_rest(tensors, left_out)],
    )


def notes_on_vocabulary(model: Model, vocabulary: Vocabulary) -> Iterator[str]:
    """Say where the vocabulary is not simply the SentencePiece model's."""
    if vocabulary.is_new:
        yield f"{MODEL} was written anew: its pieces are now those of {DICT}, in that order"
    if vocabulary.left_out:
        yield (
            f"{vocabulary.left_out} pieces of {MODEL} are not in {DICT} and were left out: where "
            "fairseq gives <unk> for one, a text is now cut into smaller pieces"
        )
    if model.rows > vocabulary.tokens:
        yield f"{model.rows - vocabulary.tokens} rows of the word embeddings belong to no token"


def notes_on_rest(tensors: Iterable[str], left_out: Iterable[str]) -> Iterator[str]:
    """Say which parts of the file are not in the result."""
    for prefix in left_out:
        count = sum(name.startswith(prefix) for name in tensors)
        if count:
            yield f"left out: {prefix.removesuffix('.')} ({count} tensors)"


# --- tensors --------------------------------------------------------------------------------------


def current_names(path: Path, tensors: Mapping[str, Pending]) -> Iterator[tuple[str, Pending]]:
    """Yield the tensors under today's names, buffers left out, fused projections taken apart.

    Raises ``CheckpointError`` where two tensors have one name.
    """
    seen = set()
    for name, tensor in tensors.items():
        for new, part in _take_apart(_current_name(name), tensor):
            if new in seen:
                raise CheckpointError(f"{path}: {name:.150}: stands there twice, as {new:.150}")
            seen.add(new)
            if not new.endswith((f"{ENCODER}.version", "embed_positions._float_tensor")):
                yield new, part


def _current_name(name: str) -> str:
    """Return today's name, without the module that the encoder stands in.

    >>> _current_name("decoder.sentence_encoder.layers.3.layer_norms.1.bias")
    'sentence_encoder.layers.3.final_layer_norm.bias'
    """
    name = re.sub(r"^(encoder|decoder)\.", "", name)
    name = name.replace(f"{ENCODER}.emb_layer_norm.", f"{ENCODER}.layernorm_embedding.")
    name = re.sub(r"\.layer_norms\.0\.", ".self_attn_layer_norm.", name)
    return re.sub(r"\.layer_norms\.1\.", ".final_layer_norm.", name)


def _take_apart(name: str, tensor: Pending) -> Iterator[tuple[str, Pending]]:
    """Yield a tensor, or the three of ``in_proj_weight`` and ``in_proj_bias``: (3D, D), (3D)."""
    stem, fused, kind = name.partition(".self_attn.in_proj_")
    if not fused or not tensor.shape or tensor.shape[0] % 3:
        yield name, tensor
        return
    rows = tensor.shape[0] // 3
    for i, part in enumerate("qkv"):

        def read(start: int = i * rows) -> numpy.ndarray:
            return tensor.read()[start : start + rows]

        shape = (rows, *tensor.shape[1:])
        yield f"{stem}.self_attn.{part}_proj.{kind}", Pending(tensor.dtype, shape, read)


def measure(path: Path, tensors: Mapping[str, Pending]) -> Model:
    """Return what names and shapes say about a model; ``CheckpointError`` if it is none of ours."""

    def shape(name: str, axes: int = 2) -> tuple[int, ...]:
        return originals.find(path, tensors, name, axes).shape

    rows, width = shape(f"{ENCODER}.embed_tokens.weight")
    first = f"{ENCODER}.layers.0"
    adapters = _part(tensors, rf"{first}\.adapter_modules\.([^.]+)\.fc1\.weight")
    pre_norm = f"{ENCODER}.layer_norm.weight" in tensors
    has_norm = f"{ENCODER}.layernorm_embedding.weight" in tensors
    family = "Xmod" if adapters else "XLMRobertaXL" if pre_norm else "XLMRoberta"
    if has_norm == (family == "XLMRobertaXL"):
        raise CheckpointError(
            f"{path}: expected XLM-R (embeddings normalised, no norm at the end), XLM-R-XL (the "
            f"other way round) or X-MOD (adapters, embeddings normalised), got "
            f"{'a' if has_norm else 'no'} norm of the embeddings, {'one' if pre_norm else 'none'} "
            f"at the end and {'' if adapters else 'no '}adapters"
        )
    layers = len(set(_part(tensors, rf"{ENCODER}\.layers\.([0-9]+)\..*")))
    if len(adapters) * layers > len(tensors):  # before a list of as many names is made
        raise CheckpointError(f"{path}: expected adapters of every language in every layer")
    heads = _part(tensors, rf"{HEADS}\.([^.]+)\.out_proj\.weight")
    one = f"{first}.adapter_modules.{adapters[0]}.fc1.weight" if adapters else ""
    return Model(
        path=path,
        family=family,
        rows=rows,
        positions=shape(f"{ENCODER}.embed_positions.weight")[0],
        width=width,
        layers=layers,
        inner=shape(f"{first}.fc1.weight")[0],
        pre_norm=pre_norm,
        classifiers={name: shape(f"{HEADS}.{name}.out_proj.weight")[0] for name in heads},
        languages=tuple(adapters),
        narrow=shape(one)[0] if adapters else 0,
        adapter_norm=f"{first}.adapter_layer_norm.weight" in tensors,
    )


def _part(names: Iterable[str], pattern: str) -> list[str]:
    """Return the group of a pattern in the names that it matches, in their order."""
    return [found[1] for name in names if (found := re.fullmatch(pattern, name))]


def layout_of(model: Model) -> Layout:
    """The tensors of an encoder: our name, fairseq's, the shape."""
    D, base = model.width, "roberta.embeddings"
    layout = {
        **table(f"{base}.word_embeddings", f"{ENCODER}.embed_tokens", model.rows, D),
        **table(f"{base}.position_embeddings", f"{ENCODER}.embed_positions", model.positions, D),
    }
    if model.family != "XLMRobertaXL":
        layout |= layer_norm(f"{base}.LayerNorm", f"{ENCODER}.layernorm_embedding", D)
    for i in range(model.layers):
        layout |= layer_layout(model, f"roberta.encoder.layer.{i}", f"{ENCODER}.layers.{i}")
    if model.pre_norm:
        layout |= layer_norm("roberta.encoder.LayerNorm", f"{ENCODER}.layer_norm", D)
    return layout


def layer_layout(model: Model, ours: str, theirs: str) -> Layout:
    """The tensors of a layer. XLM-R-XL's norms stand elsewhere, as they are applied elsewhere."""
    D, F, is_xl = model.width, model.inner, model.family == "XLMRobertaXL"
    attention_norm = "attention.self_attn_layer_norm" if is_xl else "attention.output.LayerNorm"
    layout = {
        **linear(f"{ours}.attention.self.query", f"{theirs}.self_attn.q_proj", D, D),
        **linear(f"{ours}.attention.self.key", f"{theirs}.self_attn.k_proj", D, D),
        **linear(f"{ours}.attention.self.value", f"{theirs}.self_attn.v_proj", D, D),
        **linear(f"{ours}.attention.output.dense", f"{theirs}.self_attn.out_proj", D, D),
        **layer_norm(f"{ours}.{attention_norm}", f"{theirs}.self_attn_layer_norm", D),
        **linear(f"{ours}.intermediate.dense", f"{theirs}.fc1", F, D),
        **linear(f"{ours}.output.dense", f"{theirs}.fc2", D, F),
        **layer_norm(
            f"{ours}.{'' if is_xl else 'output.'}LayerNorm", f"{theirs}.final_layer_norm", D
        ),
    }
    if model.adapter_norm:
        layout |= layer_norm(f"{ours}.output.adapter_layer_norm", f"{theirs}.adapter_layer_norm", D)
    for language in model.languages:
        adapter = f"adapter_modules.{language}"
        layout |= linear(
            f"{ours}.output.{adapter}.dense1", f"{theirs}.{adapter}.fc1", model.narrow, D
        )
        layout |= linear(
            f"{ours}.output.{adapter}.dense2", f"{theirs}.{adapter}.fc2", D, model.narrow
        )
    return layout


def head_layout(model: Model, head: str | None) -> Layout:
    """The tensors of a classification head, or (None) of the head that predicts words."""
    D = model.width
    if head is not None:
        return {
            **linear("classifier.dense", f"{HEADS}.{head}.dense", D, D),
            **linear("classifier.out_proj", f"{HEADS}.{head}.out_proj", model.classifiers[head], D),
        }
    return {
        **linear("lm_head.dense", "lm_head.dense", D, D),
        **layer_norm("lm_head.layer_norm", "lm_head.layer_norm", D),
        **table("lm_head.decoder", "lm_head", model.rows, D),
        "lm_head.bias": ("lm_head.bias", (model.rows,)),
    }


def row_of_zeros(words: Pending) -> Pending:
    """The embedding of the one token type, which fairseq does not have: it adds nothing."""
    return Pending(words.dtype, (1, words.shape[1]), lambda: numpy.zeros_like(words.read()[:1]))


def tie(options: Options, tensors: dict[str, Pending]) -> dict[str, bool]:
    """Drop the decoder's matrix where it is the word embeddings; say it where it is not."""
    if originals.same_numbers(tensors[WORDS], tensors[DECODER]):
        del tensors[DECODER]
        return {}
    options.agree("untie_weights_roberta", bool, True, "lm_head.weight")
    return {"tie_word_embeddings": False}


# --- which class ---------------------------------------------------------------------------------


def choose(model: Model, architecture: str | None, head: str | None) -> tuple[str, str | None]:
    """Return the class to make, and the classification head that it takes.

    Raises ``CheckpointError`` for one that the file does not hold.
    """
    classes = [model.family + kind for kind in (MASKED_LM, CLASSIFICATION)]
    names = ", ".join(model.classifiers) or "none"
    if architecture is None:
        architecture = classes[bool(model.classifiers) or head is not None]
    if architecture not in classes:
        raise CheckpointError(
            f"architecture: expected {' or '.join(classes)} of {model.path}, got {architecture!r}"
        )
    if architecture == classes[0]:
        if head is not None:
            raise CheckpointError(f"head: {architecture} has no classification head, got {head!r}")
        return architecture, None
    if head is None and len(model.classifiers) == 1:
        head = next(iter(model.classifiers))
    if head not in model.classifiers:
        raise CheckpointError(f"head: expected one of {names} (in {model.path}), got {head!r}")
    return architecture, head
