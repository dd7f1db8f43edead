# %% [markdown]
# # 00 · A tour in ten minutes
#
# From a text with a blank in it to what a model puts there, with every step in sight: text, pieces,
# ids, vectors, layers, scores, answer. Then the two things that this package is for: the proof
# that the numbers are right, and the name of the mistake when they are not.
#
# Everything here runs offline on a checkpoint of 20 kB that travels with the package. It has the
# architecture of XLM-RoBERTa (Conneau et al. 2020) and weights drawn by lot, so its answers mean
# nothing; how they come about is the same as in the model of 270 million parameters, and the same
# code runs that one: `refimpl.load("xlm-roberta-base")`.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.fill_mask import fill_mask
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

checkpoint = Path("../golden/xlm_roberta/from_text")
tokenizer = refimpl.load_tokenizer(checkpoint)
model = refimpl.load(checkpoint, dtype="float64", kernels="plain")

# %% [markdown]
# ## Text to ids
#
# A tokenizer cuts a text into *pieces* of a fixed vocabulary and gives each its number. `▁` stands
# for a space; `<s>` and `</s>` are put around the text. (Notebooks 02 and 03 cut by hand.)

# %%
text = "The lamp <mask>"
ids = tokenizer.encode(text)
pieces = tokenizer.convert_ids_to_tokens(ids)
for piece, i in zip(pieces, ids, strict=True):
    print(f"{i:4}  {piece}")

# %% [markdown]
# ## Ids to answer
#
# A model is called with the names that transformers gives its arguments, and answers with the names
# of its outputs. `record()` keeps every intermediate value, in order, each under the path of the
# module that makes it in the published checkpoint.

# %%
with refimpl.record() as taps:
    out = model(input_ids=[ids])

for name, x in taps.items():
    print(f"{name:55} {x.shape}")

# %% [markdown]
# That is the whole model, top to bottom; `refimpl/models/xlm_roberta.py` is the same list as code.
# A text of S pieces becomes S vectors of D numbers. Attention lets them look at each other, the
# feed-forward network works on each alone, and the head turns every vector into one score for each
# piece of the vocabulary: the *logits*.
#
# What the three heads of the first layer look at, and what the vectors look like on their way:

# %%
layer = "roberta.encoder.layer.0"
figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.8), sharey=True)
for head, ax in enumerate(axes):
    probs = taps[f"{layer}.attention.self.probs"][0, head]
    pictures.grid(ax, probs, rows=pieces, columns=pieces, numbers=".2f", title=f"head {head}")
pictures.show(figure)

stages = ["roberta.embeddings.LayerNorm", f"{layer}.attention.output.LayerNorm",
          f"{layer}.output.LayerNorm"]  # fmt: skip
figure, axes = plt.subplots(1, 3, figsize=(7.4, 2.2), sharey=True)
titles = ("embedded", "after attention", "after the layer")
for title, name, ax in zip(titles, stages, axes, strict=True):
    pictures.grid(ax, taps[name][0], rows=pieces, title=title, signed=True)
    ax.set_xlabel("feature")
pictures.show(figure)

# %% [markdown]
# The answer is the softmax of the scores at the blank:

# %%
place = ids.index(tokenizer.mask_token_id)
probabilities = ops.softmax(out.logits[0, place])
best = numpy.argsort(-probabilities)[:5]
for i in best.tolist():
    print(f"{probabilities[i]:.3f}  {tokenizer.convert_ids_to_tokens(i)}")

# %% [markdown]
# `refimpl fill-mask CHECKPOINT "The lamp <mask>"` does all of this in a shell, and the function
# behind it does here:

# %%
for filling in fill_mask(model, tokenizer, text, top_k=3):
    print(f"{filling.probability:.3f}  {filling.text}")
assert fill_mask(model, tokenizer, text, top_k=1)[0].id == best[0]

# %% [markdown]
# ## Is it right?
#
# A *golden* is what the original implementation computed: inputs, every intermediate, outputs, in
# float64. 159 of them travel with the package, each with its checkpoint. The one of this
# checkpoint:

