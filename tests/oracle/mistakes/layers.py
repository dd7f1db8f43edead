"""Mistakes in the layers, attention aside: norms, activations, tensors, residuals, adapters."""

import numpy

from tests.oracle.mistakes.port import ROBERTAS
from tests.oracle.mistakes.registry import (
    BOTH,
    DECODER,
    POST_NORM,
    PRE_NORM,
    XL,
    XLM,
    XMOD,
    mistake,
)

# --- norms ----------------------------------------------------------------------------------------


def set_eps(port, eps):
    for norm in port.all(port.nn.LayerNorm):
        norm.eps = eps


@mistake(ROBERTAS)
@mistake(XLM, config={"layer_norm_eps": 0.01})
def norm_eps_1e_12(port):
    set_eps(port, 1e-12)


@mistake()
def norm_eps_other(port):
    set_eps(port, 1e-6)


@mistake(XLM)
@mistake(ROBERTAS, config={"layer_norm_eps": 0.01})
def norm_eps_1e_5(port):
    set_eps(port, 1e-5)


@mistake(config={"layer_norm_eps": 0.01})
@mistake(ROBERTAS)
def norm_eps_in_float16(port):
    set_eps(port, float(numpy.float16(port.config.layer_norm_eps)))


@mistake(ROBERTAS)
@mistake(XLM, config={"layer_norm_eps": 0.01})
def norm_eps_outside_root(port):
    def forward(norm, x):
        deviation = x.std(-1, correction=0, keepdim=True) + norm.eps
        return (x - x.mean(-1, keepdim=True)) / deviation * norm.weight + norm.bias

    port.norms_compute(forward)


@mistake()
def norm_variance_unbiased(port):
    def forward(norm, x):
        variance = x.var(-1, correction=1, keepdim=True) + norm.eps
        return (x - x.mean(-1, keepdim=True)) / variance.sqrt() * norm.weight + norm.bias

    port.norms_compute(forward)


@mistake()
def norm_without_mean(port):
    def forward(norm, x):
        y = port.functional.rms_norm(x, (x.shape[-1],), norm.weight, eps=norm.eps)
        return y + norm.bias

    port.norms_compute(forward)


@mistake()
@mistake(XMOD, config={"adapter_layer_norm": True})
def norm_weight_missing(port):
    for norm in port.all(port.nn.LayerNorm):
        norm.weight.data.fill_(1)


@mistake(head="ForTokenClassification")
def norm_bias_missing(port):
    for norm in port.all(port.nn.LayerNorm):
        norm.bias.data.zero_()


@mistake()
def norm_weight_and_bias_swapped(port):
    for norm in port.all(port.nn.LayerNorm):
        norm.weight.data, norm.bias.data = norm.bias.data, norm.weight.data


@mistake(XLM, head="WithLMHeadModel")
@mistake(ROBERTAS, head="ForMaskedLM")
def norm_weight_plus_one(port):
    for norm in port.all(port.nn.LayerNorm):
        norm.weight.data += 1


@mistake()
@mistake(XMOD, config=PRE_NORM)
def norms_of_layer_swapped(port):
    for layer in port.layers:
        port.swap(*layer.norms)


@mistake()
@mistake(XMOD, config=PRE_NORM)
def attention_norm_missing(port):
    for layer in port.layers:
        port.leave_out(layer.norms[0])


@mistake(("xlm", "xlm_roberta", "xlm_roberta_xl"))
@mistake(XMOD, config={**PRE_NORM, "adapter_layer_norm": True})
def ffn_norm_missing(port):
    for layer in port.layers:
        port.leave_out(layer.norms[1])


@mistake(XMOD, name="ffn_norm_missing")
def second_norm_missing(port):
    """The norm runs in front of the adapter only."""
    for layer in port.layers:
        norm, calls = layer.layer.output.LayerNorm, []
        plain = norm.forward

        def forward(x, plain=plain, calls=calls):
            calls.append(x)
            return plain(x) if len(calls) % 2 else x

        port.patch.setattr(norm, "forward", forward)


@mistake(("xlm", "xlm_roberta"))
def norm_first(port):
    for layer in port.layers:
        for place, part in zip(layer.norms, (layer.attention, layer.ffn), strict=True):
            norm = getattr(*place)
            part.register_forward_pre_hook(lambda m, args, norm=norm: (norm(args[0]), *args[1:]))
            port.leave_out(place)


