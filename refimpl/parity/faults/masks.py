"""Masks: how they meet the scores. Where they come from stands in mask_sources.py."""

from __future__ import annotations

import math
from typing import Any

import numpy

from refimpl.backend import Array, namespace
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import put
from refimpl.parity.faults.fault import Fault, Function, Need, OperationChange, threads
from refimpl.parity.faults.run import ROBERTAS, Run

PROBS = ("probs",)

# --- how a mask meets the scores ------------------------------------------------------------------


def _added(run: Run, base: Function) -> Function:
    """A number added to the scores that should not count."""

    def mask_scores(scores: Array, mask: Array) -> Array:
        return namespace(scores).where(mask, scores, scores + float(run.parameters["value"]))

    return mask_scores


def _unmasked(scores: Array, mask: Array) -> Array:
    return scores


def _zeroed(scores: Array, mask: Array) -> Array:
    xp = namespace(scores)
    return xp.where(mask, scores, xp.zeros_like(scores))


def _with_mask(change: Any) -> OperationChange:
    """The plain way, with another mask: a function of the run and the right one."""

    def operation(run: Run, base: Function) -> Function:
        return lambda scores, mask: base(scores, change(run, mask))

    return operation


def _behind_softmax(run: Run, base: Function) -> Function:
    """Probabilities of all, then zero where nothing may be looked at: rows no longer add to 1."""

    def attention(query: Array, key: Array, value: Array, *, mask: Array, **options: Any) -> Any:
        xp = namespace(query)
        right = base(query, key, value, mask=xp.ones_like(mask), **options)
        none = xp.zeros_like(right.probs)
        probs, weights = (xp.where(mask, x, none) for x in (right.probs, right.weights))
        return right._replace(context=xp.matmul(weights, value), weights=weights, probs=probs)

    return attention


# --- the catalogue --------------------------------------------------------------------------------


def _mask(run: Run) -> numpy.ndarray | None:
    mask: numpy.ndarray | None = run.inputs.get("attention_mask")
    return mask


def _for_each_query(run: Run) -> bool:
    """Whether the mask is one for each query (B, S, T), and not one for each choice (B, C, S)."""
    mask = _mask(run)
    return mask is not None and mask.ndim > len(needs.places(run))


def has_empty_row(run: Run) -> bool:
    """Whether some query may look at nothing."""
    mask, lengths = _mask(run), run.inputs.get("lengths")
    if run.family == "xlm":
        if run.config.causal:
            return False
        if mask is None:
            ids = run.inputs.get("input_ids")
            counted = ids is not None and bool((ids == run.padding).all(axis=-1).any())
            return counted if lengths is None else bool((lengths == 0).any())
        return not mask.any(axis=-1).all()
    masks = [x for x in (mask, run.inputs.get("encoder_attention_mask")) if x is not None]
    empty = any(not x.any(axis=-1).all() for x in masks)
    return empty or (needs.DECODER.holds(run) and mask is not None and not mask[..., 0].all())


_FORBIDS = Need(
    "something that may not be looked at",
    lambda run: needs.MASKED.holds(run) or needs.DECODER.holds(run),
)
_A_MASK = Need(
    "a mask", lambda run: run.family == "xlm" or run.inputs.get("attention_mask") is not None
)
_NO_EMPTY_ROW = Need("a key for every query", lambda run: not has_empty_row(run))
_EMPTY_ROW = Need("a query that may look at nothing", has_empty_row)
NOT_3D = Need("no `attention_mask` (B, S, T)", lambda run: not _for_each_query(run))
_NO_STATES = needs.not_given("encoder_hidden_states")

