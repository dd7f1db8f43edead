"""Positions: where they start, what they pass over, and the table they are looked up in.

In the RoBERTas the first token has position ``pad_token_id + 1``, and padding is passed over. XLM
counts from 0, padding too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from refimpl import ops
from refimpl.backend import Array, arange, namespace
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import (
    counted,
    put,
    weights_of,
    with_input,
    with_options,
    without_input,
    zeros,
)
from refimpl.parity.faults.fault import Fault, Function, Need, Tensors, threads
from refimpl.parity.faults.run import ROBERTAS, Run, place_of
from refimpl.parity.rounding import bfloat16

IDS, TABLE = ("position_ids",), ("positions",)


def _from_zero(input_ids: Array, *, padding_idx: int, past: int = 0) -> Array:
    return counted(input_ids, past)


def _vectors_from_zero(inputs_embeds: Array, *, padding_idx: int, past: int = 0) -> Array:
    return counted(inputs_embeds[:, :, 0], past)


def _through_padding(input_ids: Array, *, padding_idx: int, past: int = 0) -> Array:
    return counted(input_ids, padding_idx + 1 + past)


def _moved(move: Callable[[Run, Array, Array, int], Array]) -> Callable[[Run, Function], Function]:
    """The right positions of ids, moved: by the run, the ids, their positions and padding_idx."""

    def change(run: Run, base: Function) -> Function:
        def positions(input_ids: Array, *, padding_idx: int, past: int = 0) -> Array:
            right = base(input_ids, padding_idx=padding_idx, past=past)
            return move(run, input_ids, right, padding_idx)

        return positions

    return change


def _padding_at_zero(run: Run, ids: Array, right: Array, padding: int) -> Array:
    return namespace(ids).where(ids == padding, zeros(right), right)


def _offset_again(run: Run, ids: Array, right: Array, padding: int) -> Array:
    return right + int(run.parameters["offset"])


def _from_start(run: Run, ids: Array, right: Array, padding: int) -> Array:
    return counted(ids, int(run.parameters["start"]))


def _tokens_from(run: Run, ids: Array, right: Array, padding: int) -> Array:
    first, of_padding = (int(run.parameters[name]) for name in ("first", "padding"))
    xp = namespace(ids)
    return xp.where(ids == padding, xp.full_like(right, of_padding), right - padding - 1 + first)


def _not_multiplied(run: Run, ids: Array, right: Array, padding: int) -> Array:
    xp = namespace(ids)
    tokens = xp.astype(ids != padding, right.dtype)
    return xp.cumulative_sum(tokens, axis=1, dtype=right.dtype) + padding


def _one_short(run: Run, ids: Array, right: Array, padding: int) -> Array:
    return namespace(ids).where(ids == padding, right, right - 1)


def _offset_if_first(run: Run, ids: Array, right: Array, padding: int) -> Array:
    begins = ids[:, :1] == int(run.parameters["first_id"])
    return namespace(ids).where(begins, right, counted(ids, 0))


def _in_bfloat16(run: Run, ids: Array, right: Array, padding: int) -> Array:
    xp = namespace(ids)
    count = xp.astype(right - padding, xp.float64)
    return xp.astype(bfloat16(count), right.dtype) + padding


def _skip_masked_vectors(run: Run, base: Function) -> Function:
    def positions(inputs_embeds: Array, *, padding_idx: int, past: int = 0) -> Array:
        mask = run.model.backend.asarray(run.inputs["attention_mask"].astype(numpy.int64))
        xp = namespace(mask)
        return xp.cumulative_sum(mask, axis=1, dtype=mask.dtype) * mask + padding_idx

    return positions


def _like_roberta(run: Run) -> Any:
    tokens = (run.inputs["input_ids"] != run.padding).astype(numpy.int64)
    return tokens.cumsum(axis=-1) * tokens + run.padding


def _restarted(run: Run) -> Any:
    """Positions that begin again at 0 wherever the language changes."""
    langs = run.inputs["langs"]
    places = numpy.broadcast_to(numpy.arange(langs.shape[-1]), langs.shape)
    starts = numpy.where(numpy.diff(langs, axis=-1, prepend=langs[..., :1]) != 0, places, 0)
    return places - numpy.maximum.accumulate(starts, axis=-1)


def _halves(positions: Array, *, width: int) -> Array:
    """ids (P) -> (P, D): all sines in the left half of a row, all cosines in the right."""
    xp = namespace(positions)
    column = arange(width, like=positions)
    left = (width + 1) // 2
    pair = xp.astype(xp.where(column < left, column, column - left), xp.float64)
    angle = xp.astype(positions, xp.float64)[:, None] / 10000.0 ** (2.0 * pair / width)
    return xp.astype(xp.where(column < left, xp.sin(angle), xp.cos(angle)), xp.float32)


def _table_of(sines: Function) -> Callable[[Run, Tensors, str], Array]:
    """A table of sines and cosines in the place of the checkpoint's."""

    def table(run: Run, tensors: Tensors, name: str) -> Array:
        x = tensors[name]
        if place_of(name.rpartition(".")[0]) != "positions":
            return x
        made = sines(arange(x.shape[0], like=x), width=x.shape[1])
        return namespace(x).astype(made, x.dtype)

    return table