@mistake(XMOD, name="norm_first")
def norm_first_by_its_switch(port):
    for layer in port.layers:
        layer.layer.pre_norm = layer.layer.attention.pre_norm = True


@mistake(XL)
def norm_last(port):
    for layer in port.layers:
        first, second = (getattr(*place) for place in layer.norms)
        port.after(layer.layer.attention.output, first)
        port.after(layer.layer.output, second)
        for place in layer.norms:
            port.leave_out(place)


@mistake(XMOD, config=PRE_NORM)
def xmod_names_at_face_value(port):
    for layer in port.layers:
        layer.layer.pre_norm = layer.layer.attention.pre_norm = False
    port.base.encoder.is_pre_norm = False


@mistake(XL)
@mistake(XMOD, config=PRE_NORM)
def final_norm_missing(port):
    port.leave_out((port.base.encoder, "LayerNorm"))


@mistake(POST_NORM)
def final_norm_added(port):
    parent, name = port.layers[-1].norms[1]
    norm, calls = getattr(parent, name), []

    def behind(x):  # in X-MOD the norm runs twice, and the second time is meant
        calls.append(x)
        last = port.family != "xmod" or len(calls) % 2 == 0
        return port.untrained_norm(x) if last else x

    port.after(norm, behind)


# --- activations ----------------------------------------------------------------------------------


@mistake()
def gelu_tanh(port):
    port.activations_compute(lambda x: port.functional.gelu(x, approximate="tanh"))


@mistake()
def gelu_sigmoid(port):
    port.activations_compute(lambda x: x * port.torch.sigmoid(1.702 * x))


@mistake()
def gelu_as_tanh(port):
    port.activations_compute(port.torch.tanh)


@mistake()
def gelu_as_silu(port):
    port.activations_compute(lambda x: x * port.torch.sigmoid(x))


@mistake()
def gelu_as_relu(port):
    port.activations_compute(lambda x: x.clamp(min=0))


@mistake(ROBERTAS, config={"hidden_act": "gelu_new"})
def gelu_new_as_erf(port):
    port.activations_compute(port.functional.gelu)


@mistake()
def activation_missing(port):
    for layer in port.layers:
        port.leave_out((layer.ffn, "act" if port.is_xlm else "intermediate_act_fn"))


@mistake(ROBERTAS, head="ForMaskedLM", config={"hidden_act": "relu"})
@mistake(ROBERTAS, head="ForMaskedLM", config={"hidden_act": "gelu_new"})
def lm_head_follows_hidden_act(port):
    act = port.layers[0].ffn.intermediate_act_fn
    port.patch.setattr(port.code, "gelu", act)


@mistake(ROBERTAS, head="ForMaskedLM")
def lm_head_gelu_tanh(port):
    tanh = lambda x: port.functional.gelu(x, approximate="tanh")  # noqa: E731
    port.patch.setattr(port.code, "gelu", tanh)


@mistake(ROBERTAS, head="ForMaskedLM")
def lm_head_activation_missing(port):
    port.patch.setattr(port.code, "gelu", lambda x: x)


# --- biases and other tensors ---------------------------------------------------------------------


def drop_bias(place, name, **more):
    @mistake(name=name, **more)
    def make(port):
        for layer in port.layers:
            getattr(layer, place).bias.data.zero_()


drop_bias("query", "query_bias_missing")
drop_bias("key", "key_bias_missing")
drop_bias("key", "key_bias_missing_with_distances", families=ROBERTAS, config=BOTH)
drop_bias("value", "value_bias_missing")
drop_bias("out", "attention_out_bias_missing")
drop_bias("inner", "inner_bias_missing")
drop_bias("ffn_out", "ffn_out_bias_missing")


@mistake()
@mistake(ROBERTAS, head="ForMaskedLM")
@mistake(ROBERTAS, head="ForSequenceClassification")
def biases_missing(port):
    for linear in port.all(port.nn.Linear):
        if linear.bias is not None:
            linear.bias.data.zero_()


def score_bias(port):
    return port.model.pred_layer.proj.bias if port.is_xlm else port.model.lm_head.bias


def decoder(port):
    return port.model.pred_layer.proj if port.is_xlm else port.model.lm_head.decoder


