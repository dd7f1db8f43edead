"""Heads: from hidden states to answers. What is reported of them stands in outputs.py."""

from __future__ import annotations

from collections.abc import Callable

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import at, settings, skipped, value_of
from refimpl.parity.faults.fault import Fault, Need, TapChange, threads
from refimpl.parity.faults.run import ROBERTAS, Run

# --- modules --------------------------------------------------------------------------------------


def _of_token(choose: Callable[[Array], Array]) -> Callable[[Run, str, Array], Array]:
    """The linear map at a tap, of another vector of the last hidden state (B, S, D)."""
    return lambda run, name, x: run.linear(name, choose(run.last_hidden()))


def _last(hidden: Array) -> Array:
    return hidden[:, -1, :]


def _mean(hidden: Array) -> Array:
    return namespace(hidden).mean(hidden, axis=1)


def _mean_of_tokens(run: Run, name: str, x: Array) -> Array:
    """The linear map at a tap, of the mean over what ``attention_mask`` lets be looked at."""
    hidden = run.last_hidden()
    xp, mask = namespace(hidden), run.model.backend.asarray(run.inputs["attention_mask"])
    weights = xp.astype(xp.reshape(mask, hidden.shape[:2]), hidden.dtype)[:, :, None]
    return run.linear(name, xp.sum(hidden * weights, axis=1) / xp.sum(weights, axis=1))


def _one_projection(run: Run, name: str, x: Array) -> Array:
    w = run.weights["lm_head"]
    return ops.linear(run.last_hidden(), w["decoder.weight"], w["bias"])


def _norm_of_dense(run: Run, name: str, x: Array) -> Array:
    return run.norm(name, run.onward[run.latest("span_end_dense")])


def _pooled(choose: Callable[[Array], Array]) -> TapChange:
    return at("pooler_dense", become=_of_token(choose))


def _classified(choose: Callable[[Array], Array]) -> TapChange:
    return at("class_dense", become=_of_token(choose))


# --- the catalogue --------------------------------------------------------------------------------

_SUMMARY = Need(
    "a summary of the sequence",
    lambda run: run.model.architecture in ("XLMForSequenceClassification", "XLMForMultipleChoice"),
)
_SOME_TOKEN = Need(
    "a mask (B, S) of rows that hold a token",
    lambda run: (
        run.inputs["attention_mask"].shape == needs.places(run)
        and bool(run.inputs["attention_mask"].any(axis=-1).all())
    ),
)
_SPAN_HEAD = needs.module("qa_outputs.end_logits", "XLM's span head")
_OF_FIRST = needs.setting("summary_type", "first", "`summary_type` first")

