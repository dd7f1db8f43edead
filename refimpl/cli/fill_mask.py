"""``refimpl fill-mask``: the most probable pieces for each blank of a text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from refimpl.cli.options import Backend, Json, Kernels, errors_are_one_line, spinner

if TYPE_CHECKING:
    from refimpl.fill_mask import Filling


def fill_mask(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint folder, or a hub id.")],
    text: Annotated[str, typer.Argument(help="A text with one or more <mask>.")],
    top_k: Annotated[int, typer.Option(help="How many candidates for each mask.")] = 5,
    backend: Backend = "numpy",
    dtype: Annotated[str, typer.Option(help="float64, float32 or float16.")] = "float32",
    kernels: Kernels = "fused",
    as_json: Json = False,
) -> None:
    """Print the most probable pieces for each <mask> of a text."""
    with errors_are_one_line():
        from refimpl.checkpoints.folder import find_folder
        from refimpl.fill_mask import fill_mask
        from refimpl.models.model import load
        from refimpl.tokenizers import load_tokenizer

        folder = find_folder(checkpoint)  # a download has a progress bar of its own
        with spinner("computing"):
            model = load(folder, dtype=dtype, backend=backend, kernels=kernels)
            fillings = fill_mask(model, load_tokenizer(folder), text, top_k)
    if as_json:
        print(json.dumps([filling._asdict() for filling in fillings], ensure_ascii=False))
    else:
        _print_fillings(fillings)


def _print_fillings(fillings: list[Filling]) -> None:
    from rich.console import Console
    from rich.table import Table

    for mask in dict.fromkeys(filling.mask for filling in fillings):
        table = Table("probability", "id", "piece", "text", title=f"<mask> {mask + 1}")
        for f in fillings:
            if f.mask == mask:
                table.add_row(f"{f.probability:.4f}", str(f.id), f.token, f.text)
        Console().print(table)
