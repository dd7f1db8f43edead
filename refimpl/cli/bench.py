"""``refimpl bench``: how fast a forward pass is, beside PyTorch's and the machine's best."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refimpl.cli.options import (
    Backend,
    Json,
    Kernels,
    errors_are_one_line,
    progress,
    spinner,
    stopping_is_one_line,
)

if TYPE_CHECKING:
    from refimpl.bench.batches import Batch
    from refimpl.bench.profile import Part

Checkpoint = Annotated[
    str | None, typer.Argument(help="A checkpoint (folder, hub id); else random weights.")
]
Size = Annotated[str, typer.Option(help="Of random weights: tiny, base or large.")]
Shapes = Annotated[str, typer.Option(help="Texts x tokens: 1x16,8x128.")]
Lengths = Annotated[
    Path | None, typer.Option(help="A file of lengths: one padded batch, in place of --shapes.")
]
Dtype = Annotated[str, typer.Option(help="float64, float32, float16 or bfloat16.")]
Packed = Annotated[bool, typer.Option("--packed", help="Compute no padding.")]
Turns = Annotated[int, typer.Option(help="How often each side has its turn.")]
Against = Annotated[str | None, typer.Option(help="torch: PyTorch in the same run, in turns.")]
Profile = Annotated[
    bool, typer.Option("--profile", help="Where the time goes, by operation, instead.")
]
Memory = Annotated[
    bool, typer.Option("--memory/--no-memory", help="Measure peak memory, in another process.")
]


def bench(
    checkpoint: Checkpoint = None,
    size: Size = "base",
    shapes: Shapes = "1x16,1x128,8x128",
    lengths: Lengths = None,
    dtype: Dtype = "float32",
    backend: Backend = "numpy",
    kernels: Kernels = "fused",
    packed: Packed = False,
    turns: Turns = 5,
    against: Against = None,
    profile: Profile = False,
    memory: Memory = True,
    as_json: Json = False,
) -> None:
    """Time forward passes: seconds, tokens a second, share of the matrix peak, peak memory.

    GFLOP/s count 2 operations for each token and element of the layers' matrices, and
    4 x tokens^2 x width for each layer's attention, padding left out. The matrix peak is
    that of two large matrices, measured in the same turns. A ratio is our time over
    PyTorch's. Seconds are those of the fastest turn, and of the median.
    """
    with stopping_is_one_line(), errors_are_one_line():
        if turns < 1:
            raise ValueError(f"turns: expected a number above 0, got {turns}")
        if against not in (None, "torch"):
            raise ValueError(f"against: expected torch, got {against!r}")
        from refimpl.bench.batches import parse_shapes, read_lengths
        from refimpl.bench.models import Subject

        batches = parse_shapes(shapes) if lengths is None else [read_lengths(lengths)]
        subject = Subject(checkpoint, size, dtype, backend, kernels, packed)
        if profile:
            _profile(subject, batches, turns, as_json)
        else:
            _measure(subject, batches, turns, against is not None, memory, as_json)


def _measure(
    subject: Any, batches: list[Batch], turns: int, beside: bool, memory: bool, as_json: bool
) -> None:
    from refimpl.bench.against import torch_models
    from refimpl.bench.measuring import machine, measure
    from refimpl.bench.models import make_model

    with spinner("making the models"):
        model = make_model(subject)
        others = torch_models(subject, model) if beside else {}
    found = []
    for batch in batches:

        def track(items: Iterable[Any], total: int, name: str = batch.name) -> Iterable[Any]:
            return progress(items, total, f"timing {name}")

        found.append(
            measure(
                subject, model, batch, turns=turns, against=others, with_memory=memory, track=track
            )
        )
        if not as_json:
            print_measurement(found[-1])
    about = {**subject._asdict(), "architecture": model.architecture, "machine": machine(model)}
    if as_json:
        print(json.dumps({**about, "measurements": found}))
    else:
        print(f"{about['machine']['processor']}, {about['machine']['blas']}, load "
              f"{about['machine']['load']}")  # fmt: skip


def _profile(subject: Any, batches: list[Batch], turns: int, as_json: bool) -> None:
    from refimpl.bench.models import make_model
    from refimpl.bench.profile import profile

    with spinner("making the model"):
        model = make_model(subject)
    found = {}
    for batch in batches:
        with spinner(f"profiling {batch.name}"):
            inputs = batch.inputs(model.config)
            found[batch.name] = profile(model, inputs, turns)
        if not as_json:
            print_profile(batch.name, found[batch.name])
    if as_json:
        parts = {name: [part._asdict() for part in parts] for name, parts in found.items()}
        print(json.dumps({**subject._asdict(), "profiles": parts}))


def print_measurement(found: dict[str, Any]) -> None:
    """Print the numbers of one batch, a line for each side."""
    peak = found.get("peak_bytes")
    print(
        f"{found['batch']}: best {milliseconds(found['best'])}, median "
        f"{milliseconds(found['median'])}, {found['tokens_per_second']:,.0f} tokens/s, "
        f"{found['gflops']:.1f} GFLOP/s, {found['share_of_peak']:.0%} of "
        f"{found['peak_gflops']:.0f}" + (f", peak memory {peak / 1e6:,.0f} MB" if peak else "")
    )
    for name, theirs in found["against"].items():
        print(
            f"  {name}: best {milliseconds(theirs['best'])}, ratio {theirs['ratio_of_best']:.3f} "
            f"(of medians {theirs['ratio_of_median']:.3f}), outputs differ by "
            f"{theirs['difference']:.1e}"
        )


def print_profile(name: str, parts: list[Part]) -> None:
    """Print the parts of a forward pass with their shares, and a bar for each."""
    from refimpl.bench.profile import bar

    whole = sum(part.seconds for part in parts)
    print(f"{name}: {milliseconds(whole)}")
    for part in parts:
        share = part.seconds / whole
        times = f"{part.calls:>5} x" if part.calls > 1 else " " * 7
        print(
            f"  {part.name:<29}{milliseconds(part.seconds):>10}{times} {share:>5.1%} {bar(share)}"
        )


def milliseconds(seconds: float) -> str:
    """Return a time in the unit that forward passes take.

    >>> milliseconds(0.01234)
    '12.34 ms'
    """
    return f"{seconds * 1e3:,.2f} ms"
