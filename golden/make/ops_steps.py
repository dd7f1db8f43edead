"""Cards of steps that take several operations: embeddings, the halves of a layer, adapters."""

from __future__ import annotations

from typing import Any

import torch
from transformers import XLMConfig, XLMModel, XLMRobertaConfig, XLMRobertaXLConfig, XmodConfig
from transformers.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaEmbeddings,
    XLMRobertaIntermediate,
    XLMRobertaOutput,
    XLMRobertaSelfOutput,
)
from transformers.models.xlm_roberta_xl.modeling_xlm_roberta_xl import (
    XLMRobertaXLEmbeddings,
    XLMRobertaXLLayer,
)
from transformers.models.xmod.modeling_xmod import XmodOutput

from golden.make.ops_card import Card, Case, Draw, exact, fill, reals

D, F = 6, 10
SOURCE = "transformers 4.57.6, models/xlm_roberta/modeling_xlm_roberta.py"


def sizes(width: int = D, inner: int = F, **more: Any) -> dict[str, Any]:
    """What the configs of the RoBERTas need for one of their modules."""
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": 1,
        "hidden_act": "gelu",
        "attn_implementation": "eager",
        **more,
    }


# --- the halves of a layer ------------------------------------------------------------------------


def add_and_norm(
    x: torch.Tensor, residual: torch.Tensor, eps: float, **tensors: torch.Tensor
) -> torch.Tensor:
    """The end of attention."""
    config = XLMRobertaConfig(**sizes(residual.shape[-1]), layer_norm_eps=eps)
    return fill(XLMRobertaSelfOutput(config), tensors)(x, residual)


draw = Draw("add_and_norm")


def half_case(what: str, x: torch.Tensor, residual: torch.Tensor, eps: float = 1e-5) -> Case:
    """A case with weights of its own."""
    tensors = {**draw.linear("dense", D, D), **draw.norm("LayerNorm", D)}
    return Case(what, {"x": x, "residual": residual, "eps": eps, **tensors})


ADD_AND_NORM = Card(
    "add_and_norm",
    what="layer_norm(linear(x) + residual): how attention and feed-forward network end in XLM, "
    "XLM-R and X-MOD.",
    theirs="XLMRobertaSelfOutput",
    source=SOURCE,
    shapes={
        "x": "(B, S, D)",
        "residual": "(B, S, D)",
        "eps": "()",
        "dense.weight": "(D, D)",
        "dense.bias": "(D)",
        "LayerNorm.weight": "(D)",
        "LayerNorm.bias": "(D)",
        "output": "(B, S, D)",
    },
    function=add_and_norm,
    uses=("linear", "layer_norm"),
    cases={
        "plain": half_case("a text of three", draw.normal(1, 3, D), draw.normal(1, 3, D)),
        "outliers": half_case(
            "a residual with two outliers, as the last layers have",
            draw.normal(1, 2, D),
            exact(draw.normal(1, 2, D) + reals(0.0, 56.0, 0.0, 0.0, -40.0, 0.0)),
        ),
        "nothing_added": half_case(
            "attention gives 0: the residual and the bias of the linear map are left",
            torch.zeros(1, 2, D).double(),
            draw.normal(1, 2, D),
        ),
        "eps_1e_12": half_case("XLM's eps", draw.normal(1, 2, D), draw.normal(1, 2, D), eps=1e-12),
    },
)


def feed_forward(
    x: torch.Tensor, activation: str, eps: float, **tensors: torch.Tensor
) -> torch.Tensor:
    """Up, activation, down, residual, norm."""
    config = XLMRobertaConfig(
        **{**sizes(x.shape[-1]), "hidden_act": activation}, layer_norm_eps=eps
    )
    up, down = XLMRobertaIntermediate(config), XLMRobertaOutput(config)
    inner = fill(up, below("intermediate", tensors))(x)
    return fill(down, below("output", tensors))(inner, x)


