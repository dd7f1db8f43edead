"""The heads that XLM-RoBERTa, XLM-RoBERTa-XL and X-MOD share: from hidden states to answers.

First the modules, weights and hidden states in, scores out; then the losses; then the published
classes, each an encoder with a head; last their table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.checkpoints.weights import Weights
from refimpl.models.architecture import (
    Head,
    Shapes,
    layer_norm_shapes,
    linear_shapes,
    merge_inputs,
)
from refimpl.models.inputs import IGNORE_INDEX, Input, Inputs
from refimpl.models.outputs import (
    CausalLMOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from refimpl.taps import tap

Encode = Callable[..., Any]  # an encoder's forward pass


# --- modules --------------------------------------------------------------------------------------


def pooler(w: Weights, hidden: Array) -> Array:
    """(B, S, D) -> (B, D)

    tanh of a linear map of the first token. The published XLM-R checkpoints never trained theirs.

    Source: ``XLMRobertaPooler`` of transformers, which is BERT's.
    """
    x = tap(w.at("dense"), ops.linear(hidden[:, 0, :], **w["dense"]))
    return tap(w.path, ops.tanh(x))


def lm_head(w: Weights, hidden: Array, *, eps: float) -> Array:
    """(..., D) -> (..., V)

    linear, GELU, layer norm, then one score per vocabulary entry: the last matrix is the word
    embedding table again, with a bias of its own. The GELU is the erf form whatever
    ``hidden_act`` says.

    Source: ``XLMRobertaLMHead`` of transformers, ``RobertaLMHead`` of fairseq.
    """
    x = tap(w.at("dense"), ops.linear(hidden, **w["dense"]))
    x = tap(w.at("activation"), ops.gelu_erf(x))
    x = tap(w.at("layer_norm"), ops.layer_norm(x, **w["layer_norm"], eps=eps))
    return tap(w.at("decoder"), ops.linear(x, w["decoder.weight"], w["bias"]))


def states_at(hidden: Array, places: Array) -> Array:
    """(B, S, D), ids (P, 2) -> (P, D)

    The hidden states at some places, each told by its text and its place in it.
    Source: our own; the originals score all places.
    """
    xp = namespace(hidden, places)
    flat = xp.reshape(hidden, (-1, hidden.shape[2]))
    return xp.take(flat, places[:, 0] * hidden.shape[1] + places[:, 1], axis=0)


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
    Source: ``XLMRobertaForTokenClassification`` and the like, where it is their last module.
    """
    return tap(w.path, ops.linear(x, **w))


# --- losses ---------------------------------------------------------------------------------------


def label_loss(logits: Array, labels: Array) -> Array:
    """(..., N), ids (...) -> ()

    Cross entropy over all places whose label is not -100. Source: ``XLMRobertaForMaskedLM``.
    """
    xp = namespace(logits, labels)
    rows = xp.reshape(logits, (-1, logits.shape[-1]))
    return ops.cross_entropy(rows, xp.reshape(labels, (-1,)), ignore_index=IGNORE_INDEX)


def sequence_loss(logits: Array, labels: Array, *, problem_type: str) -> Array:
    """(B, N), (B, N) -> ()

    The loss of the three kinds of sequence classification. ``labels`` are reals (B, N) for
    "regression" (or (B) where N is 1), class ids (B) for "single_label_classification", zeros and
    ones (B, N) for "multi_label_classification". Source: ``XLMRobertaForSequenceClassification``.
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
    Source: ``XLMRobertaForQuestionAnswering``.
    """
    return (_place_loss(start_logits, start) + _place_loss(end_logits, end)) / 2


def _place_loss(logits: Array, places: Array) -> Array:
    xp = namespace(logits, places)
    length = logits.shape[1]
    places = xp.clip(xp.reshape(places, (-1,)), 0, length)
    return ops.cross_entropy(logits, places, ignore_index=length)


# --- the published classes ------------------------------------------------------------------------


