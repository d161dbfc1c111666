"""Estimate the cost of a training before it begins: parameters, memory and minutes."""

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from jaxtyping import Int64

from ...adapters.preset import preset_of
from ...featcache.errors import SpecError
from ...featcache.hardware import resolve_device
from ...featcache.tokens import split_by_length
from ..common.progress import SILENT, Progress
from ..common.torchrun import Launch
from ..inputs.pairs import BatchRows
from ..runs import run_folder
from ..training.batches import GROUPS
from ..training.distil_options import DISTIL
from ..training.joint.batches import JointRows
from ..training.joint_plan import resolve as resolve_joint
from ..training.joint_spec import TrainJointSpec
from ..training.plan import resolve
from ..training.spec import TrainSpec
from ..training.tasks._open_joint import OpenJoint
from ..training.tasks._open_pairs import OpenPairs
from ..training.trainer import Trainer
from .joint_step import PlannedJointStep
from .planned import InputShape
from .planned_steps import memory_of
from .spec import PeakMemory, TrainEstimate
from .step import PlannedStep

_WARM_STEPS = 1  # loads kernels and makes the optimiser's moments, as no later step does
_MOST_STEPS = 50
_SECONDS = 5.0  # after which no further step is timed
_IMAGES = 256  # that a validation is timed with


@dataclass(frozen=True, kw_only=True)
class PredictedMemory:
    """Predicted peak memory of a step, with the rows that it is of; see `TrainEstimate`."""

    predicted: PeakMemory
    batch_size: int
    rows: Mapping[str, str]
    texts_of_an_image: int


@dataclass(frozen=True, kw_only=True)
class TimedTraining:
    """Measured times of the parts of a training, in seconds; see `TrainEstimate`."""

    epoch_seconds: float
    pooling_seconds: float
    validation_seconds: float
    probe_steps: int
    probe_seconds: float


def run(spec: TrainSpec | TrainJointSpec, progress: Progress = SILENT) -> TrainEstimate:
    """Estimate what training with `spec` would cost from a few real steps; write nothing.

    Args:
        spec: What `train-adapter` or `train-joint` is asked for.
        progress: Receives notes.

    Raises:
        LightalignError: The training would not begin or not get over these steps, the preset is
            solved in closed form, which has no steps to time, or there are several processes.
    """
    if Launch.of_environment().count > 1:
        raise SpecError("--dry-run looks at one process: run it without torchrun")
    run_folder.check_name(spec.home, spec.name)
    fusion = None if isinstance(spec, TrainJointSpec) else spec.fusion
    preset = preset_of(spec.preset, fusion)
    if isinstance(spec, TrainJointSpec):
        plan = resolve_joint(spec, progress)
    else:
        plan = resolve(spec, progress)
    if "fit" in plan.table:
        raise SpecError(
            f"preset {preset!r} is solved in closed form, in one pass over the pairs: it has "
            "no steps to time"
        )
    device = resolve_device(spec.device)
    trainer = Trainer(plan, home=spec.home, seed=spec.seed, device=device)
    opened = _opened(trainer)
    notes = opened.check_features()
    for note in (*notes, *trainer.notes):
        progress.note(note)
    progress.note("timing some steps")
    timed = time_training(trainer)
    predicted = predict_memory(trainer)
    epochs = trainer.course.epochs
    # the last epoch may be cut short
    whole = trainer.num_steps / trainer.course.epoch_steps
    seconds = whole * timed.epoch_seconds + epochs * timed.validation_seconds
    if isinstance(spec, TrainSpec) and spec.seeds is not None:
        # one after the other, so that the memory is that of one; rows are pooled for all
        trainings = spec.seeds
        what = f"all {spec.seeds} seeds"
        if spec.ensemble == DISTIL:
            # that the ensemble embeds each batch, too, is a forward pass of each member and not
            # in it
            trainings += 1
            what += " and of the student"
        seconds *= trainings
        progress.note(f"the minutes are those of {what}, the rest is of each")
    return TrainEstimate(
        preset=preset,
        fusion=fusion,
        parameters=trainer.trainable.num_parameters,
        images=len(opened.train_rows),
        epochs=epochs,
        steps=trainer.num_steps,
        chunk_size=plan.options.chunk_size,
        reads_pairs=isinstance(opened, OpenJoint),
        memory="process" if device.type == "cpu" else "GPU",
        residency=opened.stores.residency,
        minutes=(seconds + timed.pooling_seconds) / 60,
        **vars(predicted),
        **vars(timed),
    )