def below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a module, under the names that it gives them."""
    start = f"{prefix}."
    return {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}


draw = Draw("feed_forward")


def network(norm: str) -> dict[str, torch.Tensor]:
    """The tensors of a feed-forward network and its norm."""
    return {
        **draw.linear("intermediate.dense", F, D),
        **draw.linear("output.dense", D, F),
        **draw.norm(norm, D),
    }


NETWORK = {
    "x": "(B, S, D)",
    "eps": "()",
    "intermediate.dense.weight": "(F, D)",
    "intermediate.dense.bias": "(F)",
    "output.dense.weight": "(D, F)",
    "output.dense.bias": "(D)",
    "output": "(B, S, D)",
}
FEED_FORWARD = Card(
    "feed_forward",
    what="layer_norm(linear(gelu_erf(linear(x))) + x): the second half of a layer of XLM "
    "and XLM-R.",
    theirs="XLMRobertaIntermediate, XLMRobertaOutput",
    source=SOURCE,
    shapes={**NETWORK, "output.LayerNorm.weight": "(D)", "output.LayerNorm.bias": "(D)"},
    function=lambda x, eps, **tensors: feed_forward(x, "gelu", eps, **tensors),
    uses=("linear", "gelu_erf", "layer_norm"),
    cases={
        "plain": Case(
            "a text of three",
            {"x": draw.normal(1, 3, D), "eps": 1e-5, **network("output.LayerNorm")},
        ),
        "large": Case(
            "inputs of size 8: the activation works at both ends",
            {"x": draw.normal(1, 2, D, scale=8.0), "eps": 1e-5, **network("output.LayerNorm")},
        ),
        "zeros": Case(
            "a text of zeros: the biases alone",
            {
                "x": torch.zeros(1, 2, D).double(),
                "eps": 1e-12,
                **network("output.LayerNorm"),
            },
        ),
    },
)


def pre_norm_feed_forward(x: torch.Tensor, eps: float, **tensors: torch.Tensor) -> torch.Tensor:
    """The second half of a layer of XL."""
    layer = XLMRobertaXLLayer(XLMRobertaXLConfig(**sizes(), layer_norm_eps=eps))
    layer.attention = torch.nn.Identity()
    return fill(layer, tensors).feed_forward_chunk(x)


PRE_NORM = Card(
    "pre_norm_feed_forward",
    what="x + linear(gelu_erf(linear(layer_norm(x)))): the second half of a layer of XL and XXL, "
    "which normalises first and does not normalise the sum.",
    theirs="XLMRobertaXLLayer.feed_forward_chunk",
    source="transformers 4.57.6, models/xlm_roberta_xl/modeling_xlm_roberta_xl.py",
    shapes={**NETWORK, "LayerNorm.weight": "(D)", "LayerNorm.bias": "(D)"},
    function=pre_norm_feed_forward,
    uses=("linear", "gelu_erf", "layer_norm"),
    cases={
        "plain": Case(
            "a text of three", {"x": draw.normal(1, 3, D), "eps": 1e-5, **network("LayerNorm")}
        ),
        "outliers": Case(
            "a residual stream that has grown, as it does in XL",
            {"x": draw.normal(1, 2, D, scale=16.0), "eps": 1e-5, **network("LayerNorm")},
        ),
    },
)

# --- adapters -------------------------------------------------------------------------------------


def adapter(
    x: torch.Tensor,
    lang_ids: torch.Tensor,
    eps: float,
    adapter_layer_norm: bool,
    adapter_reuse_layer_norm: bool,
    ln_before_adapter: bool,
    **tensors: torch.Tensor,
) -> torch.Tensor:
    """The end of a layer of X-MOD, before its last norm."""
    config = XmodConfig(
        **sizes(),
        languages=["0", "1", "2"],
        adapter_reduction_factor=2,
        adapter_layer_norm=adapter_layer_norm,
        adapter_reuse_layer_norm=adapter_reuse_layer_norm,
        ln_before_adapter=ln_before_adapter,
        layer_norm_eps=eps,
    )
    module = XmodOutput(config)
    module.dense = torch.nn.Identity()
    return fill(module, tensors).lang_adapter(lang_ids, x)


draw = Draw("language_adapter")


def adapter_case(what: str, lang_ids: list[int], *switches: bool) -> Case:
    """Three languages, a bottleneck of three features."""
    names = ("adapter_layer_norm", "adapter_reuse_layer_norm", "ln_before_adapter")
    tensors = draw.norm("LayerNorm", D)
    if switches[0]:
        tensors |= draw.norm("adapter_layer_norm", D)
    for i in range(3):
        tensors |= draw.linear(f"adapter_modules.{i}.dense1", D // 2, D)
        tensors |= draw.linear(f"adapter_modules.{i}.dense2", D, D // 2)
    inputs = {"x": draw.normal(len(lang_ids), 2, D), "lang_ids": torch.tensor(lang_ids)}
    flags = dict(zip(names, switches, strict=True))
    return Case(what, {**inputs, "eps": 1e-5, **flags, **tensors})


ADAPTER = Card(
    "language_adapter",
    what="linear(gelu_erf(linear(y))) + residual, through the adapter of each text's language. y "
    "is layer_norm(x) with the adapter's own norm or the layer's, or x; the residual is y where "
    "ln_before_adapter is true, else x.",
    theirs="XmodOutput.lang_adapter",
    source="Pfeiffer et al. 2022, section 3; transformers 4.57.6, models/xmod/modeling_xmod.py",
    shapes={
        "x": "(B, S, D)",
        "lang_ids": "ids (B)",
        "eps": "()",
        "adapter_layer_norm": "()",
        "adapter_reuse_layer_norm": "()",
        "ln_before_adapter": "()",
        "LayerNorm.weight": "(D)",
        "LayerNorm.bias": "(D)",
        "adapter_layer_norm.weight": "(D)",
        "adapter_layer_norm.bias": "(D)",
        "adapter_modules.{language}.dense1.weight": "(A, D)",
        "adapter_modules.{language}.dense1.bias": "(A)",
        "adapter_modules.{language}.dense2.weight": "(D, A)",
        "adapter_modules.{language}.dense2.bias": "(D)",
        "output": "(B, S, D)",
    },
    function=adapter,
    uses=("linear", "gelu_erf", "layer_norm"),
    cases={
        "published": adapter_case(
            "as published: the layer's norm again, the residual behind it; languages mixed",
            [2, 0, 2, 1], False, True, True,
        ),
        "own_norm": adapter_case("a norm of its own", [1, 0], True, True, True),
        "no_norm": adapter_case("no norm", [0, 2], False, False, True),
        "residual_before": adapter_case("the residual before the norm", [1, 1], False, True, False),
        "own_norm_residual_before": adapter_case("both", [0], True, False, False),
    },
)  # fmt: skip

# --- embeddings -----------------------------------------------------------------------------------

TABLES = {
    "input_ids": "ids (B, S)",
    "token_type_ids": "ids (B, S)",
    "padding_idx": "()",
    "word_embeddings.weight": "(V, D)",
    "position_embeddings.weight": "(P, D)",
    "token_type_embeddings.weight": "(N, D)",
    "output": "(B, S, D)",
}


def embeddings(module: Any, config: Any) -> Any:
    """The embeddings of a RoBERTa, as a function of its tensors."""

    def run(
        input_ids: torch.Tensor,
        token_type_ids: torch.Tensor,
        padding_idx: int,
        eps: float = 1e-5,
        **tensors: torch.Tensor,
    ) -> torch.Tensor:
        rows = {n.split("_e")[0]: x.shape[0] for n, x in tensors.items() if "embeddings" in n}
        made = config(
            **sizes(),
            vocab_size=rows["word"],
            max_position_embeddings=rows["position"],
            type_vocab_size=rows["token_type"],
            pad_token_id=padding_idx,
            layer_norm_eps=eps,
        )
        return fill(module(made), tensors)(input_ids=input_ids, token_type_ids=token_type_ids)

    return run


draw = Draw("embeddings")


def tables_case(what: str, ids: list[list[int]], types: list[list[int]], **more: Any) -> Case:
    """Nine words, ten positions, two token types."""
    tables = {
        f"{name}_embeddings.weight": draw.normal(rows, D)
        for name, rows in (("word", 9), ("position", 10), ("token_type", 2))
    }
    given = {"input_ids": torch.tensor(ids), "token_type_ids": torch.tensor(types)}
    return Case(what, {**given, "padding_idx": 1, **more, **tables})


ROBERTA_EMBEDDINGS = Card(
    "roberta_embeddings",
    what="layer_norm(word + position + token type): the embeddings of XLM-R and X-MOD. Positions "
    "are those of position_ids_from_padding.",
    theirs="XLMRobertaEmbeddings",
    source=SOURCE,
    shapes={**TABLES, "eps": "()", "LayerNorm.weight": "(D)", "LayerNorm.bias": "(D)"},
    function=embeddings(XLMRobertaEmbeddings, XLMRobertaConfig),
    uses=("embedding", "position_ids_from_padding", "layer_norm"),
    cases={
        "padded": tables_case(
            "padding on both sides, two token types",
            [[0, 5, 2, 1], [1, 0, 8, 2]], [[0, 0, 1, 1], [1, 0, 1, 0]],
            eps=1e-5, **draw.norm("LayerNorm", D),
        ),
        "one_token": tables_case(
            "one token", [[3]], [[1]], eps=1e-12, **draw.norm("LayerNorm", D)
        ),
    },
)  # fmt: skip
XL_EMBEDDINGS = Card(
    "xl_embeddings",
    what="word + position + token type, not normalised: the embeddings of XL and XXL.",
    theirs="XLMRobertaXLEmbeddings",
    source="transformers 4.57.6, models/xlm_roberta_xl/modeling_xlm_roberta_xl.py",
    shapes=TABLES,
    function=embeddings(XLMRobertaXLEmbeddings, XLMRobertaXLConfig),
    uses=("embedding", "position_ids_from_padding"),
    cases={
        "padded": tables_case(
            "padding on both sides, two token types",
            [[0, 5, 2, 1], [1, 0, 8, 2]], [[0, 0, 1, 1], [1, 0, 1, 0]],
        ),
    },
)  # fmt: skip


def xlm_embeddings(
    input_ids: torch.Tensor,
    langs: torch.Tensor,
    attention_mask: torch.Tensor,
    eps: float,
    **tensors: torch.Tensor,
) -> torch.Tensor:
    """A model of no layers."""
    config = XLMConfig(
        emb_dim=D,
        n_heads=1,
        n_layers=0,
        vocab_size=tensors["embeddings.weight"].shape[0],
        max_position_embeddings=tensors["position_embeddings.weight"].shape[0],
        n_langs=tensors["lang_embeddings.weight"].shape[0],
        layer_norm_eps=eps,
    )
    model = fill(XLMModel(config), tensors)
    output = model(input_ids=input_ids, langs=langs, attention_mask=attention_mask)
    return output.last_hidden_state


draw = Draw("xlm_embeddings")


def xlm_tables() -> dict[str, torch.Tensor]:
    """Nine words, six positions, three languages."""
    tables = {
        f"{name}.weight": exact(draw.normal(rows, D))
        for name, rows in (
            ("embeddings", 9),
            ("position_embeddings", 6),
            ("lang_embeddings", 3),
        )
    }
    return {**tables, **draw.norm("layer_norm_emb", D)}


XLM_EMBEDDINGS = Card(
    "xlm_embeddings",
    what="layer_norm(word + position + language), then 0 where the mask is 0. Positions are 0, 1, "
    "2, ... for every place.",
    theirs="XLMModel with no layers",
    source="Lample & Conneau 2019, section 3; transformers 4.57.6, models/xlm/modeling_xlm.py",
    shapes={
        "input_ids": "ids (B, S)",
        "langs": "ids (B, S)",
        "attention_mask": "ids (B, S)",
        "eps": "()",
        "embeddings.weight": "(V, D)",
        "position_embeddings.weight": "(P, D)",
        "lang_embeddings.weight": "(N, D)",
        "layer_norm_emb.weight": "(D)",
        "layer_norm_emb.bias": "(D)",
        "output": "(B, S, D)",
    },
    function=xlm_embeddings,
    uses=("embedding", "layer_norm"),
    cases={
        "padded": Case(
            "padding, and two languages in a row",
            {
                "input_ids": torch.tensor([[0, 5, 3, 1], [0, 8, 2, 2]]),
                "langs": torch.tensor([[2, 2, 2, 2], [0, 0, 1, 1]]),
                "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
                "eps": 1e-12,
                **xlm_tables(),
            },
        ),
        "all_padded": Case(
            "a text of nothing but padding: zeros",
            {
                "input_ids": torch.tensor([[2, 2], [4, 5]]),
                "langs": torch.tensor([[0, 0], [1, 2]]),
                "attention_mask": torch.tensor([[0, 0], [1, 1]]),
                "eps": 1e-12,
                **xlm_tables(),
            },
        ),
    },
)

CARDS = (
    ADD_AND_NORM,
    FEED_FORWARD,
    PRE_NORM,
    ADAPTER,
    ROBERTA_EMBEDDINGS,
    XL_EMBEDDINGS,
    XLM_EMBEDDINGS,
)
