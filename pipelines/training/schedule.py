"""The learning rate of every step of a training: schedule by name, rise, and plateaus.

Every group of parameters has a highest rate, `train.learning_rate`; `OptimiserStep.take` multiplies
it by the factor that is decided here.
"""

import math

from .checkpoint import TrainingState
from .course import Course
from .options import TrainOptions


def learning_rate_factor(
    step: int, options: TrainOptions, course: Course, *, plateau: float = 1.0
) -> float:
    """Return the learning rate of a step over the highest one.

    Args:
        step: Steps that were taken before it.
        options: Name of the schedule, and the length of its rise.
        course: Steps and epochs of the whole training.
        plateau: What `follow_plateau` has lowered the rate to; 1 with the other schedules.
    """
    if options.schedule == "cosine-epochs":
        return cosine_by_epochs(
            step,
            epoch_steps=course.epoch_steps,
            num_epochs=course.epochs,
            warmup_steps=options.warmup_steps,
            first=options.first_rate / options.learning_rate,
            last=options.last_rate / options.learning_rate,
        )
    if options.schedule == "cosine":
        return cosine_with_warmup(step, num_steps=course.steps, warmup=options.warmup)
    if options.schedule == "linear":
        return linear_with_warmup(step, num_steps=course.steps, warmup=options.warmup)
    return plateau * constant_with_warmup(step, num_steps=course.steps, warmup=options.warmup)


def follow_plateau(state: TrainingState, loss: float, options: TrainOptions) -> None:
    """Lower the rate of later steps where the validation loss has not fallen for some epochs.

    Args:
        state: Lowest loss, epochs since then and factor so far; changed in place.
        loss: Validation loss of the epoch that has ended.
        options: How patient the schedule is, and by what it lowers the rate.
    """
    if loss < state.lowest_loss * (1 - options.plateau_threshold):
        state.lowest_loss, state.flat_epochs = loss, 0
        return
    state.flat_epochs += 1
    if state.flat_epochs > options.plateau_patience:
        # counted anew from here, so that the lower rate has as many epochs to show itself
        state.factor *= options.plateau_factor
        state.flat_epochs = 0


def constant_with_warmup(step: int, *, num_steps: int, warmup: float) -> float:
    """Return the factor at `step` in [0, num_steps): linear rise, then 1.

    f(s) = (s + 1) / w for s < w, else 1, w being the whole number of steps in the share `warmup`
    of all, in [0, 1).
    """
    rising = int(warmup * num_steps)
    # s + 1, as a first step at a rate of 0 would change nothing
    return (step + 1) / rising if step < rising else 1.0


def cosine_with_warmup(step: int, *, num_steps: int, warmup: float) -> float:
    """Return the factor at `step` in [0, num_steps): linear rise, then half a cosine to 0.

    f(s) = (s + 1) / w for s < w, else (1 + cos(pi (s - w) / (n - w))) / 2, with n steps and w as
    in `constant_with_warmup`.
    """
    rising = int(warmup * num_steps)
    if step < rising:
        return constant_with_warmup(step, num_steps=num_steps, warmup=warmup)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (num_steps - rising)))


def linear_with_warmup(step: int, *, num_steps: int, warmup: float) -> float:
    """Return the factor at `step` in [0, num_steps): linear rise, then a straight fall to 0.

    f(s) = (s + 1) / w for s < w, else (n - s) / (n - w), with n steps and w as in
    `constant_with_warmup`. Worked: of 10 steps with a share of 0.2 the first two have 1/2 and 1,
    the third 8/8 and the last 1/8.

    Source: `get_linear_schedule_with_warmup` of transformers, which counts from 0 in the rise.
    """
    rising = int(warmup * num_steps)
    if step < rising:
        return constant_with_warmup(step, num_steps=num_steps, warmup=warmup)
    return (num_steps - step) / (num_steps - rising)


def cosine_by_epochs(
    step: int,
    *,
    epoch_steps: int,
    num_epochs: int,
    warmup_steps: int = 0,
    first: float = 0.0,
    last: float = 0.0,
) -> float:
    """Return the factor at `step`: a rise in the first epoch, then a cosine by epochs.

    f(s) = min(1, first + (1 - first) s / w) in the first epoch, without a rise if w = 0, and
    last + (1 - last) (1 + cos(pi e / E)) / 2 in each step of epoch e of E, counted from 0. What of
    the w = `warmup_steps` of the rise is beyond the first epoch is left out.

    Source: `linear_warmup_cosine_lr` of LAVIS (Li et al. 2022, arXiv 2209.09019), as FuseMix
    (fusemix, commit 25f83ee) has it.
    """
    # in epoch 0 the cosine is 1, so that what is left after the rise is at the highest rate
    epoch = step // epoch_steps
    if epoch:
        return last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * epoch / num_epochs))
    return min(1.0, first + (1.0 - first) * step / warmup_steps) if warmup_steps else 1.0
