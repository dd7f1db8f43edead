"""Masks that a port makes for itself or is never given, causal ones, and XLM's zeros at padding."""

from __future__ import annotations

import math
from typing import Any

import numpy

from refimpl import ops
from refimpl.backend import Array, namespace
from refimpl.models import xlm
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import (
    put,
    settings,
    with_input,
    with_options,
    without_input,
)
from refimpl.parity.faults.fault import Fault, Function, Need, threads
from refimpl.parity.faults.masks import NOT_3D, has_empty_row
from refimpl.parity.faults.run import ROBERTAS, Run

PROBS = ("probs",)

# --- two masks ------------------------------------------------------------------------------------


def _count_vetoes(x: Array, attention_mask: Array | None, *, past: int, causal: bool) -> Array:
    """(B, S, D), mask (B, T) -> ids (B, 1, S, T): how many masks forbid to look."""
    xp = namespace(x)
    vetoes = xp.zeros_like(x[:, :1, :1], dtype=xp.int64)[:, None, :, :]
    if attention_mask is not None:
        vetoes = vetoes + xp.astype(~ops.broadcast_mask(attention_mask), xp.int64)
    if causal and (attention_mask is None or attention_mask.ndim == 2):
        ahead = ~ops.causal_mask(x.shape[1], past + x.shape[1], like=x)
        vetoes = vetoes + xp.astype(ahead, xp.int64)[None, None, :, :]
    return vetoes


def _add_lowest_for_each(scores: Array, mask: Array) -> Array:
    """The dtype's lowest number once for each veto: twice is minus infinity."""
    xp = namespace(scores)
    lowest = scores + float(xp.finfo(scores.dtype).min)
    infinite = xp.full_like(scores, -math.inf)
    return xp.where(mask == 0, scores, xp.where(mask == 1, lowest, infinite))


# --- XLM's zeros ----------------------------------------------------------------------------------


def _xlm_masks(run: Run) -> xlm.Masks:
    """The masks of the call as it was given, on the host; each choice is a text."""
    ids = run.given.get("input_ids")
    places = numpy.full(needs.places(run), -1) if ids is None else ids
    mask, lengths = run.given.get("attention_mask"), run.given.get("lengths")
    size = places.shape[-1]
    return xlm.masks(
        run.original.config,
        places.reshape(-1, size),
        None if mask is None else mask.reshape(-1, size),
        None if lengths is None else lengths.reshape(-1),
        done=0,
    )


def _all_tokens(run: Run) -> dict[str, Any]:
    every = numpy.ones(needs.places(run), dtype=bool)
    return {**without_input("lengths")(run), "attention_mask": every}


def _attention_as_before(run: Run, base: Function) -> Function:
    """Every place is a token, and attention is masked all the same."""
    mask = run.model.backend.asarray(_xlm_masks(run).attention)
    return lambda scores, _: base(scores, mask)


def _with_padding(run: Run, base: Function) -> Function:
    """Padding may not be looked at either."""
    tokens = run.model.backend.asarray(_xlm_masks(run).tokens)
    return lambda scores, mask: base(scores, mask & tokens[:, None, None, :])


def _one_longer(run: Run, base: Function) -> Function:
    return lambda lengths, *, places: base(lengths + 1, places=places)


# --- the catalogue --------------------------------------------------------------------------------


def _causal_off(run: Run) -> Any:
    return settings(causal=False)(run) if run.family == "xlm" else run.config


def _causal_on(run: Run) -> Any:
    if run.family == "xlm":
        return settings(causal=True)(run)
    return settings(is_decoder=True, use_cache=False)(run)


def _from_ids(run: Run) -> Any:
    return run.inputs["input_ids"] != run.padding


def _nonzero(run: Run) -> Any:
    return run.inputs["input_ids"] != 0


def _mask_of_first_query(run: Run) -> Any:
    return run.inputs["attention_mask"][:, 0, :]


