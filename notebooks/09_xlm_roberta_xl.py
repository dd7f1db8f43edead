# %% [markdown]
# # 09 · XLM-R-XL: what changes at 3.5 billion
#
# Take XLM-R, leave the vocabulary, the text it learns from and the blanks that it fills in as they
# are, and make it larger: 36 layers of 2560 features, 3.5 billion numbers (XL), or 48 of 4096,
# 10.7 billion (XXL). Two things change. The layers are put together in another order, which is
# easier to train when they are many (Xiong et al. 2020). And the numbers themselves become the
# difficulty: where to put them, and how few bits one may spend on each.
#
# *Goyal et al. 2021, Larger-Scale Transformers for Multilingual Masked Language Modeling. Code:
# `refimpl/models/xlm_roberta_xl.py`, `refimpl/checkpoints/streaming.py`.*

# %%
import json
import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures
from safetensors.numpy import save_file

import refimpl
from refimpl import ops
from refimpl.checkpoints.registry import read_registry
from refimpl.checkpoints.weights import Weights
from refimpl.models import xlm_roberta, xlm_roberta_xl
from refimpl.models.model import ARCHITECTURES
from refimpl.parity.goldens import read_golden
from refimpl.taps import edit

pictures.begin()
numpy.set_printoptions(precision=3, suppress=True)


def open_case(name, dtype="float64", stream=False):
    """A golden, and its model."""
    golden = read_golden(Path("../golden") / name)
    return golden, refimpl.load(golden.folder, dtype=dtype, kernels="plain", stream=stream)


# %% [markdown]
# ## What is the same
#
# The text becomes ids as it does for XLM-R: one SentencePiece model serves both, and X-MOD too (the
# registry of published numbers keeps what holds for several checkpoints in groups). Only the table
# is longer: its length was rounded up to a multiple of 128. There are 250,002 pieces, and the
# rows behind them belong to none.

# %%
registry = read_registry()
group = registry.groups["vocabulary of XLM-R"]
xl = registry.find("facebook/xlm-roberta-xl")
base = registry.find("FacebookAI/xlm-roberta-base")
print("XL has XLM-R's vocabulary:", {xl.id, base.id} <= set(group))
for checkpoint in (base, xl):
    rows = checkpoint.config["vocab_size"]
    print(f"{checkpoint.id:28} {rows} rows, 128 times {rows / 128:g}")
print("rows without a piece:", xl.config["vocab_size"] - base.config["vocab_size"])

# %% [markdown]
# ## What is another
#
# Give both architectures the same sizes and compare the lists of their tensors:

