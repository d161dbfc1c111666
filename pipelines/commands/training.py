"""The commands that train, and the one that says beforehand what a training takes."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ...featcache.bounds import MOST_SEED
from ...featcache.errors import SpecError
from ._common import (
    DEFAULT_HOME,
    AsJson,
    ClassData,
    CommandOutput,
    Device,
    Home,
    NoVerify,
    Overrides,
    Quiet,
    Seed,
    TrainSplit,
    within,
)

Fusion = Annotated[str | None, typer.Option(help="Fusion; see `lightalign list fusions`.")]
Preset = Annotated[
    str | None, typer.Option(help="Preset; our own, with a slot for --fusion, if none.")
]
ImageEncoder = Annotated[
    str | None, typer.Option(help="Encoder of the images; the newest store if none.")
]
TextEncoder = Annotated[
    str | None, typer.Option(help="Encoder of the texts; the newest store if none.")
]
SecondTextEncoder = Annotated[
    str | None, typer.Option(help="Align the text encoder with this one, not with images.")
]
ImageFeatures = Annotated[
    str | None,
    typer.Option(help="tokens, cls, mean, pooled or grid:HxW; the newest store if none."),
]
TextFeatures = Annotated[
    str | None, typer.Option(help="tokens, cls, mean, last or pooled; the newest store if none.")
]
SecondTextFeatures = Annotated[
    str | None, typer.Option(help="Those of the second text encoder, in the same way.")
]
Resume = Annotated[
    str | None, typer.Option(help="Go on with this stopped run; without other options.")
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Log for TensorBoard, too, into RUN/tensorboard.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say parameters, memory and minutes; write nothing.")
]
SameText = Annotated[
    str | None,
    typer.Option(help="Captions that say the same: positive, negative or drop; the preset's rule."),
]
BatchSize = Annotated[
    int | None, typer.Option(callback=within(2), help="Images of a batch; the preset's if none.")
]
ChunkSize = Annotated[
    int | None,
    typer.Option(callback=within(0), help="Rows in memory with a graph; 0: all of the batch."),
]
ImageTokens = Annotated[
    int | None,
    typer.Option(callback=within(1), help="Tokens of an image; all of its encoder if none."),
]
TextTokens = Annotated[
    int | None,
    typer.Option(callback=within(1), help="Tokens of a batch's longest text; 32 if none."),
]
Captions = Annotated[
    int | None,
    typer.Option(
        callback=within(1), help="Texts of an image, if a batch has all of them; 5 if none."
    ),
]


def train_adapter(
    fusion: Fusion = None,
    preset: Preset = None,
    data: Annotated[str | None, typer.Option(help="Dataset; the newest stores if none.")] = None,
    image_encoder: ImageEncoder = None,
    text_encoder: TextEncoder = None,
    second_text_encoder: SecondTextEncoder = None,
    image_features: ImageFeatures = None,
    text_features: TextFeatures = None,
    second_text_features: SecondTextFeatures = None,
    seed: Seed = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    resume: Resume = None,
    tensorboard: Tensorboard = False,
    dry_run: DryRun = False,
    same_text: SameText = None,
    overrides: Overrides = None,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a light adapter on cached features.

    Below `torchrun --nproc-per-node N --no-python` N processes share each batch, on a GPU each or
    on the CPU, and take the steps that one would.
    """
    from ..common.torchrun import Launch
    from ..rendering.training import train_estimate_parts, train_lines
    from ..training import train
    from ..training.spec import TrainSpec

    output = CommandOutput(
        as_json=as_json, quiet=quiet, silent=not Launch.of_environment().is_first
    )
    asked: dict[str, Any] = {
        "preset": preset,
        "fusion": fusion,
        "data": data,
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
        "second_text_encoder": second_text_encoder,
        "image_features": image_features,
        "text_features": text_features,
        "second_text_features": second_text_features,
        "seed": seed,
        "overrides": _with_same_text(overrides or (), same_text),
        "name": name,
        "tensorboard": tensorboard,
    }
    if resume is None:
        spec = TrainSpec(home=home, device=device, **asked)
        if dry_run:
            from ..planning import dry_run as rehearsal  # imports torch; a mistake is told without

            estimated = rehearsal.run(spec, output.progress)
            output.answer(estimated, *train_estimate_parts(estimated))
            return
        trained = train.run(spec, output.progress)
    elif dry_run or any(asked.values()):
        raise SpecError("--resume goes on with what the run was begun with: give it alone")
    else:
        trained = train.resume(home, resume, device=device, progress=output.progress)
    output.result({"folder": str(trained.folder), **trained.report}, *train_lines(trained))


