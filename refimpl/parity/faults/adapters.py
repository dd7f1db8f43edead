"""X-MOD's adapters: whose they are, and what stands around them."""

from __future__ import annotations

from typing import Any

import numpy

from refimpl import ops
from refimpl.backend import Array
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import (
    at,
    settings,
    value_of,
    weights_of,
    with_input,
    zeros,
)
from refimpl.parity.faults.fault import Fault, Need, Tensors, threads
from refimpl.parity.faults.run import Run, place_of

XMOD = ("xmod",)
DOWN = ("adapter_down",)

# --- which adapter --------------------------------------------------------------------------------


def _shifted(run: Run) -> Any:
    return (run.inputs["lang_ids"] + run.parameters["shift"]) % len(run.config.languages)


def _of_first(run: Run) -> Any:
    ids = run.inputs["lang_ids"]
    return numpy.full_like(ids, ids.ravel()[0])


def _default(run: Run) -> Any:
    """The default language's place, and the first of the list where there is none."""
    languages, default = list(run.config.languages), run.config.default_language
    place = 0 if default is None else languages.index(default)
    return numpy.full_like(run.inputs["lang_ids"], place)


# --- around it ------------------------------------------------------------------------------------


def _no_adapter(run: Run, name: str, x: Array) -> Array:
    """The layer's norm of what came out of the feed-forward network."""
    hidden = run.onward[run.latest("ffn_out")] + run.into[run.latest("inner")]
    return run.norm(name, hidden)


def _residual(run: Run) -> Array:
    """What was added to the adapters' results."""
    before = run.latest("before_adapter")
    return run.onward[before] if run.config.ln_before_adapter else run.into[before]


def _without_residual(run: Run, name: str, x: Array) -> Array:
    return run.norm(name, run.into[name] - _residual(run))


def _through_adapter_only(run: Run, tensors: Tensors, name: str) -> Array:
    """The layer's own norm in the place of the adapter's."""
    return tensors[name.replace(".output.adapter_layer_norm.", ".output.LayerNorm.")]


def _rectified(run: Run, name: str, x: Array) -> Array:
    return ops.relu(run.onward[run.latest("adapter_down")])


_SEVERAL = Need("several languages", lambda run: len(run.config.languages) > 1)
_MIXED = Need(
    "texts in several languages",
    lambda run: len(numpy.unique(run.inputs.get("lang_ids", numpy.zeros(1)))) > 1,
)
_REUSED = Need(
    "the layer's norm in front of the adapter",
    lambda run: run.config.adapter_reuse_layer_norm and not run.config.adapter_layer_norm,
)
_OWN = needs.setting("adapter_layer_norm", True, "`adapter_layer_norm`")
_ANY_NORM = Need(
    "a norm in front of the adapter",
    lambda run: run.config.adapter_reuse_layer_norm or run.config.adapter_layer_norm,
)
_NOT_RELU = Need("another activation than ReLU", lambda run: run.config.hidden_act != "relu")
_ALPHABETICAL = Need(
    "languages that are not in alphabetical order",
    lambda run: list(run.config.languages) != sorted(run.config.languages),
)

LANGUAGES = (
    Fault(
        name="xmod_language_shifted",
        title="Texts go through another language's adapters",
        area="adapters",
        families=XMOD,
        explanation="The port numbers the languages by another list, or from 1.",
        effect="Plausible hidden states of a wrong language.",
        mend="`lang_ids` are places in `languages` of the checkpoint's config.",
        first_taps=DOWN,
        needs=(needs.given("lang_ids"), _SEVERAL),
        parameters={"shift": 1},
        alternatives={"shift": (-1, 2, -2)},
        inputs=with_input("lang_ids", _shifted),
    ),
    Fault(
        name="xmod_languages_sorted",
        title="Languages are numbered in alphabetical order",
        area="adapters",
        families=XMOD,
        explanation="The order of the published list of 81 languages is not alphabetical (en_XX "
        "is 0, id_ID 1, vi_VN 2, de_DE 8); that of the smaller lists is. The port sorts.",
        effect="Nearly all texts go through a wrong adapter, with plausible results.",
        mend="Keep the order of the config.",
        first_taps=DOWN,
        known=(64,),
        needs=(needs.given("lang_ids"), _ALPHABETICAL),
        config=settings(languages=lambda run: sorted(run.config.languages)),
    ),
    Fault(
        name="xmod_language_of_first_text",
        title="All texts of a batch go through the first one's adapters",
        area="adapters",
        families=XMOD,
        explanation="The port chooses one adapter for each batch.",
        effect="Batches in one language are right; in mixed ones only the first text is.",
        mend="Send every text through the adapter of its own language.",
        first_taps=DOWN,
        needs=(needs.given("lang_ids"), _MIXED),
        inputs=with_input("lang_ids", _of_first),
    ),
    Fault(
        name="xmod_default_language_for_all",
        title="The lang_ids of a call are ignored",
        area="adapters",
        families=XMOD,
        explanation="All texts go through the adapters of the default language, or of the first "
        "one of the list, as where fairseq falls back to English.",
        effect="Right for that language, wrong for all others.",
        mend="What the caller gives counts; refuse a call without a language.",
        first_taps=DOWN,
        known=(63,),
        needs=(
            needs.given("lang_ids"),
            Need(
                "texts in another language than that",
                lambda run: bool((_default(run) != run.inputs["lang_ids"]).any()),
            ),
        ),
        inputs=with_input("lang_ids", _default),
    ),
)

