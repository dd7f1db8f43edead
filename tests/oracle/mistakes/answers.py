"""Mistakes behind the layers, and in the arithmetic: heads, losses, precision."""

import numpy

from tests.oracle.mistakes.port import ROBERTAS, half, rounded
from tests.oracle.mistakes.registry import DECODER, PRE_NORM, XL, XLM, XMOD, mistake

# --- heads ----------------------------------------------------------------------------------------


def given_hidden(module, choose):
    """Let a head see the chosen vector of each text as its first token's."""
    module.register_forward_pre_hook(lambda m, args: (choose(args[0])[:, None], *args[1:]))


@mistake(ROBERTAS)
def pooler_of_last_token(port):
    given_hidden(port.base.pooler, lambda x: x[:, -1])


@mistake(ROBERTAS)
def pooler_of_mean(port):
    given_hidden(port.base.pooler, lambda x: x.mean(1))


@mistake(ROBERTAS)
def pooler_of_mean_of_tokens(port):
    given_hidden(port.base.pooler, lambda x: mean_of_tokens(port, x))


def mean_of_tokens(port, x):
    mask = port.torch.tensor(port.inputs["attention_mask"])[:, :, None]
    return (x * mask).sum(1) / mask.sum(1)


@mistake(ROBERTAS, head="ForSequenceClassification")
def classifier_of_mean_of_tokens(port):
    given_hidden(port.model.classifier, lambda x: mean_of_tokens(port, x))


@mistake(ROBERTAS)
def pooler_without_tanh(port):
    port.base.pooler.activation = port.nn.Identity()


@mistake(ROBERTAS, head="ForSequenceClassification")
def classifier_of_last_token(port):
    given_hidden(port.model.classifier, lambda x: x[:, -1])


@mistake(ROBERTAS, head="ForSequenceClassification")
def classifier_of_mean(port):
    given_hidden(port.model.classifier, lambda x: x.mean(1))


@mistake(ROBERTAS, head="ForSequenceClassification")
def classifier_without_tanh(port):
    head = port.model.classifier
    port.patch.setattr(head, "forward", lambda x: head.out_proj(head.dense(x[:, 0])))


@mistake(ROBERTAS, head="ForMaskedLM")
def lm_norm_missing(port):
    port.leave_out((port.model.lm_head, "layer_norm"))


@mistake(ROBERTAS, head="ForMaskedLM")
def lm_head_is_one_projection(port):
    port.patch.setattr(port.model.lm_head, "forward", port.model.lm_head.decoder.forward)


def set_summary(name, kind):
    @mistake(XLM, head="ForSequenceClassification", name=name)
    @mistake(XLM, head="ForMultipleChoice", inputs=CHOICES, without=("attention_mask",), name=name)
    def make(port):
        port.model.sequence_summary.summary_type = kind


CHOICES = {
    "input_ids": numpy.random.default_rng(9).integers(3, 29, (2, 3, 4)),
    "langs": numpy.random.default_rng(9).integers(0, 4, (2, 3, 4)),
}
set_summary("xlm_summary_of_last", "last")
set_summary("xlm_summary_of_mean", "mean")


@mistake(XLM, head="ForSequenceClassification", config={"summary_activation": "tanh"})
def xlm_summary_not_activated(port):
    port.model.sequence_summary.activation = port.nn.Identity()


SPANS = {"start_positions": [1, 2, 3], "end_positions": [3, 2, 4]}


@mistake(XLM, head="ForQuestionAnswering", inputs=SPANS)
def xlm_span_end_without_tanh(port):
    port.model.qa_outputs.end_logits.activation = port.nn.Identity()


def changed(port, **changes):
    """Let the port return other values in some fields."""
    port.outputs = lambda out: {**out, **{name: make(out) for name, make in changes.items()}}


ROBERTA_CHOICES = {
    "input_ids": CHOICES["input_ids"],
    "attention_mask": numpy.ones((2, 3, 4), int),
}


@mistake(XLM, head="ForMultipleChoice", inputs=CHOICES, without=("attention_mask",))
@mistake(("xlm_roberta", "xlm_roberta_xl"), head="ForMultipleChoice", inputs=ROBERTA_CHOICES)
@mistake(XMOD, head="ForMultipleChoice", inputs=ROBERTA_CHOICES, without=("lang_ids",),
         config={"default_language": "de_DE"})  # fmt: skip
def choices_in_another_order(port):
    changed(port, logits=lambda out: out["logits"].reshape(3, 2).T)


@mistake(XLM, head="ForQuestionAnsweringSimple")
@mistake(ROBERTAS, head="ForQuestionAnswering")
def span_ends_swapped(port):
    changed(
        port,
        start_logits=lambda out: out["end_logits"],
        end_logits=lambda out: out["start_logits"],
    )


@mistake(XLM, head="ForQuestionAnswering", config={"start_n_top": 2, "end_n_top": 2},
         inputs={"input_ids": [[0, 9, 14, 22, 1], [0, 3, 26, 6, 1], [0, 8, 7, 5, 1]]},
         without=("attention_mask",))  # fmt: skip
def xlm_span_log_probs(port):
    names = ("start_top_log_probs", "end_top_log_probs")
    changed(port, **{name: lambda out, name=name: numpy.log(out[name]) for name in names})


