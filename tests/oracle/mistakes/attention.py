"""Mistakes in attention: scores, heads, masks."""

import math

import numpy

from tests.oracle.mistakes.port import ROBERTAS, lowest
from tests.oracle.mistakes.registry import BOTH, DECODER, RELATIVE, XLM, XLM_IDS, mistake

# --- attention ------------------------------------------------------------------------------------


@mistake()
def scale_of_width(port):
    port.attention(scale=port.width**-0.5)


@mistake(XLM, config={"emb_dim": 12})
@mistake(ROBERTAS)
def scale_of_head_count(port):
    port.attention(scale=3**-0.5)


@mistake()
def scale_constant(port):
    port.attention(scale=0.125)


@mistake()
def attention_out_missing(port):
    for layer in port.layers:
        inner = (layer.attention, "out_lin")
        port.leave_out(inner if port.is_xlm else (layer.layer.attention.output, "dense"))


@mistake()
def scale_missing(port):
    port.attention(scale=1)


@mistake()
def scale_by_size(port):
    port.attention(scale=3 / port.width)


@mistake()
def query_bias_not_scaled(port):
    for layer in port.layers:
        layer.query.bias.data *= math.sqrt(port.width / 3)


@mistake()
def scale_on_query(port):
    for layer in port.layers:
        for tensor in (layer.query.weight, layer.query.bias):
            tensor.data /= math.sqrt(port.width / 3)
    port.attention(scale=1)


@mistake()
def softmax_over_queries(port):
    port.attention(softmax=lambda x: port.torch.softmax(x, -2))


@mistake()
def softmax_without_maximum(port):
    port.attention(softmax=lambda x: x.exp() / x.exp().sum(-1, keepdim=True))


def by_size(x, heads, size):
    return x.unflatten(-1, (size, heads)).permute(0, 3, 1, 2)


@mistake()
def heads_split_interleaved(port):
    port.attention(split=by_size)


@mistake()
def heads_merged_interleaved(port):
    port.attention(merge=lambda x: x.permute(0, 2, 3, 1).flatten(2))


def as_it_lies(x):
    batch, heads, length, size = x.shape
    return x.contiguous().view(batch, length, heads * size)


@mistake()
def heads_split_without_transposing(port):
    split = lambda x, heads, size: x.reshape(x.shape[0], heads, -1, size)  # noqa: E731
    port.attention(split=split, merge=as_it_lies)


@mistake()
def heads_merged_without_transposing(port):
    port.attention(merge=as_it_lies)


@mistake()
def head_count_wrong(port):
    for layer in port.layers:
        if port.is_xlm:
            layer.attention.n_heads, layer.attention.head_dim = 9, 1
        else:
            layer.attention.num_attention_heads, layer.attention.attention_head_size = 2, 6


@mistake(inputs={"head_mask": [[0.0, 1.0, 0.5], [1.0, 0.25, 0.0]]})
def head_mask_ignored(port):
    del port.inputs["head_mask"]


@mistake(ROBERTAS, config=RELATIVE)
def distances_ignored(port):
    for layer in port.layers:
        layer.attention.position_embedding_type = "absolute"


@mistake(ROBERTAS, config=BOTH)
def distances_reversed(port):
    for layer in port.layers:
        table = layer.attention.distance_embedding.weight
        table.data = table.data.flip(0)


@mistake(ROBERTAS, config=RELATIVE)
@mistake(ROBERTAS, config=BOTH)
def distances_not_scaled(port):
    for layer in port.layers:
        layer.attention.distance_embedding.weight.data *= 2  # √K: heads of 4 features


@mistake(ROBERTAS, config=BOTH)
def distances_without_key(port):
    for layer in port.layers:
        layer.attention.position_embedding_type = "relative_key"


# --- masks ----------------------------------------------------------------------------------------

EMPTY = [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 1, 1, 1]]


@mistake()
@mistake(ROBERTAS, config=DECODER)
@mistake(XLM, config={"causal": True})
def mask_ignored(port):
    port.attention(mask=lambda torch, scores, allowed: scores)


@mistake()
def mask_inverted(port):
    port.attention(mask=lambda torch, scores, allowed: lowest(torch, scores, ~allowed))


def lowered(by):
    return lambda torch, scores, allowed: scores + by * (~allowed)


@mistake()
def mask_minus_10(port):
    port.attention(mask=lowered(-10))


@mistake()
def mask_minus_10000(port):
    port.attention(mask=lowered(-10000))


