"""Reading a config.json into an architecture's frozen dataclass, value by value."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from refimpl.errors import CheckpointError

Config = TypeVar("Config")

MOST_MODULES = 10_000  # the largest published models have 48 layers, and 1,944 adapters
PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def parse_config(kind: type[Config], values: Mapping[str, Any], path: Path) -> Config:
    """Make a ``kind`` (a dataclass) from the values of a config.json.

    A key that the file leaves out takes the class default, which is the original's: config files
    are written without the values that equal it. A key that ``kind`` does not know is left aside,
    as the original does; nothing it computes can depend on it.

    Raises ``CheckpointError`` naming the file, the key, what was expected and what stands there.
    """
    hints = typing.get_type_hints(kind)
    other_names = getattr(kind, "OTHER_NAMES", {})
    values = {**values, **{other_names[key]: x for key, x in values.items() if key in other_names}}
    known = {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.name in values}  # type: ignore[arg-type]
    for key, hint in known.items():
        if not fits(values[key], hint):
            expected = getattr(hint, "__name__", None) or str(hint)
            raise CheckpointError(f"{path}: {key}: expected {expected}, got {values[key]!r}")
    try:
        config = kind(**{key: values[key] for key in known})
        check_counts(config)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return config


def check_counts(config: Any) -> None:
    """Raise ``ValueError`` for more layers, or adapters in layers, than any list could name.

    The tensors of a model are listed from its config before its files are looked at.
    """
    key = "n_layers" if hasattr(config, "n_layers") else "num_hidden_layers"
    layers = getattr(config, key, 0)
    require(layers <= MOST_MODULES, key, f"at most {MOST_MODULES} layers", layers)
    languages = len(getattr(config, "languages", ()))
    require(
        layers * languages <= MOST_MODULES,
        "languages",
        f"at most {MOST_MODULES} adapters in all layers together",
        f"{languages} in each of {layers}",
    )


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value is of the type that an annotation names, its elements too."""
    if hint is Any:
        return True
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(fits(value, part) for part in parts)
    hint = typing.get_origin(hint) or hint
    if hint in (int, float) and isinstance(value, bool):
        return False
    if not isinstance(value, (int, float) if hint is float else hint):
        return False
    inside = value.values() if isinstance(value, Mapping) else value  # keys of JSON are strings
    of_inside = {Mapping: parts[1:], list: parts}.get(hint, ())
    return not of_inside or all(fits(x, of_inside[0]) for x in inside)


def require(condition: bool, key: str, expected: str, got: Any) -> None:
    """Raise ``ValueError`` in the form that all config errors have, unless ``condition``."""
    if not condition:
        raise ValueError(f"{key}: expected {expected}, got {got!r}")