@mistake(XL)
@mistake(XMOD, config=PRE_NORM)
def hidden_states_end_unnormalised(port):
    kept = []
    norm = port.base.encoder.LayerNorm
    norm.register_forward_pre_hook(lambda m, args: kept.append(args[0]))
    changed(port, **{"hidden_states.2": lambda out: kept[-1].numpy()})


@mistake()
def hidden_states_without_embeddings(port):
    def outputs(out):
        kept = {n: x for n, x in out.items() if n != "hidden_states.2"}
        for i in (0, 1):
            kept[f"hidden_states.{i}"] = out[f"hidden_states.{i + 1}"]
        return kept

    port.outputs = outputs


# --- losses ---------------------------------------------------------------------------------------

LABELS = [[-100, 17, -100, 4, -100], [3, -100, 28, -100, -100], [-100, 5, 6, -100, 7]]


def cross_entropy(port, logits, labels):
    tensors = (port.torch.tensor(logits.reshape(-1, logits.shape[-1])),
               port.torch.tensor(labels.reshape(-1)))  # fmt: skip
    return port.functional.cross_entropy(*tensors).numpy()


@mistake(ROBERTAS, head="ForCausalLM", config=DECODER, inputs={"labels": LABELS})
def causal_labels_not_shifted(port):
    changed(port, loss=lambda out: cross_entropy(port, out["logits"], port.inputs["labels"]))


@mistake(XLM, head="WithLMHeadModel", inputs={"labels": LABELS})
def xlm_labels_shifted(port):
    def loss(out):
        return cross_entropy(port, out["logits"][:, :-1], port.inputs["labels"][:, 1:])

    changed(port, loss=loss)


@mistake(XLM, head="WithLMHeadModel", inputs={"labels": LABELS})
@mistake(ROBERTAS, head="ForMaskedLM", inputs={"labels": LABELS})
def ignored_labels_counted(port):
    changed(port, loss=lambda out: out["loss"] * 7 / 15)


TAGS = [[0, 1, 1, 0, 1], [1, 0, 0, 1, 1], [1, 0, 1, 1, 0]]


@mistake(XL, head="ForTokenClassification", inputs={"labels": TAGS})
def xl_labels_at_padding_count(port):
    changed(port, loss=lambda out: cross_entropy(port, out["logits"], port.inputs["labels"]))


# --- precision ------------------------------------------------------------------------------------


def tf32(port):
    return lambda x: rounded(port.torch, x, 11)


def bfloat16(port):
    return lambda x: rounded(port.torch, x, 8)


def float16(port):
    return lambda x: half(port.torch, x)


@mistake()
def tf32_products(port):
    cut, plain, multiply = tf32(port), port.functional.linear, port.torch.matmul
    port.patch.setattr(port.functional, "linear", lambda x, w, b=None: plain(cut(x), cut(w), b))
    port.attention(matmul=lambda a, b: multiply(cut(a), cut(b)))


def round_weights(port, cut):
    for parameter in port.model.parameters():
        parameter.data = cut(parameter.data)


@mistake(XLM, head="WithLMHeadModel")
@mistake(ROBERTAS, head="ForMaskedLM")
def weights_in_bfloat16(port):
    round_weights(port, bfloat16(port))


@mistake()
def weights_in_float16(port):
    round_weights(port, float16(port))


@mistake()
def weights_in_int8(port):
    for linear in port.all(port.nn.Linear):
        weight = linear.weight.data
        step = weight.abs().amax(1, keepdim=True) / 127
        linear.weight.data = (weight / step).round() * step


def narrow_softmax(port, cut):
    def softmax(x):
        x = cut(x.clamp(min=-65504))
        e = cut(cut(x - x.amax(-1, keepdim=True)).exp())
        return cut(e / cut(e.sum(-1, keepdim=True)))

    port.attention(softmax=softmax)


@mistake()
def softmax_in_bfloat16(port):
    narrow_softmax(port, bfloat16(port))


@mistake()
def softmax_in_float16(port):
    narrow_softmax(port, float16(port))


@mistake()
def residual_in_bfloat16(port):
    cut = bfloat16(port)
    if port.is_xlm or port.family == "xlm_roberta":  # the norms behind the sums see rounded ones
        for layer in port.layers:
            for place in layer.norms:
                getattr(*place).register_forward_pre_hook(lambda m, args: (cut(args[0]),))
    else:
        for layer in port.layers:
            port.after(layer.layer.attention.output, cut)
            if port.family == "xmod":
                plain = layer.layer.output.lang_adapter
                port.patch.setattr(layer.layer.output, "lang_adapter",
                                   lambda ids, x, plain=plain: plain(ids, cut(x)))  # fmt: skip
            else:
                port.after(layer.layer.output, cut)


def narrow_results(port, cut):
    kinds = (port.nn.Linear, port.nn.LayerNorm, port.nn.Embedding)
    for module in port.all(kinds):
        port.after(module, cut)
    port.activations_compute(lambda x: cut(port.functional.gelu(x)))
    port.attention(merge=lambda x: cut(x.transpose(1, 2).flatten(2)))
    if not port.is_xlm:
        port.after(port.base.pooler, cut)


@mistake()
@mistake(XMOD, config={"adapter_layer_norm": True})
def results_in_bfloat16(port):
    narrow_results(port, bfloat16(port))


@mistake()
def results_in_float16(port):
    narrow_results(port, float16(port))
