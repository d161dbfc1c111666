"""Estimate the cost of a training before it begins: parameters, memory and minutes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...adapters.preset import preset_of
from ...featcache.errors import SpecError
from ...featcache.hardware import resolve_device
from ..common.progress import SILENT, Progress
from ..common.torchrun import Launch
from ..runs import run_folder
from ..training.plan import resolve
from ..training.spec import TrainSpec
from .peak import PeakMemory


@dataclass(frozen=True, kw_only=True)
class TrainEstimate:
    """Estimated cost of one training.

    Attributes:
        preset: Name of the preset.
        fusion: Fusion that was put into it, or None for its own.
        parameters: Numbers that are trained.
        images: Images that are trained on.
        batch_size: Images, or mixtures of them, of the largest batch.
        chunk_size: Rows whose graph is in memory at once, or 0 for all.
        rows: Tokens and width of a row, by side: with chunks of the longest, else the mean of the
            batch with most padding.
        texts_of_an_image: Texts of an image in its batch.
        predicted: Bytes at the peak of a step, by part, as `plan` predicts them.
        memory: Which memory it is: that of the `process`, or of the `GPU`.
        residency: Where the features are meanwhile, by side; the peak holds those of batches.
        epochs: Epochs; early stopping may end before.
        steps: Steps of all epochs.
        epoch_seconds: Time of the steps of an epoch.
        pooling_seconds: Time of pooling the tokens of all rows, once, or 0 where each step does.
        validation_seconds: Time of the validation after each.
        minutes: Time of all epochs. Opening the stores, what
            `[start]` solves before the first step, and writing weights are not in it.
        probe_steps: Steps that were timed.
        probe_seconds: Time that the probe took, with its warm-up and validation.
    """

    preset: str
    fusion: str | None
    parameters: int
    images: int
    batch_size: int
    chunk_size: int
    rows: Mapping[str, str]
    texts_of_an_image: int
    predicted: PeakMemory
    memory: str
    residency: Mapping[str, Mapping[str, Any]]
    epochs: int
    steps: int
    epoch_seconds: float
    pooling_seconds: float
    validation_seconds: float
    minutes: float
    probe_steps: int
    probe_seconds: float


def run(spec: TrainSpec, progress: Progress = SILENT) -> TrainEstimate:
    """Estimate what `train-adapter` with `spec` would cost from a few real steps; write nothing.

    Raises:
        LightalignError: The training would not begin or not get over these steps, the preset is
            solved in closed form, which has no steps to time, or there are several processes.
    """
    if Launch.of_environment().count > 1:
        raise SpecError("--dry-run looks at one process: run it without torchrun")
    run_folder.check_name(spec.home, spec.name)
    preset = preset_of(spec.preset, spec.fusion)
    plan = resolve(spec, progress)
    if "fit" in plan.table:
        raise SpecError(
            f"preset {preset!r} is solved in closed form, in one pass over the pairs: it has "
            "no steps to time"
        )
    from ..training.first_tokens import check_first_tokens  # imports torch, as the others do
    from ..training.trainer import Trainer
    from .timing import predict_memory, time_training

    device = resolve_device(spec.device)
    trainer = Trainer(plan, home=spec.home, seed=spec.seed, device=device)
    notes = check_first_tokens(trainer.adapter, trainer.stores, device=device)
    for note in (*notes, *trainer.notes):
        progress.note(note)
    progress.note("timing some steps")
    timed = time_training(trainer)
    predicted = predict_memory(trainer)
    epochs = trainer.course.epochs
    whole = trainer.num_steps / trainer.course.epoch_steps  # the last may be cut short
    return TrainEstimate(
        preset=preset,
        fusion=spec.fusion,
        parameters=trainer.trainable.num_parameters,
        images=len(trainer.train_rows),
        epochs=epochs,
        steps=trainer.num_steps,
        chunk_size=plan.options.chunk_size,
        memory="process" if device.type == "cpu" else "GPU",
        residency=trainer.stores.residency,
        minutes=(
            whole * timed.epoch_seconds + epochs * timed.validation_seconds + timed.pooling_seconds
        )
        / 60,
        **vars(predicted),
        **vars(timed),
    )