@mistake(XLM, head="WithLMHeadModel")
@mistake(ROBERTAS, head="ForMaskedLM")
def lm_bias_missing(port):
    score_bias(port).data.zero_()


@mistake(XLM, head="WithLMHeadModel")
@mistake(ROBERTAS, head="ForCausalLM", config=DECODER)
def lm_bias_twice(port):
    bias = score_bias(port).data.clone()
    port.after(decoder(port), lambda x: x + bias)


@mistake(XLM, head="WithLMHeadModel")
@mistake(ROBERTAS, head="ForMaskedLM")
def decoder_not_loaded(port):
    fresh = numpy.random.default_rng(0).normal(0, 0.02, decoder(port).weight.shape)
    dtype = decoder(port).weight.dtype
    decoder(port).weight = port.nn.Parameter(port.torch.tensor(fresh, dtype=dtype))


@mistake(XLM, head="WithLMHeadModel", config={"tie_word_embeddings": False})
@mistake(ROBERTAS, head="ForMaskedLM", config={"tie_word_embeddings": False})
def decoder_tied_wrongly(port):
    decoder(port).weight = port.embeddings.words.weight


def exchange(port, *names):
    for layer in port.layers:
        modules = [getattr(layer, name) for name in names]
        tensors = [(m.weight.data, m.bias.data) for m in modules]
        for module, (weight, bias) in zip(modules, tensors[1:] + tensors[:1], strict=True):
            module.weight.data, module.bias.data = weight, bias


@mistake()
def query_and_key_swapped(port):
    exchange(port, "query", "key")


@mistake()
def key_and_value_swapped(port):
    exchange(port, "key", "value")


@mistake()
def qkv_in_another_order(port):
    """What stands for queries was cut from the values, and so on."""
    exchange(port, "query", "value", "key")


@mistake()
def qkv_fused_by_head(port):
    torch = port.torch
    for layer in port.layers:
        modules = (layer.query, layer.key, layer.value)
        for last in ("weight", "bias"):
            rows = torch.cat([getattr(m, last).data for m in modules])
            cut = rows.unflatten(0, (3, 3, -1)).unbind(1)  # heads, then q, k, v of each
            for module, own in zip(modules, cut, strict=True):
                getattr(module, last).data = own.flatten(0, 1).contiguous()


@mistake()
@mistake(ROBERTAS, head="ForMaskedLM")
def square_weights_transposed(port):
    for linear in port.all(port.nn.Linear):
        if linear.in_features == linear.out_features:
            linear.weight.data = linear.weight.data.T.contiguous()


# --- residuals and layers -------------------------------------------------------------------------


def residual_becomes(port, part, change):
    """Exchange the input that is added to a part's result, 0 attention or 1 feed-forward."""
    for layer in port.layers:
        if port.is_xlm:
            module = (layer.attention, layer.ffn)[part]
            module.register_forward_hook(
                lambda m, args, out: (
                    (out[0] + change(args[0]) - args[0], *out[1:])
                    if isinstance(out, tuple)
                    else out + change(args[0]) - args[0]
                )
            )
        else:
            module = (layer.layer.attention.output, layer.layer.output)[part]
            module.register_forward_pre_hook(lambda m, args: (args[0], change(args[1]), *args[2:]))


@mistake()
@mistake(XMOD, config=PRE_NORM)
def attention_residual_missing(port):
    residual_becomes(port, 0, lambda x: x * 0)


@mistake()
@mistake(XMOD, config=PRE_NORM)
def ffn_residual_missing(port):
    residual_becomes(port, 1, lambda x: x * 0)


@mistake()
@mistake(XMOD, config=PRE_NORM)
def residual_added_twice(port):
    residual_becomes(port, 0, lambda x: x * 2)


@mistake(XL)
@mistake(XMOD, config=PRE_NORM)
def residual_behind_norm(port):
    for layer in port.layers:
        modules = (layer.layer.attention.output, layer.layer.output)
        norms = [getattr(*place) for place in layer.norms]
        for module, norm in zip(modules, norms, strict=True):
            module.register_forward_pre_hook(
                lambda m, args, norm=norm: (args[0], norm(args[1]), *args[2:])
            )


