"""Estimate the cost of a training before it begins: parameters, memory and minutes."""

from ...adapters.preset import preset_of
from ...featcache.errors import SpecError
from ...featcache.hardware import resolve_device
from ..common.progress import SILENT, Progress
from ..common.torchrun import Launch
from ..runs import run_folder
from ..training.first_tokens import check_first_tokens
from ..training.plan import resolve
from ..training.spec import TrainSpec
from ..training.trainer import Trainer
from .spec import TrainEstimate
from .timing import predict_memory, time_training


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
    seconds = whole * timed.epoch_seconds + epochs * timed.validation_seconds
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
        minutes=(seconds + timed.pooling_seconds) / 60,
        **vars(predicted),
        **vars(timed),
    )