FAULTS = (
    Fault(
        name="mask_ignored",
        title="Nothing is masked",
        area="masks",
        explanation="The port computes the mask and does not use it, or its attention was never "
        "given one.",
        effect="Padding is looked at (a decoder looks ahead). A text without padding shows "
        "nothing in an encoder.",
        mend="Mask the scores before the softmax.",
        first_taps=PROBS,
        needs=(_FORBIDS,),
        operations={"mask_scores": put(_unmasked)},
    ),
    Fault(
        name="mask_inverted",
        title="The mask is inverted",
        area="masks",
        explanation="In transformers 1 means attend; in PyTorch's own layers and in fairseq True "
        "means padding. The port mixes the two.",
        effect="Only padding is looked at; without padding all keys count alike.",
        mend="Invert the mask where the conventions meet.",
        first_taps=PROBS,
        needs=(needs.ENCODER, _A_MASK),
        operations={"mask_scores": _with_mask(lambda run, mask: ~mask)},
    ),
    Fault(
        name="mask_minus_10",
        title="Masked scores are lowered by 10",
        area="masks",
        explanation="The number that the port adds to masked scores is too small.",
        effect="Padding keeps a share of the attention: about e^-10, and more where its score is "
        "high.",
        mend="Add the dtype's lowest number, or replace the score.",
        first_taps=PROBS,
        needs=(_FORBIDS,),
        parameters={"value": -10.0},
        alternatives={"value": (-1.0, -5.0, -20.0, -50.0, -100.0, -1000.0)},
        operations={"mask_scores": _added},
    ),
    Fault(
        name="mask_minus_10000",
        title="Masked scores are lowered by 10000",
        area="masks",
        explanation="Older code adds -10000, later code the dtype's lowest number.",
        effect="None where every query has something to look at.",
        mend="Nothing, as long as scores stay far below 10000.",
        first_taps=(),
        sources=threads("huggingface/transformers#17306", "huggingface/transformers#10484"),
        known=(26,),
        equivalent="exp(-10000) is 0 in every dtype, so the probabilities are the same to the bit.",
        needs=(_FORBIDS, _NO_EMPTY_ROW),
        parameters={"value": -10000.0},
        operations={"mask_scores": _added},
    ),
    Fault(
        name="mask_minus_10000_on_empty_rows",
        title="Masked scores are lowered by 10000, where nothing may be looked at",
        area="masks",
        families=ROBERTAS,
        explanation="As `mask_minus_10000`; but all scores of a row are lowered alike, and the "
        "softmax sees no difference. With the dtype's lowest number the scores vanish beside it. "
        "(XLM's hidden states are 0 in such a row, and so all scores are alike anyway.)",
        effect="A query that may look at nothing attends as if nothing were masked; in the "
        "original it attends to all keys alike.",
        mend="Add the dtype's lowest number, or replace the score.",
        first_taps=PROBS,
        sources=threads("huggingface/transformers#17306", "huggingface/transformers#10484"),
        known=(26,),
        needs=(_EMPTY_ROW,),
        parameters={"value": -10000.0},
        alternatives={"value": (-1e9, -1e5, -100.0)},
        operations={"mask_scores": _added},
    ),
    Fault(
        name="mask_minus_infinity",
        title="Masked scores become minus infinity, where nothing may be looked at",
        area="masks",
        explanation="The code of XLM's authors, and the papers, use minus infinity. transformers "
        "uses the lowest finite number.",
        effect="NaN in the rows of queries that may look at nothing; no difference in any other.",
        mend="Use a finite number, or set such rows to zero afterwards.",
        first_taps=PROBS,
        known=(28,),
        needs=(_EMPTY_ROW,),
        parameters={"value": -math.inf},
        operations={"mask_scores": _added},
    ),
    Fault(
        name="mask_behind_softmax",
        title="The mask is applied behind the softmax",
        area="masks",
        explanation="The port sets probabilities to zero and does not divide by their new sum.",
        effect="Rows add up to less than 1: the more padding, the smaller the context.",
        mend="Mask the scores before the softmax.",
        first_taps=PROBS,
        needs=(_FORBIDS,),
        operations={"scaled_dot_product_attention": _behind_softmax},
    ),
    Fault(
        name="mask_times_scores",
        title="Scores are multiplied by the mask",
        area="masks",
        explanation="The port multiplies scores by 0 and 1. A score of 0 is no small score.",
        effect="Padding is looked at as much as a token with score 0.",
        mend="Add a large negative number, or replace the score.",
        first_taps=PROBS,
        needs=(_FORBIDS,),
        operations={"mask_scores": put(_zeroed)},
    ),
    Fault(
        name="mask_of_queries",
        title="The mask is laid along the queries",
        area="masks",
        explanation="The mask is broadcast as (B, 1, S, 1), not as (B, 1, 1, T).",
        effect="Padding attends to all keys alike, and every token looks at padding.",
        mend="Give the mask the axes (B, 1, 1, T).",
        first_taps=PROBS,
        needs=(needs.ENCODER, needs.MASKED, needs.NO_CACHE, _NO_STATES, NOT_3D),
        operations={
            "mask_scores": _with_mask(lambda run, mask: namespace(mask).matrix_transpose(mask))
        },
    ),
)
