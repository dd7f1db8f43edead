# %% [markdown]
# # 06 · Feed-forward, norms, and where the norm stands
#
# Attention moves information between tokens; the feed-forward network works on each token alone;
# the layer norm keeps the numbers in bounds. XLM and XLM-R normalise *after* each part of a layer,
# XLM-R-XL *before* it. It looks like a detail of two lines, and it is why XLM-R-XXL can be 48
# layers deep. We look at the three parts, then at the two orders, by activations and by
# derivatives.
#
# *Vaswani et al. 2017, section 3.3; Ba et al. 2016; Hendrycks & Gimpel 2016; Xiong et al. 2020 for
# the place of the norm. Code: `refimpl/ops/activations.py`, `refimpl/ops/norms.py`, and the
# function `layer` of each file in `refimpl/models/`.*

# %%
import inspect
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.models import xlm_roberta, xlm_roberta_xl
from refimpl.parity.goldens import read_golden
from refimpl.taps import edit

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)
random = numpy.random.default_rng(0)

# %% [markdown]
# ## Two matrices and a bend
#
# D features are spread out to F (four times as many in the published models), bent by an
# activation function, and gathered into D again: W₂ gelu(W₁ x + b₁) + b₂. One can read it as a
# memory: each row of W₁ is a pattern to look for, the activation says how well it was found, each
# column of W₂ is what to add then (Geva et al. 2021).

# %%
D, F = 4, 16
first = {"weight": random.standard_normal((F, D)), "bias": random.standard_normal(F)}
second = {"weight": random.standard_normal((D, F)), "bias": random.standard_normal(D)}

x = random.standard_normal((1, 3, D))  # one text of three tokens
found = ops.gelu_erf(ops.linear(x, **first))
y = ops.linear(found, **second)

figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.0), width_ratios=(1, 3, 1))
tokens = ["t0", "t1", "t2"]
for ax, values, title in zip(axes, (x, found, y), ("in: D", "inside: F", "out: D"), strict=True):
    pictures.grid(ax, values[0], rows=tokens, title=title, signed=True)
    ax.set_xticks([])
pictures.show(figure)

# %% [markdown]
# No token sees another: change the first, and the other two stay what they were.

# %%
changed = x.copy()
changed[0, 0] += 1.0
moved = ops.linear(ops.gelu_erf(ops.linear(changed, **first)), **second) - y
print("moved by", abs(moved[0]).max(axis=-1))
assert not moved[0, 1:].any()

# %% [markdown]
# ## Two functions called GELU
#
# Without the bend two matrices would be one. ReLU bends sharply; GELU lets x through with the
# probability that a normal variable is below x: x Φ(x). The exact form needs erf; the paper also
# gives an approximation by tanh, and other programs call *that* one "gelu". They part by at most
# 5e-4, which is nothing for one value and much for a port that wants to be right.

# %%
x = numpy.linspace(-5, 5, 1001)
figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.8))
left.plot(x, ops.relu(x), color=pictures.GREY, label="relu")
left.plot(x, ops.gelu_erf(x), label="gelu_erf")
left.plot(x, ops.silu(x), label="silu")
left.set(xlim=(-5, 3), ylim=(-0.5, 3), title="three bends")
left.legend()
right.plot(x, ops.gelu_tanh(x) - ops.gelu_erf(x))
right.set(title="gelu_tanh - gelu_erf")
right.ticklabel_format(axis="y", scilimits=(0, 0))
pictures.show(figure)
print(f"largest difference: {abs(ops.gelu_tanh(x) - ops.gelu_erf(x)).max():.1e}")

# %% [markdown]
# Here the two have two names, and `hidden_act` in a config chooses: `"gelu"` is `gelu_erf`,
# `"gelu_new"` is `gelu_tanh`.
#
# ## What a layer norm does
#
# Each token's vector is moved to mean 0 and stretched to variance 1, then every feature gets its
# own gain and bias. How long the vector was, and any constant added to all its features, is
# forgotten; what survives is which features stand out, and how much more than others:

