"""The heads that XLM-RoBERTa, XLM-RoBERTa-XL and X-MOD share: from hidden states to answers.

First the modules, weights and hidden states in, scores out; then the losses; then the published
classes, each an encoder with a head; last the table that joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.checkpoints.names import NameRules, Shape
from refimpl.checkpoints.weights import Weights
from refimpl.models.architecture import Architecture, Encoder, layer_norm_shapes, linear_shapes
from refimpl.models.inputs import IGNORE_INDEX, Input, Inputs
from refimpl.models.outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from refimpl.taps import tap

Encode = Callable[..., BaseModelOutput]  # an encoder's forward pass
BASE = "roberta"  # the prefix under which every class with a head keeps its encoder


# --- modules --------------------------------------------------------------------------------------


def pooler(w: Weights, hidden: Array) -> Array:
    """(B, S, D) -> (B, D)

    tanh of a linear map of the first token. The published XLM-R checkpoints never trained theirs.

    Source: ``XLMRobertaPooler`` of transformers, which is BERT's.
    """
    x = tap(w.at("dense"), ops.linear(hidden[:, 0, :], **w["dense"]))
    return tap(w.path, ops.tanh(x))


def lm_head(w: Weights, hidden: Array, *, eps: float) -> Array:
    """(B, S, D) -> (B, S, V)

    linear, GELU, layer norm, then one score per vocabulary entry: the last matrix is the word
    embedding table again, with a bias of its own. The GELU is the erf form whatever
    ``hidden_act`` says.

    Source: ``XLMRobertaLMHead`` of transformers, ``RobertaLMHead`` of fairseq.
    """
    x = tap(w.at("dense"), ops.linear(hidden, **w["dense"]))
    x = tap(w.at("activation"), ops.gelu_erf(x))
    x = tap(w.at("layer_norm"), ops.layer_norm(x, **w["layer_norm"], eps=eps))
    return tap(w.at("decoder"), ops.linear(x, w["decoder.weight"], w["bias"]))


def classification_head(w: Weights, hidden: Array) -> Array:
    """(B, S, D) -> (B, N)

    linear, tanh, linear, of the first token.

    Source: ``XLMRobertaClassificationHead`` of transformers.
    """
    x = tap(w.at("dense"), ops.linear(hidden[:, 0, :], **w["dense"]))
    x = tap(w.at("activation"), ops.tanh(x))
    return tap(w.at("out_proj"), ops.linear(x, **w["out_proj"]))


def linear_head(w: Weights, x: Array) -> Array:
    """(..., D) -> (..., N)

    One linear map: tags and spans from hidden states, choices from the pooler's output.
    """
    return tap(w.path, ops.linear(x, **w))


# --- losses ---------------------------------------------------------------------------------------


def label_loss(logits: Array, labels: Array) -> Array:
    """(..., N), ids (...) -> ()

    Cross entropy over all places whose label is not -100.
    """
    xp = namespace(logits, labels)
    rows = xp.reshape(logits, (-1, logits.shape[-1]))
    return ops.cross_entropy(rows, xp.reshape(labels, (-1,)), ignore_index=IGNORE_INDEX)


def sequence_loss(logits: Array, labels: Array, *, problem_type: str) -> Array:
    """(B, N), (B, N) -> ()

    The loss of the three kinds of sequence classification. ``labels`` are reals (B, N) for
    "regression" (or (B) where N is 1), class ids (B) for "single_label_classification", zeros and
    ones (B, N) for "multi_label_classification".
    """
    if problem_type == "single_label_classification":
        return label_loss(logits, labels)
    xp = namespace(logits, labels)
    target = xp.astype(xp.reshape(labels, logits.shape), logits.dtype)
    if problem_type == "regression":
        return ops.mean_squared_error(logits, target)
    return ops.binary_cross_entropy_with_logits(logits, target)


def span_loss(start_logits: Array, end_logits: Array, start: Array, end: Array) -> Array:
    """(B, S), (B, S), ids (B), ids (B) -> ()

    Mean of the cross entropies of first and last token. A place behind the text is not counted
    (the answer lies outside this window), one before it counts as place 0.
    """
    return (_place_loss(start_logits, start) + _place_loss(end_logits, end)) / 2


def _place_loss(logits: Array, places: Array) -> Array:
    xp = namespace(logits, places)
    length = logits.shape[1]
    places = xp.clip(xp.reshape(places, (-1,)), 0, length)
    return ops.cross_entropy(logits, places, ignore_index=length)


# --- the published classes ------------------------------------------------------------------------


def for_masked_lm(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> MaskedLMOutput:
    """ids (B, S) -> (B, S, V)"""
    encoded = encode(w[BASE], config, **inputs)
    logits = lm_head(w["lm_head"], encoded.last_hidden_state, eps=config.layer_norm_eps)
    loss = None if labels is None else label_loss(logits, labels)
    return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def for_sequence_classification(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> SequenceClassifierOutput:
    """ids (B, S) -> (B, N)"""
    encoded = encode(w[BASE], config, **inputs)
    logits = classification_head(w["classifier"], encoded.last_hidden_state)
    loss = None
    if labels is not None:
        loss = sequence_loss(logits, labels, problem_type=problem_type(config, labels))
    return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def problem_type(config: Any, labels: Array) -> str:
    """Return the config's problem type, or the one that the labels show where it has none.

    One label is regression; of several, integer labels are classes, real ones independent yes or
    no answers. (The original writes what it inferred first into its config; ours never does.)
    """
    if config.problem_type is not None:
        return str(config.problem_type)
    if config.labels == 1:
        return "regression"
    integers = namespace(labels).isdtype(labels.dtype, "integral")
    return "single_label_classification" if integers else "multi_label_classification"


def for_token_classification(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> TokenClassifierOutput:
    """ids (B, S) -> (B, S, N)"""
    encoded = encode(w[BASE], config, **inputs)
    logits = linear_head(w["classifier"], encoded.last_hidden_state)
    loss = None if labels is None else label_loss(logits, labels)
    return TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def for_multiple_choice(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> MultipleChoiceModelOutput:
    """ids (B, C, S) -> (B, C)

    Every choice is a text of its own; hidden states and attentions have B x C rows.
    """
    per_text = [x for name, x in inputs.items() if name in ("input_ids", "inputs_embeds")]
    batch, choices = per_text[0].shape[:2]
    flat = {name: _merge_choices(x) if _is_per_text(name) else x for name, x in inputs.items()}
    encoded = encode(w[BASE], config, **flat)
    scores = linear_head(w["classifier"], encoded.pooler_output)
    logits = namespace(scores).reshape(scores, (batch, choices))
    loss = None if labels is None else label_loss(logits, labels)
    return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def _is_per_text(name: str) -> bool:
    return name not in ("head_mask", "output_hidden_states", "output_attentions")


def _merge_choices(x: Array) -> Array:
    """(B, C, ...) -> (B*C, ...)

    One row for all texts (1, S) stays.
    """
    if x.ndim == 2:
        return x
    return namespace(x).reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


def for_question_answering(
    encode: Encode,
    w: Weights,
    config: Any,
    *,
    start_positions: Array | None = None,
    end_positions: Array | None = None,
    **inputs: Any,
) -> QuestionAnsweringModelOutput:
    """ids (B, S) -> (B, S), (B, S)"""
    encoded = encode(w[BASE], config, **inputs)
    logits = linear_head(w["qa_outputs"], encoded.last_hidden_state)
    start_logits, end_logits = logits[:, :, 0], logits[:, :, 1]
    loss = None
    if start_positions is not None and end_positions is not None:
        loss = span_loss(start_logits, end_logits, start_positions, end_positions)
    return QuestionAnsweringModelOutput(
        loss, start_logits, end_logits, encoded.hidden_states, encoded.attentions
    )


# --- an encoder and its heads ---------------------------------------------------------------------


class Head(NamedTuple):
    """What one class adds to its encoder."""

    parameters: Callable[[Any], dict[str, Shape]]
    inputs: Callable[[Any], Inputs]
    forward: Callable[..., Any]
    pooler: bool = False  # the class's encoder has a pooler


def _lm_head_shapes(config: Any) -> dict[str, Shape]:
    D, V = config.hidden_size, config.vocab_size
    return {
        **linear_shapes("lm_head.dense", D, D),
        **layer_norm_shapes("lm_head.layer_norm", D),
        "lm_head.decoder.weight": (V, D),
        "lm_head.bias": (V,),
    }


def _classification_head_shapes(config: Any) -> dict[str, Shape]:
    return {
        **linear_shapes("classifier.dense", config.hidden_size, config.hidden_size),
        **linear_shapes("classifier.out_proj", config.labels, config.hidden_size),
    }


def _sequence_labels(config: Any) -> Inputs:
    classes = Input("labels", ("B",), below=config.labels)
    reals = Input("real", ("B", "B N") if config.labels == 1 else ("B N",))
    forms = {
        "single_label_classification": (classes,),
        "multi_label_classification": (reals,),
        "regression": (reals,),
        None: (reals,) if config.labels == 1 else (classes, reals),
    }
    return {"labels": forms[config.problem_type]}


HEADS: dict[str, Head] = {
    "ForMaskedLM": Head(
        parameters=_lm_head_shapes,
        inputs=lambda config: {"labels": (Input("labels", ("B S",), below=config.vocab_size),)},
        forward=for_masked_lm,
    ),
    "ForSequenceClassification": Head(
        parameters=_classification_head_shapes,
        inputs=_sequence_labels,
        forward=for_sequence_classification,
    ),
    "ForTokenClassification": Head(
        parameters=lambda config: linear_shapes("classifier", config.labels, config.hidden_size),
        inputs=lambda config: {"labels": (Input("labels", ("B S",), below=config.labels),)},
        forward=for_token_classification,
    ),
    "ForMultipleChoice": Head(
        parameters=lambda config: linear_shapes("classifier", 1, config.hidden_size),
        inputs=lambda config: {"labels": (Input("labels", ("B",), below="C"),)},
        forward=for_multiple_choice,
        pooler=True,
    ),
    "ForQuestionAnswering": Head(
        parameters=lambda config: linear_shapes("qa_outputs", 2, config.hidden_size),
        inputs=lambda config: {
            "start_positions": (Input("integers", ("B", "B 1")),),
            "end_positions": (Input("integers", ("B", "B 1")),),
        },
        forward=for_question_answering,
    ),
}


def with_heads(family: str, encoder: Encoder, names: Iterable[str]) -> dict[str, Architecture]:
    """Return the published classes of a family: the encoder alone, and with each head of ``names``.

    ``with_heads("XLMRoberta", ...)`` has the keys "XLMRobertaModel", "XLMRobertaForMaskedLM", ...
    """
    classes = {f"{family}Model": _encoder_alone(encoder)}
    return classes | {family + name: _with_head(encoder, HEADS[name]) for name in names}


def _encoder_alone(encoder: Encoder) -> Architecture:
    """The encoder and its pooler. A file that was saved without a pooler loads, and has none."""
    return Architecture(
        config=encoder.config,
        parameters=lambda config: encoder.parameters(config) | _pooler_shapes(config, "pooler"),
        rules=lambda _: NameRules(base=BASE, buffers=_buffers(""), optional=("pooler",)),
        inputs=encoder.inputs,
        sizes=_sizes,
        check=encoder.check,
        forward=encoder.forward,
    )


def _with_head(encoder: Encoder, head: Head) -> Architecture:
    def parameters(config: Any) -> dict[str, Shape]:
        shapes = {f"{BASE}.{n}": shape for n, shape in encoder.parameters(config).items()}
        if head.pooler:
            shapes |= _pooler_shapes(config, f"{BASE}.pooler")
        return shapes | head.parameters(config)

    def inputs(config: Any) -> Inputs:
        of_encoder = encoder.inputs(config)
        if head.forward is for_multiple_choice:
            of_encoder = {name: _per_choice(forms) for name, forms in of_encoder.items()}
        return {**of_encoder, **head.inputs(config)}

    return Architecture(
        config=encoder.config,
        parameters=parameters,
        rules=partial(_head_rules, head),
        inputs=inputs,
        sizes=_sizes,
        check=encoder.check,
        forward=partial(head.forward, encoder.forward),
    )


def _head_rules(head: Head, config: Any) -> NameRules:
    tied = {"lm_head.decoder.weight": f"{BASE}.embeddings.word_embeddings.weight"}
    return NameRules(
        base=BASE,
        # Files have the bias under either name, or both; RoBERTa's first had lm_head.weight.
        old_names={
            "lm_head.decoder.bias": "lm_head.bias",
            "lm_head.weight": "lm_head.decoder.weight",
        },
        ties=tied if config.tie_word_embeddings else {},
        buffers=_buffers(f"{BASE}."),
        # The published masked-LM files hold a pooler that the class does not have.
        unused=() if head.pooler else (f"{BASE}.pooler",),
    )


def _pooler_shapes(config: Any, name: str) -> dict[str, Shape]:
    return linear_shapes(f"{name}.dense", config.hidden_size, config.hidden_size)


def _buffers(prefix: str) -> tuple[str, ...]:
    return (f"{prefix}embeddings.position_ids", f"{prefix}embeddings.token_type_ids")


def _sizes(config: Any) -> dict[str, int]:
    return {
        "D": config.hidden_size,
        "H": config.num_attention_heads,
        "L": config.num_hidden_layers,
        "N": config.labels,
    }


def _per_choice(forms: tuple[Input, ...]) -> tuple[Input, ...]:
    """The forms of an input whose texts are choices: (B, S) becomes (B, C, S)."""
    return tuple(
        replace(form, shapes=tuple(s.replace("B S", "B C S") for s in form.shapes if s != "B S S"))
        for form in forms
    )
