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
