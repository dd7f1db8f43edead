"""The toy XLM vocabulary of golden/tokenizers/xlm, and the published one where it is at hand."""

import json
import os
import shutil
from pathlib import Path

import pytest

from refimpl.tokenizers.xlm.files import ADDITIONAL

TOY = Path(__file__).parents[3] / "golden" / "tokenizers" / "xlm"
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", *ADDITIONAL]


def vocabulary_and_merges():
    """Return tokens in the order of their ids, and merges."""
    tokens = json.loads((TOY / "vocab.json").read_text(encoding="utf-8"))
    lines = (TOY / "merges.txt").read_text(encoding="utf-8").splitlines()
    return [*tokens], [tuple(line.split()[:2]) for line in lines]


def write(folder, **settings):
    """Copy the toy tokenizer into a folder, with these settings only, and return it."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(TOY / name, folder / name)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def published():
    """Return the folder of the published XNLI-15 vocabulary; skip the test where there is none."""
    folder = Path(os.environ.get("REFIMPL_PUBLISHED", "nowhere")) / "xlm-xnli15"
    if not (folder / "vocab.json").is_file():
        pytest.skip("REFIMPL_PUBLISHED names no folder with xlm-xnli15/vocab.json")
    return folder
