"""From the files in which models were published to a folder that transformers and refimpl load.

Three kinds of source: fairseq's (``originals/fairseq.py``), the XLM authors'
(``originals/xlm.py``), and a Hugging Face folder whose weights are still ``pytorch_model.bin``.
Each is brought to a :class:`Checkpoint`, which ``writing.py`` writes. No file's code is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from refimpl.checkpoints.folder import Tensors, open_tensors, read_json
from refimpl.checkpoints.originals.common import ClassNames, same_numbers
from refimpl.checkpoints.originals.fairseq import from_fairseq
from refimpl.checkpoints.originals.xlm import from_original_xlm
from refimpl.checkpoints.pytorch.file import read_torch_file
from refimpl.checkpoints.writing import Checkpoint, Pending, in_dtype, write_checkpoint
from refimpl.errors import CheckpointError

DTYPES = {"keep": "", "float32": "F32", "float16": "F16"}
NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip")

# What else a Hugging Face folder may hold that belongs to the model.
FILES = (
    "sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "generation_config.json",
)  # fmt: skip
TIES = {  # a class with a head keeps the second and makes the first of it
    "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
    "pred_layer.proj.weight": "transformer.embeddings.weight",
    "lm_head.decoder.bias": "lm_head.bias",  # this one whatever tie_word_embeddings says
}
BUFFERS = re.compile(r"((roberta|transformer)\.)?(embeddings\.)?(position_ids|token_type_ids)")


def convert(
    source: Path,
    dest: Path,
    *,
    dtype: str = "keep",
    architecture: str | None = None,
    head: str | None = None,
    codes: Path | None = None,
    check: Callable[[Path], object] = lambda folder: None,
    track: Callable[[Iterable[str], int], Iterable[str]] = lambda names, total: names,
) -> Checkpoint:
    """Write the checkpoint ``source`` to the new folder ``dest``; return what was written.

    Arguments: ``source``, a fairseq file or the folder that it lies in, a file of the XLM authors,
    or a Hugging Face folder; ``dtype``, "keep", "float32" or "float16"; ``architecture``, the
    class to make of it, where the file allows several; ``head``, the name of fairseq's
    classification head, where there are several; ``codes``, the BPE codes of the XLM authors;
    ``check``, called with the finished folder before it is called ``dest``; ``track``, called with
    the names of the tensors as they are written and their number, for those who show progress.

    One tensor at a time is in memory. Raises ``CheckpointError`` for a source that is none, and
    where ``dest`` is taken or cannot be written: ``dest`` is then what it was before.
    ``ValueError`` for an unknown dtype.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    try:
        checkpoint = read_source(source, architecture, head, codes)
    except OSError as error:
        raise CheckpointError(f"{source}: cannot be read: {error.strerror or error}") from None
    if dtype != "keep":
        checkpoint.tensors = in_dtype(checkpoint.tensors, DTYPES[dtype])
    name_dtype(checkpoint)
    for _ in track(write_checkpoint(dest, checkpoint, check), len(checkpoint.tensors)):
        pass
    return checkpoint


def name_dtype(checkpoint: Checkpoint) -> None:
    """Let the config name the dtype of the weights: the first's, of those with real numbers."""
    checkpoint.config.pop("dtype", None)  # how newer files call it
    for tensor in checkpoint.tensors.values():
        if tensor.dtype in NAMES:
            checkpoint.config["torch_dtype"] = NAMES[tensor.dtype]
            return


def read_source(
    source: Path, architecture: str | None, head: str | None, codes: Path | None
) -> Checkpoint:
    """Return the checkpoint in a file or folder, of whichever kind it is.

    Raises ``CheckpointError`` for one of no kind, and for an option that is of another kind.
    """
    if (source / "config.json").exists():
        _refuse("a Hugging Face folder", architecture=architecture, head=head, codes=codes)
        return from_hugging_face(source)
    path = find_file(source)
    tree = read_torch_file(path, ClassNames())
    if not isinstance(tree, Mapping):
        raise CheckpointError(f"{path}: expected a dictionary, got {type(tree).__name__}")
    if "dico_id2word" in tree:
        _refuse("a file of the XLM authors", head=head)
        return from_original_xlm(path, tree, architecture, codes)
    if "args" in tree or "cfg" in tree:
        _refuse("a fairseq file", codes=codes)
        return from_fairseq(path, tree, architecture, head)
    raise CheckpointError(
        f"{path}: expected a file of fairseq (with args or cfg in it) or of the XLM authors "
        f"(dico_id2word), found {', '.join(map(str, tree))[:200] or 'nothing'}"
    )


def _refuse(what: str, **options: object) -> None:
    """Raise ``ValueError`` for an option that a source of this kind does not have."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name}: {what} has no such choice, got {str(value)!r}")


def find_file(source: Path) -> Path:
    """Return the file with the tensors: ``source``, or the one in the folder ``source``.

    Raises ``CheckpointError`` where there is none, or more than one, and for an archive.
    """
    if source.is_file():
        if source.name.endswith(ARCHIVES):
            raise CheckpointError(f"{source}: is an archive: unpack it, and give the folder")
        return source
    if not source.is_dir():
        raise CheckpointError(f"{source}: no such file or folder")
    files = sorted(path for path in source.iterdir() if path.suffix in (".pt", ".pth"))
    main = [path for path in files if path.name == "model.pt"] or files
    if len(main) != 1:
        found = ", ".join(path.name for path in files)[:200]
        raise CheckpointError(
            f"{source}: expected config.json, model.pt or one other .pt or .pth file, found "
            f"{found or 'none of them'}"
        )
    return main[0]


def from_hugging_face(folder: Path) -> Checkpoint:
    """Return the checkpoint in a Hugging Face folder, under today's names.

    What old files hold beyond the weights is left out: buffers, and the second of two names for
    the same numbers, as ``save_pretrained`` of transformers leaves them out.

    Raises ``CheckpointError`` for a file that names no one class, and where two names hold
    different numbers.
    """
    config = read_json(folder / "config.json")
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        raise CheckpointError(
            f"{folder / 'config.json'}: architectures: expected one class name, got {names!r}"
        )
    opened = open_tensors(folder)
    tensors: dict[str, Pending] = {}
    for name in opened:
        new, tensor = today(name), pending(opened, name)
        if not same_numbers(tensors.setdefault(new, tensor), tensor):
            raise CheckpointError(f"{folder}: {name}: another tensor is {new} already")
    for name in [name for name in tensors if BUFFERS.fullmatch(name)]:
        del tensors[name]
    tied = config.get("tie_word_embeddings", True)
    for name, other in TIES.items():
        both = {name, other} <= set(tensors) and (tied or name.endswith("bias"))
        if both and same_numbers(tensors[name], tensors[other]):
            del tensors[name]
    files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    return Checkpoint(config, tensors, files)


def today(name: str) -> str:
    """Return today's name of a tensor.

    >>> today("roberta.encoder.layer.0.output.LayerNorm.gamma"), today("lm_head.weight")
    ('roberta.encoder.layer.0.output.LayerNorm.weight', 'lm_head.decoder.weight')
    """
    stem, _, last = name.rpartition(".")
    if stem.endswith(("LayerNorm", "layer_norm")):
        name = f"{stem}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last) }"
    return "lm_head.decoder.weight" if name == "lm_head.weight" else name


def pending(tensors: Tensors, name: str) -> Pending:
    """Return a tensor of an open checkpoint as one to be written."""
    return Pending(tensors.dtype(name), tensors.shape(name), lambda: tensors.stored(name))