@mistake(("xlm", "xlm_roberta"))
def norm_before_residual(port):
    for layer in port.layers:
        norms = [getattr(*place) for place in layer.norms]
        if port.is_xlm:
            modules = (layer.attention, layer.ffn)
            port.after(modules[0], lambda out, norm=norms[0]: (norm(out[0]), *out[1:]))
            port.after(modules[1], norms[1])
        else:
            for module, norm in zip((layer.out, layer.ffn_out), norms, strict=True):
                port.after(module, norm)
        for place in layer.norms:
            port.leave_out(place)


def order(name, places, depth=3):
    def make(port):
        port.relayer(places)

    mistake(XLM, config={"n_layers": depth}, name=name)(make)
    mistake(ROBERTAS, config={"num_hidden_layers": depth}, name=name)(make)


order("last_layer_skipped", [0, 1])
order("first_layer_skipped", [1, 2])
order("layers_swapped", [1, 0, 2])
order("layer_duplicated", [0, 0, 2])
order("layers_one_late", [0, 0, 1])
order("layers_reversed", [2, 1, 0])
order("first_layer_repeated", [0, 0, 0])
order("layers_sorted_as_text", [0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9], depth=11)

# --- X-MOD's adapters -----------------------------------------------------------------------------


@mistake(XMOD)
def xmod_language_shifted(port):
    port.inputs["lang_ids"] = numpy.asarray([2, 1, 0])


@mistake(XMOD)
def xmod_languages_sorted(port):
    port.inputs["lang_ids"] = numpy.asarray([0, 1, 2])  # de_DE, en_XX, sw_KE


@mistake(XMOD)
def xmod_language_of_first_text(port):
    port.inputs["lang_ids"] = numpy.asarray([1, 1, 1])


@mistake(XMOD, config={"default_language": "sw_KE"})
def xmod_default_language_for_all(port):
    del port.inputs["lang_ids"]


@mistake(XMOD)
@mistake(XMOD, config=PRE_NORM)
def xmod_adapter_adds_nothing(port):
    for adapter in port.adapters:
        port.after(adapter, lambda x: x * 0)


@mistake(XMOD)
@mistake(XMOD, config={"adapter_layer_norm": True})
@mistake(XMOD, config={"adapter_reuse_layer_norm": False})
def xmod_adapters_skipped(port):
    for layer in port.layers:
        port.patch.setattr(layer.layer.output, "lang_adapter", lambda languages, x: x)


@mistake(XMOD)
@mistake(XMOD, config={**PRE_NORM, "ln_before_adapter": False})
def xmod_norm_in_front_missing(port):
    for layer in port.layers:
        layer.layer.output.adapter_reuse_layer_norm = False


@mistake(XMOD)
@mistake(XMOD, config={"ln_before_adapter": False})
@mistake(XMOD, config={**PRE_NORM, "adapter_layer_norm": True})
def xmod_residual_on_the_other_side(port):
    for layer in port.layers:
        layer.layer.output.ln_before_adapter = not layer.layer.output.ln_before_adapter


@mistake(XMOD)
@mistake(XMOD, config={"ln_before_adapter": False})
def xmod_residual_missing(port):
    for layer in port.layers:
        output = layer.layer.output

        def adapter_alone(languages, x, output=output):
            x = output.LayerNorm(x)
            rows = zip(languages.tolist(), x, strict=True)
            modules = list(output.adapter_modules.values())
            return port.torch.stack([modules[language](row) for language, row in rows])

        port.patch.setattr(output, "lang_adapter", adapter_alone)


@mistake(XMOD, config={"adapter_layer_norm": True})
@mistake(XMOD, config={**PRE_NORM, "adapter_layer_norm": True, "ln_before_adapter": False})
def xmod_wrong_norm_in_front(port):
    for layer in port.layers:
        layer.layer.output.adapter_layer_norm = layer.layer.output.LayerNorm


@mistake(XMOD)
def xmod_adapter_not_activated(port):
    for adapter in port.adapters:
        port.leave_out((adapter, "adapter_act_fn"))


@mistake(XMOD)
def xmod_adapter_with_relu(port):
    for adapter in port.adapters:
        adapter.adapter_act_fn = port.nn.ReLU()


@mistake(XMOD)
def xmod_adapter_bias_missing(port):
    for adapter in port.adapters:
        adapter.dense1.bias.data.zero_()
        adapter.dense2.bias.data.zero_()
