"""Cards: the heads, adaptive softmax and losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import XLMConfig, XLMRobertaConfig
from transformers.models.xlm.modeling_xlm import (
    XLMPoolerAnswerClass,
    XLMPoolerEndLogits,
    XLMPoolerStartLogits,
    XLMSequenceSummary,
)
from transformers.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaClassificationHead,
    XLMRobertaLMHead,
    XLMRobertaPooler,
)

from golden.make.ops_card import Card, Case, Draw, fill, reals

D, V = 6, 9
ROBERTA = "transformers 4.57.6, models/xlm_roberta/modeling_xlm_roberta.py"
XLM = "transformers 4.57.6, models/xlm/modeling_xlm.py"
DENSE = {"dense.weight": "(D, D)", "dense.bias": "(D)"}


def roberta(module: Any, **given: Any) -> Any:
    """A head of XLM-R as a function of hidden states and tensors."""

    def run(hidden: torch.Tensor, eps: float = 1e-5, **tensors: torch.Tensor) -> torch.Tensor:
        config = XLMRobertaConfig(hidden_size=D, vocab_size=V, layer_norm_eps=eps, **given)
        return fill(module(config), tensors)(hidden)

    return run


draw = Draw("pooler")
POOLER = Card(
    "pooler",
    what="tanh(linear(x)) of the first token.",
    theirs="XLMRobertaPooler",
    source=ROBERTA,
    shapes={"hidden": "(B, S, D)", **DENSE, "output": "(B, D)"},
    function=roberta(XLMRobertaPooler),
    uses=("linear", "tanh"),
    cases={
        "plain": Case(
            "two texts of three", {"hidden": draw.normal(2, 3, D), **draw.linear("dense", D, D)}
        ),
        "one_token": Case(
            "one token, with outliers",
            {"hidden": draw.normal(1, 1, D, scale=16.0), **draw.linear("dense", D, D)},
        ),
    },
)

draw = Draw("lm_head")


def lm_tensors() -> dict[str, torch.Tensor]:
    """The tensors of a language modelling head; the decoder's matrix is the word table."""
    return {
        **draw.linear("dense", D, D),
        **draw.norm("layer_norm", D),
        "decoder.weight": draw.weight(V, D),
        "bias": draw.normal(V),
    }


def lm_head(hidden: torch.Tensor, eps: float, **tensors: torch.Tensor) -> torch.Tensor:
    """Its bias has two names in a module, and one in a file."""
    return roberta(XLMRobertaLMHead)(hidden, eps, **tensors, **{"decoder.bias": tensors["bias"]})


LM_HEAD = Card(
    "lm_head",
    what="linear, gelu_erf (whatever hidden_act says), layer_norm, then a score for each word: the "
    "last matrix is the word table, with a bias of its own.",
    theirs="XLMRobertaLMHead",
    source=ROBERTA,
    shapes={
        "hidden": "(B, S, D)",
        "eps": "()",
        **DENSE,
        "layer_norm.weight": "(D)",
        "layer_norm.bias": "(D)",
        "decoder.weight": "(V, D)",
        "bias": "(V)",
        "output": "(B, S, V)",
    },
    function=lm_head,
    uses=("linear", "gelu_erf", "layer_norm"),
    cases={
        "plain": Case(
            "two texts of two", {"hidden": draw.normal(2, 2, D), "eps": 1e-5, **lm_tensors()}
        ),
        "large": Case(
            "hidden states with outliers",
            {"hidden": draw.normal(1, 2, D, scale=16.0), "eps": 1e-5, **lm_tensors()},
        ),
    },
)

draw = Draw("classification_head")
CLASSIFICATION = Card(
    "classification_head",
    what="linear, tanh, linear, of the first token.",
    theirs="XLMRobertaClassificationHead",
    source=ROBERTA,
    shapes={
        "hidden": "(B, S, D)",
        **DENSE,
        "out_proj.weight": "(N, D)",
        "out_proj.bias": "(N)",
        "output": "(B, N)",
    },
    function=roberta(XLMRobertaClassificationHead, num_labels=3),
    uses=("linear", "tanh"),
    cases={
        "plain": Case(
            "three classes",
            {
                "hidden": draw.normal(2, 3, D),
                **draw.linear("dense", D, D),
                **draw.linear("out_proj", 3, D),
            },
        ),
    },
)

# --- XLM's ----------------------------------------------------------------------------------------


