# %% [markdown]
# # 08 · XLM-R whole: filling in the blank, from scratch
#
# XLM-RoBERTa (Conneau et al. 2020) is, of the four, the one that most people use: RoBERTa's
# encoder (Liu et al. 2019), one vocabulary for a hundred languages, trained to do nothing but fill
# in blanks in 2.5 terabytes of text. No language embedding, no parallel texts, no next-sentence
# task.
#
# We run it function by function, as `refimpl/models/xlm_roberta.py` has it, from ids to the
# answer; then we look at what it is trained on, and at what the layers would answer if they were
# asked early.

# %%
import inspect
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl import ops
from refimpl.models import heads, xlm_roberta
from refimpl.models.inputs import IGNORE_INDEX
from refimpl.parity.goldens import read_golden
from refimpl.replacing import plain, replace

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)

golden = read_golden(Path("../golden/xlm_roberta/from_text"))
model = refimpl.load(golden.folder, dtype="float64", kernels="plain")
tokenizer = refimpl.load_tokenizer(golden.folder)
config, w = model.config, model.weights

# %% [markdown]
# ## What is in the file
#
# A checkpoint is a list of named arrays, and the architecture file says which, and in which
# shapes. Here is the list of our small one beside that of xlm-roberta-base, which has the same
# names, twelve times the layers:

# %%
base = xlm_roberta.XLMRobertaConfig(
    vocab_size=250_002, max_position_embeddings=514, type_vocab_size=1
)
ours, theirs = (xlm_roberta.encoder_parameters(c) for c in (config, base))
for name, shape in ours.items():
    print(f"{name:52} {shape!s:10} {theirs[name]}")

count = sum(int(numpy.prod(shape)) for shape in theirs.values())
print(f"\nxlm-roberta-base: {len(theirs)} arrays, {count / 1e6:.0f} million numbers")

# %% [markdown]
# ## From ids to vectors
#
# Word, token type and position vectors are added and normalised (notebook 04). RoBERTa dropped the
# task that token types were for; one row of the table is left, the same for every token: a bias
# with a history.

# %%
text = "The lamp <mask>"
ids = numpy.array([tokenizer.encode(text)])
hidden = xlm_roberta.embeddings(w["roberta.embeddings"], config, ids, None, None, None, past=0)
print("ids   ", ids[0])
print("hidden", hidden.shape)

# %% [markdown]
# ## Through a layer
#
# The whole of a layer is this function. Read it once; there is nothing else in it.

# %%
print(inspect.getsource(xlm_roberta.layer))

# %% [markdown]
# `around` holds what a layer works with beside its input. An encoder needs the mask only:

# %%
mask = ops.attention_mask_for(hidden, None, past=0, causal=False)
around = xlm_roberta.Around(mask, None, None, None, None)
states = [hidden]
for i in range(config.num_hidden_layers):
    result = xlm_roberta.layer(w[f"roberta.encoder.layer.{i}"], config, states[-1], around)
    states.append(result.hidden)
print("states", [x.shape for x in states])

# %% [markdown]
# ## From vectors to scores
#
# The head looks at each vector alone: linear, GELU, layer norm, and then the word table again. The
# score of a piece is the dot product of what the head made with the *embedding* of that piece, plus
# a bias. The same matrix turns pieces into vectors and vectors into pieces.

# %%
logits = heads.lm_head(w["lm_head"], states[-1], eps=config.layer_norm_eps)
place = ids[0].tolist().index(tokenizer.mask_token_id)
probabilities = ops.softmax(logits[0, place])
for i in numpy.argsort(-probabilities)[:3].tolist():
    print(f"{probabilities[i]:.3f}  {tokenizer.convert_ids_to_tokens(i)}")
assert (
    w["lm_head.decoder.weight"] is w["roberta.embeddings.word_embeddings.weight"]
    or (w["lm_head.decoder.weight"] == w["roberta.embeddings.word_embeddings.weight"]).all()
)

# %% [markdown]
# In the base model this last product has 250,002 rows, and costs as much for one token as 27
# layers: more than twice the whole encoder. So one computes it for the blanks only.

# %%
D, F, V = 768, 3072, 250_002
per_layer = 4 * D * D + 2 * D * F
print(f"the decoder is worth {D * V / per_layer:.0f} layers")

# %% [markdown]
# ## What it learns from
#
# Of a training text 15 % of the tokens are chosen; of these 80 % become `<mask>`, 10 % another
# piece, and 10 % stay as they are (Devlin et al. 2019). The model must say what stood there, and
# the loss is the cross entropy at the chosen places, all others are marked -100 and do not count.
# (The 20 % are there so that the model cannot rely on seeing `<mask>`, which real texts never
# contain.)

