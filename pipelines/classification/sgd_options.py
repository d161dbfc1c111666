"""Options of training a head of classes by plain gradient steps."""

from dataclasses import dataclass

from ...featcache.config import check_counts
from ...featcache.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class SgdOptions:
    """Options of training a head; the defaults are LightCRL's linear classification.

    Source: lightweightCRL, commit e3421ad, text_image/downstream_task: two matrices without a
    non-linearity between them, momentum 0.9, no decay, no schedule, batches of 64 in 100 epochs,
    measured after every fifth, on features as they come out of the adapter. We differ: there the
    frozen adapter runs with its dropout on; here features are those of evaluation mode.

    Attributes:
        epochs: Passes over the images.
        every: Epochs between two measurements.
        unit: Whether embeddings are divided by their length.
        scaled: Whether features are shifted and scaled by `scaling` of the training images.
        hidden: Features between the two matrices, or 0 for one matrix.
        learning_rate: Length of a step.
        momentum: Share of the last step in the next, in [0, 1).
        batch_size: Images of a step.
    """

    epochs: int = 100
    every: int = 5
    unit: bool = False
    scaled: bool = False
    hidden: int = 128
    learning_rate: float = 1e-3
    momentum: float = 0.9
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_counts(self, {"epochs": 1, "every": 1, "hidden": 0, "batch_size": 1})
        if not self.learning_rate > 0 or not 0 <= self.momentum < 1:
            raise SpecError(
                "learning_rate must be above 0 and momentum in [0, 1), found "
                f"{self.learning_rate} and {self.momentum}"
            )