# %%
x = random.standard_normal((1, 8))
one, zero = numpy.ones(8), numpy.zeros(8)
for name, row in (("x", x), ("100 x", 100 * x), ("x + 100", x + 100)):
    print(f"{name:8}", ops.layer_norm(row, one, zero, eps=1e-5)[0])

# %% [markdown]
# `eps` keeps a row of equal numbers from a division by zero. It is 1e-5 in the published XLM-R
# files and 1e-12 in XLM's, and for a row whose variance is not far above it, it decides the result:
# below is the length of a normalised row, which should be √D, by the spread of what came in.

# %%
spread = numpy.logspace(-8, 1, 60)
figure, ax = plt.subplots(figsize=(6.4, 2.6))
for eps in (1e-5, 1e-12):
    rows = ops.layer_norm(spread[:, None] * x, one, zero, eps=eps)
    ax.semilogx(spread, numpy.linalg.norm(rows, axis=-1), label=f"eps = {eps:.0e}")
ax.axhline(numpy.sqrt(8), color=pictures.GREY, linestyle="--")
ax.set(xlabel="spread of the row", ylabel="length after the norm", ylim=(0, 3.2))
ax.legend(loc="center right")
pictures.show(figure)

# %% [markdown]
# ## After, or before
#
# The two orders, as the two architecture files have them. XLM-R: add, then normalise the sum. What
# flows from layer to layer (the *residual stream*) is normalised each time.

# %%
print(inspect.getsource(xlm_roberta.add_and_norm))

# %% [markdown]
# XLM-R-XL: normalise a copy, work on it, add the result. The stream itself is never normalised,
# until once at the very end.

# %%
source = inspect.getsource(xlm_roberta_xl.layer)
print(source[: source.index("    cross = None")])

# %% [markdown]
# ## What it does to the stream
#
# Two models of eleven layers with weights of the same kind, drawn by lot; the length of the hidden
# vectors after each layer. After-norm (XLM-R) holds it where the norm's gain puts it. Before-norm
# (XL) adds and adds, so the stream grows, and what a late layer adds is small beside it.

# %%
models, streams = {}, {}
for family in ("xlm_roberta", "xlm_roberta_xl"):
    golden = read_golden(Path(f"../golden/{family}/eleven_layers"))
    models[family] = refimpl.load(golden.folder, dtype="float64", kernels="plain"), golden
    model, inputs = models[family][0], golden.inputs()
    states = model(**inputs, output_hidden_states=True).hidden_states[:12]
    streams[family] = [numpy.linalg.norm(x, axis=-1).mean() for x in states]

figure, ax = plt.subplots(figsize=(6.4, 2.8))
names = {"xlm_roberta": "XLM-R: norm after", "xlm_roberta_xl": "XLM-R-XL: norm before"}
for family, lengths in streams.items():
    ax.plot(lengths, "o-", label=names[family])
ax.set(xlabel="layer", ylabel="length of the stream", ylim=(0, None))
ax.legend()
pictures.show(figure)

# %% [markdown]
# (XL's last value stands behind its final norm.)
#
# ## What it does to a derivative
#
# Training sends derivatives the other way: how much would the *end* move if the stream were nudged
# after layer i? We need no backward pass to see it: nudge, run, and measure (a finite difference).
# `refimpl.taps.edit` puts another value in the place of a tap.


# %%
def nudged(family, layer):
    """How far the last states move, for a nudge of length 1 of the states after a layer."""
    model, golden = models[family]
    prefix = "encoder.layer" if model.architecture.endswith("Model") else "roberta.encoder.layer"
    name = f"{prefix}.{layer}.output." + ("LayerNorm" if family == "xlm_roberta" else "dense")
    rng = numpy.random.default_rng(layer)

    def editor(tap, x):
        if tap != name:
            return x
        nudge = rng.standard_normal(x.shape)
        return x + 1e-6 * nudge / numpy.linalg.norm(nudge)

    before = model(**golden.inputs(), output_hidden_states=True).hidden_states[-1]
    with edit(editor):
        after = model(**golden.inputs(), output_hidden_states=True).hidden_states[-1]
    return numpy.linalg.norm(after - before) / 1e-6


