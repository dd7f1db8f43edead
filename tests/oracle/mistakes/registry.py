"""The mistakes that the tests make in the original: each a function, called as its fault is."""

from typing import Any, NamedTuple

import numpy

from tests.oracle.mistakes.port import ALL, PREFIX
from tests.oracle.originals import Draw

ROBERTA_IDS = [[0, 17, 5, 23, 2], [0, 28, 2, 1, 1], [1, 1, 0, 9, 2]]
XLM_IDS = [[0, 17, 5, 23, 1], [0, 28, 1, 2, 2], [2, 2, 0, 9, 1]]
MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 1, 1]]
LANGS = [[3, 3, 3, 3, 3], [0, 0, 1, 1, 2], [1, 1, 1, 2, 2]]
SHOW = {"output_hidden_states": True, "output_attentions": True}
VECTORS = numpy.random.default_rng(6).standard_normal((3, 5, 12))

XLM = ("xlm",)
XL = ("xlm_roberta_xl",)
XMOD = ("xmod",)
POST_NORM = ("xlm", "xlm_roberta", "xmod")
PRE_NORM = {"pre_norm": True}
DECODER = {"is_decoder": True, "use_cache": False}
RELATIVE = {"position_embedding_type": "relative_key"}
BOTH = {"position_embedding_type": "relative_key_query"}


class Mistake(NamedTuple):
    """How a fault is made in the original: by what, in which model, in which call."""

    make: Any  # Port -> None
    head: str
    config: dict
    inputs: dict  # beside the usual ones
    without: tuple  # usual ones that are not given


MISTAKES: dict[tuple[str, str, int], Mistake] = {}  # fault, family, which one of several


def mistake(families=ALL, head="Model", config=None, inputs=None, without=(), name=None):
    """Register a function that makes the mistake it is called after in a ``Port``."""

    def register(make):
        fault = name or make.__name__
        for family in families:
            number = sum(key[:2] == (fault, family) for key in MISTAKES)
            MISTAKES[fault, family, number] = Mistake(
                make, head, config or {}, inputs or {}, without
            )
        return make

    return register


def draw(family, of):
    """A model of two layers, and a call of it with padding on both sides."""
    from golden.make.xlm import SIZES as XLM_SIZES
    from golden.make.xlm_roberta import SIZES

    sizes = XLM_SIZES if family == "xlm" else SIZES
    more = {"languages": ["en_XX", "de_DE", "sw_KE"]} if family == "xmod" else {}
    call = {"input_ids": XLM_IDS if family == "xlm" else ROBERTA_IDS, "attention_mask": MASK}
    call |= {"xlm": {"langs": LANGS}, "xmod": {"lang_ids": [1, 0, 2]}}.get(family, {})
    call = {**call, **SHOW, **of.inputs}
    kept = {n: numpy.asarray(x) if isinstance(x, list) else x for n, x in call.items()}
    kept = {n: x for n, x in kept.items() if n not in of.without or n in of.inputs}
    return Draw(PREFIX[family], of.head, {**sizes, **more, **of.config}, kept)