def check_logits_at(labels: Array | None, logits_at: Array | None) -> None:
    """Raise ``ValueError`` for a call that wants a loss, over all places, and scores of some."""
    if labels is not None and logits_at is not None:
        raise ValueError("logits_at: expected none beside labels, for the loss is over all places")


def for_masked_lm(
    encode: Encode,
    w: Weights,
    config: Any,
    *,
    labels: Array | None = None,
    logits_at: Array | None = None,
    **inputs: Any,
) -> MaskedLMOutput:
    """ids (B, S) -> (B, S, V)

    With ``logits_at`` (P, 2) the scores of these places only, (P, V).
    Source: ``XLMRobertaForMaskedLM``.
    """
    check_logits_at(labels, logits_at)
    encoded = encode(w, config, **inputs)
    hidden = encoded.last_hidden_state
    hidden = hidden if logits_at is None else states_at(hidden, logits_at)
    logits = lm_head(w["lm_head"], hidden, eps=config.layer_norm_eps)
    loss = None if labels is None else label_loss(logits, labels)
    return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def for_causal_lm(
    encode: Encode,
    w: Weights,
    config: Any,
    *,
    labels: Array | None = None,
    logits_at: Array | None = None,
    **inputs: Any,
) -> CausalLMOutput:
    """ids (B, S) -> (B, S, V)

    Scores of the next token at every place, or (P, V) at the places ``logits_at`` (P, 2). The loss
    compares the scores at each place with the label of the place after it.
    Source: ``XLMRobertaForCausalLM``.
    """
    check_logits_at(labels, logits_at)
    if labels is not None:
        inputs["use_cache"] = False
    encoded = encode(w, config, **inputs)
    hidden = encoded.last_hidden_state
    hidden = hidden if logits_at is None else states_at(hidden, logits_at)
    logits = lm_head(w["lm_head"], hidden, eps=config.layer_norm_eps)
    loss = None if labels is None else label_loss(logits[:, :-1, :], labels[:, 1:])
    return CausalLMOutput(
        loss,
        logits,
        encoded.past_key_values,
        encoded.hidden_states,
        encoded.attentions,
        encoded.cross_attentions,
    )


