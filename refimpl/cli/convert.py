"""``refimpl convert``: a published file made a folder that transformers and refimpl load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refimpl.cli.options import Json, errors_are_one_line, progress

if TYPE_CHECKING:
    from refimpl.checkpoints.writing import Checkpoint


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A fairseq model.pt or its folder, an XLM .pth file, or a Hugging Face folder "
            "with pytorch_model.bin."
        ),
    ],
    dest: Annotated[Path, typer.Argument(help="The folder to write; it must be new, or empty.")],
    dtype: Annotated[str, typer.Option(help="keep (as they are), float32 or float16.")] = "keep",
    architecture: Annotated[
        str | None, typer.Option(help="The class to make of it; else what the file holds.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="fairseq: which classification head, of several.")
    ] = None,
    codes: Annotated[
        Path | None, typer.Option(help="XLM: the file of BPE codes that belongs to the model.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a published checkpoint as a folder that transformers and refimpl load."""
    with errors_are_one_line():
        from refimpl.checkpoints import convert as converting
        from refimpl.models.model import load

        checkpoint = converting.convert(
            source,
            dest,
            dtype=dtype,
            architecture=architecture,
            head=head,
            codes=codes,
            check=load,  # maps what was written, and compares names and shapes with the class's
            track=lambda names, total: progress(names, total, "converting"),
        )
    if as_json:
        print(json.dumps(_as_dict(dest, checkpoint), ensure_ascii=False))
    else:
        _print(dest, checkpoint)


def _as_dict(dest: Path, checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "folder": str(dest),
        "architecture": checkpoint.architecture,
        "tensors": len(checkpoint.tensors),
        "bytes": checkpoint.size,
        "files": sorted(checkpoint.files),
        "notes": checkpoint.notes,
    }


def _print(dest: Path, checkpoint: Checkpoint) -> None:
    count, size = len(checkpoint.tensors), checkpoint.size / 1e6
    print(f"{dest}: {checkpoint.architecture}, {count} tensors, {size:,.1f} MB")
    for note in checkpoint.notes:
        print(f"note: {note}")