@mistake(ROBERTAS, inputs={"attention_mask": EMPTY})
def mask_minus_10000_on_empty_rows(port):
    port.attention(mask=lowered(-10000))


@mistake(inputs={"attention_mask": EMPTY})
def mask_minus_infinity(port):
    port.attention(mask=lambda torch, scores, allowed: scores.masked_fill(~allowed, -torch.inf))


@mistake()
@mistake(ROBERTAS, config=DECODER)
def mask_behind_softmax(port):
    port.attention(
        mask=lambda torch, scores, allowed: scores, probs=lambda weights, allowed: weights * allowed
    )


@mistake()
def mask_times_scores(port):
    port.attention(mask=lambda torch, scores, allowed: scores * allowed)


@mistake()
def mask_of_queries(port):
    port.attention(
        mask=lambda torch, scores, allowed: lowest(torch, scores, allowed.transpose(2, 3))
    )


@mistake()
def attention_mask_not_passed(port):
    del port.inputs["attention_mask"]


@mistake(ROBERTAS, inputs={"attention_mask": [[1] * 5, [1] * 5, [1] * 5]})
def mask_from_ids(port):
    port.inputs["attention_mask"] = (port.inputs["input_ids"] != port.pad).astype(int)


@mistake(ROBERTAS)
def mask_where_id_is_zero(port):
    port.inputs["attention_mask"] = (port.inputs["input_ids"] > 0).astype(int)


EACH_QUERY = numpy.random.default_rng(7).integers(0, 2, (3, 5, 5)) | numpy.eye(5, dtype=int)


@mistake(ROBERTAS, inputs={"attention_mask": EACH_QUERY})
def mask_of_first_query(port):
    port.inputs["attention_mask"] = port.inputs["attention_mask"][:, 0]


STATES = numpy.random.default_rng(8).standard_normal((3, 4, 12))
CROSS = {**DECODER, "add_cross_attention": True}


@mistake(
    ROBERTAS,
    config=CROSS,
    inputs={"encoder_hidden_states": STATES, "encoder_attention_mask": [[1, 1, 1, 0]] * 3},
)
def encoder_mask_ignored(port):
    del port.inputs["encoder_attention_mask"]


def triangle(torch, size):
    return torch.ones(size, size, dtype=torch.bool).tril()


@mistake(ROBERTAS)
def causal_in_encoder(port):
    def mask(torch, scores, allowed):
        return scores.masked_fill(~(allowed & triangle(torch, 5)), torch.finfo(scores.dtype).min)

    port.attention(mask=mask)


@mistake(XLM, name="causal_in_encoder")
def causal_by_its_switch(port):
    port.base.causal = True


@mistake(ROBERTAS, config=DECODER)
def causal_missing(port):
    port.config.is_decoder = False


@mistake(XLM, config={"causal": True}, name="causal_missing")
def causal_off_by_its_switch(port):
    port.base.causal = False


@mistake(ROBERTAS, config=DECODER)
def two_masks_added(port):
    padding = port.torch.tensor(port.inputs["attention_mask"] == 0)[:, None, None, :]

    def mask(torch, scores, allowed):
        low = torch.finfo(scores.dtype).min
        vetoes = padding.to(scores.dtype) + (~triangle(torch, 5)).to(scores.dtype)
        return scores + low * vetoes

    port.attention(mask=mask)


@mistake(XLM)
@mistake(XLM, config={"causal": True})
def xlm_padding_not_zeroed(port):
    plain = port.code.get_masks

    def masks(*args, **named):
        tokens, attention = plain(*args, **named)
        return port.torch.ones_like(tokens), attention

    port.patch.setattr(port.code, "get_masks", masks)


@mistake(XLM, config={"causal": True})
def xlm_causal_masks_padding(port):
    plain = port.code.get_masks

    def masks(*args, **named):
        tokens, attention = plain(*args, **named)
        return tokens, attention & (tokens[:, None, :] == 1)

    port.patch.setattr(port.code, "get_masks", masks)


LENGTHS = {"lengths": [3, 5, 2], "input_ids": XLM_IDS}


@mistake(XLM, inputs=LENGTHS, without=("attention_mask",))
def xlm_lengths_ignored(port):
    del port.inputs["lengths"]


@mistake(XLM, without=("attention_mask",))
def xlm_length_one_more(port):
    counted = (port.inputs["input_ids"] != port.pad).sum(1)
    mask = numpy.arange(5) <= counted[:, None]
    port.inputs["attention_mask"] = mask.astype(int)