# %%
sizes = {
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
after = xlm_roberta.encoder_parameters(xlm_roberta.XLMRobertaConfig(**sizes))
before = xlm_roberta_xl.encoder_parameters(xlm_roberta_xl.XLMRobertaXLConfig(**sizes))
for title, names in (("XLM-R only", after.keys() - before), ("XL only", before.keys() - after)):
    print(title, *(name for name in sorted(names) if name.endswith("weight")), sep="\n  ")

# %% [markdown]
# All of the difference is norms. XLM-R normalises the embeddings, and then the result of each part
# of a layer. XL normalises what goes *into* each part, nothing on the way, and once at the very end
# (`encoder.LayerNorm`). Notebook 06 has the code of both side by side, and what it does to
# derivatives.
#
# The end norm has a place of its own in what the model returns. Between the layers `hidden_states`
# are the bare stream; the last one is shown normalised, as in the original:

# %%
golden, model = open_case("xlm_roberta_xl/model")
with refimpl.record() as taps:
    out = model(**golden.inputs(), output_hidden_states=True)
for i, state in enumerate(out.hidden_states):
    token = state[0, 0]
    print(f"hidden_states[{i}]  mean {token.mean():6.3f}, spread {token.std():.3f}")
assert (out.hidden_states[-1] == out.last_hidden_state).all()
assert (out.last_hidden_state == taps["encoder.LayerNorm"]).all()

# %% [markdown]
# ## The stream is a sum
#
# Because nothing is normalised on the way, what arrives at the end *is* the embeddings plus all
# that any layer ever added. Two contributions a layer:

# %%
golden, deep = open_case("xlm_roberta_xl/eleven_layers")
with refimpl.record() as taps:
    states = deep(**golden.inputs(), output_hidden_states=True).hidden_states

added = {}
for i in range(11):
    added[f"attention {i}"] = taps[f"encoder.layer.{i}.attention.output.dense"]
    added[f"feed-forward {i}"] = taps[f"encoder.layer.{i}.output.dense"]
total = states[0] + sum(added.values())
end_norm = deep.weights["encoder.LayerNorm"]
last = ops.layer_norm(total, **end_norm, eps=deep.config.layer_norm_eps)
assert numpy.allclose(last, states[-1])

running = numpy.cumsum([states[0], *added.values()], axis=0)[:, 0, 1]  # of the second token
figure, ax = plt.subplots(figsize=(7.2, 3.0))
ax.plot(running, "-", label=[f"feature {i}" for i in range(4)])
ax.set(xlabel="contributions added", ylabel="the stream at one token")
ax.legend(ncols=2)
pictures.show(figure)

# %% [markdown]
# A sum of many terms grows. If they pointed in directions drawn by lot, its length would grow with
# the square root of their number. A model as deep as XL, 64 features wide, with such weights:

# %%
WIDE = {"num_hidden_layers": 36, "hidden_size": 64, "num_attention_heads": 4,
        "intermediate_size": 256, "vocab_size": 50}  # fmt: skip


def by_lot(shapes, seed=0):
    """Weights such that a linear map keeps the size of what goes in; norms that do nothing more."""
    random = numpy.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        if "LayerNorm" in name or "layer_norm" in name:
            arrays[name] = numpy.full(shape, float(name.endswith("weight")))
        elif "embeddings" in name:
            arrays[name] = random.standard_normal(shape)
        else:
            arrays[name] = random.standard_normal(shape) / numpy.sqrt(shape[-1])
    return Weights(arrays)


ids = numpy.arange(5, 25)[None]
mask = numpy.ones_like(ids, dtype=bool)
lengths = {}
for title, run, config, parameters in (
    ("XLM-R: norm after", xlm_roberta.xlm_roberta, xlm_roberta.XLMRobertaConfig(**WIDE),
     xlm_roberta.encoder_parameters),
    ("XL: norm before", xlm_roberta_xl.xlm_roberta_xl, xlm_roberta_xl.XLMRobertaXLConfig(**WIDE),
     xlm_roberta_xl.encoder_parameters),
):  # fmt: skip
    out = run(by_lot(parameters(config)), config, input_ids=ids, attention_mask=mask,
              output_hidden_states=True)  # fmt: skip
    lengths[title] = [numpy.linalg.norm(x, axis=-1).mean() for x in out.hidden_states[:36]]

figure, ax = plt.subplots(figsize=(7.0, 3.0))
for title, values in lengths.items():
    ax.plot(values, label=title)
stream = lengths["XL: norm before"]
guess = numpy.sqrt(stream[0] ** 2 + numpy.arange(36) / 35 * (stream[-1] ** 2 - stream[0] ** 2))
ax.plot(guess, "--", color=pictures.GREY, label="a square root through its ends")
ax.set(xlabel="layer", ylabel="length of the stream", ylim=(0, None))
ax.legend()
pictures.show(figure)

# %% [markdown]
# So the late layers of a deep pre-norm model add to a stream that is long already: each changes it
# by less. (Trained weights do not point anywhere by lot, and how fast it grows is theirs. That
# nothing brings it back before the end is the architecture's.)
#
# ## Where 3.5 billion numbers are
#
# `encoder_parameters` lists every tensor with its shape, so one can count without a file. An
# attention has four matrices of D x D, a feed-forward network two of D x F with F = 4 D: 12 D² a
# layer, and a word table of V D.

# %%
kinds = {"words": "word_embeddings", "attention": ".attention.", "feed-forward": "dense"}
counts = {}
for checkpoint in (base, registry.find("FacebookAI/xlm-roberta-large"), xl,
                   registry.find("facebook/xlm-roberta-xxl")):  # fmt: skip
    entry = ARCHITECTURES[checkpoint.architecture]
    known = {name: checkpoint.config[name] for name in (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
        "intermediate_size", "max_position_embeddings", "type_vocab_size")}  # fmt: skip
    config = entry.config(**known)
    shapes = entry.parameters(config)
    del shapes["lm_head.decoder.weight"]  # the word table again, by its other name
    whole = {name: int(numpy.prod(shape)) for name, shape in shapes.items()}
    here = dict.fromkeys([*kinds, "the rest"], 0)
    for name, count in whole.items():
        layers = ".layer." in name or "word_embeddings" in name
        here[next((k for k, part in kinds.items() if layers and part in name), "the rest")] += count
    counts[checkpoint.id.split("-")[-1]] = here
    L, D = config.num_hidden_layers, config.hidden_size
    print(f"{checkpoint.id:28} {sum(whole.values()):14,}  published: {checkpoint.claimed:14}"
          f"12 L D² = {12 * L * D * D / sum(whole.values()):.0%} of it")  # fmt: skip
    assert sum(whole.values()) == checkpoint.parameters

figure, ax = plt.subplots(figsize=(7.0, 2.6))
left = numpy.zeros(4)
for kind in (*kinds, "the rest"):
    share = numpy.array([c[kind] / sum(c.values()) for c in counts.values()])
    ax.barh(list(counts), share, left=left, label=kind)
    left += share
ax.invert_yaxis()
ax.set(xlabel="share of all numbers", xlim=(0, 1))
ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=4)
pictures.show(figure)

