"""Stores of a training, opened once for all trainings of a plan."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.adapter import Adapter
from ..inputs.image_text import join_stores
from ..inputs.pairs import PairDataset
from .options import TrainPlan
from .validation import split_rows


@dataclass(frozen=True)
class TrainingInputs:
    """Stores of a training, opened; several trainings of one plan may share them.

    Attributes:
        stores: What is trained on.
        split: What validates, of a split of its own, or None.
        ensemble: Trained adapter of the same table, at rest, that a student learns from, or None.
    """

    stores: PairDataset
    split: PairDataset | None
    ensemble: Adapter | None = None

    @classmethod
    def open(
        cls, plan: TrainPlan, *, home: Path, device: torch.device, validates: bool = True
    ) -> "TrainingInputs":
        """Open the stores of a plan; without `validates` those that are trained on alone."""
        join = partial(
            join_stores,
            home=home,
            residency=plan.options.residency,
            device=device,
            same_text=plan.options.same_text,
        )
        stores = join(plan.stores)
        return cls(stores, join(plan.validation) if plan.validation and validates else None)

    def rows(
        self, plan: TrainPlan, seed: int
    ) -> tuple[Int64[np.ndarray, " trained"], Int64[np.ndarray, " held"]]:
        """Return the images to train on and those held out, for a training of this seed."""
        drawn_by = seed if plan.holdout_seed is None else plan.holdout_seed
        return split_rows(self.stores.images, plan.holdout, drawn_by)
