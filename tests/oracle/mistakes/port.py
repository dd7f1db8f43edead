"""An original that is made to make a mistake: what the mistakes of the tests are written with.

Nothing here knows how refimpl makes its faults. A mistake is made by changing the original's
modules: other weights, hooks, other forward functions.
"""

import copy
import math
import sys
from types import SimpleNamespace

import numpy

PREFIX = {"xlm": "XLM", "xlm_roberta": "XLMRoberta", "xlm_roberta_xl": "XLMRobertaXL",
          "xmod": "Xmod"}  # fmt: skip
ALL = tuple(PREFIX)
ROBERTAS = ALL[1:]


class Port:
    """A model of the original, what it is called with, and ways to spoil it."""

    def __init__(self, model, family, inputs, patch):
        import torch

        self.torch, self.nn, self.functional = torch, torch.nn, torch.nn.functional
        self.model, self.family, self.inputs, self.patch = model, family, inputs, patch
        self.base = model.base_model
        self.config = model.config
        self.code = sys.modules[type(model).__module__]
        self.is_xlm = family == "xlm"
        self.pad = self.config.pad_index if self.is_xlm else self.config.pad_token_id
        self.width = self.config.emb_dim if self.is_xlm else self.config.hidden_size
        self.outputs = lambda outputs: outputs  # what the port makes of them

    # --- its modules ---

    @property
    def layers(self):
        """The parts of each layer, by one name in all families."""
        return list(map(self._xlm_layer if self.is_xlm else self._layer, range(self.depth)))

    @property
    def depth(self):
        return len(self.base.attentions if self.is_xlm else self.base.encoder.layer)

    def _xlm_layer(self, i):
        own, ffn = self.base.attentions[i], self.base.ffns[i]
        return SimpleNamespace(
            attention=own, query=own.q_lin, key=own.k_lin, value=own.v_lin, out=own.out_lin,
            ffn=ffn, inner=ffn.lin1, ffn_out=ffn.lin2,
            norms=((self.base.layer_norm1, str(i)), (self.base.layer_norm2, str(i))),
        )  # fmt: skip

    def _layer(self, i):
        layer = self.base.encoder.layer[i]
        own = layer.attention.self
        norms = {
            "xlm_roberta_xl": ((layer.attention, "self_attn_layer_norm"), (layer, "LayerNorm")),
        }.get(self.family, ((layer.attention.output, "LayerNorm"), (layer.output, "LayerNorm")))
        return SimpleNamespace(
            layer=layer, attention=own, query=own.query, key=own.key, value=own.value,
            out=layer.attention.output.dense, inner=layer.intermediate.dense,
            ffn=layer.intermediate, ffn_out=layer.output.dense, norms=norms,
        )  # fmt: skip

    @property
    def adapters(self):
        """X-MOD's, of all layers and languages."""
        outputs = [layer.layer.output for layer in self.layers if self.family == "xmod"]
        return [adapter for output in outputs for adapter in output.adapter_modules.values()]

    @property
    def embeddings(self):
        """The tables and the norm in front of the layers."""
        base = self.base
        if self.is_xlm:
            return SimpleNamespace(words=base.embeddings, positions=base.position_embeddings,
                                   norm=(base, "layer_norm_emb"))  # fmt: skip
        e = base.embeddings
        return SimpleNamespace(words=e.word_embeddings, positions=e.position_embeddings,
                               types=e.token_type_embeddings, norm=(e, "LayerNorm"))  # fmt: skip

    def all(self, kind):
        return [module for module in self.model.modules() if isinstance(module, kind)]

    # --- ways to spoil it ---

    def after(self, module, change):
        """Let a module return ``change(result)``."""
        module.register_forward_hook(lambda m, args, out: change(out))

    def leave_out(self, place):
        """Put nothing in the place of a module, given as its parent and its name there."""
        parent, name = place
        setattr(parent, name, self.nn.Identity())

    def swap(self, one, other):
        """Exchange two modules, each given as its parent and its name there."""
        modules = [getattr(parent, name) for parent, name in (one, other)]
        for (parent, name), module in zip((other, one), modules, strict=True):
            setattr(parent, name, module)

    def untrained_norm(self, x):
        """A layer norm of weight 1 and bias 0."""
        eps = self.config.layer_norm_eps
        return self.functional.layer_norm(x, (self.width,), eps=eps)

    def norms_compute(self, function):
        """Let every layer norm compute ``function(module, x)``."""
        self.patch.setattr(self.nn.LayerNorm, "forward", function)

    def activations_compute(self, function):
        """Let the activation of every feed-forward network and adapter be another."""
        module = self.nn.Identity()
        self.after(module, function)
        for layer in self.layers:
            setattr(layer.ffn, "act" if self.is_xlm else "intermediate_act_fn", module)
        for adapter in self.adapters:
            adapter.adapter_act_fn = module

    def relayer(self, order):
        """Let copies of the layers run in another order."""
        if self.is_xlm:
            for name in ("attentions", "layer_norm1", "ffns", "layer_norm2"):
                self._reorder(self.base, name, order)
            self.base.n_layers = len(order)
            for i, own in enumerate(self.base.attentions):
                own.layer_id = i
        else:
            self._reorder(self.base.encoder, "layer", order)

    def _reorder(self, parent, name, order):
        modules = getattr(parent, name)
        setattr(parent, name, self.nn.ModuleList([copy.deepcopy(modules[i]) for i in order]))

    def attention(self, **changes):
        """Let attention be computed step by step, with some steps exchanged (see ``attend``)."""
        port = self

        def forward(module, hidden, mask=None, head_mask=None, encoder_hidden_states=None,
                    past=None, output_attentions=False, cache_position=None, **named):  # fmt: skip
            mask = named.get("attention_mask", mask)
            heads, size = module.num_attention_heads, module.attention_head_size
            other = hidden if encoder_hidden_states is None else encoder_hidden_states
            projected = module.query(hidden), module.key(other), module.value(other)
            return attend(port, projected, heads, size, mask == 0, head_mask, **changes)

        def forward_xlm(module, x, mask, kv=None, cache=None, head_mask=None,
                        output_attentions=False, cache_position=None):  # fmt: skip
            allowed = mask[:, None] if mask.dim() == 3 else mask[:, None, None]
            projected = module.q_lin(x), module.k_lin(x), module.v_lin(x)
            done = attend(port, projected, module.n_heads, module.head_dim, allowed != 0,
                          head_mask, **changes)  # fmt: skip
            return (module.out_lin(done[0]), *done[1:])

        kind = type(self.layers[0].attention)
        self.patch.setattr(kind, "forward", forward_xlm if self.is_xlm else forward)


