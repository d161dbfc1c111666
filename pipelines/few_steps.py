"""Tell trainings that take a step an epoch: their epochs say nothing of what is learnt."""


def single_step_warning(*, num_images: int, batch_size: int, epochs: int) -> list[str]:
    """Return what to know of a training whose epochs are one step each; else nothing.

    Args:
        num_images: Images of an epoch.
        batch_size: Images of a step.
        epochs: Epochs of the training.
    """
    if num_images > batch_size:
        return []
    line = (
        f"an epoch was one step: {num_images} images are one batch of {batch_size}, and {epochs} "
        f"epochs {epochs} steps; lower the batch size or raise the epochs"
    )
    return [line]
