"""Activations: which GELU, and where."""

from __future__ import annotations

from refimpl import ops
from refimpl.backend import Array
from refimpl.parity.faults import needs
from refimpl.parity.faults.changes import at, put, put_plain, settings, value_of
from refimpl.parity.faults.fault import Fault, Function, Need, threads
from refimpl.parity.faults.run import ROBERTAS, Run
from refimpl.replacing import plain

FIRST = ("activation",)


def _gelu_sigmoid(x: Array) -> Array:
    """(...) -> (...): x σ(1.702 x), which is silu(1.702 x) / 1.702."""
    quick: Array = plain("silu")(1.702 * x) / 1.702
    return quick


def _lm_gelu_tanh(run: Run, name: str, x: Array) -> Array:
    return ops.gelu_tanh(run.onward[run.latest("lm_dense")])


def _hidden_act(run: Run, base: Function) -> Function:
    return plain(needs.activation_of(run))


_NOT_GELU = Need("another `hidden_act` than GELU", lambda run: not needs.GELU.holds(run))
_GELU_TANH = needs.activation("gelu_tanh", "`gelu_new`, or another name of it, as `hidden_act`")

FAULTS = (
    Fault(
        name="gelu_tanh",
        title="GELU by its tanh formula",
        area="activations",
        explanation="The port uses the approximation of GELU, which is some frameworks' default. "
        "All published models of the family use the exact form, with erf. The names mislead: in "
        "fairseq `gelu` is the exact one and `gelu_accurate` the approximation.",
        effect="Up to 4.7e-4 for each activation (near 2.7), and it adds up from layer to layer. "
        "Cosines stay at 1.0000.",
        mend="x/2 (1 + erf(x/√2)).",
        first_taps=FIRST,
        sources=threads(
            "Blaizzy/mlx-embeddings#81",
            "huggingface/text-embeddings-inference#753",
            "huggingface/transformers#11364",
            "CyberZHG/keras-bert#129",
            "dmlc/gluon-nlp#1203",
        ),
        known=(20, 21),
        needs=(needs.GELU,),
        operations={"gelu_erf": put_plain("gelu_tanh")},
    ),
    Fault(
        name="gelu_sigmoid",
        title="GELU by the sigmoid formula (quick GELU)",
        area="activations",
        explanation="The port uses x σ(1.702 x), as CLIP does.",
        effect="Up to 2e-2 for each activation.",
        mend="x/2 (1 + erf(x/√2)).",
        first_taps=FIRST,
        needs=(needs.GELU,),
        operations={"gelu_erf": put(_gelu_sigmoid)},
    ),
    Fault(
        name="gelu_as_silu",
        title="SiLU in place of GELU",
        area="activations",
        explanation="The port uses x σ(x), the activation of younger models. On a plot the two "
        "look alike.",
        effect="Up to 0.2 for each activation.",
        mend="x/2 (1 + erf(x/√2)).",
        first_taps=FIRST,
        needs=(needs.GELU,),
        operations={"gelu_erf": put_plain("silu")},
    ),
    Fault(
        name="gelu_as_relu",
        title="ReLU in place of GELU",
        area="activations",
        explanation="The port overlooks XLM's `gelu_activation`, or takes the activation of the "
        "original transformer.",
        effect="Up to 0.17 for each activation; every layer is wrong.",
        mend="Read the activation from the config.",
        first_taps=FIRST,
        known=(22,),
        needs=(needs.GELU,),
        operations={"gelu_erf": put_plain("relu")},
    ),
    Fault(
        name="gelu_as_tanh",
        title="The hyperbolic tangent in place of GELU",
        area="activations",
        explanation="The activation of the pooler and of the classification head is used in the "
        "feed-forward network too.",
        effect="Every activation is below 1; every layer is wrong.",
        mend="x/2 (1 + erf(x/√2)).",
        first_taps=FIRST,
        needs=(needs.GELU,),
        operations={"gelu_erf": put_plain("tanh")},
    ),
    Fault(
        name="gelu_new_as_erf",
        title="gelu_new read as the exact GELU",
        area="activations",
        families=ROBERTAS,
        explanation="The config says `gelu_new` (or fairseq's `gelu_accurate`), which is the tanh "
        "formula, and the port computes erf.",
        effect="Up to 4.7e-4 for each activation.",
        mend="Tell the names apart.",
        first_taps=FIRST,
        known=(21,),
        needs=(_GELU_TANH,),
        config=settings(hidden_act="gelu"),
    ),
    Fault(
        name="activation_missing",
        title="No activation in the feed-forward network",
        area="activations",
        explanation="The port multiplies by the two matrices one after the other.",
        effect="Everything behind the first layer's feed-forward network is wrong.",
        mend="Apply the activation of the config between them.",
        first_taps=FIRST,
        taps=at("activation", become=value_of("inner")),
    ),
    Fault(
        name="lm_head_follows_hidden_act",
        title="The language modelling head uses hidden_act",
        area="activations",
        families=ROBERTAS,
        explanation="The port takes the config's activation in the head too. There the original "
        "uses the exact GELU, whatever the config says.",
        effect="Nothing for the published models, whose `hidden_act` is GELU; wrong scores for "
        "any other.",
        mend="GELU (erf) in the head.",
        first_taps=("lm_activation",),
        needs=(needs.LM_TRANSFORM, _NOT_GELU),
        operations={"gelu_erf": _hidden_act},
    ),
    Fault(
        name="lm_head_gelu_tanh",
        title="GELU by its tanh formula in the language modelling head",
        area="activations",
        families=ROBERTAS,
        explanation="The layers are right, and the head was written with the framework's default.",
        effect="Hidden states agree, and scores are off by 1e-4 to 1e-3.",
        mend="x/2 (1 + erf(x/√2)) here too.",
        first_taps=("lm_activation",),
        needs=(needs.LM_TRANSFORM,),
        taps=at("lm_activation", become=_lm_gelu_tanh),
    ),
    Fault(
        name="lm_head_activation_missing",
        title="No activation in the language modelling head",
        area="activations",
        families=ROBERTAS,
        explanation="The port's head is linear, norm, linear.",
        effect="Hidden states agree, scores do not.",
        mend="GELU behind `lm_head.dense`.",
        first_taps=("lm_activation",),
        needs=(needs.LM_TRANSFORM,),
        taps=at("lm_activation", become=value_of("lm_dense")),
    ),
)
