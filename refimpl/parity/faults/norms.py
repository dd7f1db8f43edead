"""Layer norms: how they divide, what they are made of, and where they stand."""

from __future__ import annotations

import re

import numpy

from refimpl.backend import Array, namespace
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import (
    at,
    in_float32,
    is_norm,
    ones,
    put,
    setting_from_parameter,
    settings,
    skipped,
    weights_of_norms,
    zeros,
)
from refimpl.parity.faults.embeddings import plain_norm
from refimpl.parity.faults.fault import Fault, Need, Tensors, threads
from refimpl.parity.faults.run import Run, place_of
from refimpl.parity.rounding import float16

ANY_NORM = ("embedding_norm", "attention_norm")  # the first of the model
BEHIND = (  # the first value that is computed behind the encoder
    *("pooler_dense", "lm_dense", "lm_scores", "class_dense", "labels", "spans", "span_starts"),
    *("summary", "summarised", "last_hidden_state", "hidden_states", "loss", "logits"),
)

# --- other ways to divide -------------------------------------------------------------------------


def _moments(x: Array) -> tuple[Array, Array]:
    """(..., D) -> (..., D), (..., 1): centred, and its variance."""
    xp = namespace(x)
    centred = x - xp.mean(x, axis=-1, keepdims=True)
    return centred, xp.mean(centred * centred, axis=-1, keepdims=True)


