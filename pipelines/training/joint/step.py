"""One step of a training of pairs that are read together, a few pairs at a time if asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ....adapters.joint_adapter import JointAdapter
from ....adapters.joint_batch import JointBatch
from ....adapters.joint_objective import JointObjective, JointObjectives
from ....featcache.tokens import Tokens
from ....featcache.types import Sides
from ..distributed import ALONE, ProcessGroup
from ..modules import TrainingModules
from ..options import TrainOptions
from ..step import OptimiserStep
from .batches import PairsLoaded, Targets

MATCHES = "matches"  # the label of an objective that reads wrong pairs, too


@dataclass(frozen=True)
class PairLosses:
    """Losses of some pairs, and the logits that they come from.

    Attributes:
        losses: Loss of each unit of an objective, by its name.
        logits: What heads give for the units of each objective, by the name of the objective.
        targets: What each objective had to tell, by its name.
    """

    losses: Mapping[str, Float[Tensor, " units"]]
    logits: Mapping[str, Float[Tensor, "rows outputs"]]
    targets: Mapping[str, Targets]


class JointForward:
    """Read pairs together, and compute the losses of each.

    Args:
        adapter: Reads the tokens of both sides.
        objectives: Losses of its heads.
        sides: What both sides are.
        dtype: Type of matrix products.
        device: Where the adapter is.
    """

    def __init__(
        self,
        adapter: JointAdapter,
        objectives: JointObjectives,
        *,
        sides: Sides,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.adapter = adapter
        self.objectives = objectives
        self.sides = sides
        self.dtype = dtype
        self.device = device

    def chunks(self, batch: PairsLoaded, size: int) -> Iterator[PairLosses]:
        """Yield the losses of some pairs of a batch after the other; with a size of 0 of all."""
        size = size or max(1, len(batch.pairs))
        for start in range(0, len(batch.pairs), size):
            yield self._run(batch, start, min(start + size, len(batch.pairs)))

    def logits(self, batch: PairsLoaded, head: str) -> Float[Tensor, "pairs outputs"]:
        """Return the logits of a head for all pairs of a batch, in their order."""
        return self._read(batch, 0, len(batch.pairs), {head: None})[head].float()

    def _run(self, batch: PairsLoaded, start: int, stop: int) -> PairLosses:
        objectives = self.objectives.named
        targets = {
            name: batch.targets[name].within(start, stop)
            for name in objectives
            if name in batch.targets
        }
        places = {objectives[name].head: _places(each) for name, each in targets.items()}
        all_logits = self._read(batch, start, stop, places)
        losses, logits = {}, {}
        for name, target in targets.items():
            objective = objectives[name]
            if len(target):
                labels = {label: target.labels[label].to(self.device) for label in objective.labels}
                logits[name] = _of_units(all_logits[objective.head], target, objective)
                losses[name] = objective(logits[name], labels)
        return PairLosses(losses, logits, targets)

    def _read(
        self,
        batch: PairsLoaded,
        start: int,
        stop: int,
        places: Mapping[str, Int64[Tensor, "units 2"] | None],
    ) -> dict[str, Tensor]:
        """Return the logits of some heads: of each pair, or of the tokens at its places."""
        sides = zip(self.sides, (batch.first, batch.second), strict=True)
        pairs = JointBatch(dict(sides), torch.from_numpy(batch.pairs[start:stop]), {})
        tokens = {
            side: _to_longest(of_side).to(self.device) for side, of_side in pairs.paired().items()
        }
        low = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=low):
            of_tokens = {head: at.to(self.device) for head, at in places.items() if at is not None}
            return self.adapter.logits(self.adapter(tokens), list(places), of_tokens)


class JointStep:
    """Add the gradient of the losses of pairs, and step the optimiser.

    The loss of a batch is the sum over objectives of the weight times the mean loss of the pairs
    that the objective reads, so that the losses of chunks and processes add up to it.

    Args:
        forward: Reads pairs.
        trained: The adapter, its objectives, and what steps both.
        options: How large chunks are, how many batches a step has, and its limit on gradients.
        scaler: Scales losses whose gradients would vanish in float16, or None.
        processes: Processes that share the pairs of each batch.
    """

    def __init__(
        self,
        forward: JointForward,
        trained: TrainingModules[JointAdapter, JointObjectives],
        options: TrainOptions,
        *,
        scaler: torch.amp.GradScaler | None = None,
        processes: ProcessGroup = ALONE,
    ) -> None:
        self.forward = forward
        self.processes = processes
        self._chunk_size = options.chunk_size
        self._optimiser_step = OptimiserStep.of(
            trained,
            options,
            scaler=scaler,
            sum_gradients=partial(processes.all_reduce_gradients, trained.parameters),
        )

    def add_gradient(self, batch: PairsLoaded, *, step: int | None = None) -> dict[str, float]:
        """Add the gradient of a batch's loss, and return the loss with its parts by name."""
        del step  # nothing changes in the course of a training
        weights = self.forward.objectives.weights
        names = list(weights)
        of_share = [[float(len(batch.targets[name])) for name in names]]
        counts = self._summed(torch.tensor(of_share, dtype=torch.float64))
        sums = torch.zeros(1, len(names), dtype=torch.float64)
        for chunk in self.forward.chunks(batch, self._chunk_size):
            terms = []
            for place, (name, count) in enumerate(zip(names, counts, strict=True)):
                if name in chunk.losses:
                    total = chunk.losses[name].sum()
                    terms.append(weights[name] / count * total)
                    sums[0, place] += float(total.detach())
            if terms:
                self._optimiser_step.add_gradient(torch.stack(terms).sum())
        parts = {
            name: total / count
            for name, total, count in zip(names, self._summed(sums), counts, strict=True)
            if count
        }
        loss = sum(weights[name] * part for name, part in parts.items())
        return {"loss": loss, **(parts if len(names) > 1 else {})}

    def _summed(self, of_share: Float[Tensor, "1 objectives"]) -> list[float]:
        """Return the sum of numbers over all processes."""
        summed: list[float] = self.processes.gather(of_share, self.processes.count).sum(0).tolist()
        return summed

    def take(self, factor: float = 1.0) -> None:
        """Step the optimiser, with `factor` of its highest learning rate."""
        self._optimiser_step.take(factor)


def _places(target: Targets) -> Int64[Tensor, "units 2"] | None:
    """Return row and position of each unit, or None where units are rows."""
    if target.positions is None:
        return None
    return torch.from_numpy(np.stack([target.pairs, target.positions], axis=1))


def _of_units(
    logits: Float[Tensor, "all outputs"], target: Targets, objective: JointObjective
) -> Float[Tensor, "rows outputs"]:
    """Return the logits of the units among those of a head: all, or those of their rows."""
    if target.positions is not None:
        return logits
    # units of rows are those of the first pairs, with all rows in between
    return logits[: len(target) * objective.rows_per_unit]


def _to_longest(tokens: Tokens) -> Tokens:
    """Return tokens padded to the longest of these rows alone."""
    longest = int(tokens.mask.sum(dim=1).max())
    return Tokens(tokens.values[:, :longest], tokens.mask[:, :longest])