AROUND = (
    Fault(
        name="xmod_adapter_adds_nothing",
        title="The adapters add nothing",
        area="adapters",
        families=XMOD,
        explanation="Their tensors were not found under the names that the port expects, and a "
        "fresh adapter begins as zero. Seen where published weights were read unconverted.",
        effect="Each layer lacks its adapter's part. The norm in front of it still runs.",
        mend="Refuse a checkpoint of which tensors are left.",
        first_taps=("adapter_up",),
        sources=threads("adapter-hub/adapters#581"),
        known=(48,),
        weights=lambda run, tensors, name: (
            zeros(tensors[name])
            if place_of(name.rpartition(".")[0]) == "adapter_up"
            else tensors[name]
        ),
    ),
    Fault(
        name="xmod_adapters_skipped",
        title="X-MOD is run as XLM-R",
        area="adapters",
        families=XMOD,
        explanation="The port has no adapters. Everything else has XLM-R's names and shapes.",
        effect="Each layer lacks its adapter and the norm in front of it.",
        mend="Run the adapter of the text's language in every layer.",
        first_taps=("ffn_norm",),
        needs=(needs.POST_NORM,),
        taps=at("ffn_norm", become=_no_adapter),
    ),
    Fault(
        name="xmod_norm_in_front_missing",
        title="The norm in front of the adapter is left out",
        area="adapters",
        families=XMOD,
        explanation="In the base models the layer's norm runs twice, in front of the adapter and "
        "behind it, with the same weights. The port runs it at the end only.",
        effect="The adapter is given values of another size, and so is the sum.",
        mend="Look at `adapter_reuse_layer_norm`.",
        first_taps=("before_adapter",),
        known=(66,),
        needs=(_REUSED,),
        config=settings(adapter_reuse_layer_norm=False),
    ),
    Fault(
        name="xmod_residual_on_the_other_side",
        title="The adapter's residual is taken on the other side of the norm",
        area="adapters",
        families=XMOD,
        explanation="In the base models the residual is taken behind the norm that stands in "
        "front of the adapter (`ln_before_adapter`), in the large ones before it. The port mixes "
        "them.",
        effect="Every layer is wrong.",
        mend="Look at `ln_before_adapter`.",
        first_taps=("ffn_norm", "final_norm", "attention_norm"),
        known=(65,),
        needs=(_ANY_NORM,),
        config=settings(ln_before_adapter=lambda run: not run.config.ln_before_adapter),
    ),
    Fault(
        name="xmod_residual_missing",
        title="What goes into the adapter is not added to its result",
        area="adapters",
        families=XMOD,
        explanation="The port goes on with what the adapter returns.",
        effect="The feed-forward network's and attention's results get through a narrow adapter "
        "only.",
        mend="Add the adapter's result to what came in.",
        first_taps=("ffn_norm",),
        needs=(needs.POST_NORM, _ANY_NORM),
        taps=at("ffn_norm", become=_without_residual),
    ),
    Fault(
        name="xmod_wrong_norm_in_front",
        title="The layer's norm runs in the place of the adapter's own",
        area="adapters",
        families=XMOD,
        explanation="With `adapter_layer_norm` the adapters have a norm of their own in front. "
        "The port takes the one that the base models use twice.",
        effect="The adapter is given values of another size.",
        mend="Look at `adapter_layer_norm`.",
        first_taps=("before_adapter",),
        known=(65,),
        needs=(_OWN,),
        weights=_through_adapter_only,
    ),
    Fault(
        name="xmod_adapter_not_activated",
        title="The adapters have no activation",
        area="adapters",
        families=XMOD,
        explanation="The port multiplies by the adapter's two matrices one after the other.",
        effect="Every layer is off by a little.",
        mend="`hidden_act` between the two.",
        first_taps=("adapter_activation",),
        taps=at("adapter_activation", become=value_of("adapter_down")),
    ),
    Fault(
        name="xmod_adapter_with_relu",
        title="The adapters' activation is ReLU",
        area="adapters",
        families=XMOD,
        explanation="Other kinds of adapters use ReLU. X-MOD's use `hidden_act`, which is GELU.",
        effect="Every layer is off by a little.",
        mend="`hidden_act` here too.",
        first_taps=("adapter_activation",),
        needs=(_NOT_RELU,),
        taps=at("adapter_activation", become=_rectified),
    ),
    Fault(
        name="xmod_adapter_bias_missing",
        title="The adapters have no biases",
        area="adapters",
        families=XMOD,
        explanation="The port's adapters are two matrices.",
        effect="Every layer is off by a little.",
        mend="Load both biases.",
        first_taps=DOWN,
        weights=weights_of(("adapter_down", "adapter_up"), "bias", zeros),
    ),
)

FAULTS = (*LANGUAGES, *AROUND)