def for_sequence_classification(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> SequenceClassifierOutput:
    """ids (B, S) -> (B, N)

    Source: ``XLMRobertaForSequenceClassification``.
    """
    encoded = encode(w, config, **inputs)
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
    """ids (B, S) -> (B, S, N)

    Source: ``XLMRobertaForTokenClassification``.
    """
    encoded = encode(w, config, **inputs)
    logits = linear_head(w["classifier"], encoded.last_hidden_state)
    loss = None if labels is None else label_loss(logits, labels)
    return TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def for_multiple_choice(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> MultipleChoiceModelOutput:
    """ids (B, C, S) -> (B, C)

    Every choice is a text of its own; hidden states and attentions have B x C rows.
    Source: ``XLMRobertaForMultipleChoice``.
    """
    texts = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
    batch, choices = texts.shape[:2]
    encoded = encode(w, config, **merge_inputs(inputs))
    scores = linear_head(w["classifier"], encoded.pooler_output)
    logits = namespace(scores).reshape(scores, (batch, choices))
    loss = None if labels is None else label_loss(logits, labels)
    return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def for_question_answering(
    encode: Encode,
    w: Weights,
    config: Any,
    *,
    start_positions: Array | None = None,
    end_positions: Array | None = None,
    **inputs: Any,
) -> QuestionAnsweringModelOutput:
    """ids (B, S) -> (B, S), (B, S)

    Source: ``XLMRobertaForQuestionAnswering``.
    """
    encoded = encode(w, config, **inputs)
    logits = linear_head(w["qa_outputs"], encoded.last_hidden_state)
    start_logits, end_logits = logits[:, :, 0], logits[:, :, 1]
    loss = None
    if start_positions is not None and end_positions is not None:
        loss = span_loss(start_logits, end_logits, start_positions, end_positions)
    return QuestionAnsweringModelOutput(
        loss, start_logits, end_logits, encoded.hidden_states, encoded.attentions
    )


# --- the table ------------------------------------------------------------------------------------


def lm_head_shapes(config: Any) -> Shapes:
    """The tensors of :func:`lm_head`."""
    D, V = config.hidden_size, config.vocab_size
    return {
        **linear_shapes("lm_head.dense", D, D),
        **layer_norm_shapes("lm_head.layer_norm", D),
        "lm_head.decoder.weight": (V, D),
        "lm_head.bias": (V,),
    }


def pooler_shapes(config: Any) -> Shapes:
    """The tensors of :func:`pooler`."""
    return linear_shapes("pooler.dense", config.hidden_size, config.hidden_size)


def _classification_head_shapes(config: Any) -> Shapes:
    return {
        **linear_shapes("classifier.dense", config.hidden_size, config.hidden_size),
        **linear_shapes("classifier.out_proj", config.labels, config.hidden_size),
    }


def sequence_labels(config: Any) -> Inputs:
    """The labels that sequence classification takes, by problem type."""
    classes = Input("labels", ("B",), below=config.labels)
    reals = Input("real", ("B", "B N") if config.labels == 1 else ("B N",))
    forms = {
        "single_label_classification": (classes,),
        "multi_label_classification": (reals,),
        "regression": (reals,),
        None: (reals,) if config.labels == 1 else (classes, reals),
    }
    return {"labels": forms[config.problem_type]}


def token_labels(config: Any) -> Inputs:
    """The labels of token classification."""
    return {"labels": (Input("labels", ("B S",), below=config.labels),)}


def words_inputs(config: Any) -> Inputs:
    """The labels of language modelling, or the places whose scores are asked for."""
    return {
        "labels": (Input("labels", ("B S",), below=config.vocab_size),),
        "logits_at": (Input("places", ("P 2",), below="B S"),),
    }


def choice_labels(config: Any) -> Inputs:
    """The labels of multiple choice."""
    return {"labels": (Input("labels", ("B",), below="C"),)}


def span_labels(config: Any) -> Inputs:
    """The labels of question answering: first and last place of the answer."""
    places = (Input("integers", ("B", "B 1")),)
    return {"start_positions": places, "end_positions": places}


def _tied_words(config: Any) -> dict[str, str]:
    words = "roberta.embeddings.word_embeddings.weight"
    return {"lm_head.decoder.weight": words} if config.tie_word_embeddings else {}


# The bias stands in files under either name or both, and RoBERTa's first had lm_head.weight.
_OLD_LM_NAMES = {
    "lm_head.decoder.bias": "lm_head.bias",
    "lm_head.weight": "lm_head.decoder.weight",
}

HEADS: dict[str, Head] = {
    "ForMaskedLM": Head(
        parameters=lm_head_shapes,
        inputs=words_inputs,
        forward=for_masked_lm,
        old_names=_OLD_LM_NAMES,
        ties=_tied_words,
    ),
    "ForCausalLM": Head(
        parameters=lm_head_shapes,
        inputs=words_inputs,
        forward=for_causal_lm,
        old_names=_OLD_LM_NAMES,
        ties=_tied_words,
    ),
    "ForSequenceClassification": Head(
        parameters=_classification_head_shapes,
        inputs=sequence_labels,
        forward=for_sequence_classification,
        first=True,
    ),
    "ForTokenClassification": Head(
        parameters=lambda config: linear_shapes("classifier", config.labels, config.hidden_size),
        inputs=token_labels,
        forward=for_token_classification,
    ),
    "ForMultipleChoice": Head(
        parameters=lambda config: linear_shapes("classifier", 1, config.hidden_size),
        inputs=choice_labels,
        forward=for_multiple_choice,
        refuses=("encoder_hidden_states", "encoder_attention_mask"),
        pooler=True,
        first=True,
        per_choice=True,
    ),
    "ForQuestionAnswering": Head(
        parameters=lambda config: linear_shapes("qa_outputs", 2, config.hidden_size),
        inputs=span_labels,
        forward=for_question_answering,
    ),
}
