"""The contract of tasks whose data are pairs: two stores, and what of them belongs together."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ..options import TrainPlan
from .base import Task

if TYPE_CHECKING:
    from ...ranking.embeddings import PairedEmbeddings
    from ..open_task import Surroundings
    from ._open_pairs import OpenPairs
else:
    # As in `base`, and this file is read with any task on pairs.
    PairedEmbeddings = Any
    OpenPairs = Any
    Surroundings = Any


class PairedTask(Task):
    """Align the two sides of pairs by the objective of the preset."""

    def open(self, plan: TrainPlan, surroundings: Surroundings) -> OpenPairs:
        """Join the stores, and build adapter, objective and batches."""
        from ._open_pairs import OpenPairs  # imports torch

        return OpenPairs(self, plan, surroundings, measure=self.measure)

    @abstractmethod
    def measure(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        """Return what a validation measures of its pairs beside the loss."""
