"""Numbers of a fine-tuning's validation. Nothing here imports torch."""

from ..training.tasks import Best, Numbers
from ..training.tasks.base import Validated


class HeldOutImages(Numbers):
    """Top-1 on held-out training images, and the loss, which decides between equal ones."""

    best = Best("top_1")

    def score(self, validation: Validated) -> tuple[float, float]:
        """Return what the kept epoch is best in; of few images accuracies are often equal."""
        return self.best.score(validation), -float(validation["loss"])

    def words(self, validation: Validated) -> str:
        """Return what the line of an epoch says: `held-out top-1 81.3 %`."""
        return f"held-out top-1 {validation['top_1']:.1f} %"

    def headlines(self, validation: Validated) -> dict[str, float]:
        """Return the accuracy, where an epoch was chosen by it."""
        return {"held-out top-1": validation["top_1"]} if "top_1" in validation else {}
