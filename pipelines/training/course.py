"""Length of a training: its batches, steps and epochs. Nothing here imports torch."""

import math
from dataclasses import dataclass

from .options import TrainOptions

ENOUGH_STEPS = 1000  # as many as are advised where epochs have few
_FEW_STEPS = 10  # of an epoch; fewer, and so many epochs are hardly a training


@dataclass(frozen=True)
class Course:
    """Batches, steps and epochs of one training.

    Attributes:
        rows: Rows that an epoch reads: images, or captions with their images.
        batches: Batches of an epoch.
        epoch_steps: Steps of the optimiser in an epoch.
        epochs: Epochs in all; early stopping may end before.
        steps: Steps in all.
        counted: What the rows are, in the plural.
        accumulate: Batches of a step; the last step of an epoch may have fewer.
        counts_steps: Whether the steps were asked for, and the epochs follow from them.
    """

    rows: int
    batches: int
    epoch_steps: int
    epochs: int
    steps: int
    counted: str
    accumulate: int = 1
    counts_steps: bool = False

    @classmethod
    def of(cls, options: TrainOptions, num_rows: int) -> "Course":
        """Return the course of a training over so many images, or captions if those are counted.

        With `drop_last` what is left over after whole batches, and after whole steps of several
        batches, is left out; less than one batch is one all the same, or nothing could be trained.
        """
        size, together = options.batch_size, options.accumulate
        batches, rows = math.ceil(num_rows / size), num_rows
        if options.drop_last:
            batches = max(1, num_rows // size)
            # fewer batches than a step adds up are one step all the same
            batches = batches // together * together or batches
            rows = min(num_rows, batches * size)
        epoch_steps = math.ceil(batches / together)
        epochs = math.ceil(options.steps / epoch_steps) if options.steps else options.epochs
        return cls(
            rows=rows,
            batches=batches,
            epoch_steps=epoch_steps,
            epochs=epochs,
            steps=options.steps or epoch_steps * epochs,
            counted="captions" if options.captions == "each" else "images",
            accumulate=together,
            counts_steps=bool(options.steps),
        )

    def batches_of(self, epoch: int) -> int:
        """Return the batches of an epoch, counted from 1; the last may have fewer."""
        left = self.steps - (epoch - 1) * self.epoch_steps
        return min(self.batches, left * self.accumulate)

    def notes(self) -> list[str]:
        """Return what people should know of it before it begins."""
        last = self.steps - (self.epochs - 1) * self.epoch_steps
        cut = ""
        if last != self.epoch_steps:
            cut = f", {'cut' if self.epochs == 1 else 'the last cut'} after {last:,},"
        line = (
            f"{_count(self.steps, 'step')} in all: {_count(self.epochs, 'epoch')} of "
            f"{_count(self.epoch_steps, 'step')}{cut} over {self.rows:,} {self.counted}"
        )
        lines = [line]
        if self.epoch_steps < _FEW_STEPS and not self.counts_steps:
            lines.append(
                f"an epoch has {_count(self.epoch_steps, 'step')} only, as a batch is large for so "
                f"few {self.counted}: `--set train.steps={ENOUGH_STEPS}` counts steps, not epochs"
            )
        return lines


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}" + ("" if number == 1 else "s")


def single_step_warning(
    *, num_images: int, batch_size: int, epochs: int, counted: str = "images", steps: int = 0
) -> list[str]:
    """Return what to know of a training whose epochs are one step each; else nothing.

    Its epochs show nothing of what is learnt. `num_images` counts what is `counted`, and `steps`
    are those that were asked for in the place of epochs, or 0.
    """
    if num_images > batch_size or steps >= ENOUGH_STEPS:
        return []
    # neither more epochs nor smaller batches add to steps that are counted themselves
    remedy = "raise train.steps" if steps else "lower the batch size or raise the epochs"
    line = (
        f"an epoch was one step: {num_images} {counted} are one batch of {batch_size}, and "
        f"{epochs} epochs {epochs} steps; {remedy}"
    )
    return [line]
