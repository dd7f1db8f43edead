"""The settings that lie beside a vocabulary: taken over, or refused where they would change ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refimpl.checkpoints.folder import read_json
from refimpl.errors import CheckpointError

# Settings that change ids in the original, with the one value of XLM-R's published tokenizer.
# Another value would need code that no published checkpoint uses, so it is refused, never ignored.
PUBLISHED: dict[str, Any] = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
    "truncation_side": "right",
    "split_special_tokens": False,
    "model_input_names": ["input_ids", "attention_mask"],
}
UNSET = ("additional_special_tokens", "extra_special_tokens", "sp_model_kwargs")
UNLIMITED = 10**20  # transformers writes int(1e30) for "no limit" and compares with this


def read_settings(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one where there is no file."""
    return read_json(file) if file.exists() else {}


def expect(file: Path, key: str, expected: object, actual: object) -> None:
    """Raise ``CheckpointError`` where a setting is not the one that is served."""
    if actual != expected:
        wanted = "none" if expected is None else repr(expected)
        raise CheckpointError(f"{file}: {key}: expected {wanted}, got {actual!r}")


def check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` for settings, other than the published ones, that change ids."""
    for key, expected in PUBLISHED.items():
        value = settings.get(key, expected)
        expect(file, key, expected, token_content(file, key, value))
    for key in UNSET:
        if settings.get(key):
            raise CheckpointError(f"{file}: {key}: expected none, got {settings[key]!r}")


def token_content(file: Path, key: str, token: Any) -> Any:
    """Return the text of a token written as an object, and anything else as it is.

    The object says too how the token takes white space along: ``<mask>`` on its left, the others
    not at all, or it is refused.
    """
    if not isinstance(token, dict):
        return token
    content = token.get("content")
    expect(file, f"{key}.lstrip", content == "<mask>", token.get("lstrip", False))
    expect(file, f"{key}.rstrip", False, token.get("rstrip", False))
    expect(file, f"{key}.single_word", False, token.get("single_word", False))
    return content


def check_added_tokens(file: Path, tokens: Any, special: Mapping[str, int]) -> None:
    """Refuse an ``added_tokens_decoder`` (id -> token) that is not part of our own table."""
    expect(file, "type of added_tokens_decoder", "dict", type(tokens).__name__)
    table = {str(i): token for token, i in special.items()}
    for i, token in tokens.items():
        key = f"added_tokens_decoder[{i}]"
        expect(file, key, table.get(i), token_content(file, key, token))


def check_older_files(folder: Path, special: Mapping[str, int]) -> None:
    """Check the two files in which older checkpoints keep their special tokens."""
    map_file = folder / "special_tokens_map.json"
    check_settings(map_file, read_settings(map_file))
    added_file = folder / "added_tokens.json"
    for token, i in read_settings(added_file).items():
        expect(added_file, f"id of {token!r}", special.get(token), i)


def max_length(file: Path, config: dict[str, Any]) -> int | None:
    """Return ``model_max_length`` (long ago ``max_len``); None where there is no limit.

    Raises ``CheckpointError`` for anything but a whole number of at least 1.
    """
    value = config.get("model_max_length", config.get("max_len"))
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and value > UNLIMITED:
        return None
    if not number or value != value // 1 or value < 1:
        raise CheckpointError(
            f"{file}: model_max_length: expected a whole number of at least 1, got {value!r}"
        )
    return int(value)


def padding_side(file: Path, config: dict[str, Any]) -> str:
    """Return ``padding_side``, "right" where the file says nothing.

    Raises ``CheckpointError`` for any other side.
    """
    side = config.get("padding_side", "right")
    if side not in ("right", "left"):
        raise CheckpointError(f"{file}: padding_side: expected 'right' or 'left', got {side!r}")
    return str(side)
