"""Warn of trainings that take one step an epoch: their epochs show nothing of what is learnt."""

ENOUGH_STEPS = 1000  # as many as are advised where epochs have few


def single_step_warning(
    *, num_images: int, batch_size: int, epochs: int, counted: str = "images", steps: int = 0
) -> list[str]:
    """Return what to know of a training whose epochs are one step each; else nothing.

    Args:
        num_images: Images of an epoch, or captions where these are counted.
        batch_size: Images of a step.
        epochs: Epochs of the training.
        counted: What they are, in the plural.
        steps: Steps that were asked for in the place of epochs, or 0.
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