def summary(
    hidden: torch.Tensor,
    kind: int,
    activation: bool,
    cls_index: torch.Tensor | None = None,
    **tensors: torch.Tensor,
) -> torch.Tensor:
    """One vector for a text."""
    config = XLMConfig(
        emb_dim=D,
        num_labels=3,
        summary_type=KINDS[kind],
        summary_use_proj=bool(tensors),
        summary_proj_to_labels=True,
        summary_activation="tanh" if activation else None,
    )
    module = XLMSequenceSummary(config)
    return (fill(module, tensors) if tensors else module.eval())(hidden, cls_index)


KINDS = ("first", "last", "mean", "cls_index")
draw = Draw("sequence_summary")


def summary_case(
    what: str, kind: str, activation: bool = False, project: bool = True, **more: Any
) -> Case:
    """Two texts of four."""
    tensors = draw.linear("summary", 3, D) if project else {}
    flags = {"kind": KINDS.index(kind), "activation": activation}
    return Case(what, {"hidden": draw.normal(2, 4, D), **flags, **more, **tensors})


SUMMARY = Card(
    "sequence_summary",
    what="One vector for a text: that of the first or last place, of place cls_index, or the mean "
    "of all places, padding too; then a linear map where there is one, then tanh where "
    "`activation` is true.",
    theirs="XLMSequenceSummary",
    source=XLM,
    shapes={
        "hidden": "(B, S, D)",
        "kind": "()",
        "activation": "()",
        "cls_index": "ids (B)",
        "summary.weight": "(N, D)",
        "summary.bias": "(N)",
        "output": "(B, N) or (B, D)",
    },
    meaning={"kind": "0 first, 1 last, 2 mean, 3 cls_index"},
    function=summary,
    uses=("linear", "tanh"),
    cases={
        "first": summary_case("the first place", "first"),
        "last": summary_case("the last place", "last"),
        "mean": summary_case("the mean of all places", "mean"),
        "cls_index": summary_case("chosen places", "cls_index", cls_index=torch.tensor([2, 0])),
        "cls_index_missing": summary_case("no place chosen: the last", "cls_index"),
        "tanh": summary_case("with tanh behind it", "first", activation=True),
        "no_projection": summary_case("without a linear map", "mean", project=False),
    },
)


def xlm(module: Any) -> Any:
    """A part of XLM's span head as a function."""

    def run(eps: float = 1e-12, **given: torch.Tensor) -> torch.Tensor:
        tensors = {name: x for name, x in given.items() if "." in name}
        inputs = {
            {"hidden": "hidden_states"}.get(name, name): x
            for name, x in given.items()
            if "." not in name
        }
        return fill(module(XLMConfig(emb_dim=D, layer_norm_eps=eps)), tensors)(**inputs)

    return run


draw = Draw("spans")
P_MASK = reals([0.0, 0.0, 1.0], [1.0, 0.0, 0.0])
P_NOTE = "places of p_mask 1 get -1e30; in float16 -65500"
START = Card(
    "start_logits",
    what="The score of each place as the first of the answer; places of p_mask 1 get -1e30, in "
    "float16 -65500.",
    theirs="XLMPoolerStartLogits",
    source=XLM,
    shapes={
        "hidden": "(B, S, D)",
        "p_mask": "(B, S)",
        "dense.weight": "(1, D)",
        "dense.bias": "(1)",
        "output": "(B, S)",
    },
    function=xlm(XLMPoolerStartLogits),
    uses=("linear",),
    cases={
        "plain": Case("all places", {"hidden": draw.normal(2, 3, D), **draw.linear("dense", 1, D)}),
        "p_mask": Case(
            "some places cannot be in the answer",
            {"hidden": draw.normal(2, 3, D), "p_mask": P_MASK, **draw.linear("dense", 1, D)},
            without=("float16",),
            note=P_NOTE,
        ),
    },
)


def end_tensors() -> dict[str, torch.Tensor]:
    """The tensors of the scores of last places."""
    return {
        **draw.linear("dense_0", D, 2 * D),
        **draw.norm("LayerNorm", D),
        **draw.linear("dense_1", 1, D),
    }