def attend(port, projected, heads, size, allowed, head_mask, *, split=None, merge=None,
           scale=None, scores=None, mask=None, softmax=None, probs=None, matmul=None):  # fmt: skip
    """Attention in seven steps; each may be given another function."""
    torch = port.torch
    multiply = matmul or torch.matmul
    right_split = lambda x: x.unflatten(-1, (heads, size)).transpose(1, 2)  # noqa: E731
    q, k, v = ((split or (lambda x, h, k: right_split(x)))(x, heads, size) for x in projected)
    found = multiply(q, k.transpose(-1, -2)) * (1 / math.sqrt(size) if scale is None else scale)
    if scores is not None:
        found = scores(found)
    found = (mask or lowest)(torch, found, allowed.expand_as(found))
    weights = (softmax or (lambda x: torch.softmax(x, -1)))(found)
    if probs is not None:
        weights = probs(weights, allowed)
    if head_mask is not None:
        weights = weights * head_mask
    context = multiply(weights, v)
    together = (merge or (lambda x: x.transpose(1, 2).flatten(2)))(context)
    return together, weights


def lowest(torch, scores, allowed):
    return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)


def rounded(torch, x, bits):
    """To the nearest number of so many bits, ties to even."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp(torch.round(mantissa * 2.0**bits), exponent - bits)


def half(torch, x):
    """As float16 holds it."""
    return torch.tensor(x.numpy().astype(numpy.float16).astype(x.numpy().dtype))
