"""Retrieval: each item of one side finds what belongs to it among all of the other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ._paired import PairedTask
from .base import Best, Curve, Validated

if TYPE_CHECKING:
    from ...ranking.embeddings import PairedEmbeddings
else:
    PairedEmbeddings = Any  # as in `base`


class Retrieval(PairedTask):
    """Retrieve across two sides, in both directions; the best has the highest sum of recalls."""

    best = Best("recall_sum", title="sum of recalls", digits=1)
    curve = Curve("Validation recall", "sum of R@1, R@5 and R@10 both ways, %", "recall_sum")

    def measure(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        """Return R@1, R@5 and R@10 of both directions, in percent, and their sum."""
        from ...ranking.recall import headline_recalls  # imports scipy and FAISS

        return headline_recalls(embeddings)

    def words(self, validation: Validated) -> str:
        """Return R@1 of both directions: `validation R@1 text to image 23.1 %, ...`."""
        recalls = [
            f"{direction.replace('_', ' ')} {table['1']:.1f} %"
            for direction, table in _directions(validation).items()
        ]
        return f"validation R@1 {', '.join(recalls)}"

    def scalars(self, validation: Validated) -> dict[str, float]:
        """Return the recalls as `text_to_image/R@1`, and all else by its name."""
        numbers: dict[str, float] = {}
        for name, value in validation.items():
            if isinstance(value, Mapping):
                numbers |= {f"{name}/R@{rank}": recall for rank, recall in value.items()}
            else:
                numbers[name] = value
        return numbers

    def headlines(self, validation: Validated) -> dict[str, float]:
        """Return R@1 of both directions, as `validation text to image R@1`."""
        return {
            f"validation {direction.replace('_', ' ')} R@1": table["1"]
            for direction, table in _directions(validation).items()
        }


def _directions(validation: Validated) -> dict[str, Mapping[str, float]]:
    return {name: table for name, table in validation.items() if isinstance(table, Mapping)}
