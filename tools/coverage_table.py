"""Writes the tables of class x switch in docs/coverage.md from the goldens themselves.

``python tools/coverage_table.py`` rewrites what stands between the markers of that page;
``--check`` only says, by its exit code, whether it is up to date. A switch is recognised in what a
case's config.json and golden.json hold, not by the case's name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from refimpl.checkpoints.safetensors_file import SafetensorsFile
from refimpl.models.model import ARCHITECTURES
from refimpl.parity.goldens import find_goldens

PAGE = Path(__file__).resolve().parents[1] / "docs" / "coverage.md"
BEGIN, END = "<!-- class x switch: begin -->", "<!-- class x switch: end -->"

GOLDEN, ENCODER, SHARED, NOT_HERE = "●", "○", "·", "–"
LEGEND = f"""\
{GOLDEN} a bundled golden of this class has the switch on.
{ENCODER} None has: the switch acts inside the encoder, which the class calls unchanged, and a
golden of another class of the family has it.
{SHARED} None of the family has: the function that does it is the same one that serves another
family or class, whose golden has it.
{NOT_HERE} The class does not have the switch.
The live comparison with the original (`tests/oracle`) draws {ENCODER} and {SHARED} too, wherever
the original takes them."""


class Case(NamedTuple):
    """What a switch is recognised in."""

    config: dict[str, Any]
    flags: dict[str, Any]
    inputs: dict[str, numpy.ndarray]

    def has(self, name: str) -> bool:
        """Whether the call had this input."""
        return name in self.inputs

    def mask(self) -> numpy.ndarray:
        """The mask of tokens (B, S), given or counted; all ones where there is none."""
        mask = self.inputs.get("attention_mask")
        ids = self.inputs.get("input_ids")
        if mask is None and ids is not None and "pad_index" in self.config:
            mask = ids != self.config["pad_index"]  # XLM counts its padding
        if mask is None or mask.ndim != 2:
            return numpy.ones((1, 1), dtype=int)
        return mask


class Switch(NamedTuple):
    """A row of the table: for all classes, or those ``only``, and none ``without`` it."""

    name: str
    on: Callable[[Case], bool]
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    inside: bool = True  # it acts inside the encoder


def _config(key: str, value: Any) -> Callable[[Case], bool]:
    return lambda case: case.config.get(key) == value


def _input(name: str, axes: int | None = None) -> Callable[[Case], bool]:
    return lambda case: case.has(name) and axes in (None, case.inputs[name].ndim)


def _mask_of_queries(case: Case) -> bool:
    ids = case.inputs.get("input_ids")
    return ids is not None and ids.ndim == 2 and _input("attention_mask", 3)(case)


def _gap(case: Case) -> bool:
    return any("10" in row.strip("0") for row in _rows(case))


def _rows(case: Case) -> list[str]:
    return ["".join(str(int(x)) for x in row) for row in case.mask()]


CHOICE = ("ForMultipleChoice",)
LM = ("ForMaskedLM", "ForCausalLM", "WithLMHeadModel")
COMMON = [
    Switch("padding on the right", lambda c: any(r.endswith("0") and "1" in r for r in _rows(c))),
    Switch("padding on the left", lambda c: any(r.startswith("0") and "1" in r for r in _rows(c))),
    Switch("padding inside", _gap),
    Switch("no attention_mask", lambda c: not c.has("attention_mask")),
    Switch("a row of one token", lambda c: any(r.count("1") == 1 < len(r) for r in _rows(c))),
    Switch("a row without tokens", lambda c: any("1" not in r for r in _rows(c))),
    Switch("position_ids", _input("position_ids")),
    Switch("token_type_ids", _input("token_type_ids")),
    Switch("inputs_embeds", _input("inputs_embeds")),
    Switch("head_mask (H)", _input("head_mask", 1)),
    Switch("head_mask (L, H)", _input("head_mask", 2)),
    Switch("pruned_heads", lambda c: bool(c.config.get("pruned_heads"))),
    Switch("output_hidden_states", lambda c: c.flags.get("output_hidden_states") is True),
    Switch("output_attentions", lambda c: c.flags.get("output_attentions") is True),
    Switch("another layer_norm_eps", lambda c: c.config.get("layer_norm_eps", 0) >= 1e-3),
    Switch("labels", lambda c: c.has("labels") or c.has("start_positions"), inside=False),
    Switch("untied output matrix", _config("tie_word_embeddings", False), LM, inside=False),
    *[
        Switch(f"problem_type {kind}", _config("problem_type", kind),
               ("ForSequenceClassification",), inside=False)
        for kind in ("regression", "single_label_classification", "multi_label_classification")
    ],
]  # fmt: skip
ROBERTA = [
    *COMMON,
    Switch("attention_mask (B, S, T)", _mask_of_queries, without=CHOICE),
    *[
        Switch(f"hidden_act {name}", _config("hidden_act", name))
        for name in ("gelu", "gelu_new", "relu", "silu", "tanh")
    ],
    Switch("relative_key", _config("position_embedding_type", "relative_key")),
    Switch("relative_key_query", _config("position_embedding_type", "relative_key_query")),
    Switch("is_decoder", _config("is_decoder", True)),
    Switch("cross-attention", _input("encoder_hidden_states"), without=CHOICE),
    Switch("encoder_attention_mask (B, E)", _input("encoder_attention_mask", 2), without=CHOICE),
    Switch("encoder_attention_mask (B, S, E)", _input("encoder_attention_mask", 3), without=CHOICE),
    Switch("use_cache", lambda c: c.config.get("is_decoder") and c.config.get("use_cache", True)),
    Switch("another pad_token_id", lambda c: c.config.get("pad_token_id") == 3),
]  # fmt: skip
XMOD = [
    *ROBERTA,
    Switch("lang_ids, mixed", lambda c: c.has("lang_ids") and len(set(c.inputs["lang_ids"])) > 1),
    Switch("default_language", lambda c: not c.has("lang_ids")),
    Switch("pre_norm", _config("pre_norm", True)),
    Switch("adapter_layer_norm", _config("adapter_layer_norm", True)),
    Switch("adapter_reuse_layer_norm off", _config("adapter_reuse_layer_norm", False)),
    Switch("ln_before_adapter off", _config("ln_before_adapter", False)),
    Switch("another adapter_reduction_factor", _config("adapter_reduction_factor", 5)),
]
SUMMARY = ("ForSequenceClassification", "ForMultipleChoice")
XLM = [
    *COMMON,
    Switch("langs", _input("langs")),
    Switch("no langs", lambda c: not c.has("langs")),
    Switch("n_langs 1", _config("n_langs", 1)),
    Switch("use_lang_emb off", _config("use_lang_emb", False)),
    Switch("lengths", _input("lengths")),
    Switch("causal", _config("causal", True)),
    Switch("gelu_activation off", _config("gelu_activation", False)),
    Switch("sinusoidal_embeddings", _config("sinusoidal_embeddings", True)),
    Switch("asm", _config("asm", True), LM, inside=False),
    *[
        Switch(f"summary_type {kind}", lambda c, kind=kind: c.config.get("summary_type", "first")
               == kind, SUMMARY, inside=False)
        for kind in ("first", "last", "mean", "cls_index")
    ],
    Switch("summary_use_proj off", _config("summary_use_proj", False),
           ("ForSequenceClassification",), inside=False),
    Switch("summary_proj_to_labels off", _config("summary_proj_to_labels", False),
           ("ForSequenceClassification",), inside=False),
    Switch("summary_activation", lambda c: bool(c.config.get("summary_activation")),
           SUMMARY, inside=False),
    Switch("start_n_top, end_n_top", lambda c: c.config.get("start_n_top", 5) != 5,
           ("ForQuestionAnswering",), inside=False),
    Switch("p_mask", _input("p_mask"), ("ForQuestionAnswering",), inside=False),
    Switch("cls_index", _input("cls_index"), ("ForQuestionAnswering",), inside=False),
    Switch("is_impossible", _input("is_impossible"), ("ForQuestionAnswering",), inside=False),
]  # fmt: skip
FAMILIES = {
    "xlm": ("XLM", XLM),
    "xlm_roberta": ("XLMRoberta", ROBERTA),
    "xlm_roberta_xl": ("XLMRobertaXL", ROBERTA),
    "xmod": ("Xmod", XMOD),
}


def read_cases(family: str) -> list[tuple[str, Case]]:
    """Every golden of a family, with its class."""
    cases = []
    for folder in find_goldens():
        if folder.parent.name == family:
            config = json.loads((folder / "config.json").read_text())
            golden = json.loads((folder / "golden.json").read_text())
            tensors = SafetensorsFile(folder / golden["goldens"]["float64"])
            inputs = {name: tensors[f"input.{name}"] for name in golden["inputs"]}
            cases.append((golden["architecture"], Case(config, golden["flags"], inputs)))
    return cases


def table(family: str) -> str:
    """One family's table, in Markdown."""
    prefix, switches = FAMILIES[family]
    classes = [name for name in ARCHITECTURES if _family_of(name) == prefix]
    cases = read_cases(family)
    words = [name.removeprefix(prefix) for name in classes]
    rows = ["| switch | " + " | ".join(words) + " |", "|---" * (len(classes) + 1) + "|"]
    for switch in switches:
        on = {name for name, case in cases if switch.on(case)}
        marks = [_mark(switch, name, word, on) for name, word in zip(classes, words, strict=True)]
        rows.append(f"| {switch.name} | " + " | ".join(marks) + " |")
    return "\n".join(rows)


def _mark(switch: Switch, name: str, word: str, on: set[str]) -> str:
    if (switch.only and word not in switch.only) or word in switch.without:
        return NOT_HERE
    if word == "Model" and not switch.inside:
        return NOT_HERE
    if name in on:
        return GOLDEN
    return ENCODER if switch.inside and on else SHARED


def _family_of(name: str) -> str:
    prefixes = sorted((prefix for prefix, _ in FAMILIES.values()), key=len, reverse=True)
    return next(prefix for prefix in prefixes if name.startswith(prefix))


def text() -> str:
    """What stands between the markers."""
    parts = [LEGEND]
    for family, (prefix, _) in FAMILIES.items():
        parts += [f"### {prefix}", table(family)]
    return "\n\n".join(parts)


def main() -> int:
    """Rewrite the page, or with --check compare; 0 where it is (now) up to date."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    new = f"{head}{BEGIN}\n{text()}\n{END}{tail}"
    if "--check" in sys.argv[1:]:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
