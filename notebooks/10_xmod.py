# %% [markdown]
# # 10 · X-MOD: adapters, adding a language
#
# One model for a hundred languages has to share its numbers out among them, and beyond some point
# every further language costs the others: the *curse of multilinguality* (Conneau et al. 2020).
# X-MOD (Pfeiffer et al. 2022) gives each language something of its own in every layer, a small
# network called an *adapter*, and shares the rest. A text goes through the adapters of its language
# only.
#
# So the model can grow with the number of languages while the work for one text stays the same; and
# a language can be added later without moving the others by a single bit. Both are shown below.
#
# *Pfeiffer et al. 2022; Houlsby et al. 2019 for adapters. Code: `refimpl/models/xmod.py`,
# `refimpl/models/xmod_languages.py`. All that is not about languages is as in XLM-R: notebook 08.*

# %%
import inspect
import textwrap
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.checkpoints.weights import Weights
from refimpl.models import xlm_roberta, xmod
from refimpl.parity.goldens import read_golden

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

golden = read_golden(Path("../golden/xmod/mixed_languages"))
model = refimpl.load(golden.folder, dtype="float64", kernels="plain")
config, w = model.config, model.weights
print(model.architecture, config.languages)

# %% [markdown]
# ## What is shared, and what is not
#
# The list of arrays in the checkpoint. Three languages, one layer; all that has a language in its
# name is the language's own:

# %%
shapes = xmod.encoder_parameters(config)
for name, shape in shapes.items():
    if name.endswith("weight"):
        print(" * " if "adapter_modules" in name else "   ", f"{name:60} {shape}")

# %% [markdown]
# Words, positions, attention, feed-forward network and norms are everybody's. Now the published
# sizes: the model of 81 languages, and one of fewer, counted from the same list:


# %%
def size(config, own):
    """How many numbers are a language's own, or shared."""
    counted = xmod.encoder_parameters(config)
    return sum(
        int(numpy.prod(shape))
        for name, shape in counted.items()
        if ("adapter_modules" in name) == own
    )


def base(languages):
    """The config of xmod-base, for so many languages."""
    names = [f"language_{i}" for i in range(languages)]
    return xmod.XmodConfig(
        vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1, languages=names
    )


counts = numpy.array([1, 13, 30, 60, 75, 81])
shared = numpy.array([size(base(n), own=False) for n in counts]) / 1e6
own = numpy.array([size(base(n), own=True) for n in counts]) / 1e6
for n, a, b in zip(counts, shared, own, strict=True):
    print(f"{n:2} languages: {a:.0f} million shared, {b:5.1f} million of their own")
xlmr = xlm_roberta.XLMRobertaConfig(
    vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1
)
of_everyone = {
    name: shape
    for name, shape in xmod.encoder_parameters(base(81)).items()
    if "adapter_modules" not in name
}
assert of_everyone == xlm_roberta.encoder_parameters(xlmr)

figure, ax = plt.subplots(figsize=(6.6, 3.0))
ax.bar(counts, shared, width=3, color=pictures.BLUE, label="shared")
ax.bar(counts, own, width=3, bottom=shared, color=pictures.ORANGE, label="in adapters")
ax.plot(counts, shared + own[0], color=pictures.RED, label="used for one text")
ax.set(xlabel="languages", ylabel="million numbers", xticks=counts, ylim=(0, 1150))
ax.legend(loc="upper left")
pictures.show(figure)

# %% [markdown]
# Without its adapters xmod-base has the arrays of xlm-roberta-base, name by name. Each language
# adds 7 million numbers, so 81 of them are two thirds of the checkpoint; but a text meets the
# shared part and one adapter in each layer, whatever their number (the red line).
#
# ## Inside a layer
#
# The adapter stands behind the feed-forward network: down to half the width, a GELU, and up again,
# added to what came in. Here is the end of a layer, and the adapter:

# %%
source = inspect.getsource(xmod.layer)
print(source[source.index('    inner = w.at("intermediate")') :])
print(inspect.getsource(xmod.adapter))

