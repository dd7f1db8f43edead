"""What a port returns: fields of the output, and losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refimpl.backend import Array, namespace
from refimpl.models import heads as plain_heads
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import fields
from refimpl.parity.faults.fault import Fault, Function, Need
from refimpl.parity.faults.run import ROBERTAS, Run

# --- outputs --------------------------------------------------------------------------------------


def _rows_of_choices(run: Run, outputs: Any) -> Array:
    """Scores of (B, C) read as (C, B) and turned."""
    xp, (batch, choices) = namespace(outputs.logits), outputs.logits.shape
    return xp.matrix_transpose(xp.reshape(outputs.logits, (choices, batch)))


def _before_final_norm(run: Run, outputs: Any) -> tuple[Array, ...]:
    return (*outputs.hidden_states[:-1], run.into[run.latest("final_norm")])


def _without_embeddings(run: Run, outputs: Any) -> tuple[Array, ...]:
    return tuple(outputs.hidden_states[1:])


def _log(field: str) -> Callable[[Run, Any], Array]:
    return lambda run, outputs: namespace(getattr(outputs, field)).log(getattr(outputs, field))


# --- losses ---------------------------------------------------------------------------------------


def _labels(run: Run) -> Array:
    return run.model.backend.asarray(run.inputs["labels"])


def _not_shifted(run: Run, outputs: Any) -> Array:
    return plain_heads.label_loss(outputs.logits, _labels(run))


def _shifted(run: Run, outputs: Any) -> Array:
    return plain_heads.label_loss(outputs.logits[:, :-1, :], _labels(run)[:, 1:])


def _ignored_counted(run: Run, base: Function) -> Function:
    """The sum of the losses divided by all places, those with label -100 among them."""

    def loss(log_probs: Array, labels: Array, *, ignore_index: int) -> Array:
        xp = namespace(log_probs)
        counted = xp.sum(xp.astype(labels != ignore_index, log_probs.dtype))
        return base(log_probs, labels, ignore_index=ignore_index) * counted / labels.shape[0]

    return loss


def _ignores_some(run: Run) -> bool:
    labels = run.inputs.get("labels")
    return labels is not None and labels.dtype.kind == "i" and bool((labels == -100).any())


def _some_at_padding(run: Run) -> bool:
    labels, mask = run.inputs.get("labels"), run.inputs.get("attention_mask")
    if labels is None or mask is None or mask.ndim != 2 or labels.shape != mask.shape:
        return False
    return bool((labels[~mask] != -100).any())


def _is(*names: str) -> Callable[[Run], bool]:
    return lambda run: run.model.architecture.endswith(names)


# --- the catalogue --------------------------------------------------------------------------------


_LABELS = needs.given("labels")
_SPANS = Need(
    "question answering with two scores for each token",
    lambda run: "qa_outputs.weight" in run.weights,
)
_BEAM = Need(
    "XLM's beam search for spans, without the true ones",
    lambda run: (
        run.model.architecture == "XLMForQuestionAnswering" and "start_positions" not in run.inputs
    ),
)

FIELDS = (
    Fault(
        name="choices_in_another_order",
        title="The scores of choices are reshaped to (C, B)",
        area="heads",
        explanation="Choices are texts of their own, (B*C) of them. The port puts their scores "
        "back the wrong way round.",
        effect="With one question, or as many questions as choices, the shapes tell nothing.",
        mend="Reshape to (B, C).",
        first_taps=("logits",),
        needs=(Need("multiple choice", _is("ForMultipleChoice")),),
        outputs=fields(logits=_rows_of_choices),
    ),
    Fault(
        name="span_ends_swapped",
        title="Scores of first and last tokens are swapped",
        area="heads",
        explanation="The two columns of `qa_outputs` are taken in the wrong order.",
        effect="Answers begin where they should end.",
        mend="Column 0 is the start.",
        first_taps=("start_logits",),
        needs=(_SPANS,),
        outputs=fields(
            start_logits=lambda run, outputs: outputs.end_logits,
            end_logits=lambda run, outputs: outputs.start_logits,
        ),
    ),
    Fault(
        name="xlm_span_log_probs",
        title="The span head returns logarithms",
        area="heads",
        families=("xlm",),
        explanation="The fields are called `start_top_log_probs` and `end_top_log_probs`; the "
        "original returns probabilities under these names.",
        effect="Numbers below 0 where the original has some between 0 and 1.",
        mend="Return what the original returns.",
        first_taps=("start_top_log_probs",),
        needs=(_BEAM,),
        outputs=fields(
            start_top_log_probs=_log("start_top_log_probs"),
            end_top_log_probs=_log("end_top_log_probs"),
        ),
    ),
    Fault(
        name="hidden_states_end_unnormalised",
        title="The last of the hidden states is not normalised",
        area="heads",
        families=("xlm_roberta_xl", "xmod"),
        explanation="In models that normalise first, fairseq's list of inner states ends in front "
        "of the final norm; in transformers the last entry is `last_hidden_state`.",
        effect="One entry differs, and `last_hidden_state` is right.",
        mend="Compare `last_hidden_state`, or put it at the end of the list.",
        first_taps=("hidden_states",),
        known=(17,),
        needs=(needs.PRE_NORM, needs.asked("output_hidden_states")),
        outputs=fields(hidden_states=_before_final_norm),
    ),
    Fault(
        name="hidden_states_without_embeddings",
        title="The hidden states begin with the first layer's",
        area="heads",
        explanation="In transformers `hidden_states[0]` is the result of the embeddings, and "
        "there are L + 1 entries.",
        effect="Every entry is taken for that of the layer before it.",
        mend="Put the embeddings' result in front.",
        first_taps=("hidden_states",),
        needs=(needs.asked("output_hidden_states"),),
        outputs=fields(hidden_states=_without_embeddings),
    ),
)

LOSSES = (
    Fault(
        name="causal_labels_not_shifted",
        title="A causal model's labels are not shifted",
        area="losses",
        families=ROBERTAS,
        explanation="The scores at a place predict the next token. The port compares them with "
        "the label of the same place.",
        effect="Only the loss is wrong.",
        mend="Compare `logits[:, :-1]` with `labels[:, 1:]`.",
        first_taps=("loss",),
        needs=(_LABELS, Need("a causal language model", _is("ForCausalLM"))),
        outputs=fields(loss=_not_shifted),
    ),
    Fault(
        name="xlm_labels_shifted",
        title="XLM's labels are shifted",
        area="losses",
        families=("xlm",),
        explanation="XLM compares the scores of each place with the label of the same place, "
        "causal or not: who trains a causal model shifts the labels himself. The port shifts them.",
        effect="Only the loss is wrong.",
        mend="Do not shift.",
        first_taps=("loss",),
        needs=(
            _LABELS,
            needs.NOT_ADAPTIVE,
            Need("a language model", _is("WithLMHeadModel")),
        ),
        outputs=fields(loss=_shifted),
    ),
    Fault(
        name="ignored_labels_counted",
        title="Places with label -100 count in the mean",
        area="losses",
        explanation="The port gives such places the loss 0 and divides by the number of all.",
        effect="The loss is too small, by the share of such places.",
        mend="Divide by the number of places that count.",
        first_taps=("loss",),
        needs=(Need("labels of -100", _ignores_some),),
        operations={"negative_log_likelihood": _ignored_counted},
    ),
    Fault(
        name="xl_labels_at_padding_count",
        title="Labels at padding count in XL's token classification",
        area="losses",
        families=("xlm_roberta_xl",),
        explanation="In XL, and only there, the original leaves out the labels at places that "
        "`attention_mask` forbids, whatever they are. The port has the other models' loss.",
        effect="Only the loss is wrong, and only where labels at padding are not -100 anyway.",
        mend="Set labels at padding to -100.",
        first_taps=("loss",),
        needs=(
            Need("token classification", _is("ForTokenClassification")),
            Need("labels at padding", _some_at_padding),
        ),
        outputs=fields(loss=_not_shifted),
    ),
)

FAULTS = (*FIELDS, *LOSSES)