_CAUSAL = needs.setting("causal", True, "`causal`")
_NO_MASK = needs.not_given("attention_mask")
_MASK_OF_QUERIES = Need("an `attention_mask` (B, S, T)", lambda run: not NOT_3D.holds(run))
_ANOTHER_PADDING = Need("another padding id than 0", lambda run: run.padding != 0)
_LEFT = Need(
    "a decoder and padding on the left",
    lambda run: needs.DECODER.holds(run) and has_empty_row(run) and NOT_3D.holds(run),
)

GIVEN = (
    Fault(
        name="attention_mask_not_passed",
        title="The attention_mask is not passed on",
        area="masks",
        explanation="A wrapper, a pipeline or an exported graph drops `attention_mask`, or a "
        "runtime is called without lengths. transformers then looks at padding, while fairseq "
        "makes the mask from the ids. XLM counts the ids that are no padding and takes them to "
        "stand on the right: with padding on the left the last tokens are dropped.",
        effect="Padded batches differ from single texts. Without padding nothing shows.",
        mend="Pass the mask, and compare on a padded batch.",
        first_taps=("query", *PROBS),
        sources=threads("OpenNMT/CTranslate2#1296"),
        known=(29, 32, 36),
        needs=(needs.given("attention_mask"), needs.MASKED),
        inputs=without_input("attention_mask"),
    ),
    Fault(
        name="mask_from_ids",
        title="The mask is made from the ids",
        area="masks",
        families=ROBERTAS,
        explanation="The port masks every padding id, as fairseq does. transformers masks what "
        "`attention_mask` says, and nothing where there is none.",
        effect="None where the caller passes the same mask; otherwise padding that should be "
        "looked at is not.",
        mend="Use the caller's mask only.",
        first_taps=PROBS,
        known=(29,),
        needs=(needs.IDS, needs.PADDING, needs.NO_CACHE, NOT_3D),
        inputs=with_input("attention_mask", _from_ids),
    ),
    Fault(
        name="mask_where_id_is_zero",
        title="Id 0 is taken for padding",
        area="masks",
        families=ROBERTAS,
        explanation="The port, or its caller, makes the mask from `input_ids != 0`, a habit from "
        "BERT. Here 0 is `<s>` and padding is 1.",
        effect="`<s>` is never looked at, and padding is.",
        mend="Read `pad_token_id`.",
        first_taps=PROBS,
        sources=threads(
            "wzhouad/RE_improved_baseline#3", "allenai/allennlp#3359", "KLUE-benchmark/KLUE#17"
        ),
        known=(35,),
        needs=(needs.IDS, needs.NO_CACHE, NOT_3D, _ANOTHER_PADDING),
        inputs=with_input("attention_mask", _nonzero),
    ),
    Fault(
        name="mask_of_first_query",
        title="The mask of the first query holds for all",
        area="masks",
        families=ROBERTAS,
        explanation="A mask may be given for each query, (B, S, T). The port takes its first row.",
        effect="All queries look at what the first one may look at.",
        mend="Broadcast (B, S, T) to (B, 1, S, T).",
        first_taps=PROBS,
        needs=(needs.ENCODER, _MASK_OF_QUERIES),
        inputs=with_input("attention_mask", _mask_of_first_query),
    ),
    Fault(
        name="encoder_mask_ignored",
        title="The encoder_attention_mask is ignored",
        area="masks",
        families=ROBERTAS,
        explanation="Cross-attention looks at the encoder's padding.",
        effect="Self-attention is right; cross-attention is wrong where the encoder's texts are "
        "padded.",
        mend="Mask the scores of cross-attention too.",
        first_taps=PROBS,
        needs=(needs.given("encoder_attention_mask"),),
        inputs=without_input("encoder_attention_mask"),
    ),
)