# %%
# rounding: another processor shows other digits
golden = read_golden(checkpoint)
truth = golden.part("tap")
with refimpl.record() as taps:
    model(**golden.inputs())

errors = {name: abs(taps[name] - truth[name]).max() / abs(truth[name]).max() for name in truth}
figure, ax = plt.subplots(figsize=(7.0, 4.0))
ax.barh(list(errors), [max(error, 1e-17) for error in errors.values()], color=pictures.BLUE)
ax.axvline(1e-12, color=pictures.RED)
ax.text(0.8e-12, 0, "the norm", color=pictures.RED, ha="right", va="center")
ax.set(xscale="log", xlim=(1e-17, 1e-11), xlabel="relative error against the original, float64")
ax.invert_yaxis()
ax.tick_params(axis="y", labelsize=7, length=0)
pictures.show(figure)

# %% [markdown]
# `refimpl verify` does this for all goldens, all families and all heads, in a few seconds.
#
# ## And if it is not?
#
# Suppose that this were your port, in float32, and that its layer norms divide by D - 1 instead of
# D. The program runs, and the answer looks much the same:

# %%
port = refimpl.load(checkpoint, dtype="float32", kernels="plain")
dump = run_reference(port, golden.inputs(), [CATALOGUE["norm_variance_unbiased"]])
theirs = ops.softmax(dump.outputs["logits"][0, place])
print("right ", probabilities[best])
print("port  ", theirs[best])

# %% [markdown]
# `compare` finds the first value that parts by more than rounding can, and `diagnose` tries its
# catalogue of some 180 known mistakes until one makes the reference compute what the port computed:

# %%
report = refimpl.compare(checkpoint, dump)
print("first:", report.first.name, report.first.status)

found = refimpl.diagnose(model, dump)
answer = found.answers[0]
print("fault:", *answer.names)
print(f"proof: {answer.before:.0e} floors apart without it, {answer.after:.1f} with it")

# %% [markdown]
# A *floor* is how far apart honest implementations are; beyond four of them nothing is rounding.
# Notebook 13 measures floors, notebook 14 is a clinic for broken ports.
#
# ## Where to go from here
#
# | you want to | read |
# |---|---|
# | understand the parts | 02 to 06, in the order of the computation |
# | understand the four models | 07 XLM, 08 XLM-R, 09 XLM-R-XL, 10 X-MOD |
# | use them | 11 heads, 12 generation |
# | trust numbers | 13 floating point, 14 the porting clinic |
#
# ## The check
#
# The logits that this notebook talked about are the original's:

# %%
# rounding: another processor shows other digits
logits = golden.part("output")["logits"]
error = abs(model(**golden.inputs()).logits - logits).max() / abs(logits).max()
print(f"relative error {error:.0e}")
assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. Put a second `<mask>` into the text. Does the answer at the first one change? Should it?
# 2. The batch of the golden has a second, shorter text, filled up with `<pad>`. Is its result the
#    same when it is run alone, without padding?
# 3. The table of word vectors is used twice: to look up pieces, and to score them. Find the second
#    use in `model.weights`.
#
# ## Solutions

# %%
# 1. It does: each blank sees the other as "<mask>", not as what will be put there. The two are
#    filled independently of each other.
two = tokenizer.encode("The <mask> <mask>")
print(tokenizer.convert_ids_to_tokens(two))
changed = ops.softmax(model(input_ids=[two]).logits[0, two.index(tokenizer.mask_token_id)])
assert abs(changed - probabilities).max() > 0.01

# %%
# 2. It is, to rounding: padding is masked, and positions count tokens only.
inputs = golden.inputs()
padded = model(**inputs).logits[1, :4]
alone = model(input_ids=inputs["input_ids"][1:, :4]).logits[0]
assert abs(padded - alone).max() < 1e-12

# %%
# 3. "lm_head.decoder.weight" is tied to the word embeddings: one matrix, two names.
words = model.weights["roberta.embeddings.word_embeddings.weight"]
assert (model.weights["lm_head.decoder.weight"] == words).all()
