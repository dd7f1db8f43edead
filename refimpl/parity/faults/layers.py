"""Layers: what is added to what, and which layer comes when."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from refimpl.backend import Array
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import at, read_instead, settings
from refimpl.parity.faults.fault import Fault, Need, WeightChange
from refimpl.parity.faults.run import Run, place_of

# --- residuals ------------------------------------------------------------------------------------


def residual(run: Run, place: str) -> Array:
    """What came into a part of a layer and is added to its result (at ``place``)."""
    if run.normalises_first:
        return run.into[run.latest("attention_norm" if place == "attention_out" else "ffn_norm")]
    return run.into[run.latest("query" if place == "attention_out" else "inner")]


def _not_added(run: Run, name: str, x: Array) -> Array:
    return x - residual(run, place_of(name))


def _added_twice(run: Run, name: str, x: Array) -> Array:
    return x + residual(run, place_of(name))


def _normalised(run: Run, name: str, x: Array) -> Array:
    """The normalised input in the place of the input."""
    place = place_of(name)
    norm = run.latest("attention_norm" if place == "attention_out" else "ffn_norm")
    return x + (run.onward[norm] - residual(run, place))


_PART = {"attention_norm": "attention_out", "ffn_norm": "ffn_out"}


def _norm_of_part(run: Run, name: str, x: Array) -> Array:
    return run.norm(name, run.onward[run.latest(_PART[place_of(name)])])


def _add_residual(run: Run, name: str, x: Array) -> Array:
    return x + residual(run, _PART[place_of(name)])


RESIDUALS = (
    Fault(
        name="attention_residual_missing",
        title="Attention's input is not added to its result",
        area="residuals",
        explanation="The port goes on with what attention returns.",
        effect="A token is what it looks at, and no longer itself.",
        mend="Add the input of each half of a layer to its result.",
        first_taps=("attention_norm", "ffn_norm"),
        onward=at("attention_out", become=_not_added),
    ),
    Fault(
        name="ffn_residual_missing",
        title="The feed-forward network's input is not added to its result",
        area="residuals",
        explanation="The port goes on with what the feed-forward network returns.",
        effect="All hidden states behind the first layer are wrong.",
        mend="Add the input of each half of a layer to its result.",
        first_taps=(
            *("ffn_norm", "before_adapter", "adapter_down"),
            *("attention_norm", "final_norm"),
        ),
        onward=at("ffn_out", become=_not_added),
    ),
    Fault(
        name="residual_added_twice",
        title="Attention's input is added twice",
        area="residuals",
        explanation="A fused operation adds the residual, and the port adds it once more.",
        effect="Tokens look at each other too little.",
        mend="Add it once.",
        first_taps=("attention_norm", "ffn_norm"),
        onward=at("attention_out", become=_added_twice),
    ),
    Fault(
        name="residual_behind_norm",
        title="The residual is taken behind the norm",
        area="residuals",
        families=("xlm_roberta_xl", "xmod"),
        explanation="Layers that normalise first add what came in as it was. The port adds what "
        "came out of the norm.",
        effect="All hidden states are wrong from the first layer on.",
        mend="Keep the input before it is normalised.",
        first_taps=("ffn_norm", "attention_norm"),
        needs=(needs.PRE_NORM,),
        onward=at("attention_out", "ffn_out", become=_normalised),
    ),
    Fault(
        name="norm_before_residual",
        title="The result is normalised, then the residual is added",
        area="residuals",
        families=("xlm", "xlm_roberta"),
        explanation="The port normalises what a half of a layer returns and adds the input "
        "behind the norm.",
        effect="Hidden states grow from layer to layer.",
        mend="Add first, then normalise the sum.",
        first_taps=("attention_norm",),
        needs=(needs.POST_NORM,),
        taps=at("attention_norm", "ffn_norm", become=_norm_of_part),
        onward=at("attention_norm", "ffn_norm", become=_add_residual),
    ),
)

# --- the order of the layers ----------------------------------------------------------------------

Order = Callable[[int, int], list[int]]  # L, a parameter -> which layer runs at each place
_INDEX = re.compile(r"\b(layer|attentions|ffns|layer_norm[12])\.(\d+)\.")


def _reads(order: Order) -> WeightChange:
    def rename(run: Run, name: str) -> str:
        places = order(run.layers, int(run.parameters.get("layer", 0)))
        return _INDEX.sub(lambda found: f"{found[1]}.{places[int(found[2])]}.", name)

    return read_instead(rename)


def _config_of(order: Order) -> Callable[[Run], Any]:
    """As many layers, and the pruned heads of each where its weights now are."""

    def change(run: Run) -> Any:
        places = order(run.layers, int(run.parameters.get("layer", 0)))
        pruned = run.config.pruned_heads or {}
        moved = {str(i): pruned[str(j)] for i, j in enumerate(places) if str(j) in pruned}
        key = "n_layers" if run.family == "xlm" else "num_hidden_layers"
        return settings(**{key: len(places), "pruned_heads": moved or None})(run)

    return change


def _head_masks(run: Run) -> dict[str, Any]:
    """A head mask for each layer that is left."""
    mask = run.inputs.get("head_mask")
    cut = {} if mask is None or mask.ndim == 1 else {"head_mask": mask[: run.layers]}
    return {**run.inputs, **cut}


def _all_but_last(layers: int, layer: int) -> list[int]:
    return list(range(layers - 1))


def _all_but_first(layers: int, layer: int) -> list[int]:
    return list(range(1, layers))


def _two_swapped(layers: int, layer: int) -> list[int]:
    return [*range(layer), layer + 1, layer, *range(layer + 2, layers)]


def _like_the_one_before(layers: int, layer: int) -> list[int]:
    return [*range(layer + 1), layer, *range(layer + 2, layers)]


def _reversed(layers: int, layer: int) -> list[int]:
    return list(range(layers))[::-1]


def _one_late(layers: int, layer: int) -> list[int]:
    return [0, *range(layers - 1)]


def _all_like_first(layers: int, layer: int) -> list[int]:
    return [0] * layers


def _as_text(layers: int, layer: int) -> list[int]:
    return sorted(range(layers), key=str)


_THERE = Need("a layer behind that one", lambda run: bool(run.parameters["layer"] + 1 < run.layers))


def _ordered(
    order: Order,
    name: str,
    title: str,
    deep: int,
    *,
    explanation: str,
    effect: str,
    mend: str,
    which: bool = False,
) -> Fault:
    return Fault(
        name=name,
        title=title,
        area="layers",
        first_taps=("query", "attention_norm"),  # where a layer begins: normalising last or first
        needs=(needs.layers(deep), needs.NO_CACHE, *([_THERE] if which else [])),
        parameters={"layer": 0} if which else {},
        alternatives={"layer": tuple(range(1, 47))} if which else {},
        config=_config_of(order),
        weights=_reads(order),
        inputs=_head_masks,
        explanation=explanation,
        effect=effect,
        mend=mend,
    )


ORDERS = (
    _ordered(
        _all_but_last,
        "last_layer_skipped",
        "The last layer is left out",
        2,
        explanation="A loop ends one too early, or the hidden states are counted without the "
        "embeddings' and the last is taken for the one before it.",
        effect="Hidden states agree up to the last layer. Cosines of the outputs stay high.",
        mend="Run all layers of the config.",
    ),
    _ordered(
        _all_but_first,
        "first_layer_skipped",
        "The first layer is left out",
        2,
        explanation="Layers are numbered from 1 in the port and from 0 in the checkpoint.",
        effect="The embeddings go into the second layer.",
        mend="Layer 0 is the first.",
    ),
    _ordered(
        _two_swapped,
        "layers_swapped",
        "Two layers have changed places",
        2,
        explanation="A converter sorts the names, or shards are read in another order.",
        effect="In a deep model the outputs' cosine can stay at 0.9999.",
        mend="Take the number from the name.",
        which=True,
    ),
    _ordered(
        _like_the_one_before,
        "layer_duplicated",
        "A layer has the weights of the one before it",
        2,
        explanation="A converter's loop assigns one layer twice.",
        effect="In a deep model the outputs' cosine can stay at 0.9999.",
        mend="Check that every tensor of the file was used once.",
        which=True,
    ),
    _ordered(
        _one_late,
        "layers_one_late",
        "Every layer has the weights of the one before it",
        3,
        explanation="The port counts the embeddings as layer 0, or its loop is one off; the first "
        "layer's weights are used twice, the last one's never.",
        effect="The first layer agrees, all others are wrong.",
        mend="Layer 0 is the first, and the last has the number L - 1.",
    ),
    _ordered(
        _reversed,
        "layers_reversed",
        "The layers run in the opposite order",
        2,
        explanation="The port builds its list of layers from the end.",
        effect="The embeddings go into the last layer.",
        mend="Run them from 0 on.",
    ),
    _ordered(
        _all_like_first,
        "first_layer_repeated",
        "All layers have the weights of the first",
        2,
        explanation="The port shares one layer, as ALBERT does, or its loop reads layer 0 always.",
        effect="The first layer agrees, the second does not.",
        mend="Build each layer anew.",
    ),
    _ordered(
        _as_text,
        "layers_sorted_as_text",
        "Layers are sorted as text",
        11,
        explanation="The names of the tensors are sorted: layer 10 comes before layer 2.",
        effect="Models of up to ten layers are right; all published ones are deeper.",
        mend="Sort by number.",
    ),
)

FAULTS = (*RESIDUALS, *ORDERS)