CAUSAL = (
    Fault(
        name="causal_in_encoder",
        title="An encoder that looks only back",
        area="masks",
        explanation="The port runs an encoder in a decoder's layers, or a fused operation's "
        "`is_causal` is on.",
        effect="The last token is right in the first layer, all others are wrong.",
        mend="No causal mask, unless the config says `is_decoder` (XLM: `causal`).",
        first_taps=PROBS,
        needs=(needs.ENCODER, needs.NO_CACHE, NOT_3D),
        config=_causal_on,
    ),
    Fault(
        name="causal_missing",
        title="A decoder that looks ahead",
        area="masks",
        explanation="The switch in the config is overlooked. The same comes from the config "
        "itself: `XLMRobertaForCausalLM` without `is_decoder` only warns, and the published "
        "xlm-clm files say `causal: false` though the models were trained causally.",
        effect="The last token is right in the first layer, all others are wrong; losses look far "
        "too good.",
        mend="Mask what comes later, and check the config.",
        first_taps=PROBS,
        known=(34, 86),
        needs=(needs.DECODER, needs.NO_CACHE, NOT_3D),
        config=_causal_off,
        operations={"attention_mask_for": with_options(causal=lambda run, causal: False)},
    ),
    Fault(
        name="two_masks_added",
        title="The causal mask and the padding mask are added",
        area="masks",
        families=ROBERTAS,
        explanation="Each holds the dtype's lowest number, and twice that is minus infinity.",
        effect="None where every query has a key. With padding on the left a query that may look "
        "at nothing attends to one kind of forbidden keys only; where all are forbidden twice it "
        "is NaN.",
        mend="Combine booleans first.",
        first_taps=PROBS,
        sources=threads("huggingface/transformers#27114", "NVIDIA-NeMo/NeMo#2658"),
        known=(27,),
        needs=(_LEFT,),
        operations={
            "attention_mask_for": put(_count_vetoes),
            "mask_scores": put(_add_lowest_for_each),
        },
    ),
)

XLM = (
    Fault(
        name="xlm_padding_not_zeroed",
        title="Hidden states at padding are not set to zero",
        area="masks",
        families=("xlm",),
        explanation="XLM multiplies the embeddings and the result of every layer by the mask of "
        "tokens. The port does not.",
        effect="Rows of padding are not 0. Tokens are right, since padding is not looked at; "
        "means over all places are not.",
        mend="Multiply by the mask at the start and behind each layer.",
        first_taps=("query",),
        known=(31,),
        needs=(needs.MASKED, needs.NO_CACHE),
        inputs=_all_tokens,
        operations={"mask_scores": _attention_as_before},
    ),
    Fault(
        name="xlm_causal_masks_padding",
        title="A causal XLM that does not look at padding",
        area="masks",
        families=("xlm",),
        explanation="In XLM the causal mask takes the place of the padding mask: padding in front "
        "is looked at. The port applies both.",
        effect="Texts with padding on the left or inside differ.",
        mend="Only the causal mask in attention; padding is set to zero behind each layer.",
        first_taps=PROBS,
        known=(33,),
        needs=(_CAUSAL, needs.MASKED, needs.NO_CACHE),
        operations={"mask_scores": _with_padding},
    ),
    Fault(
        name="xlm_lengths_ignored",
        title="The lengths of a call are ignored",
        area="masks",
        families=("xlm",),
        explanation="The port takes `lengths` and counts the ids that are no padding all the same.",
        effect="None where the lengths are those of the padding.",
        mend="What the caller gives counts.",
        first_taps=("query", *PROBS),
        needs=(needs.given("lengths"), _NO_MASK),
        inputs=without_input("lengths"),
    ),
    Fault(
        name="xlm_length_one_more",
        title="One place too many counts as text",
        area="masks",
        families=("xlm",),
        explanation="The port compares places with the length by <=.",
        effect="The first padding of every row is looked at and not set to zero.",
        mend="Places are counted from 0: place < length.",
        first_taps=("query", *PROBS),
        needs=(_NO_MASK, needs.MASKED),
        operations={"length_mask": _one_longer},
    ),
)

FAULTS = (*GIVEN, *CAUSAL, *XLM)
