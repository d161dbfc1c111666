"""One step of a training of pairs that are read together, a few pairs at a time if asked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ....adapters.joint_adapter import JointAdapter
from ....adapters.joint_batch import JointBatch
from ....adapters.joint_objective import JointObjectives
from ....featcache.tokens import Tokens
from ....featcache.types import Sides
from ..distributed import ALONE, ProcessGroup
from ..modules import TrainingModules
from ..options import TrainOptions
from ..step import OptimiserStep
from .batches import PairsLoaded

MATCHES = "matches"  # the label of an objective that reads wrong pairs, too


@dataclass(frozen=True)
class PairLosses:
    """Losses of some pairs, and the logits that they come from.

    Attributes:
        losses: Loss of each pair that an objective reads, by its name.
        logits: What heads give for these, by the name of the head.
    """

    losses: Mapping[str, Float[Tensor, " read"]]
    logits: Mapping[str, Float[Tensor, "read outputs"]]


class JointForward:
    """Read pairs together, and compute the losses of each.

    Args:
        adapter: Reads the tokens of both sides.
        objectives: Losses of its heads.
        sides: What both sides are.
        dtype: Type of matrix products.
        device: Where the adapter is.

    Attributes:
        reads_wrong: Whether each objective reads wrong pairs, too, by its name.
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
        self.reads_wrong = {
            name: MATCHES in objective.labels for name, objective in objectives.named.items()
        }

    def chunks(self, batch: PairsLoaded, size: int) -> Iterator[PairLosses]:
        """Yield the losses of some pairs of a batch after the other; with a size of 0 of all."""
        size = size or max(1, len(batch.pairs))
        for start in range(0, len(batch.pairs), size):
            yield self._run(batch, np.arange(start, min(start + size, len(batch.pairs))))

    def logits(self, batch: PairsLoaded, head: str) -> Float[Tensor, "pairs outputs"]:
        """Return the logits of a head for all pairs of a batch, in their order."""
        return self._read(batch, np.arange(len(batch.pairs)), [head])[head].float()

    def _run(self, batch: PairsLoaded, numbers: Int64[np.ndarray, " chunk"]) -> PairLosses:
        is_right = numbers < batch.num_right
        labels = {MATCHES: torch.from_numpy(is_right).to(self.device)}
        right = torch.from_numpy(numbers[is_right])
        for name, of_label in batch.labels.items():
            labels[name] = of_label[right].to(self.device)
        all_logits = self._read(batch, numbers)
        losses = {}
        for name, objective in self.objectives.named.items():
            count = len(numbers) if self.reads_wrong[name] else len(right)
            if count:
                read = {label: labels[label] for label in objective.labels}
                losses[name] = objective(all_logits[objective.head][:count], read)
        return PairLosses(losses, all_logits)

    def _read(
        self,
        batch: PairsLoaded,
        numbers: Int64[np.ndarray, " chunk"],
        heads: Sequence[str] | None = None,
    ) -> dict[str, Tensor]:
        sides = zip(self.sides, (batch.first, batch.second), strict=True)
        pairs = JointBatch(dict(sides), torch.from_numpy(batch.pairs[numbers]), {})
        tokens = {
            side: _to_longest(of_side).to(self.device) for side, of_side in pairs.paired().items()
        }
        low = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=low):
            return self.adapter.logits(self.adapter(tokens), heads)


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
        counts = {
            name: len(batch.rows) + (len(batch.rows.wrong) if reads_wrong else 0)
            for name, reads_wrong in self.forward.reads_wrong.items()
        }
        sums = torch.zeros(1, len(counts), dtype=torch.float64)
        for chunk in self.forward.chunks(batch, self._chunk_size):
            terms = []
            for place, (name, count) in enumerate(counts.items()):
                if name in chunk.losses:
                    total = chunk.losses[name].sum()
                    terms.append(weights[name] / count * total)
                    sums[0, place] += float(total.detach())
            self._optimiser_step.add_gradient(torch.stack(terms).sum())
        summed = self.processes.gather(sums, self.processes.count).sum(dim=0).tolist()
        parts = {name: total / counts[name] for name, total in zip(counts, summed, strict=True)}
        loss = sum(weights[name] * part for name, part in parts.items())
        return {"loss": loss, **(parts if len(parts) > 1 else {})}

    def take(self, factor: float = 1.0) -> None:
        """Step the optimiser, with `factor` of its highest learning rate."""
        self._optimiser_step.take(factor)


def _to_longest(tokens: Tokens) -> Tokens:
    """Return tokens padded to the longest of these rows alone."""
    longest = int(tokens.mask.sum(dim=1).max())
    return Tokens(tokens.values[:, :longest], tokens.mask[:, :longest])
