"""Text -> ids -> text: the tokenizers of the family, and how a checkpoint folder becomes one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refimpl.errors import CheckpointError

if TYPE_CHECKING:
    from refimpl.tokenizers.xlm_roberta import XLMRobertaTokenizer

__all__ = ["load_tokenizer"]

ENGINES = ("library",)

# Settings that change ids in the original, with the one value of the published tokenizer. Another
# value would need code that no published checkpoint uses, so it is refused, never ignored.
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
CLASSES = ("XLMRobertaTokenizer", "XLMRobertaTokenizerFast")
UNLIMITED = 10**20  # transformers writes int(1e30) for "no limit" and compares with this


def load_tokenizer(path: str | os.PathLike[str], engine: str | None = None) -> XLMRobertaTokenizer:
    """Read the tokenizer of a checkpoint folder in Hugging Face layout.

    Arguments: ``path``, a folder that holds ``sentencepiece.bpe.model``; ``engine``, what cuts
    text into pieces: "library" (the sentencepiece library) or None, which takes it.

    ``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json`` may lie beside
    it. ``model_max_length`` and ``padding_side`` are taken over; settings that would change ids
    must have their published values. ``clean_up_tokenization_spaces`` is passed over: ``decode``
    never tidies. ``tokenizer.json``, the Rust tokenizer's copy of it all, is not read.

    Raises ``CheckpointError``, naming the file, for one that is missing or broken and for a
    setting that is not served; ``ValueError`` for an unknown engine; ``TypeError`` for a ``path``
    that is no path.

    Source: transformers 4.57.6 ``PreTrainedTokenizerBase._from_pretrained``.
    """
    from refimpl.tokenizers import xlm_roberta as xlmr

    if engine is not None and engine not in ENGINES:
        names = ", ".join(map(repr, ENGINES))
        raise ValueError(f"engine: expected None or one of {names}, got {engine!r}")
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path: expected a str or a path, got {path!r} ({type(path).__name__})")
    folder = Path(path)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise CheckpointError(f"{folder}: expected a checkpoint folder, found {found}")
    file = folder / "tokenizer_config.json"
    config = read_json(file)
    check_settings(file, config)
    pieces = xlmr.SentencePieceLibrary(folder / xlmr.MODEL_FILE)
    special = xlmr.special_token_ids(len(pieces))
    if config.get("added_tokens_decoder"):  # then the original passes the two older files over
        check_added_tokens(file, config["added_tokens_decoder"], special)
    else:
        check_older_files(folder, special)
    return xlmr.XLMRobertaTokenizer(
        pieces, model_max_length=max_length(file, config), padding_side=padding_side(file, config)
    )


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one where there is no file."""
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: expected a JSON object, got {type(value).__name__}")
    return value


def expect(file: Path, key: str, expected: object, actual: object) -> None:
    """Raise ``CheckpointError`` where a setting is not the one that is served."""
    if actual != expected:
        wanted = "none" if expected is None else repr(expected)
        raise CheckpointError(f"{file}: {key}: expected {wanted}, got {actual!r}")


def check_settings(file: Path, settings: dict[str, Any]) -> None:
    """Refuse settings that would change ids and are not the published ones."""
    given = settings.get("tokenizer_class")
    if given is not None and given not in CLASSES:
        raise CheckpointError(
            f"{file}: tokenizer_class: expected {' or '.join(CLASSES)}, got {given!r}"
        )
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


def check_added_tokens(file: Path, tokens: Any, special: dict[str, int]) -> None:
    """Refuse an ``added_tokens_decoder`` (id -> token) that is not part of our own table."""
    expect(file, "type of added_tokens_decoder", "dict", type(tokens).__name__)
    table = {str(i): token for token, i in special.items()}
    for i, token in tokens.items():
        key = f"added_tokens_decoder[{i}]"
        expect(file, key, table.get(i), token_content(file, key, token))


def check_older_files(folder: Path, special: dict[str, int]) -> None:
    """Check the two files in which older checkpoints keep their special tokens."""
    map_file = folder / "special_tokens_map.json"
    check_settings(map_file, read_json(map_file))
    added_file = folder / "added_tokens.json"
    for token, i in read_json(added_file).items():
        expect(added_file, f"id of {token!r}", special.get(token), i)


def max_length(file: Path, config: dict[str, Any]) -> int | None:
    """Return ``model_max_length`` (long ago ``max_len``); None where there is no limit."""
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
    """Return ``padding_side``, "right" where the file says nothing."""
    side = config.get("padding_side", "right")
    if side not in ("right", "left"):
        raise CheckpointError(f"{file}: padding_side: expected 'right' or 'left', got {side!r}")
    return str(side)
