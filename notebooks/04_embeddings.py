# %% [markdown]
# # 04 · Embeddings, positions, languages
#
# Ids are names, not numbers: piece 17 is not half of piece 34. The first thing that a model does is
# to look up a vector for each, and to add what attention could not find out by itself: where the
# token stands, and, in some of these models, which language it belongs to.
#
# This is where ports of XLM-R go wrong most often, by one off in the positions. We will see why.
#
# *Vaswani et al. 2017, section 3.5; Lample & Conneau 2019, section 3 (language embeddings); Liu et
# al. 2019 (RoBERTa). Code: `refimpl/ops/embeddings.py`, `refimpl/ops/positions.py`.*

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.parity.goldens import read_golden

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## A row for each piece
#
# The table has a row of D numbers for each of V pieces. Looking up is all there is to it; and it
# is the same as multiplying a row of zeros with a single 1 (a *one-hot* row) by the table, which
# is why it is called a layer at all.

# %%
table = numpy.array([[0.0, 0.0], [1.0, 0.5], [0.2, 0.9], [-1.0, 0.3]])  # V = 4, D = 2
ids = numpy.array([[3, 1, 1]])
looked_up = ops.embedding(ids, table)
one_hot = numpy.eye(4)[ids]
print(looked_up)
assert (one_hot @ table == looked_up).all()

# %% [markdown]
# In these models most of the parameters stand in this table. XLM-R was the first with one
# vocabulary of 250,002 pieces for a hundred languages; at the size of xlm-roberta-base, 768
# features, it holds 192 million numbers, and the twelve layers together 85 million.

# %%
V, D, F, L = 250_002, 768, 3072, 12
words = V * D
layer = 4 * (D * D + D) + (D * F + F) + (F * D + D) + 2 * 2 * D
print(f"words {words / 1e6:.0f} million, layers {L * layer / 1e6:.0f} million")

# %% [markdown]
# ## Where a token stands
#
# Attention does not see order (notebook 05), so a vector for each *place* is added to the vector of
# the piece. The first transformer computed it: each pair of features turns like the hand of a
# clock, the first pair fast, the last one so slowly that it hardly moves over a whole text.

# %%
places = numpy.arange(128)
waves = ops.sinusoidal_positions(places, width=64)

figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.0))
left.imshow(waves.T, cmap=pictures.BOTH_WAYS, aspect="auto", interpolation="nearest")
left.set(xlabel="position", ylabel="feature", title="sines and cosines")
right.plot(waves @ waves[64])
right.set(xlabel="position", title="dot product with position 64")
pictures.show(figure)

# %% [markdown]
# The picture on the right is the point of it: how alike two positions are depends on their
# distance alone. All published models of the family *learn* a table instead, and such a table
# ends: 512 places and no more. (XLM can be built with the waves; the switch is
# `sinusoidal_embeddings`.)
#
# ## XLM-R counts from two
#
# XLM: token i stands at position i. XLM-R inherited another rule from fairseq: positions are
# counted from `padding_idx + 1`, padding is passed over, and itself gets `padding_idx`. With the
# padding id 1 the first token stands at 2. So the table of the published models has 514 rows for
# 512 tokens, and rows 0 and 1 are never a token's.

# %%
padded_right = numpy.array([[0, 17, 23, 2, 1, 1]])
padded_left = numpy.array([[1, 1, 0, 17, 23, 2]])
padded_inside = numpy.array([[0, 17, 1, 1, 23, 2]])
for ids in (padded_right, padded_left, padded_inside):
    print("ids", ids[0], " positions", ops.position_ids_from_padding(ids, padding_idx=1)[0])

# %% [markdown]
# A text gets the same positions wherever its padding stands: that is the reason for the rule. Count
# from 0, and every token of every text gets the vector of another place; the model still answers,
# and nobody is told. Given vectors in place of ids, nobody can tell padding from
# tokens, and all places are counted:

# %%
vectors = numpy.zeros((1, 6, 8))
print("from vectors", ops.position_ids_in_order(vectors, padding_idx=1)[0])

# %% [markdown]
# ## Distances instead of places
#
# The original's classes know two more ways, which no published model of the family uses: a vector
# for each *distance* between query and key, which meets the query inside attention's scores
# (`relative_key`), or both (`relative_key_query`). Here is what a table of distances adds to the
# scores of one head, if every query is [1, 0] and the first feature of the table falls off with
# distance:

# %%
distances = numpy.arange(-5, 6)
table = numpy.stack([-abs(distances), distances], axis=1).astype(float)  # (P, K) = (11, 2)
query = numpy.broadcast_to(numpy.array([1.0, 0.0]), (1, 1, 6, 2))
added = ops.relative_position_scores(query, query, table, of_key=False)