FAULTS = (
    Fault(
        name="pooler_of_last_token",
        title="The pooler takes the last token",
        area="heads",
        families=ROBERTAS,
        explanation="The port pools as a decoder does.",
        effect="`pooler_output` is wrong; hidden states are right.",
        mend="The first token, `<s>`.",
        first_taps=("pooler_dense",),
        needs=(needs.POOLER,),
        taps=_pooled(_last),
    ),
    Fault(
        name="pooler_of_mean",
        title="The pooler takes the mean of all tokens",
        area="heads",
        families=ROBERTAS,
        explanation="The port pools as sentence encoders do, over all places or over the tokens.",
        effect="`pooler_output` is wrong; hidden states are right.",
        mend="The first token, `<s>`.",
        first_taps=("pooler_dense",),
        needs=(needs.POOLER,),
        taps=_pooled(_mean),
    ),
    Fault(
        name="pooler_of_mean_of_tokens",
        title="The pooler takes the mean of the tokens without padding",
        area="heads",
        families=ROBERTAS,
        explanation="The port takes the mean that sentence encoders take, over the places that "
        "`attention_mask` lets be looked at, and pools that.",
        effect="`pooler_output` is wrong; hidden states are right.",
        mend="The first token, `<s>`.",
        first_taps=("pooler_dense",),
        needs=(needs.POOLER, needs.given("attention_mask"), needs.MASKED, _SOME_TOKEN),
        taps=at("pooler_dense", become=_mean_of_tokens),
    ),
    Fault(
        name="pooler_without_tanh",
        title="The pooler has no tanh",
        area="heads",
        families=ROBERTAS,
        explanation="The port ends the pooler with its linear map.",
        effect="`pooler_output` is not bounded by 1.",
        mend="tanh.",
        first_taps=("pooler",),
        needs=(needs.POOLER,),
        taps=at("pooler", become=value_of("pooler_dense")),
    ),
    Fault(
        name="classifier_of_last_token",
        title="The classification head takes the last token",
        area="heads",
        families=ROBERTAS,
        explanation="The port classifies as a decoder does. (XLM: see `xlm_summary_of_last`.)",
        effect="Scores are wrong; hidden states are right.",
        mend="The first token, `<s>`.",
        first_taps=("class_dense",),
        needs=(needs.CLASSES,),
        taps=_classified(_last),
    ),
    Fault(
        name="classifier_of_mean",
        title="The classification head takes the mean of all tokens",
        area="heads",
        families=ROBERTAS,
        explanation="The port puts the head of a sentence encoder on top, which classifies means.",
        effect="Scores are wrong; hidden states are right.",
        mend="The first token, `<s>`.",
        first_taps=("class_dense",),
        needs=(needs.CLASSES,),
        taps=_classified(_mean),
    ),
    Fault(
        name="classifier_of_mean_of_tokens",
        title="The classification head takes the mean of the tokens without padding",
        area="heads",
        families=ROBERTAS,
        explanation="The port takes the mean that sentence encoders take, over the places that "
        "`attention_mask` lets be looked at, and classifies that.",
        effect="Scores are wrong; hidden states are right.",
        mend="The first token, `<s>`.",
        first_taps=("class_dense",),
        needs=(needs.CLASSES, needs.given("attention_mask"), needs.MASKED, _SOME_TOKEN),
        taps=at("class_dense", become=_mean_of_tokens),
    ),
    Fault(
        name="classifier_without_tanh",
        title="The classification head has no tanh",
        area="heads",
        families=ROBERTAS,
        explanation="The port goes from `classifier.dense` to `classifier.out_proj` directly.",
        effect="Scores are wrong; their order often is not.",
        mend="tanh between the two.",
        first_taps=("class_activation",),
        sources=threads("huggingface/candle#2968"),
        known=(23,),
        needs=(needs.CLASSES,),
        taps=at("class_activation", become=value_of("class_dense")),
    ),
    Fault(
        name="lm_norm_missing",
        title="The language modelling head has no norm",
        area="heads",
        families=ROBERTAS,
        explanation="The port's head is linear, GELU, linear.",
        effect="Hidden states agree, scores do not.",
        mend="`lm_head.layer_norm` in front of the decoder.",
        first_taps=("lm_norm",),
        needs=(needs.LM_TRANSFORM,),
        taps=at("lm_norm", become=skipped),
    ),
    Fault(
        name="lm_head_is_one_projection",
        title="The language modelling head is one projection",
        area="heads",
        families=ROBERTAS,
        explanation="The port has XLM's head, a matrix and a bias, for the RoBERTas, whose head "
        "has a linear map, GELU and a norm in front. (The other way round the tensors are "
        "missing.)",
        effect="Hidden states agree, scores do not.",
        mend="Look at the tensors of the head.",
        first_taps=("lm_scores",),
        sources=threads("facebookresearch/XLM#354"),
        known=(41,),
        needs=(needs.LM_TRANSFORM,),
        taps=at("lm_scores", become=_one_projection),
    ),
    Fault(
        name="xlm_summary_of_last",
        title="XLM's summary is the last token",
        area="heads",
        families=("xlm",),
        explanation="The port takes XLNet's default. XLM's `summary_type` is `first` unless the "
        "config says otherwise.",
        effect="Scores are wrong; hidden states are right. With padding on the right the last "
        "place is all zeros.",
        mend="Read `summary_type`.",
        first_taps=("summary", "summarised"),
        needs=(_SUMMARY, _OF_FIRST),
        config=settings(summary_type="last"),
    ),
    Fault(
        name="xlm_summary_of_mean",
        title="XLM's summary is the mean of all tokens",
        area="heads",
        families=("xlm",),
        explanation="The port does not know `summary_type`, which is `first` unless the config "
        "says otherwise.",
        effect="Scores are wrong; hidden states are right.",
        mend="Read `summary_type`.",
        first_taps=("summary", "summarised"),
        needs=(_SUMMARY, _OF_FIRST),
        config=settings(summary_type="mean"),
    ),
    Fault(
        name="xlm_summary_not_activated",
        title="XLM's summary has no activation",
        area="heads",
        families=("xlm",),
        explanation="The port does not know `summary_activation`.",
        effect="Scores are wrong.",
        mend="Read `summary_activation`.",
        first_taps=("summarised",),
        needs=(
            _SUMMARY,
            Need("`summary_activation`", lambda run: bool(run.config.summary_activation)),
        ),
        config=settings(summary_activation=None),
    ),
    Fault(
        name="xlm_span_end_without_tanh",
        title="The head of last tokens has no tanh",
        area="heads",
        families=("xlm",),
        explanation="The port normalises what the first linear map of `end_logits` returns.",
        effect="Scores of last tokens are wrong; those of first tokens are right.",
        mend="tanh, then the norm.",
        first_taps=("span_end_norm",),
        needs=(_SPAN_HEAD,),
        taps=at("span_end_norm", become=_norm_of_dense),
    ),
)