END = Card(
    "end_logits",
    what="The score of each place as the last of the answer, given the hidden state of its first: "
    "linear of both side by side, tanh, layer_norm, linear.",
    theirs="XLMPoolerEndLogits",
    source=XLM,
    shapes={
        "hidden": "(B, S, D)",
        "start_states": "(B, S, D)",
        "p_mask": "(B, S)",
        "eps": "()",
        "dense_0.weight": "(D, 2 D)",
        "dense_0.bias": "(D)",
        "LayerNorm.weight": "(D)",
        "LayerNorm.bias": "(D)",
        "dense_1.weight": "(1, D)",
        "dense_1.bias": "(1)",
        "output": "(B, S)",
    },
    function=xlm(XLMPoolerEndLogits),
    uses=("linear", "tanh", "layer_norm"),
    cases={
        "plain": Case(
            "all places",
            {
                "hidden": draw.normal(2, 3, D),
                "start_states": draw.normal(2, 3, D),
                "eps": 1e-12,
                **end_tensors(),
            },
        ),
        "p_mask": Case(
            "some places cannot be in the answer",
            {
                "hidden": draw.normal(2, 3, D),
                "start_states": draw.normal(2, 3, D),
                "p_mask": P_MASK,
                "eps": 1e-12,
                **end_tensors(),
            },
            without=("float16",),
            note=P_NOTE,
        ),
    },
)


def class_case(what: str, **more: torch.Tensor) -> Case:
    """Two texts of three."""
    tensors = {**draw.linear("dense_0", D, 2 * D), "dense_1.weight": draw.weight(1, D)}
    states = {"hidden": draw.normal(2, 3, D), "start_states": draw.normal(2, D)}
    return Case(what, {**states, **more, **tensors})


ANSWER_CLASS = Card(
    "answer_class",
    what='The score of "there is no answer": linear of the first place\'s hidden state beside that '
    "of place cls_index (the last, where it is not given), tanh, linear without bias.",
    theirs="XLMPoolerAnswerClass",
    source=XLM,
    shapes={
        "hidden": "(B, S, D)",
        "start_states": "(B, D)",
        "cls_index": "ids (B)",
        "dense_0.weight": "(D, 2 D)",
        "dense_0.bias": "(D)",
        "dense_1.weight": "(1, D)",
        "output": "(B)",
    },
    function=xlm(XLMPoolerAnswerClass),
    uses=("linear", "tanh"),
    cases={
        "last": class_case("the last place"),
        "cls_index": class_case("chosen places", cls_index=torch.tensor([0, 1])),
    },
)


def adaptive(
    x: torch.Tensor, head_weight: torch.Tensor, head_bias: torch.Tensor, **tails: torch.Tensor
) -> torch.Tensor:
    """torch's module, given its tensors."""
    clusters = len(tails) // 2
    sizes = [tails[f"tail_{i}_words"].shape[0] for i in range(clusters)]
    bounds = [head_weight.shape[0] - clusters]
    for size in sizes:
        bounds.append(bounds[-1] + size)
    module = nn.AdaptiveLogSoftmaxWithLoss(
        x.shape[1], bounds[-1], bounds[:-1], div_value=2.0, head_bias=True
    )
    tensors = {"head.weight": head_weight, "head.bias": head_bias}
    for i in range(clusters):
        tensors[f"tail.{i}.0.weight"] = tails[f"tail_{i}_projection"]
        tensors[f"tail.{i}.1.weight"] = tails[f"tail_{i}_words"]
    return fill(module, tensors).log_prob(x)


draw = Draw("adaptive_log_softmax")


def adaptive_case(what: str, clusters: int, scale: float = 1.0) -> Case:
    """Eight features; three frequent words, four words in each cluster."""
    inputs = {
        "x": draw.normal(3, 8, scale=scale),
        "head_weight": draw.weight(3 + clusters, 8),
        "head_bias": draw.normal(3 + clusters),
    }
    for i in range(clusters):
        inputs[f"tail_{i}_projection"] = draw.weight(4 >> i, 8)
        inputs[f"tail_{i}_words"] = draw.weight(4, 4 >> i)
    return Case(what, inputs)


ADAPTIVE = Card(
    "adaptive_log_softmax",
    ours="adaptive_log_softmax",
    what="Log-probabilities of all words: the head scores frequent words and, in its last places, "
    "the clusters; word w of cluster c has log p(c) + log p(w | c), whose scores are "
    "words (projection x).",
    theirs="torch.nn.AdaptiveLogSoftmaxWithLoss.log_prob",
    source="Grave et al. 2017",
    shapes={
        "x": "(N, D)",
        "head_weight": "(C, D)",
        "head_bias": "(C)",
        "tail_{i}_projection": "(D', D)",
        "tail_{i}_words": "(V', D')",
        "output": "(N, V)",
    },
    function=adaptive,
    uses=("linear", "log_softmax"),
    cases={
        "one_cluster": adaptive_case("one cluster of rare words", 1),
        "two_clusters": adaptive_case("two clusters", 2),
        "scores_of_80": adaptive_case("scores of 80", 2, scale=32.0),
    },
)