FAULTS = (
    Fault(
        name="positions_from_zero",
        title="Positions are counted from 0",
        area="positions",
        families=ROBERTAS,
        explanation="The port numbers the places 0, 1, 2, ... as BERT does. The models of this "
        "family were trained with the first token at `pad_token_id + 1`, which is 2. It is the "
        "most frequent mistake of all, and it also comes back where batches are packed or "
        "flattened and every text brings positions of its own.",
        effect="Every token reads a row two too low. Nothing crashes, and sentence vectors look "
        "plausible: one port was published at a cosine of 0.65 to the original.",
        mend="Start at `pad_token_id + 1` and pass over padding.",
        first_taps=IDS,
        sources=threads(
            "sbryngelson/ANEForge#257",
            "waybarrios/vllm-mlx#545",
            "waybarrios/vllm-mlx#550",
            "Blaizzy/mlx-embeddings#10",
            "huggingface/sentence-transformers#3879",
        ),
        known=(1, 2),
        needs=(needs.COUNTS_POSITIONS,),
        operations={
            "position_ids_from_padding": put(_from_zero),
            "position_ids_in_order": put(_vectors_from_zero),
        },
    ),
    Fault(
        name="positions_count_padding",
        title="Positions run on through padding",
        area="positions",
        families=ROBERTAS,
        explanation="The port numbers all places from `pad_token_id + 1` on, padding too. The "
        "original gives every padding the position `pad_token_id` and counts only tokens.",
        effect="With padding on the right only the padding itself differs, which a mask hides. "
        "With padding on the left, or inside, every token behind it is shifted.",
        mend="Count tokens, not places: a running sum of `input_ids != pad_token_id`, times that.",
        first_taps=IDS,
        sources=threads("huggingface/transformers#1761"),
        known=(3,),
        needs=(
            needs.IDS,
            needs.COUNTS_POSITIONS,
            needs.PADDING,
            needs.ROOM_FOR_ALL_PLACES,
        ),
        operations={"position_ids_from_padding": put(_through_padding)},
    ),
    Fault(
        name="padding_at_position_zero",
        title="Padding has position 0",
        area="positions",
        families=ROBERTAS,
        explanation="The port counts tokens rightly and leaves the position of padding at 0, "
        "where the original has `pad_token_id`.",
        effect="Only rows of padding change: tokens do as well where padding is looked at.",
        mend="Add `pad_token_id` after the count was multiplied by the mask of tokens.",
        first_taps=IDS,
        needs=(needs.IDS, needs.COUNTS_POSITIONS, needs.PADDING),
        operations={"position_ids_from_padding": _moved(_padding_at_zero)},
    ),
    Fault(
        name="positions_offset_twice",
        title="The offset of the positions is added twice",
        area="positions",
        families=ROBERTAS,
        explanation="The port drops the first rows of the table when it converts the checkpoint "
        "and still adds the offset, or adds it in the tokenizer and in the model, or adds it in "
        "place to a buffer that it uses again, so that positions grow from call to call.",
        effect="All tokens read a row too high by the same number.",
        mend="Keep the table as it was published, and add the offset in one place, to a copy.",
        first_taps=IDS,
        sources=threads(
            "huggingface/transformers#1052",
            "ggml-org/llama.cpp#10856",
            "ggml-org/llama.cpp#8658",
            "vllm-project/vllm#37884",
        ),
        known=(5, 7),
        needs=(needs.IDS, needs.COUNTS_POSITIONS, needs.room("offset")),
        parameters={"offset": 2},
        alternatives={"offset": (1, 3, 4, 5)},
        operations={"position_ids_from_padding": _moved(_offset_again)},
    ),
    Fault(
        name="positions_start_elsewhere",
        title="Positions run from another number, through padding",
        area="positions",
        families=ROBERTAS,
        explanation="The port numbers all places in order, from 1, or from a number of another "
        "model: OPT's tables have an offset of 2 too, others none.",
        effect="Every token reads a row too low or too high by the same number.",
        mend="Start at `pad_token_id + 1` and pass over padding.",
        first_taps=IDS,
        needs=(
            needs.IDS,
            needs.COUNTS_POSITIONS,
            Need(
                "a start other than 0 and `pad_token_id + 1`",
                lambda run: run.parameters["start"] not in (0, run.padding + 1),
            ),
            needs.ROOM_FROM_START,
        ),
        parameters={"start": 1},
        alternatives={"start": (3, 4)},
        operations={"position_ids_from_padding": _moved(_from_start)},
    ),
    Fault(
        name="positions_of_tokens_from_zero",
        title="Tokens are numbered from 0, padding passed over",
        area="positions",
        families=ROBERTAS,
        explanation="The port counts tokens rightly, as a running sum of a mask, and forgets the "
        "offset `pad_token_id + 1`, or a part of it. Padding has position 0, or stays where it is.",
        effect="Every token reads a row two too low.",
        mend="Add `pad_token_id` behind the running sum times the mask.",
        first_taps=IDS,
        needs=(needs.IDS, needs.COUNTS_POSITIONS, needs.PADDING),
        parameters={"first": 0, "padding": 0},
        alternatives={"first": (1,), "padding": (1, 2)},
        operations={"position_ids_from_padding": _moved(_tokens_from)},
    ),
    Fault(
        name="padding_keeps_last_position",
        title="Padding has the position of the token in front of it",
        area="positions",
        families=ROBERTAS,
        explanation="The port takes the running sum of the mask of tokens and does not multiply "
        "by the mask: the count stands still at padding.",
        effect="Only rows of padding change: tokens do as well where padding is looked at. "
        "Padding in front of the first token is right.",
        mend="Multiply the running sum by the mask of tokens, then add `pad_token_id`.",
        first_taps=IDS,
        needs=(needs.IDS, needs.COUNTS_POSITIONS, needs.PADDING),
        operations={"position_ids_from_padding": _moved(_not_multiplied)},
    ),
    Fault(
        name="positions_one_short",
        title="Positions start at pad_token_id, not behind it",
        area="positions",
        families=ROBERTAS,
        explanation="The port counts tokens from 0 and adds `pad_token_id`, or takes the "
        "exclusive running sum: the first token shares its position with padding.",
        effect="Every token reads a row one too low.",
        mend="The first token has position `pad_token_id + 1`.",
        first_taps=IDS,
        needs=(needs.IDS, needs.COUNTS_POSITIONS),
        operations={"position_ids_from_padding": _moved(_one_short)},
    ),
    Fault(
        name="positions_offset_by_first_token",
        title="Whether positions are offset is guessed from the first token",
        area="positions",
        families=ROBERTAS,
        explanation="The port offsets the positions of a text that begins with `<s>` and counts "
        "any other from 0, to serve several models with one code.",
        effect="Texts without `<s>` in front, and all that are padded on the left, are shifted.",
        mend="Take the offset from the config, never from the data.",
        first_taps=IDS,
        sources=threads("PaddlePaddle/PaddleNLP#1133"),
        known=(8,),
        needs=(needs.IDS, needs.COUNTS_POSITIONS),
        parameters={"first_id": 0},
        operations={"position_ids_from_padding": _moved(_offset_if_first)},
    ),
    Fault(
        name="positions_in_bfloat16",
        title="Positions are counted in bfloat16",
        area="positions",
        families=ROBERTAS,
        explanation="The port computes the running sum in the dtype of the activations. bfloat16 "
        "has 8 bits: above 256 it holds only every second integer. Read in candle's XLM-R.",
        effect="Of 512 positions 128 are wrong, all of them behind the 256th token: short texts "
        "show nothing.",
        mend="Count in integers.",
        first_taps=IDS,
        known=(9,),
        needs=(needs.IDS, needs.COUNTS_POSITIONS),
        operations={"position_ids_from_padding": _moved(_in_bfloat16)},
    ),
    Fault(
        name="position_ids_ignored",
        title="The position_ids of a call are ignored",
        area="positions",
        explanation="The port takes `position_ids` and counts for itself all the same.",
        effect="Right as long as callers pass what the model would count anyway; wrong for "
        "packed texts, for text pairs that restart, for decoding in parts.",
        mend="What the caller gives counts.",
        first_taps=IDS,
        needs=(needs.given("position_ids"), needs.ABSOLUTE),
        inputs=without_input("position_ids"),
    ),
    Fault(
        name="positions_of_vectors_skip_padding",
        title="Vectors in place of ids are numbered as if padding could be seen",
        area="positions",
        families=ROBERTAS,
        explanation="For `inputs_embeds` the original numbers every place, since nobody can tell "
        "padding from tokens any more. The port takes the mask for that and passes over padding.",
        effect="Padded batches of vectors differ, most of all with padding on the left.",
        mend="Number all places; pass `position_ids` where they should be others.",
        first_taps=IDS,
        sources=threads("huggingface/transformers#19265", "huggingface/transformers#34528"),
        known=(6,),
        needs=(
            needs.VECTORS,
            needs.COUNTS_POSITIONS,
            needs.NO_CACHE,
            Need(
                "a mask of keys (B, T)",
                lambda run: getattr(run.inputs.get("attention_mask"), "ndim", 0) == 2,
            ),
        ),
        operations={"position_ids_in_order": _skip_masked_vectors},
    ),
    Fault(
        name="positions_restart_behind_cache",
        title="Positions begin again with every call of a decoder",
        area="positions",
        families=ROBERTAS,
        explanation="The port decodes token by token with kept keys and values, and numbers the "
        "new tokens as if they were the first.",
        effect="The first call is right. From the second on, every token has the position of the "
        "first.",
        mend="Add the number of the kept tokens.",
        first_taps=IDS,
        needs=(needs.given("past_key_values"), needs.COUNTS_POSITIONS),
        operations={
            "position_ids_from_padding": with_options(past=lambda run, past: 0),
            "position_ids_in_order": with_options(past=lambda run, past: 0),
        },
    ),
    Fault(
        name="position_embeddings_missing",
        title="No position embeddings are added",
        area="positions",
        explanation="The port forgets to add them, or its converter left the table out and its "
        "loader filled it with zeros.",
        effect="Nothing in the model knows the order of the tokens.",
        mend="Add a row of the table to every token, before the norm.",
        first_taps=TABLE,
        needs=(needs.POSITION_TABLE,),
        weights=weights_of(TABLE, "weight", zeros),
    ),
    Fault(
        name="xlm_positions_like_roberta",
        title="XLM's positions are counted as RoBERTa's",
        area="positions",
        families=("xlm",),
        explanation="The port starts behind the padding id and passes over padding. XLM counts "
        "0, 1, 2, ... over every column.",
        effect="Every token reads another row.",
        mend="Number the columns from 0, whatever stands in them.",
        first_taps=IDS,
        known=(10,),
        needs=(needs.IDS, needs.COUNTS_POSITIONS, needs.ROOM_FOR_ALL_PLACES),
        inputs=with_input("position_ids", _like_roberta),
    ),
    Fault(
        name="xlm_positions_restart",
        title="Positions begin again at the second sentence of a pair",
        area="positions",
        families=("xlm",),
        explanation="The code of XLM's authors restarts the positions of a translation pair where "
        "the language changes, and gives them to its model; transformers counts on unless it is "
        "given `position_ids`. A port of the one is compared with the other.",
        effect="The second half of every pair differs.",
        mend="Give both sides the same `position_ids`.",
        first_taps=IDS,
        known=(11,),
        needs=(needs.given("langs"), needs.COUNTS_POSITIONS),
        inputs=with_input("position_ids", _restarted),
    ),
    Fault(
        name="xlm_sines_in_halves",
        title="Sines stand in the left half of a row, cosines in the right",
        area="positions",
        families=("xlm",),
        explanation="There are two orders in use. XLM's sinusoidal table alternates: sine in the "
        "even columns, cosine in the odd ones.",
        effect="All positions but the first column of the first row are other vectors.",
        mend="Alternate, as Vaswani et al. do.",
        first_taps=TABLE,
        sources=threads(
            "huggingface/transformers#29807",
            "huggingface/transformers#29904",
            "huggingface/transformers#11724",
        ),
        known=(56,),
        needs=(needs.setting("sinusoidal_embeddings", True, "`sinusoidal_embeddings`"),),
        operations={"sinusoidal_positions": put(_halves)},
        weights=_table_of(_halves),
    ),
    Fault(
        name="xlm_sines_for_learned_positions",
        title="Sines and cosines in place of the learned table",
        area="positions",
        families=("xlm",),
        explanation="The port builds the table of Vaswani et al. for every XLM. All published "
        "checkpoints learned theirs: `sinusoidal_embeddings` is false.",
        effect="Every token has another position vector.",
        mend="Read `position_embeddings.weight`.",
        first_taps=TABLE,
        needs=(needs.setting("sinusoidal_embeddings", False, "learned positions"),),
        weights=_table_of(ops.sinusoidal_positions),
    ),
)
