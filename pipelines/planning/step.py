"""Planned step of a training that aligns two sides."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ...adapters.adapter import Adapter
from ...adapters.gradcache import LazyTokens
from ...adapters.klot import Klot
from ...adapters.objective import Objective, PairBatch, QueuedNegatives, TeacherFeatures
from ...adapters.positives import Positives
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..common.reproducibility import resolve_precision
from ..inputs.pairs import BatchRows
from ..training.batches import Batch
from ..training.mixup import MixupOptions
from ..training.modules import TrainingModules, build_trainable
from ..training.step import TrainStep
from ..training.unpaired_options import UNPAIRED, UnpairedOptions, unpaired_options
from .planned import Planned


class _FullQueue:
    """Full queue, all of which is negative for every row."""

    def __init__(self, remembered: QueuedNegatives) -> None:
        self._remembered = remembered

    def recall(self, rows: BatchRows) -> QueuedNegatives:
        return self._remembered

    def add(self, rows: BatchRows, pairs: PairBatch) -> None:
        """Keep the queue as it is, which takes as much memory as any other."""


@dataclass(frozen=True, kw_only=True)
class PlannedStep(Planned):
    """Planned step of a training that aligns two sides: a preset with `towers` and `objective`.

    Attributes:
        is_unpaired: Whether it is the part of a step that learns from unpaired items alone.
    """

    is_unpaired: bool = False

    @property
    def batches_ready(self) -> int:
        """Return those of the shape, or one where chunks are loaded one after the other."""
        return 1 if self.options.chunk_size else self.shape.ready

    @property
    def paired(self) -> "PlannedStep":
        """Return the part of the step that learns from pairs."""
        table = {key: value for key, value in self.table.items() if key != UNPAIRED}
        return replace(self, table=table)

    @property
    def unpaired(self) -> "PlannedStep | None":
        """Return the part of the step that learns from unpaired items, if there is one.

        Its batch is of items of either side, and what it adds its gradients to is there before.
        """
        if UNPAIRED not in self.table or self.is_unpaired:
            return None
        size = self.unpaired_options.batch_size
        options = replace(
            self.options,
            batch_size=size,
            queue=0,
            mixup=MixupOptions(),
            accumulate=max(2, self.options.accumulate),
        )
        shape = replace(self.shape, texts=1, pooled={})
        return replace(self, options=options, shape=shape, is_unpaired=True)

    @property
    def unpaired_options(self) -> UnpairedOptions:
        """Return the `[unpaired]` table of a preset that has one."""
        return unpaired_options(self.table)

    @property
    def teacher_widths(self) -> dict[Side, int]:
        """Return the features of what a teacher makes of a row of each side."""
        widths = {side: self.shape.width(side) for side in self.shape.sides}
        if not self.is_unpaired:
            return widths
        return dict.fromkeys(widths, self.unpaired_options.width(widths))

    def modules(self, device: torch.device) -> TrainingModules[Adapter, Objective]:
        """Return what is trained, on a device that may be another one."""
        trained = build_trainable(
            self.table, self.options, widths=self.shape.widths, seed=0, device=device
        )
        if not self.is_unpaired:
            return trained
        return replace(trained, objective=Klot(**self.unpaired_options.klot))

    def train_step(
        self, modules: TrainingModules[Adapter, Objective], images: int, device: torch.device
    ) -> TrainStep:
        """Return the step that trains `modules` on batches of so many images."""
        modules.adapter.train()
        queue = None
        # full from the start: a training is planned as it is after some batches
        if size := self.options.queue:
            rows = self.shape.rows(images)
            masks = [torch.ones(count, size, dtype=torch.bool) for count in rows.values()]
            embeddings = [_unit(size, modules.adapter.out_width) for _ in masks]
            queue = _FullQueue(QueuedNegatives(*embeddings, *masks).to(device))
        return TrainStep(
            modules,
            self.options,
            sides=self.shape.sides,
            dtype=resolve_precision(self.options.precision, self.device),
            device=device,
            queue=queue,
            unpaired=None if self.unpaired is None else Klot(**self.unpaired_options.klot),
        )

    def batch(self, images: int, device: torch.device, objective: Objective) -> Batch:
        """Return a batch of random features as an objective reads it; chunks when loaded."""
        first, second = self.shape.rows(images).items()
        texts = torch.arange(0 if self.is_unpaired else second[1])
        positives = Positives(texts // self.shape.texts, texts, (first[1], second[1]))
        units = [_unit(rows, self.teacher_widths[side]) for side, rows in (first, second)]
        unpaired = self.unpaired
        return Batch(
            rows=BatchRows(np.arange(first[1]), np.arange(second[1])),
            first=self._loads(*first),
            second=self._loads(*second),
            positives=positives.as_mask(objective.most_logits).to(device),
            teacher=TeacherFeatures(*units).to(device) if objective.needs_teacher else None,
            unpaired=None
            if unpaired is None
            else unpaired.batch(
                unpaired.options.batch_size, device, Klot(**self.unpaired_options.klot)
            ),
        )

    def _loads(self, side: Side, rows: int) -> list[LazyTokens]:
        make: Callable[[int], Tokens] = partial(self.shape.random_rows, side)
        if chunk := self.options.chunk_size:
            return [partial(make, min(chunk, rows - first)) for first in range(0, rows, chunk)]
        whole = make(rows)
        return [lambda: whole]


def _unit(rows: int, width: int) -> Float[Tensor, "rows width"]:
    return functional.normalize(torch.randn(rows, width), dim=1)