# --- losses ---------------------------------------------------------------------------------------

IGNORE = -100


def label_cases(x: Draw, log: bool) -> dict[str, Case]:
    """Scores, or log-probabilities, of four classes."""

    def case(what: str, labels: list[int], scale: float = 1.0) -> Case:
        scores = x.normal(len(labels), 4, scale=scale)
        name = "log_probs" if log else "logits"
        given = -scores.abs() if log else scores
        return Case(what, {name: given, "labels": torch.tensor(labels), "ignore_index": IGNORE})

    return {
        "all_counted": case("every row counts", [0, 3, 1]),
        "some_ignored": case("the mean is over rows that count", [2, IGNORE, 0, IGNORE]),
        "all_ignored": case("no row counts: NaN", [IGNORE, IGNORE]),
        "one_row": case("one row", [3]),
        "large": case("scores of 80", [1, 0, 2], scale=80.0),
    }


NLL = Card(
    "negative_log_likelihood",
    ours="negative_log_likelihood",
    what="Mean of -log_probs[label] over the rows whose label is not ignore_index; NaN where there "
    "is none.",
    theirs="torch.nn.functional.nll_loss",
    source="torch.nn.NLLLoss",
    shapes={"log_probs": "(N, C)", "labels": "ids (N)", "ignore_index": "()", "output": "()"},
    function=lambda log_probs, labels, ignore_index: functional.nll_loss(
        log_probs, labels, ignore_index=ignore_index
    ),
    cases=label_cases(Draw("negative_log_likelihood"), log=True),
)
CROSS_ENTROPY = Card(
    "cross_entropy",
    ours="cross_entropy",
    what="Mean of -log softmax(logits)[label] over the rows whose label is not ignore_index.",
    theirs="torch.nn.functional.cross_entropy",
    source="torch.nn.CrossEntropyLoss",
    shapes={"logits": "(N, C)", "labels": "ids (N)", "ignore_index": "()", "output": "()"},
    function=lambda logits, labels, ignore_index: functional.cross_entropy(
        logits, labels, ignore_index=ignore_index
    ),
    uses=("log_softmax", "negative_log_likelihood"),
    cases=label_cases(Draw("cross_entropy"), log=False),
)

draw = Draw("mean_squared_error")
SQUARED = Card(
    "mean_squared_error",
    ours="mean_squared_error",
    what="Mean of (x - target)².",
    theirs="torch.nn.functional.mse_loss",
    source="torch.nn.MSELoss",
    shapes={"x": "(...)", "target": "(...)", "output": "()"},
    function=lambda x, target: functional.mse_loss(x, target),
    cases={
        "plain": Case("six numbers", {"x": draw.normal(2, 3), "target": draw.normal(2, 3)}),
        "equal": Case("no error: 0", {"x": reals(1.5, -2.0), "target": reals(1.5, -2.0)}),
        "one": Case("one number", {"x": reals(3.0), "target": reals(-1.0)}),
    },
)

draw = Draw("binary_cross_entropy_with_logits")
BINARY = Card(
    "binary_cross_entropy_with_logits",
    ours="binary_cross_entropy_with_logits",
    what="Mean of -(t log σ(x) + (1 - t) log(1 - σ(x))).",
    theirs="torch.nn.functional.binary_cross_entropy_with_logits",
    source="torch.nn.BCEWithLogitsLoss",
    shapes={"logits": "(...)", "target": "(...)", "output": "()"},
    function=lambda logits, target: functional.binary_cross_entropy_with_logits(logits, target),
    cases={
        "plain": Case(
            "three labels for each of two",
            {"logits": draw.normal(2, 3), "target": reals([1.0, 0.0, 1.0], [0.0, 0.0, 1.0])},
        ),
        "scores_of_80": Case(
            "scores of 80, right and wrong",
            {"logits": reals(80.0, -80.0, 80.0, -80.0), "target": reals(1.0, 0.0, 0.0, 1.0)},
        ),
        "scores_of_1000": Case(
            "exponentials that overflow",
            {"logits": reals(1000.0, -1000.0, 0.0), "target": reals(1.0, 0.0, 1.0)},
        ),
        "soft": Case("a target between", {"logits": reals(0.5, -1.0), "target": reals(0.25, 0.75)}),
    },
)

CARDS = (
    POOLER,
    LM_HEAD,
    CLASSIFICATION,
    SUMMARY,
    START,
    END,
    ANSWER_CLASS,
    ADAPTIVE,
    NLL,
    CROSS_ENTROPY,
    SQUARED,
    BINARY,
)
