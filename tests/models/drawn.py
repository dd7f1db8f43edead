"""What tests of the models draw: texts, vectors, and models of every family with random weights."""

import zlib
from dataclasses import replace
from functools import cache
from unittest import mock

import numpy
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refimpl.checkpoints.weights import Weights
from refimpl.models.model import ARCHITECTURES, Model, load
from refimpl.parity.goldens import bundled
from tests.compare import assert_same, assert_ulps

VOCABULARY, ROOM = 29, 14
words = st.integers(3, VOCABULARY - 1)  # no padding of any family
rarely = settings(max_examples=40)

FAMILIES = ("xlm", "xlm_roberta", "xlm_roberta_xl", "xmod")
PREFIX = {"xlm": "XLM", "xlm_roberta": "XLMRoberta", "xlm_roberta_xl": "XLMRobertaXL",
          "xmod": "Xmod"}  # fmt: skip
HEADS = ("Model", "ForMaskedLM", "WithLMHeadModel", "ForSequenceClassification",
         "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering",
         "ForQuestionAnsweringSimple")  # fmt: skip
CLASSES = [(f, PREFIX[f] + head) for f in FAMILIES for head in HEADS
           if PREFIX[f] + head in ARCHITECTURES]  # fmt: skip

# Where two runs multiply matrices of different sizes, the matrix library adds up the products in
# another order, and two layers carry that on. Largest seen in 12,000 draws: 38 ulps.
OTHER_ORDER = 128


@st.composite
def texts(draw, ids=words, longest=ROOM):
    """Ids (B, S) without padding, and a mask (B, S) that leaves each text something to look at."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, longest)))
    mask = draw(arrays(bool, shape))
    mask[:, draw(st.integers(0, shape[1] - 1))] = True
    return draw(arrays("int64", shape, elements=ids)), mask


@st.composite
def padded(draw, shape=None):
    """Ids (B, S) and any mask: padding left, right, between tokens; whole texts of it, or none."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, ROOM))) if shape is None else shape
    return draw(arrays("int64", shape, elements=words)), draw(arrays(bool, shape))


@st.composite
def padded_for(draw, architecture, texts):
    """Ids and a mask for a class, of some ``texts``: (B, S), and (B, C, S) where it has choices."""
    choices = [draw(st.integers(1, 3))] if architecture.endswith("MultipleChoice") else []
    return draw(padded(shape=(draw(texts), *choices, draw(st.integers(5, ROOM)))))


def vectors(shape, seed, width=12):
    return numpy.random.default_rng(seed).standard_normal((*shape, width))


def languages(family, ids):
    if family == "xlm":
        return {"langs": ids % 4}
    return {"lang_ids": ids[..., 0] % 2} if family == "xmod" else {}


def labels(model, ids, counted):
    """Return arguments that ask for a loss, over the places ``counted``."""
    name = model.architecture
    if name.endswith("Model") and not name.endswith("LMHeadModel"):
        return {}
    if "QuestionAnswering" in name:
        return {"start_positions": ids[:, 0] % 2, "end_positions": ids[:, -1] % 2}
    if name.endswith(("SequenceClassification", "MultipleChoice")):
        return {"labels": ids.reshape(len(ids), -1)[:, 0] * 0}
    return {"labels": numpy.where(counted, ids % 2, -100)}


# --- models ---------------------------------------------------------------------------------------


@cache
def build(family, architecture=None, dtype="float64", **values):
    """Return a model of the sizes of the family's first case, with other values in its config.

    The weights are random, those of each tensor by its name.
    """
    original = load(bundled() / family / "model")
    config = replace(original.config, **values)
    name = architecture or original.architecture
    entry = ARCHITECTURES[name]
    shapes = entry.parameters(config)
    tensors = {tensor: random_tensor(tensor, shape) for tensor, shape in shapes.items()}
    for tied, source in entry.rules(config).ties.items():
        tensors[tied] = tensors[source]
    return with_tensors(
        Model(name, config, None, original.backend, dtype, "plain"),
        {tensor: x.astype(dtype) for tensor, x in tensors.items()},
    )


def random_tensor(name, shape):
    draw = numpy.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return 1 + draw / 4 if len(shape) == 1 and name.endswith("weight") else draw / 2


def tensors_of(model):
    """Return a model's weights by name."""
    shapes = ARCHITECTURES[model.architecture].parameters(model.config)
    return {name: model.weights[name] for name in shapes}


def with_tensors(model, tensors):
    """Return the model with other weights."""
    return replace(model, weights=Weights(tensors))


# --- how results are compared ---------------------------------------------------------------------


def in_order():
    """Within it, products and sums are added up one after another, whatever the sizes."""

    def matmul(a, b):
        total = numpy.zeros((), a.dtype)
        for k in range(a.shape[-1]):
            total = total + a[..., :, k, None] * b[..., None, k, :]
        return total

    def add(x, axis=None, keepdims=False):
        if axis is None:  # a loss
            return add(numpy.reshape(x, (1, -1)), axis=1)[0]
        assert axis in (1, -1)
        total = numpy.add.accumulate(x, axis=axis)
        last = numpy.take(total, [-1], axis=axis)
        return last if keepdims else numpy.squeeze(last, axis)

    return mock.patch.multiple(numpy, matmul=matmul, sum=add)


def assert_changes_nothing(actual, expected):
    """``actual()`` is ``expected()`` bit for bit with sums in order; else to within their order."""
    with in_order():
        assert_same(actual(), expected())
    truth = expected()
    assert_ulps(actual(), truth, ulps=OTHER_ORDER, of=numpy.abs(truth).max())