def _with_same_text(overrides: Sequence[str], same_text: str | None) -> tuple[str, ...]:
    return (*overrides, *([] if same_text is None else [f"train.same_text={same_text}"]))


def plan(
    preset: Preset = None,
    fusion: Fusion = None,
    batch_size: BatchSize = None,
    chunk_size: ChunkSize = None,
    image_encoder: Annotated[
        str | None, typer.Option(help="Encoder of the images; dino-vits16 if none.")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="Encoder of the texts; distilbert if none.")
    ] = None,
    image_tokens: ImageTokens = None,
    text_tokens: TextTokens = None,
    captions: Captions = None,
    dtype: Annotated[
        str | None, typer.Option(help="Stored type of the features; float16 if none.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Memory that may be used, such as 6GB.")
    ] = None,
    measure: Annotated[bool, typer.Option(help="Run three steps and measure, too.")] = False,
    overrides: Overrides = None,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict the memory of a step of a training, and find what fits a budget."""
    from ..planning.plan import run as run_plan
    from ..planning.spec import PlanSpec
    from ..rendering.training import plan_parts

    sizes = {"batch_size": batch_size, "chunk_size": chunk_size}
    changed = [f"train.{key}={value}" for key, value in sizes.items() if value is not None]
    asked: dict[str, Any] = {
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
        "image_tokens": image_tokens,
        "text_tokens": text_tokens,
        "captions": captions,
        "dtype": dtype,
        "budget": budget,
    }
    spec = PlanSpec(
        preset=preset,
        fusion=fusion,
        overrides=(*(overrides or ()), *changed),
        measure=measure,
        device=device,
        home=home,
        **{name: value for name, value in asked.items() if value is not None},
    )
    output = CommandOutput(as_json=as_json, quiet=quiet)
    planned = run_plan(spec)
    output.answer(vars(planned), *plan_parts(planned))


def fine_tune(
    run: Annotated[
        str | None, typer.Argument(help="Run that is the start; newest if none.")
    ] = None,
    *,
    data: ClassData,
    protocol: Annotated[
        str,
        typer.Option(help="full, or lightcrl: the head alone, as published under this name."),
    ] = "full",
    train_split: TrainSplit = "train",
    split: Annotated[
        str | None, typer.Option(help="Split to measure at the end; test, or else val, if none.")
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            callback=within(0, MOST_SEED), help="Seed of start, order, dropout, held-out images."
        ),
    ] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the new run.")] = None,
    overrides: Overrides = None,
    no_verify: NoVerify = False,
    home: Home = DEFAULT_HOME,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the adapter of a run on with a head of classes, on cached tokens."""
    from ...featcache.config import apply_overrides
    from ..classification.fine_tune import run as run_fine_tune
    from ..classification.fine_tune_spec import FineTuneSpec, options_of
    from ..rendering.evaluations import accuracy_parts, fine_tuned_line

    output = CommandOutput(as_json=as_json, quiet=quiet)
    spec = FineTuneSpec(
        home=home,
        data=data,
        run=run,
        protocol=protocol,
        train_split=train_split,
        split=split,
        seed=seed,
        name=name,
        device=device,
        **options_of(protocol, apply_overrides({}, overrides or [])),
    )
    tuned = run_fine_tune(spec, output.progress)
    output.result(
        {"folder": str(tuned.folder), "trained": tuned.trained, **tuned.report},
        *accuracy_parts(tuned.report),
        fine_tuned_line(tuned.trained),
        f"run: {tuned.folder}",
    )
