"""Warn of trainings that take one step an epoch: their epochs show nothing of what is learnt."""


def single_step_warning(
    *, num_images: int, batch_size: int, epochs: int, counted: str = "images"
) -> list[str]:
    """Return what to know of a training whose epochs are one step each; else nothing.

    Args:
        num_images: Images of an epoch, or captions where these are counted.
        batch_size: Images of a step.
        epochs: Epochs of the training.
        counted: What they are, in the plural.
    """
    if num_images > batch_size:
        return []
    line = (
        f"an epoch was one step: {num_images} {counted} are one batch of {batch_size}, and "
        f"{epochs} epochs {epochs} steps; lower the batch size or raise the epochs"
    )
    return [line]
