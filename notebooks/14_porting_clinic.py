# %% [markdown]
# # 14 · The porting clinic
#
# Four ports of XLM-R come in. Each runs, each answers, and each owner wants to know: is it right,
# and if not, what is wrong? We have no look at their code. All they bring is a *dump*: a file with
# the numbers that they computed on inputs that we gave them.
#
# This is the porter's day with `refimpl compare` and `refimpl diagnose`, here through the functions
# behind them. (The patients are made by switching known mistakes on in the reference, which is what
# the catalogue is: `docs/faults.md`. How a real port writes its dump is told in `docs/porting.md`.)

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pictures

import refimpl
from refimpl.parity.comparison import sentence
from refimpl.parity.dumps import Dump, write_dump
from refimpl.parity.faults import CATALOGUE
from refimpl.parity.floors import find_arithmetic
from refimpl.parity.goldens import read_golden
from refimpl.parity.reference import run_reference

pictures.begin()

golden = read_golden(Path("../golden/xlm_roberta/from_text"))
exact = refimpl.load(golden.folder, dtype="float64", kernels="plain")
single = refimpl.load(golden.folder, dtype="float32", kernels="plain")
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## The first patient: "it works when I try it"
#
# A float32 port, which shows every intermediate. On single texts its answers are the original's,
# in a batch they are not, and how far off they are says nothing about why.

# %%
first_patient = run_reference(single, golden.inputs(), [CATALOGUE["mask_ignored"]])
write_dump(folder / "first.safetensors", first_patient)

truth = golden.part("output")["logits"]
theirs = first_patient.outputs["logits"]
for tolerance in (1e-5, 1e-3, 1e-1, 1.0):
    print(f"allclose within {tolerance:<6}", numpy.allclose(theirs, truth, atol=tolerance))

# %%
# rounding: another processor shows other digits
report = refimpl.compare(golden.folder, folder / "first.safetensors")
print(*sentence(report).split("; "), sep="\n")
print(report.first.where)

# %% [markdown]
# `compare` says which value parted *first*, and that everything in front of it is within rounding.
# What comes after is wrong too, but that is inherited: no news. The errors along the computation,
# in units of what honest implementations are off by:


# %%
# rounding: another processor shows other digits
def course(report):
    """Draw how far off each value is, in floors: as it came, and by its own operation alone."""
    rows = [v for v in report.verdicts if v.kind == "tap" and v.units is not None]
    figure, ax = plt.subplots(figsize=(7.2, 3.6))
    place = numpy.arange(len(rows))
    ax.barh(place, [max(v.units, 0.01) for v in rows], left=0.01, color=pictures.BLUE)
    own = [(i, v.introduced) for i, v in zip(place, rows, strict=True) if v.introduced is not None]
    ax.plot([max(x, 0.02) for _, x in own], [i for i, _ in own], "o", color=pictures.ORANGE)
    ax.axvline(report.floors.multiplier, color=pictures.RED, linestyle="--")
    ax.set_yticks(place, [v.name.removeprefix("roberta.") for v in rows], fontsize=7)
    ax.set(xscale="log", xlim=(0.01, None))
    ax.set_xlabel("floors: all (bar), own (dot); no rounding beyond the dashed line")
    ax.invert_yaxis()
    pictures.show(figure)


course(report)

# %% [markdown]
# The bars stay long to the end, and the dots stay left of the line but for one place: every
# operation is right except that one. `diagnose` tries its catalogue there.

# %%
# rounding: another processor shows other digits
found = refimpl.diagnose(exact, first_patient)
for answer in found.answers:
    print(*answer.names, f"({answer.before:.0e} floors without, {answer.after:.1f} with)")
explanations = {answer.faults[0].name for answer in found.answers}
print(CATALOGUE["mask_ignored"].title)

# %% [markdown]
# The mask is not used (or not even handed on: two ways to make the same mistake, which no input can
# tell apart). The shorter text of the batch looks at its padding. With one text at a time there is
# no padding, and nothing shows.
#
# ## The second patient: logits and nothing else
#
# A service behind a wall: text in, logits out. No taps, so there is no first value to find. But
# the whole of a mistake goes through to the end, and one can run all known mistakes and see which
# brings the reference to these very logits.

# %%
whole = run_reference(single, golden.inputs(), [CATALOGUE["gelu_tanh"]])
second_patient = Dump(taps={}, outputs=whole.outputs, inputs=whole.inputs, about={})
print(f"largest difference {abs(whole.outputs['logits'] - truth).max():.1e}")

