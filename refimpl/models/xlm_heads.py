"""XLM's own heads: language modelling with a plain or adaptive softmax, a summary of the sequence,
and spans found by beam search.

Source throughout: transformers 4.57.6, ``models/xlm/modeling_xlm.py``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from refimpl import ops
from refimpl.backend import Array, descending_order, namespace
from refimpl.checkpoints.weights import Weights
from refimpl.models import heads
from refimpl.models.architecture import (
    Head,
    Shapes,
    layer_norm_shapes,
    linear_shapes,
    merge_inputs,
)
from refimpl.models.heads import Encode
from refimpl.models.inputs import IGNORE_INDEX, Input, Inputs
from refimpl.models.outputs import (
    MultipleChoiceModelOutput,
    SequenceClassifierOutput,
    XLMForQuestionAnsweringOutput,
    XLMWithLMHeadOutput,
)
from refimpl.taps import tap

# --- modules --------------------------------------------------------------------------------------


def pred_layer(w: Weights, config: Any, hidden: Array) -> Array:
    """(..., D) -> (..., V)

    One score per word: a linear map whose matrix is the word embedding table again (tied). With
    ``asm``, log-probabilities by adaptive softmax.

    Source: ``XLMPredLayer``. Differs: transformers 4.57 fails on adaptive softmax of (B, S, D);
    XLM's authors flatten the places first, as this does.
    """
    if not config.asm:
        return tap(w.at("proj"), ops.linear(hidden, **w["proj"]))
    xp = namespace(hidden)
    rows = xp.reshape(hidden, (-1, hidden.shape[-1]))
    tails = [
        (w[f"proj.tail.{i}.0.weight"], w[f"proj.tail.{i}.1.weight"])
        for i in range(len(config.asm_cutoffs))
    ]
    log_probs = ops.adaptive_log_softmax(rows, w["proj.head.weight"], w["proj.head.bias"], tails)
    return xp.reshape(log_probs, (*hidden.shape[:-1], log_probs.shape[1]))


def sequence_summary(
    w: Weights | None, config: Any, hidden: Array, cls_index: Array | None = None
) -> Array:
    """(B, S, D) -> (B, N)

    One vector for the sequence: that of the first or last token, of the token ``cls_index`` (B)
    points to (the last, where it is not given), or the mean of all; then a projection, to N labels
    or to D, and an activation, as the config says. ``w`` is None where it has no projection.

    Padding counts like any other token: the last is the last place, the mean is over all places.

    Source: ``XLMSequenceSummary``.
    """
    if config.summary_type == "first":
        x = hidden[:, 0, :]
    elif config.summary_type == "mean":
        x = namespace(hidden).mean(hidden, axis=1)
    elif config.summary_type == "cls_index" and cls_index is not None:
        x = take_places(hidden, cls_index[:, None])[:, 0, :]
    else:
        x = hidden[:, -1, :]
    if w is not None:
        x = tap(w.at("summary"), ops.linear(x, **w["summary"]))
    if config.summary_activation:
        x = ops.ACTIVATIONS[config.summary_activation](x)
    return tap("sequence_summary", x)


def take_places(hidden: Array, places: Array) -> Array:
    """(B, S, D), ids (B, P) -> (B, P, D)

    The hidden states at other places in each row.
    Source: ``torch.gather`` in ``XLMPoolerEndLogits``.
    """
    xp = namespace(hidden, places)
    index = xp.broadcast_to(places[:, :, None], (*places.shape, hidden.shape[2]))
    return xp.take_along_axis(hidden, index, axis=1)


def start_logits(w: Weights, hidden: Array, p_mask: Array | None) -> Array:
    """(B, S, D) -> (B, S)

    The score of each place as the first of the answer. Source: ``XLMPoolerStartLogits``.
    """
    x = tap(w.at("dense"), ops.linear(hidden, **w["dense"]))[:, :, 0]
    return rule_out(x, p_mask)


def end_logits(
    w: Weights, config: Any, hidden: Array, start_states: Array, p_mask: Array | None
) -> Array:
    """(..., D), (..., D) -> (...)

    The score of each place as the last of the answer, given the hidden state of its first.
    Source: ``XLMPoolerEndLogits``.
    """
    xp = namespace(hidden, start_states)
    x = tap(w.at("dense_0"), ops.linear(xp.concat([hidden, start_states], axis=-1), **w["dense_0"]))
    x = ops.layer_norm(ops.tanh(x), **w["LayerNorm"], eps=config.layer_norm_eps)
    x = tap(w.at("LayerNorm"), x)
    return rule_out(tap(w.at("dense_1"), ops.linear(x, **w["dense_1"]))[..., 0], p_mask)


def rule_out(logits: Array, p_mask: Array | None) -> Array:
    """(...), (...) -> (...)

    Give places that cannot be in the answer (``p_mask`` 1) a score of -1e30, of -65500 in float16.
    Source: ``XLMPoolerStartLogits``.
    """
    if p_mask is None:
        return logits
    low = 1e30 if namespace(logits).finfo(logits.dtype).bits >= 32 else 65500.0
    return logits * (1 - p_mask) - low * p_mask


def answer_class(w: Weights, hidden: Array, start_states: Array, cls_index: Array | None) -> Array:
    """(B, S, D), (B, D) -> (B)

    The score of "there is no answer", from the hidden states of the answer's first token and of
    the classification token: ``cls_index`` (B), or the last. Source: ``XLMPoolerAnswerClass``.
    """
    xp = namespace(hidden, start_states)
    last = hidden[:, -1, :]
    cls = last if cls_index is None else take_places(hidden, cls_index[:, None])[:, 0, :]
    x = tap(w.at("dense_0"), ops.linear(xp.concat([start_states, cls], axis=-1), **w["dense_0"]))
    return tap(w.at("dense_1"), ops.linear(ops.tanh(x), **w["dense_1"]))[:, 0]


# --- the beam-search span head --------------------------------------------------------------------


class Spans(NamedTuple):
    """Candidates for first and last place, with their probabilities."""

    start_top_log_probs: Array  # (B, P)
    start_top_index: Array  # (B, P)
    end_top_log_probs: Array  # (B, Q * P)
    end_top_index: Array  # (B, Q * P)
    cls_logits: Array  # (B)


def best_spans(
    w: Weights, config: Any, hidden: Array, cls_index: Array | None, p_mask: Array | None
) -> Spans:
    """(B, S, D) -> (B, P), (B, P), (B, P*Q), (B, P*Q), (B)

    The P best first places; for each of them, the Q best last places; and the score of "no
    answer", from the mean of all hidden states weighted by their probability as the first.

    Source: the inference branch of ``XLMSQuADHead``.
    """
    xp = namespace(hidden)
    batch, length, width = hidden.shape
    start_probs = ops.softmax(start_logits(w["start_logits"], hidden, p_mask))
    start_top, start_index = top_k(start_probs, config.start_n_top)

    # Every place (axis 1) beside every candidate for the first (axis 2): (B, S, P, D).
    shape = (batch, length, config.start_n_top, width)
    candidates = xp.broadcast_to(take_places(hidden, start_index)[:, None, :, :], shape)
    places = xp.broadcast_to(hidden[:, :, None, :], shape)
    wide_mask = None if p_mask is None else p_mask[:, :, None]
    of_ends = end_logits(w["end_logits"], config, places, candidates, wide_mask)
    end_probs = ops.softmax(xp.permute_dims(of_ends, (0, 2, 1)))  # (B, P, S)
    end_top, end_index = top_k(end_probs, config.end_n_top)

    mean_start = xp.matmul(start_probs[:, None, :], hidden)[:, 0, :]
    return Spans(
        start_top,
        start_index,
        by_rank(end_top),
        by_rank(end_index),
        answer_class(w["answer_class"], hidden, mean_start, cls_index),
    )


def top_k(x: Array, k: int) -> tuple[Array, Array]:
    """(..., N) -> (..., P), (..., P)

    The ``k`` largest of the last axis, largest first, and their places. Source: ``torch.topk``.
    """
    order = descending_order(x)[..., :k]
    return namespace(x).take_along_axis(x, order, axis=-1), order


def by_rank(x: Array) -> Array:
    """(B, P, Q) -> (B, Q*P)

    All best last places (one for each first place), then all second best, and so on.
    Source: ``XLMSQuADHead``.
    """
    xp = namespace(x)
    return xp.reshape(xp.permute_dims(x, (0, 2, 1)), (x.shape[0], -1))


def spans_loss(
    w: Weights,
    config: Any,
    hidden: Array,
    start: Array,
    end: Array,
    cls_index: Array | None,
    is_impossible: Array | None,
    p_mask: Array | None,
) -> Array:
    """(B, S, D) -> ()

    Mean cross entropy of the true first place and, given it, the true last one; plus half the
    cross entropy of whether there is an answer, where ``cls_index`` and ``is_impossible`` are
    given.

    Source: the training branch of ``XLMSQuADHead``. Differs: a place of -100 is not counted.
    """
    xp = namespace(hidden)
    of_starts = start_logits(w["start_logits"], hidden, p_mask)
    known = xp.where(start == IGNORE_INDEX, xp.zeros_like(start), start)
    at_start = take_places(hidden, known[:, None])  # (B, 1, D)
    start_states = xp.broadcast_to(at_start, hidden.shape)
    of_ends = end_logits(w["end_logits"], config, hidden, start_states, p_mask)
    loss = (heads.label_loss(of_starts, start) + heads.label_loss(of_ends, end)) / 2
    if cls_index is not None and is_impossible is not None:
        cls_logits = answer_class(w["answer_class"], hidden, at_start[:, 0, :], cls_index)
        target = xp.astype(is_impossible, hidden.dtype)
        loss = loss + 0.5 * ops.binary_cross_entropy_with_logits(cls_logits, target)
    return loss


# --- the published classes ------------------------------------------------------------------------


def with_lm_head(
    encode: Encode,
    w: Weights,
    config: Any,
    *,
    labels: Array | None = None,
    logits_at: Array | None = None,
    **inputs: Any,
) -> XLMWithLMHeadOutput:
    """ids (B, S) -> (B, S, V)

    With ``logits_at`` (P, 2) the scores of these places only, (P, V). The loss compares the scores
    at each place with the label of the same place, causal or not: shift the labels of a causal
    model yourself. Source: ``XLMWithLMHeadModel``.
    """
    heads.check_logits_at(labels, logits_at)
    encoded = encode(w, config, **inputs)
    hidden = encoded.last_hidden_state
    hidden = hidden if logits_at is None else heads.states_at(hidden, logits_at)
    logits = pred_layer(w["pred_layer"], config, hidden)
    loss = None
    if labels is not None:
        xp = namespace(logits, labels)
        rows, flat = xp.reshape(logits, (-1, logits.shape[2])), xp.reshape(labels, (-1,))
        of = ops.negative_log_likelihood if config.asm else ops.cross_entropy
        loss = of(rows, flat, ignore_index=IGNORE_INDEX)
    return XLMWithLMHeadOutput(
        loss, logits, encoded.hidden_states, encoded.attentions, encoded.cache
    )


def for_sequence_classification(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> SequenceClassifierOutput:
    """ids (B, S) -> (B, N)

    Source: ``XLMForSequenceClassification``.
    """
    encoded = encode(w, config, **inputs)
    logits = sequence_summary(_summary(w), config, encoded.last_hidden_state)
    loss = None
    if labels is not None:
        kind = heads.problem_type(config, labels)
        loss = heads.sequence_loss(logits, labels, problem_type=kind)
    return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def for_multiple_choice(
    encode: Encode, w: Weights, config: Any, *, labels: Array | None = None, **inputs: Any
) -> MultipleChoiceModelOutput:
    """ids (B, C, S) -> (B, C)

    Every choice is a text of its own; its summary is mapped to one score.
    Source: ``XLMForMultipleChoice``.
    """
    texts = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
    batch, choices = texts.shape[:2]
    encoded = encode(w, config, **merge_inputs(inputs))
    summary = sequence_summary(_summary(w), config, encoded.last_hidden_state)
    scores = heads.linear_head(w["logits_proj"], summary)
    logits = namespace(scores).reshape(scores, (batch, choices))
    loss = None if labels is None else heads.label_loss(logits, labels)
    return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions)


def for_question_answering(
    encode: Encode,
    w: Weights,
    config: Any,
    *,
    start_positions: Array | None = None,
    end_positions: Array | None = None,
    is_impossible: Array | None = None,
    cls_index: Array | None = None,
    p_mask: Array | None = None,
    **inputs: Any,
) -> XLMForQuestionAnsweringOutput:
    """ids (B, S) -> (B, P), (B, P), (B, P*Q), (B, P*Q), (B)

    With the true places the loss, and nothing else; without them the best spans.
    Source: ``XLMForQuestionAnswering``.
    """
    encoded = encode(w, config, **inputs)
    hidden, w = encoded.last_hidden_state, w["qa_outputs"]
    cls_index = flat(cls_index)
    outputs = XLMForQuestionAnsweringOutput(
        hidden_states=encoded.hidden_states, attentions=encoded.attentions
    )
    if start_positions is None or end_positions is None:
        spans = best_spans(w, config, hidden, cls_index, p_mask)
        return outputs._replace(**spans._asdict())
    loss = spans_loss(
        w, config, hidden, flat(start_positions), flat(end_positions), cls_index,
        flat(is_impossible), p_mask,
    )  # fmt: skip
    return outputs._replace(loss=loss)


def flat(x: Array | None) -> Array | None:
    """(B, 1) -> (B)

    One value for each text, whichever way it was given. Source: ``XLMSQuADHead``.
    """
    return None if x is None else namespace(x).reshape(x, (-1,))


def _summary(w: Weights) -> Weights | None:
    return w.get("sequence_summary")


# --- the table ------------------------------------------------------------------------------------


def _pred_layer_shapes(config: Any) -> Shapes:
    D, V = config.emb_dim, config.vocab_size
    if not config.asm:
        return linear_shapes("pred_layer.proj", V, D)
    bounds = [*config.asm_cutoffs, V]
    shapes = linear_shapes("pred_layer.proj.head", bounds[0] + len(bounds) - 1, D)
    for i, (low, high) in enumerate(pairwise(bounds)):
        inner = int(D // config.asm_div_value ** (i + 1))
        shapes[f"pred_layer.proj.tail.{i}.0.weight"] = (inner, D)
        shapes[f"pred_layer.proj.tail.{i}.1.weight"] = (high - low, inner)
    return shapes


def _summary_shapes(config: Any) -> Shapes:
    if not config.summary_use_proj:
        return {}
    to_labels = config.summary_proj_to_labels and config.labels > 0
    width = config.labels if to_labels else config.emb_dim
    return linear_shapes("sequence_summary.summary", width, config.emb_dim)


def _spans_shapes(config: Any) -> Shapes:
    D = config.emb_dim
    return {
        **linear_shapes("qa_outputs.start_logits.dense", 1, D),
        **linear_shapes("qa_outputs.end_logits.dense_0", D, 2 * D),
        **layer_norm_shapes("qa_outputs.end_logits.LayerNorm", D),
        **linear_shapes("qa_outputs.end_logits.dense_1", 1, D),
        **linear_shapes("qa_outputs.answer_class.dense_0", D, 2 * D),
        "qa_outputs.answer_class.dense_1.weight": (1, D),
    }


def _spans_inputs(config: Any) -> Inputs:
    places = (Input("labels", ("B", "B 1"), below="S"),)
    return {
        "start_positions": places,
        "end_positions": places,
        "is_impossible": (Input("real", ("B", "B 1")),),
        "cls_index": (Input("ids", ("B", "B 1"), below="S"),),
        "p_mask": (Input("real", ("B S",)),),
    }


def _tied_words(config: Any) -> dict[str, str]:
    tied = config.tie_word_embeddings and not config.asm
    return {"pred_layer.proj.weight": "transformer.embeddings.weight"} if tied else {}


HEADS: dict[str, Head] = {
    "WithLMHeadModel": Head(
        parameters=_pred_layer_shapes,
        inputs=heads.words_inputs,
        forward=with_lm_head,
        ties=_tied_words,
    ),
    "ForSequenceClassification": Head(
        parameters=_summary_shapes,
        inputs=heads.sequence_labels,
        forward=for_sequence_classification,
    ),
    "ForTokenClassification": Head(
        parameters=lambda config: linear_shapes("classifier", config.labels, config.emb_dim),
        inputs=heads.token_labels,
        forward=heads.for_token_classification,
    ),
    "ForMultipleChoice": Head(
        parameters=lambda config: {
            **_summary_shapes(config),
            **linear_shapes("logits_proj", 1, config.labels),
        },
        inputs=heads.choice_labels,
        forward=for_multiple_choice,
        per_choice=True,
    ),
    "ForQuestionAnsweringSimple": Head(
        parameters=lambda config: linear_shapes("qa_outputs", 2, config.emb_dim),
        inputs=heads.span_labels,
        forward=heads.for_question_answering,
    ),
    "ForQuestionAnswering": Head(
        parameters=_spans_shapes,
        inputs=_spans_inputs,
        forward=for_question_answering,
    ),
}