# %% [markdown]
# (The sum is that of transformers' classes, counted on them and kept in the registry; the published
# numbers are those of fairseq's README. Its "250M" for base is less than the model has.)
#
# More than two thirds of the base model are a dictionary. XL is nearly all layers: the table grows
# with D, a layer with D². That is what the larger sizes buy.
#
# ## Where to put them
#
# A number takes 8, 4 or 2 bytes:

# %%
print(f"{'':8}{'float64':>12}{'float32':>12}{'float16':>12}{'one layer, float32':>22}")
for name, here in counts.items():
    whole = sum(here.values())
    layers = {"base": 12, "large": 24, "xl": 36, "xxl": 48}[name]
    layer = (here["attention"] + here["feed-forward"]) / layers
    print(f"{name:8}" + "".join(f"{whole * size / 1e9:9.1f} GB" for size in (8, 4, 2))
          + f"{layer * 4 / 1e9:19.2f} GB")  # fmt: skip

# %% [markdown]
# XL in float32 wants 14 GB. But it need not be there all at once:
# a layer is used when its turn comes, and then not again before the next text. With `stream=True`
# no weight is kept. Each is read when it is used, while the layer before it still computes; of the
# word table only the rows in use, and when it comes back as the decoder, in blocks. The numbers are
# the same:

# %%
golden, kept = open_case("xlm_roberta_xl/masked_lm")
_, streamed = open_case("xlm_roberta_xl/masked_lm", stream=True)
a, b = (model(**golden.inputs()).logits for model in (kept, streamed))
print("equal to the last bit:", bool((a == b).all()))
assert (a == b).all()

# %% [markdown]
# What it saves can be seen on a model of twelve layers that we write for the purpose, 41 MB of
# weights by lot. (`tracemalloc` counts what NumPy asks for. float64, so that the file's float32
# numbers must be converted and cannot just be mapped.)

# %%
# rounding: another processor shows other digits
made = {"num_hidden_layers": 12, "hidden_size": 256, "num_attention_heads": 4,
        "intermediate_size": 1024, "vocab_size": 3000}  # fmt: skip
name = "XLMRobertaXLForMaskedLM"
config = ARCHITECTURES[name].config(**made)
shapes = ARCHITECTURES[name].parameters(config)
del shapes["lm_head.decoder.weight"]  # tied: the file need not hold it
arrays = by_lot(shapes)
peaks, logits = {}, {}
with tempfile.TemporaryDirectory() as folder:
    numbers = {name: arrays[name].astype(numpy.float32) for name in shapes}
    save_file(numbers, Path(folder, "model.safetensors"))
    Path(folder, "config.json").write_text(json.dumps({"architectures": [name], **made}))
    for stream in (False, True):
        tracemalloc.start()
        big = refimpl.load(folder, dtype="float64", kernels="plain", stream=stream)
        logits[stream] = big(input_ids=ids).logits
        peaks[stream] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