figure, ax = plt.subplots(figsize=(6.4, 2.8))
for family in models:
    ax.semilogy(range(1, 12), [nudged(family, i) for i in range(11)], "o-", label=names[family])
ax.set(xlabel="nudged after layer", ylabel="the end moves by")
ax.legend()
pictures.show(figure)

# %% [markdown]
# With the norm after each part, every layer shrinks what came from before it, and the early layers
# hear from the end a thousand times more softly than the late ones. With the norm before, there is
# a straight road of additions from the first layer to the last. (These are random weights: what
# training starts from, which is where it matters. Xiong et al. 2020 prove it for the
# expectation.)
#
# ## The check
#
# The hidden states of both models, after every layer, are those of the originals:

# %%
# rounding: another processor shows other digits
for model, golden in models.values():
    truth = golden.part("tap")
    with refimpl.record() as taps:
        model(**golden.inputs())
    ends = [name for name in truth if name.endswith((".output.LayerNorm", ".output.dense"))]
    error = max(abs(taps[name] - truth[name]).max() / abs(truth[name]).max() for name in ends)
    print(f"{model.architecture:20} {len(ends)} values, relative error {error:.0e}")
    assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. Double W₁ and b₁ in a feed-forward network with ReLU. By what must W₂ be multiplied so that the
#    output stays? Does the same work with GELU?
# 2. What is the layer norm of a layer norm, with gain 1 and bias 0 in both?
# 3. A port computes the variance with D - 1 in place of D. By what factor are its rows off? Is it
#    visible at D = 768?
# 4. XLM-R-XL has a norm behind its last layer and XLM-R has none there. Why does XLM-R not need
#    one?
#
# ## Solutions

# %%
# 1. By a half: relu(2x) = 2 relu(x). GELU is not so: it bends at a certain size of x.
x = random.standard_normal((1, 3, D))
doubled = {name: 2 * value for name, value in first.items()}
halved = {"weight": second["weight"] / 2, "bias": second["bias"]}
for bend, same in ((ops.relu, True), (ops.gelu_erf, False)):
    before = ops.linear(bend(ops.linear(x, **first)), **second)
    after = ops.linear(bend(ops.linear(x, **doubled)), **halved)
    assert numpy.allclose(before, after) == same

# %%
# 2. Itself (but for eps): mean and variance are 0 and 1 already.
row = random.standard_normal((1, 8))
once = ops.layer_norm(row, one, zero, eps=1e-12)
assert numpy.allclose(ops.layer_norm(once, one, zero, eps=1e-12), once)

# %%
# 3. By √(1 - 1/D): 0.07 % at D = 768. No reader of answers would see it; `refimpl compare` does.
factor = numpy.sqrt(1 - 1 / 768)
print(f"off by {1 - factor:.2%}")
row = random.standard_normal((1, 768))
right = ops.layer_norm(row, numpy.ones(768), numpy.zeros(768), eps=0.0)
assert numpy.allclose((row - row.mean()) / row.std(ddof=1), factor * right)

# %%
# 4. Because each of its layers ends in a norm: the last hidden states are normalised already
#    (before gain and bias), so heads see numbers of one size. XL's stream has grown by then.
w = models["xlm_roberta"][0].weights["encoder.layer.10.output.LayerNorm"]
model, golden = models["xlm_roberta"]
last = (model(**golden.inputs()).last_hidden_state - w["bias"]) / w["weight"]
assert numpy.allclose(last.mean(axis=-1), 0)
assert numpy.allclose(last.var(axis=-1), 1, atol=1e-2)
