"""One training step: gradients of one batch or several, then the optimiser.

Everything that trains takes its steps here: adapters on pairs, heads of classes, and the steps on
random features by which a plan measures memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ...adapters.adapter import Adapter
from ...adapters.distillation import Distilled
from ...adapters.gradcache import LazyTokens, backward_in_chunks
from ...adapters.objective import Objective, PairBatch, QueuedNegatives, TeacherFeatures
from ...featcache.config import to_table
from ...featcache.tokens import Tokens
from ...featcache.types import Side, Sides
from ..inputs.pairs import BatchRows
from .batches import Batch, load_ahead
from .distil_options import DistilOptions
from .distributed import ALONE, ProcessGroup
from .modules import TrainingModules
from .optimisation import MovingAverage
from .options import TrainOptions


@runtime_checkable  # the typing hook of the tests asks at run time
class RememberedPairs(Protocol):
    """Embeddings of earlier batches, such as a `NegativeQueue`."""

    def recall(self, rows: BatchRows) -> QueuedNegatives | None:
        """Return what is remembered, and which of it is a negative of which of these rows."""

    def add(self, rows: BatchRows, pairs: PairBatch) -> None:
        """Remember the embeddings of these rows."""


def _stay() -> None:
    """Leave the gradients as they are: no other process has further ones."""


class OptimiserStep:
    """Add gradients of losses, and step the optimiser by their sum.

    Args:
        parameters: What is trained.
        optimiser: Optimiser of `parameters`, each group at its highest learning rate.
        gradient_clip: Largest norm of all gradients together, or 0 for no limit.
        accumulate: Losses of a step; the gradient of each is divided by their number.
        scaler: Scales losses whose gradients would vanish in float16, or None.
        average: Moving average of the weights, or None.
        sum_gradients: Adds to the gradients what other processes have found.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimiser: torch.optim.Optimizer,
        *,
        gradient_clip: float = 0.0,
        accumulate: int = 1,
        scaler: torch.amp.GradScaler | None = None,
        average: MovingAverage | None = None,
        sum_gradients: Callable[[], None] = _stay,
    ) -> None:
        self.optimiser = optimiser
        self._parameters = parameters
        self._gradient_clip = gradient_clip
        self._accumulate = accumulate
        self._scaler = scaler
        self._average = average
        self._sum_gradients = sum_gradients
        self._highest_rates = [group["lr"] for group in optimiser.param_groups]

    @classmethod
    def of(
        cls,
        trained: TrainingModules[Any, Any],
        options: TrainOptions,
        *,
        scaler: torch.amp.GradScaler | None,
        sum_gradients: Callable[[], None],
    ) -> "OptimiserStep":
        """Return the step of all modules of a training, as its options have it."""
        return cls(
            trained.parameters,
            trained.optimiser,
            gradient_clip=options.gradient_clip,
            accumulate=options.accumulate,
            scaler=scaler,
            average=trained.average,
            sum_gradients=sum_gradients,
        )

    def scaled(self, loss: Tensor) -> Tensor:
        """Return a loss as its gradient is taken."""
        scaled: Tensor = loss if self._scaler is None else self._scaler.scale(loss)
        return scaled / self._accumulate if self._accumulate > 1 else scaled

    def add_gradient(self, loss: Tensor) -> None:
        """Add the gradient of a loss to that of those before it."""
        torch.autograd.backward(self.scaled(loss))

    def take(self, factor: float = 1.0) -> None:
        """Step by the gradients that were added, and forget them.

        Args:
            factor: Factor of the schedule on the highest learning rates.
        """
        for group, highest in zip(self.optimiser.param_groups, self._highest_rates, strict=True):
            group["lr"] = factor * highest
        self._sum_gradients()
        # before the norm is limited: that is of gradients as they are
        if self._scaler is not None:
            self._scaler.unscale_(self.optimiser)
        if self._gradient_clip:
            nn.utils.clip_grad_norm_(self._parameters, self._gradient_clip)
        if self._scaler is None:
            self.optimiser.step()
        else:
            self._scaler.step(self.optimiser)
            self._scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        # after the step, whose weights it takes in
        if self._average is not None:
            self._average.update()


