"""What a case is, and how it becomes a folder."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.xlm.modeling_xlm import create_sinusoidal_embeddings

from golden.make.random_weights import randomise
from golden.make.write import write_case

EMBEDS = "embeds"  # stands for random vectors in place of the ids of two texts of five tokens
STATES = "states"  # stands for an encoder's hidden states: two texts of four tokens


@dataclass(frozen=True)
class Case:
    """One checkpoint and one call of it. ``inputs`` are as the class takes them."""

    what: str
    head: str = "Model"
    config: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    before: list[list[int]] | None = None  # the ids of the call whose keys and values were kept
    weights: str = "spread"  # see random_weights.py
    seed: int | None = None  # chosen by tools/search_goldens.py; else made of the name


def make_model(
    family: str, head: str, config: dict[str, Any], seed: int, weights: str = "spread"
) -> Any:
    """An original model with random weights, in evaluation mode."""
    full = getattr(transformers, f"{family}Config")(**config, attn_implementation="eager")
    model = getattr(transformers, f"{family}{head}")(full)
    randomise(model, seed, weights)
    if config.get("sinusoidal_embeddings"):
        table = model.base_model.position_embeddings.weight
        create_sinusoidal_embeddings(*table.shape, out=table)
    return model.eval()


def as_tensors(inputs: dict[str, Any], width: int, seed: int) -> dict[str, Any]:
    """Lists -> tensors (float64 where they hold reals); flags as they are."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, value in inputs.items():
        if value in (EMBEDS, STATES):
            length = 5 if value == EMBEDS else 4
            made[name] = torch.randn(2, length, width, generator=generator).double()
        elif isinstance(value, list):
            x = torch.tensor(value)
            made[name] = x.double() if x.is_floating_point() else x
        else:
            made[name] = value
    return made


def kept_by(model: Any, ids: list[list[int]]) -> Any:
    """Return the keys and values of all layers that a call with ``ids`` leaves."""
    with torch.no_grad():
        kept = model.double()(torch.tensor(ids), use_cache=True).past_key_values
    return kept.self_attention_cache.to_legacy_cache()


def make_cases(
    family: str, cases: dict[str, Case], sizes: dict[str, Any], root: Path, only: str | None
) -> None:
    """Write all cases of a family, or the one called ``only``, under ``root``."""
    width = sizes.get("hidden_size", sizes.get("emb_dim"))
    for name, case in cases.items():
        if only in (None, name):
            seed = zlib.crc32(name.encode()) if case.seed is None else case.seed
            model = make_model(family, case.head, {**sizes, **case.config}, seed, case.weights)
            inputs = as_tensors(case.inputs, width, seed)
            if case.before is not None:
                inputs["past_key_values"] = kept_by(model, case.before)
            write_case(root / name, model, inputs, what=case.what, seed=seed, weights=case.weights)