layer = sum(x.size * 8 for key, x in numbers.items() if ".layer.3." in key) / 1e6
print(f"kept {peaks[False]:.0f} MB, streamed {peaks[True]:.0f} MB; one layer is {layer:.1f} MB")
assert (logits[False] == logits[True]).all()
assert peaks[True] < peaks[False] / 3

# %% [markdown]
# Two layers are there at once, the one that computes and the one that is being read. Models of the
# true sizes, made for the measurement, ran in 0.53 GB (XL) and 1.17 GB (XXL) instead of 14 and 43
# (`python benchmarks/streaming.py`; "Checkpoints" has the account). The price is time: the weights
# are read anew for every call, so give it many texts at once.
#
# ## How few bits
#
# Half the bytes are half the memory, and half of what must be read for every text. float16 has 11
# significant bits and ends at 65504. A stream that only grows comes nearer to that end than one
# that is normalised twice a layer, and on its way it gets coarser: beside a large number, small
# ones are not heard.

# %%
for size in (1, 100, 2048, 10_000, 40_000):
    number = numpy.float16(size)
    step = float(numpy.spacing(number))
    print(f"at {size:6} steps are {step:9.6f}; adding {0.49 * step:9.6f} changes nothing:",
          number + numpy.float16(0.49 * step) == number)  # fmt: skip

# %% [markdown]
# And at the end of the range? Trained transformers have a few features that are far larger than all
# others (Kovaleva et al. 2021, Dettmers et al. 2022). Suppose that every layer adds 8000 to one and
# the same feature. We put that into the two models of eleven layers, in float16 and in float64, by
# editing the tap of the feed-forward's last matrix, and look at the stream behind each layer.


# %%
def pushed(family, dtype):
    """The largest number in the stream after each layer, if each adds 8000 to one feature."""
    golden, model = open_case(f"{family}/eleven_layers", dtype)

    def push(name, x):
        if not name.endswith(".output.dense") or "attention" in name:
            return x
        x = x.copy()
        x[..., 0] += 8000
        return x

    with numpy.errstate(all="ignore"), edit(push):
        out = model(**golden.inputs(), output_hidden_states=True)
    return [abs(x).max() for x in out.hidden_states[:11]], out.last_hidden_state


figure, ax = plt.subplots(figsize=(7.0, 3.2))
for family, colour in (("xlm_roberta", pictures.BLUE), ("xlm_roberta_xl", pictures.ORANGE)):
    for dtype, style in (("float64", ":"), ("float16", "-")):
        sizes, end = pushed(family, dtype)
        sizes = numpy.array([size if numpy.isfinite(size) else numpy.nan for size in sizes], float)
        ax.semilogy(sizes, style, color=colour, label=f"{family}, {dtype}")
        print(f"{family:15} {dtype}  largest finite {numpy.nanmax(sizes):6.0f}"
              f"  the end is finite: {numpy.isfinite(end).all()}")  # fmt: skip
ax.axhline(65504, color=pictures.RED, linewidth=1)
ax.text(0, 80_000, "65504: the end of float16", color=pictures.RED)
ax.set(xlabel="layer", ylabel="largest number in the stream", ylim=(1, 1e6))
ax.legend(loc="center right")
pictures.show(figure)

# %% [markdown]
# XLM-R's numbers stay small: each norm brings the feature back. XL's stream reaches infinity, the
# next norm subtracts an infinite mean from it, and infinity less infinity is NaN, for that token
# and, by attention, for all. How large the features of the *published* XL and XXL get, no cell
# here can show, and you should not believe anyone without a measurement. What is certain is the
# shape of the risk: it grows with depth, and in no other model of the family but X-MOD's pre-norm
# ones.
#
# Three ways out. float32 for the stream alone, float16 for the matrices. bfloat16, which has
# float32's range and 8 significant bits, so that nothing overflows and everything is coarser. Or
# float32 throughout, streamed. (`refimpl.load(..., dtype="float16")` is plain float16: what the
# layers compute, as it is. Four operations widen inside, among them the layer norm, where squares
# would overflow: see "Numbers".)
#
# ## The check
#
# The model of eleven layers, kept and streamed, and the masked language model, against the
# original:

