"""Modules that a training changes, built from its tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import nn

from ...adapters.adapter import (
    Adapter,
    Widths,
    build_adapter,
    count_parameters,
    parameter_groups,
)
from ...adapters.objective import Objective, build_objective
from ...adapters.steps.heads import Heads
from ...featcache.config import Table
from ...featcache.errors import SpecError
from ...featcache.types import Side
from .optimisation import MovingAverage, build_optimiser
from .options import TrainOptions

AdapterT = TypeVar("AdapterT", bound=nn.Module)
ObjectiveT = TypeVar("ObjectiveT", bound=nn.Module)


@dataclass(frozen=True)
class TrainingModules(Generic[AdapterT, ObjectiveT]):
    """Modules of a training, with the optimiser and the moving average, if any, of all.

    Attributes:
        heads: What a task trains beside adapter and objective, by name.
    """

    adapter: AdapterT
    objective: ObjectiveT
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None
    heads: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Return all modules by name."""
        return {"adapter": self.adapter, "objective": self.objective, **self.heads}

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all modules."""
        return [value for module in self.modules.values() for value in module.parameters()]

    @property
    def num_parameters(self) -> int:
        """Return how many numbers are trained."""
        return sum(map(count_parameters, self.modules.values()))


def build_trainable(
    table: Table,
    options: TrainOptions,
    *,
    widths: Mapping[Side, Widths],
    seed: int,
    device: torch.device,
) -> TrainingModules[Adapter, Objective]:
    """Build what the `towers` and the `objective` of `table` describe, on `device`.

    Raises:
        SpecError: A table or an option is wrong, or the objective cuts embeddings in other parts
            than the towers make.
        UnknownNameError: There is no such part.
    """
    adapter = build_adapter(table["towers"], widths=widths, seed=seed).to(device)
    objective = build_objective(table["objective"]).to(device)
    _check_parts(adapter, objective)
    # the objective, too: its scale is trained, and without `decay_all` never decayed
    groups = parameter_groups(
        [*adapter.parameters(), *objective.parameters()],
        weight_decay=options.weight_decay,
        decay_all=options.decay_all,
    )
    optimiser = build_optimiser(options.optimiser, groups, learning_rate=options.learning_rate)
    average = MovingAverage([adapter, objective], decay=options.ema) if options.ema else None
    return TrainingModules(adapter, objective, optimiser, average)


def _check_parts(adapter: Adapter, objective: Objective) -> None:
    """Refuse an objective that would cut embeddings elsewhere than between their heads."""
    if objective.parts == 1:
        return
    # an objective of several parts cuts embeddings evenly, wherever the heads of a tower end
    for side, names in adapter.paths.items():
        step = adapter.steps[names[-1]]
        trained = len(step.heads) if isinstance(step, Heads) else 1
        parts = trained + (isinstance(step, Heads) and step.solved is not None)
        if (objective.parts, objective.contrasted) != (parts, trained):
            raise SpecError(
                f"[objective] parts and contrasted must be {parts} and {trained}, the heads of the "
                f"{side.value} tower with and without the solved one, or 1; found "
                f"{objective.parts} and {objective.contrasted}"
            )
