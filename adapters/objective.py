"""The contract of a training objective: a batch of embedded pairs in, a loss to minimise out.

Axis names: `first` and `second` count the rows of both sides in a batch, `embed` the features of an
embedding.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ..featcache.errors import SpecError
from ..featcache.registry import Registry
from ..featcache.types import IMAGE_TEXT, Sides
from .options import build_part, read_options
from .positives import PairMask
from .structure import BLOCK, Structure


@dataclass(frozen=True)
class QueuedNegatives:
    """Embeddings of earlier batches, without a graph: further negatives of a batch.

    Attributes:
        first: L2-normalised embeddings of the first side.
        second: L2-normalised embeddings of the second side.
        first_to_second: True where row j of `second` is a negative of row i of the batch's first
            side: not where both belong together, which an earlier epoch or another partner of the
            row brings about.
        second_to_first: True where row j of `first` is a negative of row i of the batch's second
            side.
    """

    first: Float[Tensor, "old_first embed"]
    second: Float[Tensor, "old_second embed"]
    first_to_second: Bool[Tensor, "first old_second"]
    second_to_first: Bool[Tensor, "second old_first"]

    def to(self, device: torch.device) -> "QueuedNegatives":
        """Return the same on `device`."""
        return QueuedNegatives(*(tensor.to(device) for tensor in vars(self).values()))


@dataclass(frozen=True)
class TeacherFeatures:
    """Features of a batch from the frozen encoders, as the teacher of a loss.

    Attributes:
        first: L2-normalised features of the first side.
        second: L2-normalised features of the second side.
    """

    first: Float[Tensor, "first first_features"]
    second: Float[Tensor, "second second_features"]

    def to(self, device: torch.device) -> "TeacherFeatures":
        """Return the same on `device`."""
        return TeacherFeatures(self.first.to(device), self.second.to(device))

    def take(
        self, first: Int64[np.ndarray, " n"], second: Int64[np.ndarray, " m"]
    ) -> "TeacherFeatures":
        """Return these rows."""
        return TeacherFeatures(
            self.first[torch.from_numpy(first)], self.second[torch.from_numpy(second)]
        )


@dataclass(frozen=True)
class PairBatch:
    """Embeddings of a batch, with the mask of the pairs that belong together.

    Attributes:
        first: L2-normalised embeddings of the first side, such as distinct images.
        second: L2-normalised embeddings of the second side, such as their texts.
        positives: True where row i of `first` and row j of `second` belong together; every row of
            the batch has at least one partner in it. An objective that has `most_logits` gets
            `Positives`, or a tensor from elsewhere.
        remembered: Further negatives, or None.
        teacher: Features of the same rows, where the objective needs them.
        sides: What both sides are, for the names of parts; nothing else depends on them.
        step: Steps of the optimiser before it, in a training; None elsewhere.
    """

    first: Float[Tensor, "first embed"]
    second: Float[Tensor, "second embed"]
    positives: PairMask
    remembered: QueuedNegatives | None = None
    teacher: TeacherFeatures | None = None
    sides: Sides = IMAGE_TEXT
    step: int | None = None


@dataclass(frozen=True)
class Loss:
    """Loss to minimise, and the parts of it to log.

    Attributes:
        total: What is minimised, with its graph.
        parts: Numbers to log, by name, without a graph.
    """

    total: Float[Tensor, ""]
    parts: Mapping[str, Float[Tensor, ""]]


def split_parts(batch: PairBatch, count: int, *, first: int) -> list[PairBatch]:
    """Return the first of the `count` parts of equal width of embeddings, each of length 1.

    Raises:
        SpecError: The width of the embeddings is no multiple of `count`.
    """
    if count == 1:
        return [batch]
    width = batch.first.shape[1]
    if width % count:
        raise SpecError(f"an embedding of {width} features has no {count} parts of one width")

    def cut(values: Float[Tensor, "n embed"]) -> list[Float[Tensor, "n part"]]:
        return [functional.normalize(part, dim=1) for part in values.chunk(count, dim=1)[:first]]

    pairs = zip(cut(batch.first), cut(batch.second), strict=True)
    parts = [replace(batch, first=left, second=right) for left, right in pairs]
    if (old := batch.remembered) is None:
        return parts
    older = zip(cut(old.first), cut(old.second), strict=True)
    queues = [replace(old, first=left, second=right) for left, right in older]
    return [replace(part, remembered=queue) for part, queue in zip(parts, queues, strict=True)]


def at_least_float32(values: Tensor) -> Tensor:
    """Return half-precision values as float32, all others as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Objective(nn.Module, ABC):
    """Map a batch of pairs to a loss.

    A subclass takes its options keyword-only, with types and defaults in the signature: a preset's
    `[objective]` table names `part` and any of them. Parameters of an objective (a scale, say) are
    trained and saved with the adapter. Of several processes that share a batch each computes the
    whole loss, which must come out the same: what is drawn in it needs a generator of its own.

    Attributes:
        needs_teacher: Whether a batch must have a `teacher`.
        parts: Parts of one width that it takes an embedding for.
        contrasted: How many of them, the first ones, it looks at.
        most_logits: Logits that are in memory at once at most, or None for all of a batch.
    """

    needs_teacher: bool = False
    most_logits: int | None = None
    parts: int = 1
    contrasted: int = 1

    @abstractmethod
    def forward(self, batch: PairBatch) -> Loss:
        """Return the loss of `batch`."""

    def at_bound(self) -> str | None:
        """Return the bound that a trained number of its own has run into, in words, or None."""
        return None