# %% [markdown]
# Now by hand. A batch of four texts in three languages, one language twice: the ids of the
# languages are places in `config.languages`.

# %%
inputs = golden.inputs()
lang_ids = inputs["lang_ids"]
print("languages", [config.languages[i] for i in lang_ids])

hidden = xmod.embeddings(w["embeddings"], config, inputs["input_ids"], None, None, None, past=0)
mask = ops.attention_mask_for(hidden, inputs["attention_mask"], past=0, causal=False)
around = xmod.Around(mask, None, None, lang_ids, None, None)
one = w["encoder.layer.0"]
hidden, _ = xmod.attention_block(one["attention"], config, hidden, around, xmod.self_attention)
inner = ops.gelu_erf(ops.linear(hidden, **one["intermediate.dense"]))
hidden = hidden + ops.linear(inner, **one["output.dense"])  # as in XLM-R, but not normalised yet
print("behind the feed-forward network", hidden.shape)

# %% [markdown]
# XLM-R would normalise now and be done. X-MOD normalises, sends each text through the adapter of
# its language, adds, and normalises *again, with the same gain and bias*: the norm of the layer is
# used twice. (A port that knows "one norm behind each half" forgets one of the two.)

# %%
norm = {**one["output.LayerNorm"], "eps": config.layer_norm_eps}
x = ops.layer_norm(hidden, **norm)
out = numpy.empty_like(x)
for row, language in enumerate(lang_ids):
    adapter = one[f"output.adapter_modules.{config.languages[language]}"]
    narrow = ops.gelu_erf(ops.linear(x[row], **adapter["dense1"]))
    out[row] = x[row] + ops.linear(narrow, **adapter["dense2"])
    print(f"text {row}, {config.languages[language]}:", x[row].shape, narrow.shape, out[row].shape)
by_hand = ops.layer_norm(out, **norm)

# %%
# rounding: another processor shows other digits
print("largest difference", abs(by_hand - model(**inputs).last_hidden_state).max())

# %% [markdown]
# The package takes the texts of one language together, and puts them back in their places. The
# picture: the four texts, what the adapters add to them, and the result. (One feature of these
# random weights is far out; left and right the colours stop at 2.)

# %%
figure, axes = plt.subplots(1, 3, figsize=(7.6, 3.4), sharey=True)
rows = [f"{config.languages[i]} t{k}" for i in lang_ids for k in range(4)]
stages = {"normalised": x, "added by the adapter": out - x, "normalised again": by_hand}
for ax, (title, values) in zip(axes, stages.items(), strict=True):
    pictures.grid(ax, values.reshape(16, -1), rows=rows, title=title, signed=True)
    if "normalised" in title:
        ax.images[0].set_clim(-2, 2)
    for border in (3.5, 7.5, 11.5):
        ax.axhline(border, color=pictures.GREY)
    ax.set_xticks([])
pictures.show(figure)

# %% [markdown]
# ## Who says which language
#
# The tokenizer is XLM-R's and does not know. The call says it (`lang_ids`), or else the model's
# default; where neither does, it is an error, and that is well so: a wrong language gives an answer
# too.

# %%
text = {"input_ids": [[0, 17, 5, 2]]}
try:
    model(**text)
except ValueError as error:
    print(textwrap.fill(str(error), 88))

model.set_default_language("de_DE")
assert (model(**text).last_hidden_state == model(**text, lang_ids=[1]).last_hidden_state).all()
figure, axes = plt.subplots(1, 3, figsize=(7.6, 1.9), sharey=True)
for i, ax in enumerate(axes):
    states = model(**text, lang_ids=[i]).last_hidden_state[0]
    pictures.grid(ax, states, rows=["t0", "t1", "t2", "t3"], title=config.languages[i], signed=True)
    ax.images[0].set_clim(-2, 2)
    ax.set_xticks([])
pictures.show(figure)