# %%
random = numpy.random.default_rng(3)
sentence = numpy.array(tokenizer.encode("The lamp on the table"))
chosen = numpy.zeros(len(sentence), bool)
chosen[1:-1] = random.random(len(sentence) - 2) < 0.4  # more than 15 %, for so short a text
masked = numpy.where(chosen, tokenizer.mask_token_id, sentence)
labels = numpy.where(chosen, sentence, IGNORE_INDEX)
print(tokenizer.convert_ids_to_tokens(masked.tolist()))
print(labels)

out = model(input_ids=masked[None], labels=labels[None])
by_hand = -ops.log_softmax(out.logits[0])[numpy.arange(len(sentence)), sentence][chosen].mean()
print(f"loss {out.loss:.4f}, by hand {by_hand:.4f}")

# %% [markdown]
# ## Asking early
#
# The head can be put on any layer's states. In trained models the answer takes shape on the way
# (nostalgebraist 2020 calls it the *logit lens*); with weights drawn by lot we can only see that
# every layer changes its mind. A model of eleven layers and a head of its own, made for the
# picture:

# %%
deep = read_golden(Path("../golden/xlm_roberta/eleven_layers"))
deep_model = refimpl.load(deep.folder, dtype="float64", kernels="plain")
inputs = deep.inputs()
all_states = deep_model(**inputs, output_hidden_states=True).hidden_states
words = deep_model.weights["embeddings.word_embeddings.weight"]
asked = numpy.stack([ops.softmax(ops.linear(x[0, 1], words)) for x in all_states])

figure, ax = plt.subplots(figsize=(7.0, 3.0))
pictures.grid(ax, asked, title="what each layer would answer at place 1")
ax.set(xlabel="piece", ylabel="layer")
pictures.show(figure)

# %% [markdown]
# ## The check
#
# The batch of the golden, through the same functions in the same order, against transformers:

# %%
# rounding: another processor shows other digits
inputs, truth = golden.inputs(), golden.part("output")["logits"]
hidden = xlm_roberta.embeddings(
    w["roberta.embeddings"], config, inputs["input_ids"], None, None, None, past=0
)
mask = ops.attention_mask_for(hidden, inputs["attention_mask"], past=0, causal=False)
around = xlm_roberta.Around(mask, None, None, None, None)
for i in range(config.num_hidden_layers):
    hidden = xlm_roberta.layer(w[f"roberta.encoder.layer.{i}"], config, hidden, around).hidden
logits = heads.lm_head(w["lm_head"], hidden, eps=config.layer_norm_eps)
error = abs(logits - truth).max() / abs(truth).max()
print(f"relative error {error:.0e}")
assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. A multiplication and an addition are two operations. How many does one token cost in the twelve
#    layers of the base model, not counting attention's own products?
# 2. The bias of the key projection changes no answer at all. Try it. (Notebook 05 has the reason.)
# 3. How surprised is the model by a text? Mask each token in turn, take the log probability of what
#    stood there, and the exponential of minus the mean: the *pseudo-perplexity* (Salazar et al.
#    2020). What is it for a model that knows nothing?
# 4. Add the same vector to all rows of the word table. Do the answers change?
#
# ## Solutions

# %%
# 1. Two for each number of the matrices: 170 million.
print(f"{2 * 12 * per_layer / 1e6:.0f} million")
assert 2 * 12 * per_layer == 169_869_312

# %%
# 2. It adds q · b to all scores of a query: the same for every key, and softmax forgets it.
before = model(input_ids=ids).logits
key = w["roberta.encoder.layer.0.attention.self.key"]


def other_bias(x, weight, bias=None):
    """A linear map whose bias is another one in the key projection."""
    return plain("linear")(x, weight, bias + 5.0 if bias is key["bias"] else bias)


with replace(linear=other_bias):
    after = model(input_ids=ids).logits
assert numpy.allclose(before, after)

# %%
# 3. The number of pieces, V: every piece is as likely as any other.
sentence = numpy.array(tokenizer.encode("The lamp on the table"))
rows = numpy.repeat(sentence[None], len(sentence) - 2, axis=0)
blanks = numpy.arange(len(rows)), numpy.arange(1, len(sentence) - 1)
rows[blanks] = tokenizer.mask_token_id
logs = ops.log_softmax(model(input_ids=rows).logits[blanks])[blanks[0], sentence[1:-1]]
print(f"pseudo-perplexity {numpy.exp(-logs.mean()):.0f} of {config.vocab_size} pieces")
even = numpy.full(config.vocab_size, 1 / config.vocab_size)
assert numpy.isclose(numpy.exp(-numpy.log(even)[sentence[1:-1]].mean()), config.vocab_size)

# %%
# 4. As scores they do not: each score gets the same number more, h · v. As inputs they do: the
#    vectors that go in are others. (Unless the vector is the same number in all features, which the
#    layer norm takes away.)
row = states[-1][0, place]
shift = random.standard_normal(config.hidden_size)
table = w["roberta.embeddings.word_embeddings.weight"]
assert numpy.allclose(
    ops.softmax(ops.linear(row, table)), ops.softmax(ops.linear(row, table + shift))
)