class Structured(Objective):
    """Any objective and the regulariser of STRUCTURE, which keeps the neighbours of each side.

    Args:
        objective: What is regularised; parts of embeddings are its own matter.
        structure: The regulariser, on whole embeddings and averaged frozen tokens.
    """

    needs_teacher = True

    def __init__(self, objective: Objective, structure: Structure) -> None:
        super().__init__()
        self.objective = objective
        self.structure = structure
        self.parts, self.contrasted = objective.parts, objective.contrasted
        if objective.most_logits is not None:
            self.most_logits = max(objective.most_logits, BLOCK)

    def at_bound(self) -> str | None:
        """Return the bound that a number of the objective has run into, in words, or None."""
        return self.objective.at_bound()

    def forward(self, batch: PairBatch) -> Loss:
        """Return the loss; its parts are those of the objective and `structure`, unweighted."""
        loss = self.objective(batch)
        assert batch.teacher is not None, "an objective that needs a teacher gets one"
        # float32 even under autocast: powers of probabilities have many small numbers
        with torch.autocast(batch.first.device.type, enabled=False):
            first, second = (
                self.structure.divergence(features, at_least_float32(embeddings))
                for features, embeddings in (
                    (batch.teacher.first, batch.first),
                    (batch.teacher.second, batch.second),
                )
            )
        divergence = (first + second) / 2
        total = loss.total + self.structure.weight_at(batch.step) * divergence
        return Loss(total, {**loss.parts, "structure": divergence.detach()})


OBJECTIVES = Registry(
    "objective", f"{__package__}.objectives", Path(__file__).parent / "objectives", Objective
)


def build_objective(table: Mapping[str, Any]) -> Objective:
    """Build the objective that a preset's `[objective]` names, by its `part` and its options.

    A table `structure` in it adds that regulariser, whatever the part.

    Raises:
        SpecError: The table names no part, or an option is unknown, missing or wrong.
        UnknownNameError: No objective has this name.
    """
    options = dict(table)
    structure = options.pop("structure", None)
    objective = build_part(OBJECTIVES, options, where="[objective]", example="clip")
    if structure is None:
        return objective
    where = "[objective.structure]"
    if not isinstance(structure, Mapping):
        raise SpecError(f"{where} must be a table such as {{ weight = 10.0 }}, found {structure!r}")
    return Structured(objective, Structure(**read_options(Structure, structure, where=where)))