# %% [markdown]
# One text, read as three languages. And mind the numbers: they are places in *this* checkpoint's
# list. In xmod-base language 0 is en_XX; in xmod-base-75-269k it is af_ZA, and en_XX is 12.
#
# ## Adding a language
#
# A finished model is to learn Icelandic. Nothing that is there is touched: the config gets a name
# more, the checkpoint an adapter more in each layer. We begin it so that it adds nothing: the way
# up is all zero.

# %%
random = numpy.random.default_rng(0)
longer = replace(config, languages=[*config.languages, "is_IS"])
new = [name for name in xmod.encoder_parameters(longer) if name not in shapes]
for name in new:
    print(name, xmod.encoder_parameters(longer)[name])

everything = {name: w[name] for name in xmod.ARCHITECTURES["XmodModel"].parameters(config)}
for name in new:
    shape = xmod.encoder_parameters(longer)[name]
    everything[name] = numpy.zeros(shape) if "dense2" in name else random.standard_normal(shape)
grown = replace(model, config=longer, weights=Weights(everything))

# %% [markdown]
# Now it is trained: on Icelandic texts, the new arrays only, all others *frozen*. We have neither
# texts nor time, so we let training be any other numbers in the new arrays. What has become of the
# languages that were there?

# %%
trained = {**everything, **{name: random.standard_normal(everything[name].shape) for name in new}}
after = replace(grown, weights=Weights(trained))

for language in longer.languages:
    i = [longer.languages.index(language)]
    before_it, behind_it = (m(**text, lang_ids=i).last_hidden_state for m in (grown, after))
    same = (before_it == behind_it).all()
    by = abs(before_it - behind_it).max()
    print(f"{language}: moved by {by:6.3f}, to the last bit the same: {same}")
    assert same == (language != "is_IS")

# %% [markdown]
# Not by a rounding. There is no path from the new numbers to the old languages, so there is nothing
# to forget. In a model that shares everything, one number moves everyone: here one weight of
# attention is nudged.

# %%
value = "encoder.layer.0.attention.self.value.weight"
nudged = {**trained, value: trained[value].copy()}
nudged[value][0, 0] += 1.0
moved = replace(after, weights=Weights(nudged))
for i, language in enumerate(longer.languages):
    a, b = (m(**text, lang_ids=[i]).last_hidden_state for m in (after, moved))
    print(f"{language}: moved by {abs(a - b).max():.3f}")
    assert abs(a - b).max() > 1e-3

# %% [markdown]
# ## Learning a task in one language, using it in another
#
# The other way round for fine-tuning: there one leaves the adapters as they are and trains what is
# shared (the paper leaves the embeddings, too). Train on English with the English adapters, then
# put in those of another language, and the task comes along.
# `freeze_embeddings_and_language_adapters` names what stays; counted for xmod-base:

# %%
frozen = model.freeze_embeddings_and_language_adapters()
print(f"{len(frozen)} of {len(shapes)} arrays of our small model are frozen, such as")
for name in (frozen[0], frozen[-1]):
    print("  ", name)

published = xmod.encoder_parameters(base(81))
total = sum(int(numpy.prod(shape)) for shape in published.values())
parts = {"adapters": "adapter_modules", "embeddings": "embeddings."}
held = {title: sum(int(numpy.prod(shape)) for name, shape in published.items() if key in name)
        for title, key in parts.items()}  # fmt: skip
held["trained"] = total - sum(held.values())
for title, number in held.items():
    print(f"{title:10} {number / 1e6:4.0f} million, {number / total:.0%}")

# %% [markdown]
# ## Four switches
#
# Where the norm of the adapter stands, and whose it is, the config decides; the published base and
# large models differ in all of them. The four that matter:
#
# | | xmod-base | xmod-large-prenorm |
# |---|---|---|
# | `pre_norm`: layers normalise before | no | yes |
# | `adapter_layer_norm`: the adapter has a norm of its own | no | yes |
# | `adapter_reuse_layer_norm`: it takes the layer's norm | yes | no |
# | `ln_before_adapter`: what is added to is the normalised vector | yes | no |
#
# and `adapter_reduction_factor`, 2 and 4. The function that reads them:

