"""Weights: biases that were left behind, and tensors that were read for others."""

from __future__ import annotations

import re

import numpy

from refimpl.backend import Array, namespace
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import is_norm, read_instead, weights_of, zeros
from refimpl.parity.faults.fault import Fault, Need, Tensors, WeightChange, threads
from refimpl.parity.faults.run import Run, place_of

# --- queries, keys and values ---------------------------------------------------------------------

_WORDS = r"\.(query|key|value|[qkv]_lin)\."
_PLACES = {"query": "q_lin", "key": "k_lin", "value": "v_lin"}  # and what XLM calls them


def _exchanged(**other: str) -> WeightChange:
    """Read the tensors of one projection for another: query="key" reads keys for queries."""

    def rename(run: Run, name: str) -> str:
        def word(match: re.Match[str]) -> str:
            place = place_of(name.rpartition(".")[0])
            read = other.get(place, place)
            return f".{_PLACES[read] if run.family == 'xlm' else read}."

        return re.sub(_WORDS, word, name)

    return read_instead(rename)


def _fused_by_head(run: Run, tensors: Tensors, name: str) -> Array:
    """Rows of [q; k; v] stacked, taken for rows that lie head by head: q, k, v of each."""
    module, _, last = name.rpartition(".")
    place = place_of(module)
    if place not in _PLACES:
        return tensors[name]
    words = _PLACES.values() if run.family == "xlm" else _PLACES
    stacked = [tensors[f"{module.rpartition('.')[0]}.{word}.{last}"] for word in words]
    xp, size = namespace(*stacked), run.config.head_size
    rows = stacked[0].shape[0]
    by_head = xp.reshape(xp.concat(stacked, axis=0), (rows // size, 3, size, -1))
    return xp.reshape(by_head[:, list(_PLACES).index(place), :, :], tensors[name].shape)


# --- other tensors --------------------------------------------------------------------------------


def _transposed(run: Run, tensors: Tensors, name: str) -> Array:
    x = tensors[name]
    module, _, last = name.rpartition(".")
    is_map = last == "weight" and x.ndim == 2 and "embedding" not in module
    which = run.parameters["which"]
    square = is_map and x.shape[0] == x.shape[1] and which in ("all", place_of(module))
    return namespace(x).matrix_transpose(x) if square else x


def _without_biases(run: Run, tensors: Tensors, name: str) -> Array:
    module, _, last = name.rpartition(".")
    of_norm = is_norm(module) or "embedding" in module
    return tensors[name] if last != "bias" or of_norm else zeros(tensors[name])


def _decoder(name: str) -> bool:
    return name in ("lm_head.decoder.weight", "pred_layer.proj.weight")


def _words(run: Run) -> str:
    table = "embeddings" if run.family == "xlm" else "embeddings.word_embeddings"
    return f"{run.base}{table}.weight"


def _fresh_decoder(run: Run, tensors: Tensors, name: str) -> Array:
    """A matrix that was never loaded: normal numbers of the usual deviation, 0.02."""
    x = tensors[name]
    if not _decoder(name):
        return x
    seed = int(run.parameters["seed"])
    drawn = numpy.random.default_rng(seed).normal(0.0, 0.02, size=x.shape)
    return run.model.backend.asarray(drawn, x.dtype)


def _bias_of_scores(change_by: float) -> WeightChange:
    """The bias of the language modelling head, as published: times a number."""
    names = ("lm_head.bias", "pred_layer.proj.bias", "pred_layer.proj.head.bias")
    return lambda run, tensors, name: tensors[name] * (change_by if name in names else 1.0)


_NOT_KEY_QUERY = Need(
    "positions of another kind than `relative_key_query`",
    lambda run: not needs.RELATIVE_KEY_QUERY.holds(run),
)
_UNTIED = needs.setting("tie_word_embeddings", False, "an output matrix of its own")


def _bias_fault(
    place: str, what: str, effect: str, equivalent: str = "", needs: tuple[Need, ...] = ()
) -> Fault:
    return Fault(
        name=f"{place}_bias_missing",
        title=f"No bias {what}",
        area="biases",
        explanation=f"The port's linear map {what} has no bias, as in many younger models, or its "
        "converter left the bias behind. A freshly initialised model, whose biases are all 0, "
        "does not show it.",
        effect=effect,
        mend="Load and add all biases: every linear map of these models has one.",
        first_taps=(place,),
        weights=weights_of((place,), "bias", zeros),
        equivalent=equivalent,
        needs=needs,
    )


BIASES = (
    Fault(
        name="biases_missing",
        title="No linear map has a bias",
        area="biases",
        explanation="The port's linear maps have no biases, as in many younger models. Norms have "
        "theirs.",
        effect="Everything is wrong from the first query on.",
        mend="Load and add all biases: every linear map of these models has one.",
        first_taps=("query",),
        weights=_without_biases,
    ),
    _bias_fault("query", "of the queries", "Scores lack a term for each key."),
    _bias_fault(
        "key",
        "of the keys",
        "Keys and scores differ, and nothing behind them: only a tap shows it.",
        equivalent="It adds the same number to all scores of a query, and the softmax of a row "
        "does not change when all of the row is moved. (Kept keys differ.)",
        needs=(_NOT_KEY_QUERY, needs.NO_CACHE),
    ),
    Fault(
        name="key_bias_missing_with_distances",
        title="No bias of the keys, with relative_key_query",
        area="biases",
        families=("xlm_roberta", "xlm_roberta_xl", "xmod"),
        explanation="As `key_bias_missing`; but here the keys are multiplied by the vectors of "
        "the distances too, and the bias with them.",
        effect="Scores lack a term that depends on the distance.",
        mend="Load and add all biases.",
        first_taps=("key",),
        needs=(needs.RELATIVE_KEY_QUERY,),
        weights=weights_of(("key",), "bias", zeros),
    ),
    _bias_fault("value", "of the values", "The context lacks one vector, the same everywhere."),
    _bias_fault("attention_out", "behind attention", "One vector is missing in every layer."),
    _bias_fault("inner", "in front of the activation", "Every activation is taken elsewhere."),
    _bias_fault("ffn_out", "behind the activation", "One vector is missing in every layer."),
)

SCORES = (
    Fault(
        name="lm_bias_missing",
        title="The scores of the words have no bias",
        area="biases",
        explanation="The port multiplies by the word embeddings and forgets `lm_head.bias`, or a "
        "loader expects it as `lm_head.decoder.bias`. Read in candle's XLM-R; fill-mask demos "
        "still pass.",
        effect="Scores are off by the bias; the best word is often the same.",
        mend="Add `lm_head.bias` (`pred_layer.proj.bias` in XLM).",
        first_taps=("lm_scores", "loss", "logits"),
        sources=threads(
            "vllm-project/vllm#46835",
            "huggingface/transformers#9579",
            "huggingface/transformers#6193",
            "huggingface/transformers#7167",
            "huggingface/transformers#12446",
        ),
        known=(39, 40),
        needs=(needs.LM_HEAD,),
        weights=_bias_of_scores(0.0),
    ),
    Fault(
        name="lm_bias_twice",
        title="The bias of the scores is added twice",
        area="biases",
        explanation="Files hold the bias under two names, `lm_head.bias` and "
        "`lm_head.decoder.bias`; the port adds both.",
        effect="Scores are off by the bias.",
        mend="They are one tensor: add it once.",
        first_taps=("lm_scores", "loss", "logits"),
        sources=threads("huggingface/transformers#2928", "huggingface/transformers#2521"),
        known=(38,),
        needs=(needs.LM_HEAD,),
        weights=_bias_of_scores(2.0),
    ),
    Fault(
        name="decoder_not_loaded",
        title="The output matrix was never loaded",
        area="weights",
        explanation="The file holds it under the words' name only, or under an old name "
        "(`lm_head.weight`), and the loader leaves the initial values.",
        effect="Hidden states agree, scores are noise.",
        mend="Tie it to the word embeddings where `tie_word_embeddings` is not false.",
        first_taps=("lm_scores",),
        sources=threads("huggingface/transformers#2202"),
        known=(42,),
        needs=(needs.LM_HEAD, needs.NOT_ADAPTIVE),
        parameters={"seed": 0},
        weights=_fresh_decoder,
    ),
    Fault(
        name="decoder_tied_wrongly",
        title="The output matrix is tied where it should not be",
        area="weights",
        explanation="The port ties always; the config says `tie_word_embeddings: false` and the "
        "file has a matrix of its own.",
        effect="Hidden states agree, scores do not.",
        mend="Read `tie_word_embeddings`.",
        first_taps=("lm_scores",),
        needs=(needs.LM_HEAD, needs.NOT_ADAPTIVE, _UNTIED),
        weights=read_instead(lambda run, name: _words(run) if _decoder(name) else name),
    ),
)

TENSORS = (
    Fault(
        name="query_and_key_swapped",
        title="Queries and keys are swapped",
        area="weights",
        explanation="A converter's table has the two the wrong way round; both have the same "
        "shape.",
        effect="Scores are transposed: who looks and who is looked at changes places.",
        mend="Assign by name.",
        first_taps=("query",),
        weights=_exchanged(query="key", key="query"),
    ),
    Fault(
        name="key_and_value_swapped",
        title="Keys and values are swapped",
        area="weights",
        explanation="The port unpacks what it projected in the wrong order: query, value, key.",
        effect="All attention is wrong.",
        mend="Assign by name.",
        first_taps=("key",),
        weights=_exchanged(key="value", value="key"),
    ),
    Fault(
        name="qkv_in_another_order",
        title="The fused matrix holds values, queries, keys",
        area="weights",
        explanation="The port stacks the three matrices to one and cuts its result in another "
        "order than it stacked.",
        effect="All attention is wrong.",
        mend="Stack and cut in the same order.",
        first_taps=("query",),
        weights=_exchanged(query="value", key="query", value="key"),
    ),
    Fault(
        name="qkv_fused_by_head",
        title="The fused matrix is cut head by head",
        area="weights",
        explanation="The converter stacks all queries, all keys, all values; the port expects "
        "query, key and value of the first head, then those of the second, as Megatron and BLOOM "
        "keep them.",
        effect="All attention is wrong. With one head it is right.",
        mend="Stack as the port cuts.",
        first_taps=("query",),
        needs=(Need("at least two heads", lambda run: run.heads > 1),),
        weights=_fused_by_head,
    ),
    Fault(
        name="square_weights_transposed",
        title="Square matrices are transposed",
        area="weights",
        explanation="The port keeps kernels as (inputs, outputs), as TensorFlow and JAX do, and "
        "transposes by shape: where both are equal it does not notice.",
        effect="Queries, keys, values and the maps behind attention are wrong; the others are "
        "right.",
        mend="Transpose every matrix of a linear map, or none.",
        first_taps=("query", "key", "value", "attention_out", "lm_dense"),
        needs=(
            Need("no `pruned_heads`", lambda run: not run.config.pruned_heads),
            Need(
                "a matrix of that name",
                lambda run: run.parameters["which"] != "lm_dense" or "lm_head" in run.weights,
            ),
        ),
        parameters={"which": "all"},
        alternatives={"which": ("query", "key", "value", "attention_out", "lm_dense")},
        weights=_transposed,
    ),
)

FAULTS = (*BIASES, *SCORES, *TENSORS)