def _opened(trainer: Trainer) -> OpenPairs | OpenJoint:
    """Return the task of a training, if its cost can be estimated.

    Raises:
        SpecError: It is on no pairs.
    """
    opened = trainer.opened
    return opened if isinstance(opened, OpenJoint) else trainer.pairs


def predict_memory(trainer: Trainer) -> PredictedMemory:
    """Predict the memory of a step as `plan` does, with rows as they are in the stores."""
    batches = list(trainer.batches.order(1))
    shape = input_shape(trainer, batches)
    batch_size = max(len(rows.first) for rows in batches)
    step = _planned(trainer, shape)
    predicted = memory_of(step).peak(batch_size, trainer.options.chunk_size)
    return PredictedMemory(
        predicted=replace(predicted, pooled=predicted.pooled + _pooled_to_validate(trainer)),
        batch_size=batch_size,
        rows={side.value: f"{shape.tokens[side]} x {shape.width(side)}" for side in shape.sides},
        texts_of_an_image=shape.texts,
    )


def _planned(trainer: Trainer, shape: InputShape) -> PlannedStep | PlannedJointStep:
    """Return the step of a training on rows of a shape."""
    table, options, device = trainer.plan.table, trainer.options, trainer.device
    opened = _opened(trainer)
    if isinstance(opened, OpenJoint):
        return PlannedJointStep(
            table=table,
            options=options,
            shape=shape,
            device=device,
            num_answers=None if opened.vocabulary is None else len(opened.vocabulary),
        )
    return PlannedStep(table=table, options=options, shape=shape, device=device)


def _pooled_to_validate(trainer: Trainer) -> int:
    """Return the bytes of rows of a validation split of its own, which are pooled once and kept."""
    validation = _opened(trainer).validation
    if validation is None or validation.stores is _opened(trainer).stores:
        return 0
    return sum(pooled_shape.num_bytes for pooled_shape in validation.stores.pooled.values())


def input_shape(trainer: Trainer, batches: Sequence[BatchRows | JointRows]) -> InputShape:
    """Return what one row of each side is in these batches of a training."""
    stores = _opened(trainer).stores
    first, second = trainer.plan.stores.sides
    stored = max(stores.first.dtype.itemsize, stores.second.dtype.itemsize)
    return InputShape(
        tokens={
            first: _tokens(trainer, stores.first.lengths, [batch.first for batch in batches]),
            second: _tokens(trainer, stores.second.lengths, [batch.second for batch in batches]),
        },
        widths=trainer.plan.stores.widths,
        texts=max(math.ceil(len(rows.second) / len(rows.first)) for rows in batches),
        feature_bytes=4 if trainer.options.mixup.alpha else stored,  # what is mixed is widened
        ready=3 if trainer.device.type == "cpu" else 1,
        pooled=stores.pooled,
    )