found = refimpl.diagnose(exact, second_patient)
print(*found.answers[0].names)

# %% [markdown]
# The other GELU, told from a difference that most gates let pass. Where two mistakes explain the
# numbers equally well, both are named; where none does, none is: a guess would cost the owner a
# day.
#
# ## The third patient: two things at once
#
# Mistakes keep company. This port was written from the paper's text: GELU by the tanh formula, and
# the layer norm's eps at 1e-12. `compare` names the first one only; the second hides behind it.

# %%
both = [CATALOGUE["norm_eps_1e_12"], CATALOGUE["gelu_tanh"]]
third_patient = run_reference(single, golden.inputs(), both)
report = refimpl.compare(golden.folder, third_patient)
print("first:", report.first.name)
found = refimpl.diagnose(exact, third_patient)
print(sorted(found.faults))

# %% [markdown]
# ## The fourth patient: is it ill at all?
#
# A port in bfloat16. Its logits are far from the truth, `allclose` says, and the owner has been
# looking for the bug for a week.

# %%
# rounding: another processor shows other digits
arithmetic = find_arithmetic("bfloat16")
narrow = arithmetic.computing(arithmetic.weights(exact))
fourth_patient = run_reference(narrow, golden.inputs())
off = abs(fourth_patient.outputs["logits"] - truth).max()
print(f"largest difference {off:.2f}")

report = refimpl.compare(golden.folder, fourth_patient, arithmetic="bfloat16")
print(*sentence(report).split("; "), sep="\n")

# %% [markdown]
# Nothing. It is as far off as correct programs are that keep eight bits of each number, at every
# single value. That too is a diagnosis, and perhaps the most useful one.
#
# ## The check
#
# The instrument must not call the original ill. The golden *is* a dump: of transformers, in
# float64. And what was named above is what was done:

# %%
# rounding: another processor shows other digits
report = refimpl.compare(golden.folder, golden.folder / "golden.safetensors")
print(sentence(report).split(" (")[0])
assert report.held
assert "mask_ignored" in explanations
assert refimpl.diagnose(exact, second_patient).faults == ("gelu_tanh",)
assert set(found.faults) == {"norm_eps_1e_12", "gelu_tanh"}

# %% [markdown]
# ## Exercises
#
# 1. The first patient's owner sends a dump of the first text only. What does `diagnose` say? Which
#    inputs should one ask a port for?
# 2. Make a patient whose mistake is in no catalogue: halve one row of one weight. What do `compare`
#    and `diagnose` say?
# 3. A port shows its scores as (B·H, S, T), under the name `att`. What does `compare` make of the
#    unknown name? And of a tensor that is nothing of ours?
#
# ## Solutions

# %%
# 1. Nothing is wrong with it: the text has no padding, and no mistake about padding can show. Ask
#    for padding (left, right, inside), a text of one token, a text of full length: the bundled
#    goldens have them all.
alone = Dump(
    taps={name: x[:1] for name, x in first_patient.taps.items()},
    outputs={name: x[:1] for name, x in first_patient.outputs.items()},
    inputs={name: x[:1] for name, x in first_patient.inputs.items()},
    about={},
)
assert refimpl.diagnose(exact, alone).right

# %%
# 2. compare finds the place, diagnose abstains: it has no name for it.
weights = {name: x.copy() for name, x in whole.taps.items()}
key = "roberta.encoder.layer.0.attention.self.value"
weights[key][..., 3] *= 0.5  # what a halved row (and bias) of the value projection makes
broken = Dump(taps=weights, outputs=whole.outputs, inputs=whole.inputs, about={})
assert refimpl.compare(golden.folder, broken).first.name == key

# %%
# 3. It recognises the tensor by its numbers, in whichever order its axes lie, and says so. (A
#    tensor that is like no tap, or like two, is left without a name.)
scores = whole.taps["roberta.encoder.layer.0.attention.self.scores"]
odd = {"att": scores.reshape(-1, 5, 5), "noise": scores[::-1, ::-1] + 1.0}
report = refimpl.compare(
    golden.folder, Dump(taps=odd, outputs=whole.outputs, inputs=whole.inputs, about={})
)
recognised = next(v for v in report.verdicts if v.name.endswith("self.scores"))
print(recognised.note)
assert "att" in recognised.note
assert "noise" in report.unknown