@in_float32
def _eps_outside(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    centred, variance = _moments(x)
    return centred / (namespace(x).sqrt(variance) + eps) * weight + bias


@in_float32
def _unbiased(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    centred, variance = _moments(x)
    width = x.shape[-1]
    return centred / namespace(x).sqrt(variance * (width / (width - 1)) + eps) * weight + bias


@in_float32
def _root_mean_square(x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
    xp = namespace(x)
    return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps) * weight + bias


def _eps_of_float16(run: Run) -> float:
    return float(float16(numpy.asarray(run.config.layer_norm_eps)))


# --- other weights --------------------------------------------------------------------------------


def _swap_weight_and_bias(run: Run, tensors: Tensors, name: str) -> Array:
    module, _, word = name.rpartition(".")
    other = {"weight": "bias", "bias": "weight"}[word] if is_norm(module) else word
    return tensors[f"{module}.{other}"]


# The norm behind (or in front of) attention, and that of the feed-forward network.
_PAIRS = (
    (r"layer_norm1\.(\d+)", r"layer_norm2.\1"),
    (r"attention\.output\.LayerNorm", "output.LayerNorm"),
    (r"attention\.self_attn_layer_norm", "LayerNorm"),
)
_BACK = (
    (r"layer_norm2\.(\d+)", r"layer_norm1.\1"),
    (r"(layer\.\d+)\.output\.LayerNorm", r"\1.attention.output.LayerNorm"),
    (r"(layer\.\d+)\.LayerNorm", r"\1.attention.self_attn_layer_norm"),
)


def _swap_norms_of_layer(run: Run, tensors: Tensors, name: str) -> Array:
    for pattern, other in (*_PAIRS, *_BACK):
        swapped, count = re.subn(rf"(?<!cross){pattern}", other, name)
        if count and swapped in tensors:
            return tensors[swapped]
    return tensors[name]


# --- other places ---------------------------------------------------------------------------------


def norm_of(name: str) -> str:
    """The norm whose tensors belong to the part of a layer that a tap stands in.

    >>> norm_of("encoder.layer.2.intermediate.dense"), norm_of("attentions.2.q_lin")
    ('encoder.layer.2.output.LayerNorm', 'layer_norm1.2')
    """
    for pattern, norm in (
        (r"attentions\.(\d+)\..*", r"layer_norm1.\1"),
        (r"ffns\.(\d+)\..*", r"layer_norm2.\1"),
        (r"attention\.self\..*", "attention.output.LayerNorm"),
        (r"intermediate\.dense", "output.LayerNorm"),
    ):
        name, count = re.subn(pattern, norm, name)
        if count:
            break
    return name


def _normalise_first(run: Run, name: str, x: Array) -> Array:
    """Norms in front of attention and feed-forward network, none behind."""
    place = place_of(name)
    if place in ("attention_norm", "ffn_norm"):
        return run.into[name]
    of_encoder = ".crossattention." in name and place != "query"
    if place in ("query", "key", "value", "inner") and not of_encoder:
        return run.linear(name, run.norm(norm_of(name), run.into[name]))
    return x


def _normalise_last(run: Run, name: str, x: Array) -> Array:
    """The sum of a part and its input, normalised, in the place of the sum."""
    part = {"attention_out": "attention_norm", "ffn_out": "ffn_norm"}.get(place_of(name))
    if part is None:
        return x
    norm = run.latest(part)
    hidden = run.into[norm]
    return run.norm(norm, x + hidden) - hidden


def _normalise_end(run: Run, name: str, x: Array) -> Array:
    last = run.layers - 1
    is_last = name.endswith((f"encoder.layer.{last}.output.LayerNorm", f"layer_norm2.{last}"))
    return plain_norm(run, x) if is_last else x


def _eps_differs(run: Run) -> bool:
    return bool(run.config.layer_norm_eps != run.parameters["eps"])


_OTHER_EPS = Need("another eps in the config", _eps_differs)
_EPS = setting_from_parameter("layer_norm_eps", "eps")

FAULTS = (
    Fault(
        name="norm_eps_1e_12",
        title="The norms' eps is 1e-12",
        area="norms",
        explanation="The port keeps the default of the class, which holds where a config.json "
        "leaves `layer_norm_eps` out. It is right for XLM; the published files of the other three "
        "say 1e-5.",
        effect="Every norm is off by about eps / (2 variance): 5e-6 where the variance is 1, far "
        "more in rows that hardly vary. Gates at 1e-3 never see it.",
        mend="Read `layer_norm_eps` from the checkpoint's config.json.",
        first_taps=ANY_NORM,
        sources=threads(
            "huggingface/transformers#13727", "dmlc/gluon-nlp#1005", "nomic-ai/gpt4all#1946"
        ),
        known=(12, 49),
        needs=(_OTHER_EPS,),
        parameters={"eps": 1e-12},
        config=_EPS,
    ),
    Fault(
        name="norm_eps_1e_5",
        title="The norms' eps is 1e-5",
        area="norms",
        explanation="The port takes XLM-R's (and PyTorch's) eps for XLM, whose eps is 1e-12, or "
        "leaves the framework's default where the config says something else.",
        effect="Every norm is off by about eps / (2 variance).",
        mend="Read `layer_norm_eps` from the checkpoint's config.json; XLM's default is 1e-12.",
        first_taps=ANY_NORM,
        needs=(_OTHER_EPS,),
        parameters={"eps": 1e-5},
        config=_EPS,
    ),
    Fault(
        name="norm_eps_other",
        title="The norms have another eps",
        area="norms",
        explanation="The port's norm has an eps of its own framework or of another model: 1e-6 in "
        "Flax and T5, 1e-3 in Keras, 1e-8 in older code, none at all where it is written by hand.",
        effect="Every norm is off by about eps / (2 variance).",
        mend="Read `layer_norm_eps` from the checkpoint's config.json.",
        first_taps=ANY_NORM,
        needs=(_OTHER_EPS,),
        parameters={"eps": 1e-6},
        alternatives={"eps": (1e-3, 1e-4, 1e-7, 1e-8, 1e-2, 0.0)},
        config=_EPS,
    ),
    Fault(
        name="norm_eps_in_float16",
        title="The norms' eps is rounded to float16",
        area="norms",
        explanation="In half precision the port casts eps as well. float16 has nothing between 0 "
        "and 6e-8: XLM's 1e-12 becomes 0, and 1e-5 becomes 1.0014e-5.",
        effect="Nothing until a row does not vary: then a division by zero.",
        mend="Compute norms in float32.",
        first_taps=ANY_NORM,
        sources=threads("lablup/mlxcel#1321"),
        known=(13,),
        config=settings(layer_norm_eps=_eps_of_float16),
    ),
    Fault(
        name="norm_eps_outside_root",
        title="eps is added to the standard deviation, not to the variance",
        area="norms",
        explanation="The port divides by sqrt(variance) + eps. PyTorch divides by "
        "sqrt(variance + eps).",
        effect="As if eps were another one: 1e-5 beside the root counts twice as much as inside "
        "where the variance is 1.",
        mend="Add eps under the root.",
        first_taps=ANY_NORM,
        operations={"layer_norm": put(_eps_outside)},
    ),
    Fault(
        name="norm_variance_unbiased",
        title="The variance divides by D - 1",
        area="norms",
        explanation="The port calls a library's variance, which corrects for the sample by "
        "default. A layer norm divides by D.",
        effect="Everything shrinks by 1 / (2 D): 0.07 % at 768 features, which no cosine shows.",
        mend="Divide by D.",
        first_taps=ANY_NORM,
        operations={"layer_norm": put(_unbiased)},
    ),
    Fault(
        name="norm_without_mean",
        title="The mean is not taken away (RMS norm)",
        area="norms",
        explanation="The port reuses the norm of a younger model, which only divides by the root "
        "of the mean square.",
        effect="Large where a row's mean is large; small, and easily overlooked, where it is not.",
        mend="Take the mean away first.",
        first_taps=ANY_NORM,
        operations={"layer_norm": put(_root_mean_square)},
    ),
    Fault(
        name="norm_weight_missing",
        title="The norms' weights are 1",
        area="norms",
        explanation="The loader knows them under another name (old files say `gamma`) and leaves "
        "the initial values.",
        effect="Every norm's features have the wrong size.",
        mend="Load `weight`, or `gamma`; refuse a checkpoint of which tensors are left.",
        first_taps=ANY_NORM,
        weights=weights_of_norms("weight", ones),
    ),
    Fault(
        name="norm_bias_missing",
        title="The norms' biases are 0",
        area="norms",
        explanation="The loader leaves `beta` out, or the port's norm has no bias.",
        effect="Every norm's features are shifted.",
        mend="Load `bias`, or `beta`.",
        first_taps=ANY_NORM,
        weights=weights_of_norms("bias", zeros),
    ),
    Fault(
        name="norm_weight_and_bias_swapped",
        title="The norms' weights and biases are swapped",
        area="norms",
        explanation="Both have the shape (D), so no loader complains.",
        effect="Everything is wrong from the first norm on.",
        mend="Assign by name.",
        first_taps=ANY_NORM,
        weights=_swap_weight_and_bias,
    ),
    Fault(
        name="norm_weight_plus_one",
        title="The norms multiply by 1 + weight",
        area="norms",
        explanation="The port reuses a norm whose weights are kept around zero, as some younger "
        "models have it.",
        effect="Every norm's features are too large.",
        mend="Multiply by the weight itself.",
        first_taps=ANY_NORM,
        weights=weights_of_norms("weight", lambda x: x + 1.0),
    ),
    Fault(
        name="norms_of_layer_swapped",
        title="The two norms of a layer are swapped",
        area="norms",
        explanation="A converter's table has the norm of attention and that of the feed-forward "
        "network the wrong way round. XLM numbers them (`layer_norm1`, `layer_norm2`), the others "
        "name them by the module that they stand in.",
        effect="Every layer's features have another size.",
        mend="Follow the names from module to module.",
        first_taps=("attention_norm",),
        weights=_swap_norms_of_layer,
    ),
    Fault(
        name="attention_norm_missing",
        title="The norm of attention is left out",
        area="norms",
        explanation="The port's layer has one norm where the original has two.",
        effect="All hidden states differ.",
        mend="Normalise both halves of a layer.",
        first_taps=("attention_norm",),
        taps=at("attention_norm", become=skipped),
    ),
    Fault(
        name="ffn_norm_missing",
        title="The norm of the feed-forward network is left out",
        area="norms",
        explanation="The port's layer has one norm where the original has two. In X-MOD's base "
        "models the norm in question runs twice, in front of the adapter and behind it; this is "
        "the second.",
        effect="All hidden states behind the first layer differ.",
        mend="Normalise both halves of a layer; in X-MOD with the same norm twice.",
        first_taps=("ffn_norm",),
        known=(66,),
        taps=at("ffn_norm", become=skipped),
    ),
    Fault(
        name="norm_first",
        title="The layers normalise first",
        area="norms",
        families=("xlm", "xlm_roberta", "xmod"),
        explanation="A generic encoder is built with `norm_first`: each half of a layer "
        "normalises its input and adds its result to what came in. These models normalise the "
        "sum.",
        effect="All layers are wrong.",
        mend="Add first, then normalise; only XL and X-MOD's large model do it the other way.",
        first_taps=("query",),
        sources=threads("tracel-ai/models#30"),
        known=(16,),
        needs=(needs.POST_NORM,),
        taps=_normalise_first,
    ),
    Fault(
        name="norm_last",
        title="XL's layers normalise last",
        area="norms",
        families=("xlm_roberta_xl",),
        explanation="The port runs XL in XLM-R's layers: each half normalises the sum. The names "
        "in the checkpoint do not say that the order is another.",
        effect="All layers are wrong: the first conversion gave the same prediction everywhere.",
        mend="Normalise the input of each half, and the end of the encoder.",
        first_taps=("attention_norm",),
        sources=threads("huggingface/transformers#12082", "facebookresearch/fairseq#3600"),
        known=(14,),
        taps=at("attention_norm", "ffn_norm", become=skipped),
        onward=_normalise_last,
    ),
    Fault(
        name="xmod_names_at_face_value",
        title="X-MOD's large model normalises behind, as its names say",
        area="norms",
        families=("xmod",),
        explanation="With `pre_norm` the norms called `attention.output.LayerNorm` and "
        "`output.LayerNorm` run before attention and before the feed-forward network, though they "
        "sit in the modules of the output. The port takes the names at face value.",
        effect="All layers are wrong.",
        mend="Look at `pre_norm` of the config.",
        first_taps=("attention_norm",),
        known=(19,),
        needs=(needs.PRE_NORM,),
        config=settings(pre_norm=False),
    ),
    Fault(
        name="final_norm_missing",
        title="The norm behind the last layer is left out",
        area="norms",
        families=("xlm_roberta_xl", "xmod"),
        explanation="Models that normalise first need a norm at the end. The port has the layers "
        "right and forgets it.",
        effect="The last hidden state has the wrong size; what the heads are given was never "
        "normalised.",
        mend="Apply `encoder.LayerNorm`.",
        first_taps=("final_norm",),
        sources=threads("facebookresearch/fairseq#1938", "huggingface/transformers#12082"),
        known=(15,),
        needs=(needs.PRE_NORM,),
        taps=at("final_norm", become=skipped),
    ),
    Fault(
        name="final_norm_added",
        title="A norm behind the last layer that normalises last itself",
        area="norms",
        families=("xlm", "xlm_roberta", "xmod"),
        explanation="A generic encoder has a final norm always. For these models the checkpoint "
        "has no weights for it: they stay 1 and 0.",
        effect="The last hidden state loses the weight and bias of the last layer's norm.",
        mend="No final norm where the layers normalise last.",
        first_taps=BEHIND,
        sources=threads("facebookresearch/fairseq#1938"),
        known=(15,),
        needs=(needs.POST_NORM,),
        onward=_normalise_end,
    ),
)