def time_training(trainer: Trainer) -> TimedTraining:
    """Take some steps of a training and a validation; the weights are others afterwards.

    Raises:
        DivergedError: A loss is not finite.
    """
    began = time.perf_counter()
    with trainer.seeded():
        num_steps, first_seconds = _time_steps(trainer)
        batch_seconds = first_seconds
        # the same batches again, whose rows are pooled by now: the difference is the pooling
        if _opened(trainer).stores.pooled:
            _, batch_seconds = _time_steps(trainer, most=num_steps)
        validation_seconds = _time_validation(trainer)
    return TimedTraining(
        epoch_seconds=trainer.num_batches * batch_seconds,
        pooling_seconds=trainer.num_batches * max(0.0, first_seconds - batch_seconds),
        validation_seconds=validation_seconds,
        probe_steps=num_steps,
        probe_seconds=time.perf_counter() - began,
    )


def _time_steps(trainer: Trainer, *, most: int = _MOST_STEPS) -> tuple[int, float]:
    """Return how many steps were timed, and the seconds of a batch in them."""
    most = min(most, max(1, trainer.num_steps - _WARM_STEPS))
    # closed, as the batches after the last are being loaded by then
    with closing(_batches(trainer)) as batches:
        for _ in range(_WARM_STEPS):
            _take_step(trainer, batches)
        began, seconds = time.perf_counter(), 0.0
        num_steps = num_batches = 0
        while num_steps < most and seconds < _SECONDS:
            num_batches += _take_step(trainer, batches)
            num_steps += 1
            seconds = time.perf_counter() - began
    return num_steps, seconds / num_batches


def _batches(trainer: Trainer) -> Generator[dict[str, float], None, None]:
    """Train on one batch after the other, in as many epochs as it takes."""
    for epoch in count(1):
        yield from trainer.steps(trainer.loaded(epoch))


def _take_step(trainer: Trainer, batches: Iterator[dict[str, float]]) -> int:
    """Train until a step has been taken, and return of how many batches it was."""
    before, num_batches = trainer.counts.step, 0
    while trainer.counts.step == before:
        next(batches)
        num_batches += 1
    return num_batches


def _time_validation(trainer: Trainer) -> float:
    """Return the seconds of a validation, from one of some of its images.

    Embedding grows with the images and is most of it; comparing grows with their square, so that a
    validation of many thousands takes longer than this says.
    """
    opened = _opened(trainer)
    if isinstance(opened, OpenJoint):
        return _time_joint_validation(opened)
    if trainer.validation is None:
        return 0.0
    sample = trainer.validation.sample(_IMAGES)
    teacher = sample.teacher() if trainer.objective.needs_teacher else None
    if sample.stores.pooled:
        # only the first validation pools its rows; what is timed stands for all the others
        sample.embed(trainer.adapter, trainer.device)
    began = time.perf_counter()
    sample.measure(
        trainer.adapter,
        trainer.objective,
        measure=trainer.pairs.measure,
        batch_size=trainer.options.batch_size,
        device=trainer.device,
        teacher=teacher,
    )
    seconds = time.perf_counter() - began
    return seconds * len(trainer.validation.images) / len(sample.images)


def _time_joint_validation(opened: OpenJoint) -> float:
    """Return the seconds of a validation of pairs, from one of some of them."""
    if opened.validation is None:
        return 0.0
    sample = opened.validation.sample(_IMAGES)
    began = time.perf_counter()
    opened.measure(sample)
    seconds = time.perf_counter() - began
    return seconds * opened.validation.num_read / sample.num_read


def _tokens(
    trainer: Trainer,
    lengths: Int64[np.ndarray, " n"],
    batches: list[Int64[np.ndarray, " rows"]],
) -> int:
    """Return the tokens of a row, padding included, where a batch has most of them.

    Chunks are of rows of similar length, and the largest is that of the longest rows; pairs that
    are read together are padded to the longest of a batch in any case.
    """
    if trainer.options.chunk_size or isinstance(trainer.opened, OpenJoint):
        return max(int(lengths[rows].max()) for rows in batches)
    most = 0
    for rows in batches:
        groups = split_by_length(lengths[rows], GROUPS)
        padded = sum(len(group) * int(lengths[rows][group].max()) for group in groups)
        most = max(most, math.ceil(padded / len(rows)))
    return most