# %%
source = inspect.getsource(xmod.language_adapter)
print(source[source.index("    x = hidden") :])

# %% [markdown]
# ## The check
#
# What we did by hand is the original's result, and so is each combination of the switches:

# %%
# rounding: another processor shows other digits
truth = golden.part("output")["last_hidden_state"]
error = abs(by_hand - truth).max() / abs(truth).max()
print(f"by hand                relative error {error:.0e}")
assert error < 1e-12

for case in ("mixed_languages", "default_language", "pre_norm", "adapter_layer_norm", "no_norm",
             "ln_after", "pre_norm_adapter_norm", "reduction", "masked_lm"):  # fmt: skip
    golden = read_golden(Path("../golden/xmod") / case)
    result = refimpl.load(golden.folder, dtype="float64", kernels="plain")(**golden.inputs())
    name = "logits" if case == "masked_lm" else "last_hidden_state"
    truth = golden.part("output")[name]
    error = abs(getattr(result, name) - truth).max() / abs(truth).max()
    print(f"{case:22} relative error {error:.0e}")
    assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. An adapter whose way up is zero adds nothing. Is X-MOD with such an adapter the same as XLM-R
#    with the same weights?
# 2. How many numbers has one adapter of the large model (D = 1024, reduction factor 4), in one
#    layer? Count them from the shapes, and by hand.
# 3. A port sorts the languages by name. Which texts of our batch go through the wrong adapter? How
#    would you notice?
# 4. Half of a text is English and half is German. Give each token its language. Do English tokens
#    hear of it, in a model of one layer, that the others were read as German?
#
# ## Solutions

# %%
# 1. Nearly: it normalises twice. A norm of a norm is itself only without gain and bias (notebook
#    06), so with trained ones it differs.
hidden = hidden[:1]
once = ops.layer_norm(hidden, **norm)
twice = ops.layer_norm(once, **norm)
print(f"differs by up to {abs(once - twice).max():.2f}")
assert not numpy.allclose(once, twice)
plain_norm = {"weight": numpy.ones(12), "bias": numpy.zeros(12), "eps": config.layer_norm_eps}
once = ops.layer_norm(hidden, **plain_norm)
assert numpy.allclose(once, ops.layer_norm(once, **plain_norm), atol=1e-4)

# %%
# 2. Two matrices of 256 x 1024, and biases of 256 and 1024.
large = xmod.XmodConfig(hidden_size=1024, num_attention_heads=16, adapter_reduction_factor=4)
counted = sum(int(numpy.prod(shape)) for shape in xmod.adapter_parameters(large, "layer").values())
print(f"{counted:,}")
assert counted == 2 * 256 * 1024 + 256 + 1024

# %%
# 3. en_XX, de_DE, sw_KE would become de_DE, en_XX, sw_KE: texts 1 and 3 are read as the other's
#    language. No shape tells; a golden with several languages does.
order = sorted(config.languages)
wrong = [order.index(name) for name in config.languages]
result = model(**{**inputs, "lang_ids": numpy.array(wrong)[lang_ids]}).last_hidden_state
off = abs(result - by_hand).max(axis=(1, 2)) > 1e-9
print(off)
assert off.tolist() == [False, True, False, True]

# %%
# 4. They do not: the adapter is the last thing of the layer, and it looks at each token alone. With
#    a second layer they would, through its attention.
ids = [[0, 17, 5, 9, 28, 2]]
english = model(input_ids=ids, lang_ids=[0]).last_hidden_state
both = model(input_ids=ids, lang_ids=[[0, 0, 0, 1, 1, 1]]).last_hidden_state
assert numpy.allclose(both[:, :3], english[:, :3])
assert not numpy.allclose(both[:, 3:], english[:, 3:])
