"""Mistakes before the first layer: positions, tables, languages."""

import math

import numpy

from tests.oracle.mistakes.port import ROBERTAS
from tests.oracle.mistakes.registry import (
    POST_NORM,
    PRE_NORM,
    RELATIVE,
    VECTORS,
    XL,
    XLM,
    XMOD,
    mistake,
)

# --- positions ------------------------------------------------------------------------------------


def count(port, start):
    ids = port.inputs["input_ids"]
    return numpy.broadcast_to(numpy.arange(ids.shape[-1]) + start, ids.shape).copy()


def right_positions(port):
    tokens = (port.inputs["input_ids"] != port.pad).astype(int)
    return tokens.cumsum(1) * tokens + port.pad


@mistake(ROBERTAS)
def positions_from_zero(port):
    port.inputs["position_ids"] = count(port, 0)


@mistake(ROBERTAS)
def positions_count_padding(port):
    port.inputs["position_ids"] = count(port, port.pad + 1)


@mistake(ROBERTAS)
def padding_at_position_zero(port):
    tokens = port.inputs["input_ids"] != port.pad
    port.inputs["position_ids"] = numpy.where(tokens, right_positions(port), 0)


@mistake(ROBERTAS)
def positions_offset_twice(port):
    port.inputs["position_ids"] = right_positions(port) + 2


@mistake(ROBERTAS)
def positions_start_elsewhere(port):
    port.inputs["position_ids"] = count(port, 1)


@mistake(ROBERTAS)
def positions_of_tokens_from_zero(port):
    tokens = port.inputs["input_ids"] != port.pad
    port.inputs["position_ids"] = (tokens.cumsum(1) - 1) * tokens


@mistake(ROBERTAS)
def padding_keeps_last_position(port):
    port.inputs["position_ids"] = (port.inputs["input_ids"] != port.pad).cumsum(1) + port.pad


@mistake(ROBERTAS)
def positions_one_short(port):
    tokens = port.inputs["input_ids"] != port.pad
    port.inputs["position_ids"] = right_positions(port) - tokens


@mistake(ROBERTAS)
def positions_offset_by_first_token(port):
    begins = port.inputs["input_ids"][:, :1] == 0
    port.inputs["position_ids"] = numpy.where(begins, right_positions(port), count(port, 0))


LONG = numpy.random.default_rng(5).integers(3, 29, (1, 290))


LONG_CALL = {"input_ids": LONG, "attention_mask": numpy.ones_like(LONG)}
ROOM = {"max_position_embeddings": 300, "num_hidden_layers": 1}


@mistake(("xlm_roberta", "xlm_roberta_xl"), config=ROOM, inputs=LONG_CALL)
@mistake(XMOD, config=ROOM, inputs={**LONG_CALL, "lang_ids": [1]})
def positions_in_bfloat16(port):
    counted = port.torch.arange(1, 291).to(port.torch.bfloat16).long()
    port.inputs["position_ids"] = (counted + port.pad)[None].numpy()


POSITIONS = [[9, 3, 0, 9, 9], [2, 14, 6, 1, 8], [4, 5, 6, 7, 8]]


@mistake(inputs={"position_ids": POSITIONS})
def position_ids_ignored(port):
    del port.inputs["position_ids"]


@mistake(ROBERTAS, inputs={"inputs_embeds": VECTORS}, without=("input_ids",))
def positions_of_vectors_skip_padding(port):
    mask = port.inputs["attention_mask"]
    port.inputs["position_ids"] = mask.cumsum(1) * mask + port.pad


@mistake()
def position_embeddings_missing(port):
    port.embeddings.positions.weight.data.zero_()


@mistake(XLM)
def xlm_positions_like_roberta(port):
    port.inputs["position_ids"] = right_positions(port)


@mistake(XLM)
def xlm_positions_restart(port):
    port.inputs["position_ids"] = numpy.asarray([[0, 1, 2, 3, 4], [0, 1, 0, 1, 0], [0, 1, 2, 0, 1]])


def set_sines(port, in_halves):
    table = port.embeddings.positions.weight.data
    rows, width = table.shape
    for p in range(rows):
        for j in range(width):
            half_width = (width + 1) // 2
            pair = j % half_width if in_halves else j // 2
            angle = p / 10000 ** (2 * pair / width)
            sine = j < half_width if in_halves else j % 2 == 0
            # The original keeps its sines in float32.
            table[p, j] = float(numpy.float32((math.sin if sine else math.cos)(angle)))


@mistake(XLM, config={"sinusoidal_embeddings": True})
def xlm_sines_in_halves(port):
    set_sines(port, in_halves=True)


@mistake(XLM)
def xlm_sines_for_learned_positions(port):
    set_sines(port, in_halves=False)


# --- embeddings and languages ---------------------------------------------------------------------


@mistake()
def words_scaled(port):
    port.after(port.embeddings.words, lambda x: x * port.width**0.5)


@mistake(ROBERTAS)
def padding_vector_zeroed(port):
    port.embeddings.words.weight.data[port.pad] = 0


@mistake(ROBERTAS)
def token_types_missing(port):
    port.embeddings.types.weight.data.zero_()


@mistake(ROBERTAS)
def token_type_one(port):
    port.inputs["token_type_ids"] = numpy.ones((3, 5), int)


@mistake(inputs={"token_type_ids": [[0, 0, 1, 1, 1], [1, 0, 1, 0, 0], [0, 1, 0, 1, 0]]})
def token_types_ignored(port):
    del port.inputs["token_type_ids"]


@mistake(ROBERTAS)
def token_type_folded_into_words(port):
    types = port.embeddings.types.weight.data
    port.embeddings.words.weight.data += types[0]
    types.zero_()


@mistake(POST_NORM)
@mistake(XMOD, config=PRE_NORM)
def embedding_norm_missing(port):
    port.leave_out(port.embeddings.norm)


@mistake(XL)
@mistake(XL, config=RELATIVE)
@mistake(XL, inputs={"inputs_embeds": VECTORS}, without=("input_ids",))
def embedding_norm_added(port):
    port.after(port.base.embeddings, lambda x: port.untrained_norm(x))


def add_behind_norm(port, table):
    kept = []
    port.after(table, lambda x: kept.append(x) or x * 0)
    parent, name = port.embeddings.norm
    port.after(getattr(parent, name), lambda x: x + kept.pop())


@mistake(POST_NORM)
def positions_behind_embedding_norm(port):
    add_behind_norm(port, port.embeddings.positions)


@mistake(XLM)
def xlm_languages_behind_norm(port):
    add_behind_norm(port, port.base.lang_embeddings)


@mistake(XLM)
def xlm_langs_missing(port):
    del port.inputs["langs"]


@mistake(XLM)
def xlm_language_of_first_token(port):
    port.inputs["langs"] = port.inputs["langs"][:, [0] * 5]


@mistake(XLM)
def xlm_one_language_for_all(port):
    port.inputs["langs"] = port.inputs["langs"] * 0


@mistake(XLM)
def xlm_languages_shifted(port):
    table = port.base.lang_embeddings.weight
    table.data = table.data.roll(-1, 0)


@mistake(XLM)
def xlm_token_types_given(port):
    port.inputs["token_type_ids"] = numpy.zeros((3, 5), int)