figure, ax = plt.subplots(figsize=(3.6, 3.0))
names = [f"t{i}" for i in range(6)]
pictures.grid(ax, added[0, 0], rows=names, columns=names, numbers=".0f", title="added to q · k")
pictures.show(figure)

# %% [markdown]
# ## Which language
#
# One set of weights for fifteen languages: XLM tells the model which one it reads, by a vector for
# each language, added at every token. XLM-R drops it and lets the text speak for itself; X-MOD goes
# the other way and gives each language layers of its own (notebook 10).
#
# An XLM whose every intermediate the original computed. Each token has its language; in the second
# text three of them meet:

# %%
golden = read_golden(Path("../golden/xlm/model"))
model = refimpl.load(golden.folder, dtype="float64", kernels="plain")
inputs = golden.inputs()
with refimpl.record() as taps:
    model(**inputs)

print("ids  \n", inputs["input_ids"])
print("langs\n", inputs["langs"])
parts = ("embeddings", "position_embeddings", "lang_embeddings", "layer_norm_emb")
figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.4), sharey=True)
titles = ("word", "+ position", "+ language", "normalised sum")
for ax, part, title in zip(axes, parts, titles, strict=True):
    rows = numpy.broadcast_to(taps[part], taps["embeddings"].shape)[1]
    pictures.grid(ax, rows, rows=names[:5], title=title, signed=True)
    ax.set_xticks([])
pictures.show(figure)

# %% [markdown]
# The third column shows it: tokens 0 and 1 have one language, 2 and 3 another.
#
# ## The check
#
# The sum, normalised, from the tables of the checkpoint, by hand, against the original:

# %%
# rounding: another processor shows other digits
w = model.weights
total = (
    ops.embedding(inputs["input_ids"], w["embeddings.weight"])
    + ops.embedding(numpy.arange(5)[None], w["position_embeddings.weight"])
    + ops.embedding(inputs["langs"], w["lang_embeddings.weight"])
)
by_hand = ops.layer_norm(total, **w["layer_norm_emb"], eps=model.config.layer_norm_eps)
truth = golden.part("tap")["layer_norm_emb"]
error = abs(by_hand - truth).max()
print(f"largest difference {error:.0e}")
assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. How many tokens fit into an XLM-R whose position table has 514 rows? And how many into one
#    whose `pad_token_id` is 5?
# 2. Positions are *added* to words. Could attention be told positions by two more features per
#    vector instead? What would be lost?
# 3. An X-MOD or XLM-R batch contains a text that has the piece `<pad>` in its middle, not masked.
#    What position does it get, and what do the tokens behind it get?
# 4. The rows of an embedding table that stand for padding are zero in many checkpoints. Does
#    anything depend on that?
#
# ## Solutions

# %%
# 1. rows - (pad_token_id + 1): 512, and 508.
most = [int(ops.position_ids_from_padding(numpy.full((1, n), 9), padding_idx=pad).max())
        for n, pad in ((512, 1), (508, 5))]  # fmt: skip
assert most == [513, 513]

# %%
# 2. It could: a linear map of [word; position] is a sum of two maps. Adding is the same with both
#    maps sharing their output features, so nothing is lost that a model of this width could use
#    freely, and D stays D.
words, places = numpy.ones((3, 4)), numpy.arange(6.0).reshape(3, 2)
matrix = numpy.arange(30.0).reshape(5, 6)
beside = ops.linear(numpy.concatenate([words, places], axis=1), matrix)
added = ops.linear(words, matrix[:, :4]) + ops.linear(places, matrix[:, 4:])
assert numpy.allclose(beside, added)

# %%
# 3. Position 1, padding's, though it is looked at; the tokens behind it are counted on as if it
#    were not there. The mask has no say: only ids count.
positions = ops.position_ids_from_padding(numpy.array([[0, 17, 1, 23, 2]]), padding_idx=1)
assert positions.tolist() == [[2, 3, 1, 4, 5]]

# %%
# 4. Not where padding is masked: change the row, and no token's result changes.
padded = read_golden(Path("../golden/xlm_roberta/padding_left"))
model = refimpl.load(padded.folder, dtype="float64", kernels="plain")
inputs = padded.inputs()
words = model.weights["embeddings.word_embeddings.weight"].copy()
before = model(**inputs).last_hidden_state
words[model.config.pad_token_id] *= -1.0
moved = ops.embedding(inputs["input_ids"], words)
positions = ops.position_ids_from_padding(inputs["input_ids"], padding_idx=1)
after = model(
    inputs_embeds=moved, attention_mask=inputs["attention_mask"], position_ids=positions
).last_hidden_state
tokens = inputs["attention_mask"].astype(bool)
assert numpy.allclose(before[tokens], after[tokens])
assert not numpy.allclose(before[~tokens], after[~tokens])