class TrainStep:
    """Embed the pairs of a batch, add the gradient of their loss, and step the optimiser.

    Args:
        trained: The adapter, its objective, and what steps both.
        options: How large chunks are, how many batches a step has, and its limit on gradients.
        sides: What both sides are.
        dtype: Type of matrix products.
        device: Where the adapter is.
        scaler: Scales losses whose gradients would vanish in float16, or None.
        processes: Processes that share the rows of each batch.
        queue: Embeddings of earlier batches that are further negatives, or None.
        unpaired: Loss of the unpaired items of a batch, or None.
        ensemble: Trained adapter, at rest, that the adapter takes cosines on of, or None.
        distil: How it does.
    """

    def __init__(
        self,
        trained: TrainingModules[Adapter, Objective],
        options: TrainOptions,
        *,
        sides: Sides,
        dtype: torch.dtype,
        device: torch.device,
        scaler: torch.amp.GradScaler | None = None,
        processes: ProcessGroup = ALONE,
        queue: RememberedPairs | None = None,
        unpaired: Objective | None = None,
        ensemble: Adapter | None = None,
        distil: DistilOptions | None = None,
    ) -> None:
        self.adapter, self.objective = trained.adapter, trained.objective
        self.ensemble = ensemble
        if ensemble is not None and distil is not None:
            # only here: what is validated and saved is the objective alone
            self.objective = Distilled(trained.objective, **to_table(distil))
        self.sides = sides
        self.dtype = dtype
        self.device = device
        self.processes = processes
        self.queue = queue
        self.unpaired = unpaired
        self._in_chunks = options.chunk_size > 0
        self._optimiser_step = OptimiserStep.of(
            trained,
            options,
            scaler=scaler,
            sum_gradients=partial(
                processes.all_reduce_gradients,
                list(trained.adapter.parameters()),
                alike=list(trained.objective.parameters()),
            ),
        )

    def add_gradient(self, batch: Batch, *, step: int | None = None) -> dict[str, float]:
        """Add the gradient of a batch's loss, and return the loss with its parts by name.

        The loss of unpaired items is added to that of the pairs.

        Args:
            batch: The batch.
            step: Steps before it, for what changes in the course of a training; None for its end.
        """
        losses = self._add(batch, self.objective, partial(self._complete, batch, step))
        if self.unpaired is None or batch.unpaired is None:
            return losses
        # a graph of its own, after that of the pairs is gone
        taught = partial(self._with_teacher, batch.unpaired)
        more = self._add(batch.unpaired, self.unpaired, taught)
        return {**losses, **more, "loss": losses["loss"] + more["loss"]}

    def _add(
        self, batch: Batch, objective: Objective, complete: Callable[[PairBatch], PairBatch]
    ) -> dict[str, float]:
        """Add the gradient of one loss of one batch, and return it with its parts."""
        positives = batch.positives.to(self.device)
        if self._in_chunks:
            loss = backward_in_chunks(
                self.embed,
                objective,
                first=batch.first,
                second=batch.second,
                positives=positives,
                sides=self.sides,
                load_all=load_ahead,
                scale=self._optimiser_step.scaled,
                join=self._join,
                complete=complete,
            )
        else:
            first, second = (
                self._join(self.embed_all(loads, side), num_rows)
                for loads, side, num_rows in zip(
                    (batch.first, batch.second), self.sides, positives.shape, strict=True
                )
            )
            embedded = PairBatch(first, second, positives, sides=self.sides)
            loss = objective(complete(embedded))
            self._optimiser_step.add_gradient(loss.total)
        parts = {name: float(part) for name, part in loss.parts.items()}
        return {"loss": float(loss.total.detach()), **parts}

    def take(self, factor: float = 1.0) -> None:
        """Step the optimiser, with `factor` of its highest learning rate."""
        self._optimiser_step.take(factor)

    def embed(self, tokens: Tokens, side: Side) -> Tensor:
        """Return the embeddings of rows, with a graph, in the type of matrix products."""
        return self._embed_by(self.adapter, tokens, side)

    def _embed_by(self, adapter: Adapter, tokens: Tokens, side: Side) -> Tensor:
        low = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=low):
            return adapter.embed(tokens.to(self.device), side)

    def embed_all(self, loads: Sequence[LazyTokens], side: Side) -> list[Tensor]:
        """Return the embeddings of groups of rows."""
        return [self.embed(load(), side) for load in loads]

    def _join(self, parts: Sequence[Tensor], num_rows: int) -> Tensor:
        """Return the embeddings of the whole batch, those of other processes included."""
        # with fewer rows than processes one has none, but its gradients are still summed
        if not parts:
            width = self.adapter.out_width
            parts = [torch.zeros(0, width, device=self.device, requires_grad=True)]
        return self.processes.gather(torch.cat(list(parts)), num_rows)

    def _complete(self, batch: Batch, step: int | None, pairs: PairBatch) -> PairBatch:
        """Return the pairs of a batch with what else the objective looks at."""
        pairs = self._with_teacher(batch, replace(pairs, step=step))
        if self.ensemble is not None:
            pairs = replace(pairs, taught=self._taught(batch, self.ensemble))
        if self.queue is None:
            return pairs
        # recalled first: a batch is not among its own earlier ones
        remembered = self.queue.recall(batch.rows)
        self.queue.add(batch.rows, pairs)
        return replace(pairs, remembered=remembered)

    @torch.no_grad()
    def _taught(self, batch: Batch, ensemble: Adapter) -> TeacherFeatures:
        """Return the embeddings of a batch by the ensemble, loaded as those of the adapter."""
        embedded = []
        for loads, side in zip((batch.first, batch.second), self.sides, strict=True):
            groups = load_ahead(loads) if self._in_chunks else (load() for load in loads)
            embedded.append(torch.cat([self._embed_by(ensemble, group, side) for group in groups]))
        return TeacherFeatures(*embedded)

    def _with_teacher(self, batch: Batch, pairs: PairBatch) -> PairBatch:
        """Return the pairs of a batch with what its teacher makes of them, if it has one."""
        if batch.teacher is None:
            return pairs
        features = batch.teacher.to(self.device)
        shares = zip((features.first, features.second), pairs.positives.shape, strict=True)
        teacher = TeacherFeatures(*(self.processes.gather(*share) for share in shares))
        return replace(pairs, teacher=teacher)