# %%
# rounding: another processor shows other digits
for case in ("eleven_layers", "model", "masked_lm"):
    for stream in (False, True):
        golden, model = open_case(f"xlm_roberta_xl/{case}", stream=stream)
        with refimpl.record() as taps:
            model(**golden.inputs())
        truth = {name: x for name, x in golden.part("tap").items() if x.dtype.kind == "f"}
        error = max(abs(taps[name] - x).max() / abs(x).max() for name, x in truth.items())
        print(f"{case:14} {'streamed' if stream else 'kept':9} {len(truth):3} values {error:.0e}")
        assert error < 1e-12

# %% [markdown]
# ## Exercises
#
# 1. At which width D do the layers of a model of 12 layers hold as many numbers as the word table
#    of 250,002 pieces? What is D in the base model?
# 2. Which single contribution of the eleven layers would be missed most? Take each away in turn
#    (the stream is a sum!) and see how far the end moves. Is that the same as running the model
#    without that part?
# 3. A port forgets the end norm. Do the middle hidden states show it? Does the softmax of the
#    masked language model?
# 4. A feature of the stream stands at 40,000 in float16. From which size on does a contribution
#    count at all? And in bfloat16, with 8 significant bits?
#
# ## Solutions

# %%
# 1. 12 · 12 D² = 250,002 D, so D = 1736. The base model has 768: its layers are the smaller part.
D = 250_002 / (12 * 12)
print(f"{D:.0f}")
assert round(12 * 12 * D * D) == round(250_002 * D)


# %%
# 2. They part: without a part, all later parts read another stream and add something else.
def without(tap):
    """The end of a run in which one contribution is nothing."""
    with edit(lambda name, x: 0 * x if name == tap else x):
        return deep(**read_golden(deep_folder).inputs()).last_hidden_state


deep_folder = Path("../golden/xlm_roberta_xl/eleven_layers")
by_sum, by_run = {}, {}
for part, x in added.items():
    kind, i = part.split()
    tap = f"encoder.layer.{i}." + ("attention." if kind == "attention" else "") + "output.dense"
    left = ops.layer_norm(total - x, **end_norm, eps=deep.config.layer_norm_eps)
    by_sum[part] = numpy.linalg.norm(left - last)
    by_run[part] = numpy.linalg.norm(without(tap) - last)
for title, moved in (("out of the sum", by_sum), ("out of the run", by_run)):
    part = max(moved, key=moved.get)
    print(f"{title}: {part}, moves the end by {moved[part]:.2f}")
assert numpy.isclose(by_sum["feed-forward 10"], by_run["feed-forward 10"])
assert not numpy.isclose(by_sum["attention 0"], by_run["attention 0"])

# %%
# 3. They do not: they come before it. The scores do: they are made of the states behind it.
golden, model = open_case("xlm_roberta_xl/masked_lm")
out = model(**golden.inputs(), output_hidden_states=True)
with refimpl.record() as taps:
    model(**golden.inputs())
bare = (
    taps["roberta.encoder.layer.0.attention.output.dense"]
    + out.hidden_states[0]
    + taps["roberta.encoder.layer.0.output.dense"]
)
with edit(lambda name, x: bare if name == "roberta.encoder.LayerNorm" else x):
    port = model(**golden.inputs(), output_hidden_states=True)
assert (port.hidden_states[0] == out.hidden_states[0]).all()
moved = abs(ops.softmax(port.logits) - ops.softmax(out.logits)).max()
print(f"a probability moves by up to {moved:.2f}")
assert moved > 0.01

# %%
# 4. From half a step on: steps of float16 are 32 there. With 8 bits instead of 11 they are 256.
number = numpy.float16(40_000)
step = float(numpy.spacing(number))
print(f"float16 {step / 2:g}, bfloat16 {step * 2 ** (11 - 8) / 2:g}")
assert number + numpy.float16(15.9) == number
assert number + numpy.float16(16.1) > number
