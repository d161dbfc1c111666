"""The command that fills the cache."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ...featcache.bounds import MOST_THREADS
from ._common import (
    DEFAULT_HOME,
    AsJson,
    CommandOutput,
    Device,
    Home,
    Overrides,
    Quiet,
    split_commas,
    whole_numbers,
    within,
)

Encoders = Annotated[
    list[str],
    typer.Option(help="Encoder: a card's name, ./card.toml, timm:MODEL or hf:MODEL; repeatable."),
]
Weights = Annotated[Path | None, typer.Option(help="Weights file or local hub folder to use.")]
Features = Annotated[
    list[str] | None,
    typer.Option(
        help="tokens (default), cls, mean, last, pooled or grid:HxW; repeatable or with commas."
    ),
]
Layers = Annotated[
    list[str] | None, typer.Option(help="Layers counted from the end, such as -1,-4; repeatable.")
]
StoredType = Annotated[str, typer.Option(help="Stored type: float16, bfloat16, float32 or int8.")]
Precision = Annotated[
    str, typer.Option(help="Compute type: auto (bfloat16 where safe), float32, bfloat16.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the encoders: minutes first, then faster.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(callback=within(1), help="Items per forward pass; chosen by memory if none."),
]
OnError = Annotated[
    str | None, typer.Option(help="Instead of --max-bad: skip, fail or max=N items.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say rows, bytes, memory and minutes; write nothing.")
]


def extract(
    encoder: Encoders,
    data: Annotated[str, typer.Option(help="Dataset as NAME or NAME=PATH.")],
    split: Annotated[str | None, typer.Option(help="One split; all if not given.")] = None,
    weights: Weights = None,
    features: Features = None,
    layers: Layers = None,
    format: Annotated[str, typer.Option(help="zarr or hdf5.")] = "zarr",
    dtype: StoredType = "float16",
    compression: Annotated[str, typer.Option(help="none, zstd or blosc-lz4.")] = "none",
    precision: Precision = "auto",
    compile: Compile = False,
    batch_size: BatchSize = None,
    workers: Annotated[
        int,
        typer.Option(callback=within(0, MOST_THREADS), help="Threads that decode and tokenise."),
    ] = 2,
    max_bad: Annotated[
        float, typer.Option(callback=within(0, 1), help="Share of items that may be unreadable.")
    ] = 0.01,
    on_error: OnError = None,
    dry_run: DryRun = False,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run frozen encoders once over a dataset and keep their features."""
    from ...featcache.config import apply_overrides, build
    from ..extraction.extract import run
    from ..extraction.spec import ExtractSpec
    from ..rendering.training import estimate_parts, extract_lines

    output = CommandOutput(as_json=as_json, quiet=quiet)
    options = {
        "encoders": encoder,
        "data": data,
        "home": home,
        "split": split,
        "weights": weights,
        "features": split_commas(features) or None,
        "layers": whole_numbers("--layers", layers, example="-1,-4") or None,
        "format": format,
        "dtype": dtype,
        "compression": compression,
        "precision": precision,
        "compile": compile,
        "batch_size": batch_size,
        "workers": workers,
        "max_bad": max_bad,
        "on_error": on_error,
        "device": device,
    }
    spec = build(ExtractSpec, apply_overrides(_table(options), overrides or []), where="extract")
    if dry_run:
        from ..extraction import estimate

        estimated = estimate.run(spec, output.progress)
        output.answer(estimated, *estimate_parts(estimated))
        return
    report = run(spec, output.progress)
    output.result(report, *extract_lines(report))


def _table(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have a value as TOML would hold them: paths are strings."""
    chosen = {key: value for key, value in options.items() if value is not None}
    return {key: str(value) if isinstance(value, Path) else value for key, value in chosen.items()}
