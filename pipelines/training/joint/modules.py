"""Joint adapter and objectives of a preset, with the optimiser of all, each part at its rate."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ....adapters.adapter import Widths, parameter_groups
from ....adapters.joint_adapter import JointAdapter, build_joint_adapter
from ....adapters.joint_objective import JointObjectives
from ....featcache.config import Table
from ....featcache.errors import SpecError
from ....featcache.types import Side
from ..modules import TrainingModules
from ..optimisation import MovingAverage, build_optimiser
from ..options import TrainOptions

_RATES = ("towers", "joint", "heads")  # names in [rates], beside slots of [joint]


def build_joint_trainable(
    table: Table,
    options: TrainOptions,
    *,
    widths: Mapping[Side, Widths],
    listed: Mapping[str, int],
    objectives: JointObjectives,
    seed: int,
    device: torch.device,
) -> TrainingModules[JointAdapter, JointObjectives]:
    """Build the joint adapter that `table` describes, on `device`, and what trains it.

    Args:
        table: The preset.
        options: Its `[train]` table.
        widths: Features of one token of each side.
        listed: Entries of each list that heads tell apart, by its name, such as `answers`.
        objectives: Losses of its heads, on `device`.
        seed: Seed of the initial weights.
        device: Where it is trained.

    Raises:
        SpecError: A side has several streams, or a table or an option is wrong.
        UnknownNameError: There is no such part.
    """
    for side, width in widths.items():
        if not isinstance(width, int):
            raise SpecError(
                f"a joint adapter reads one {side.label} stream, found {len(width)}: name one "
                "encoder and one layer"
            )
    adapter = build_joint_adapter(table, widths=widths, listed=listed, seed=seed)
    adapter = adapter.to(device)
    groups = [
        {**group, "lr": factor * options.learning_rate}
        for factor, parameters in _by_rate(adapter, table.get("rates", {}))
        for group in parameter_groups(
            parameters, weight_decay=options.weight_decay, decay_all=options.decay_all
        )
    ]
    optimiser = build_optimiser(options.optimiser, groups, learning_rate=options.learning_rate)
    average = MovingAverage([adapter], decay=options.ema) if options.ema else None
    return TrainingModules(adapter, objectives, optimiser, average)


def _by_rate(
    adapter: JointAdapter, rates: Mapping[str, Any]
) -> list[tuple[float, list[nn.Parameter]]]:
    """Return the parameters of each part with the factor on its learning rate, as `[rates]` says.

    It names `towers`, `joint`, `heads`, or a slot of `[joint]`, which counts before `joint`.

    Raises:
        SpecError: A name is none of these, or a factor is no number above 0.
    """
    slots = list(adapter.steps)
    for name, factor in rates.items():
        if name not in (*_RATES, *slots):
            raise SpecError(
                f"[rates] has no {name!r}; known: {', '.join(dict.fromkeys((*_RATES, *slots)))}"
            )
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
            raise SpecError(f"[rates] {name} must be a number above 0, found {factor!r}")
    parts: dict[str, tuple[float, nn.Module]] = {
        "towers": (rates.get("towers", 1.0), adapter.towers),
        "heads": (rates.get("heads", 1.0), adapter.heads),
        **{
            f"joint.{slot}": (rates.get(slot, rates.get("joint", 1.0)), step)
            for slot, step in adapter.steps.items()
        },
    }
    by_rate: dict[float, list[nn.Parameter]] = {}
    for factor, module in parts.values():
        by_rate.setdefault(float(factor), []).extend(module.parameters())
    return list(by_rate.items())
