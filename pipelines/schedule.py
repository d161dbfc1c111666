"""Learning-rate schedules as pure functions of the step."""

import math


def cosine_with_warmup(step: int, *, num_steps: int, warmup: float) -> float:
    """Return the factor on the learning rate at `step`: linear rise, then half a cosine to 0.

    f(s) = (s + 1) / w for s < w, else (1 + cos(pi (s - w) / (n - w))) / 2.

    Args:
        step: Step about to be taken, in [0, num_steps).
        num_steps: Steps of the whole training, n.
        warmup: Share of the steps that rise, in [0, 1); w is its whole number of steps.
    """
    rising = int(warmup * num_steps)
    if step < rising:
        return constant_with_warmup(step, num_steps=num_steps, warmup=warmup)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (num_steps - rising)))


def cosine_by_epochs(
    step: int,
    *,
    epoch_steps: int,
    num_epochs: int,
    warmup_steps: int = 0,
    first: float = 0.0,
    last: float = 0.0,
) -> float:
    """Return the factor on the learning rate at `step`: a rise in the first epoch, then a cosine.

    f(s) = min(1, first + (1 - first) s / w) in the first epoch, without a rise if w = 0, and
    last + (1 - last) (1 + cos(pi e / E)) / 2 in each step of epoch e of E, counted from 0.

    Source: `linear_warmup_cosine_lr` of LAVIS (Li et al. 2022, arXiv 2209.09019), as FuseMix
    (fusemix, commit 25f83ee) has it.

    Args:
        step: Step about to be taken.
        epoch_steps: Steps of an epoch.
        num_epochs: Epochs of the whole training, E.
        warmup_steps: Steps of the rise, w; what of it is beyond the first epoch is left out.
        first: Factor of the first step.
        last: Factor that the cosine falls to.
    """
    epoch = step // epoch_steps
    if epoch:
        return last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * epoch / num_epochs))
    return min(1.0, first + (1.0 - first) * step / warmup_steps) if warmup_steps else 1.0


def constant_with_warmup(step: int, *, num_steps: int, warmup: float) -> float:
    """Return the factor on the learning rate at `step`: linear rise, then 1.

    f(s) = (s + 1) / w for s < w, else 1.

    Args:
        step: Step about to be taken, in [0, num_steps).
        num_steps: Steps of the whole training.
        warmup: Share of the steps that rise, in [0, 1); w is its whole number of steps.
    """
    rising = int(warmup * num_steps)
    return (step + 1) / rising if step < rising else 1.0
