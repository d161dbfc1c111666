"""The contract of a joint objective: logits of a head and labels in, a loss a unit out.

A unit is what a loss counts by: a pair, a masked token, a patch, a box, a question.

Axis names: `rows` logits as a head gives them, one or several a unit; `outputs` logits of a row;
`units` units.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.registry import Registry
from .options import read_options

_WEIGHT = "weight"
# what is read together: both items as they are, or a view of one of them, or several texts to one
# image with boxes
PAIRS = "pairs"
MASKED_TOKENS = "masked-tokens"
MASKED_BOXES = "masked-boxes"
CHOICES = "choices"


class JointObjective(nn.Module, ABC):
    """Map the logits of a head and labels to a loss a unit.

    A subclass takes its options keyword-only, with types and defaults in the signature: its table
    in `[objective]` names any of them, and `weight`.

    Attributes:
        head: Name in `[heads]` of the head whose logits it reads.
        labels: Names of the labels that it needs.
        reading: What is read together for it: `PAIRS`, `MASKED_TOKENS`, `MASKED_BOXES` or
            `CHOICES`.
        unit: What its loss counts by, in the plural.
        rows_per_unit: Rows of logits that a unit has.
        accuracy: Name of the mean of what `told` gives, in percent.
        balanced_by: Name of the label over whose two values that is averaged, each counting as
            much as the other, or None where all units count alike.
    """

    head: ClassVar[str]
    labels: tuple[str, ...]
    reading: ClassVar[str] = PAIRS
    unit: ClassVar[str] = "pairs"
    rows_per_unit: int = 1
    accuracy: ClassVar[str]
    balanced_by: ClassVar[str | None] = None

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return the loss of each unit, in nats and in float32 at least.

        The mean over a batch is its loss, so that the losses of its parts add up to it exactly.
        `labels` may hold others than it needs.
        """

    @abstractmethod
    def told(
        self, logits: Float[Tensor, "rows outputs"], labels: Mapping[str, Tensor]
    ) -> Float[Tensor, " units"]:
        """Return how right the output with the highest logit is, in [0, 1], for each unit."""


JOINT_OBJECTIVES = Registry(
    "joint objective",
    f"{__package__}.joint_objectives",
    Path(__file__).parent / "joint_objectives",
    JointObjective,
)


@dataclass(frozen=True)
class WeightedObjective:
    """An objective and what its loss counts in the sum.

    Attributes:
        weight: Positive.
        objective: The objective.
    """

    weight: float
    objective: JointObjective


class JointObjectives(nn.Module):
    """Several joint objectives, each with what its loss counts in the sum.

    The sum itself is that of a training step, which knows how many pairs each objective reads.

    Args:
        weighted: The objectives by name.

    Attributes:
        weights: Weight of each, by name.
        heads: Names of the heads that they read, each once.
        labels: Names of the labels that they need, each once.
    """

    def __init__(self, weighted: Mapping[str, WeightedObjective]) -> None:
        super().__init__()
        self.weights = {name: each.weight for name, each in weighted.items()}
        self.objectives = nn.ModuleDict({name: each.objective for name, each in weighted.items()})
        objectives = [each.objective for each in weighted.values()]
        self.heads = tuple(dict.fromkeys(each.head for each in objectives))
        self.labels = tuple(dict.fromkeys(name for each in objectives for name in each.labels))

    @property
    def named(self) -> dict[str, JointObjective]:
        """Return the objectives by name."""
        return {
            name: objective
            for name, objective in self.objectives.items()
            if isinstance(objective, JointObjective)  # nothing else is among them
        }

    def forward(
        self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, " n"]]:
        """Return the loss of each pair under each objective, by name and without its weight.

        Args:
            logits: Logits of the same pairs, by head.
            labels: Labels of the pairs, by name.
        """
        return {
            name: objective(logits[objective.head], labels)
            for name, objective in self.named.items()
        }


def objective_weights(table: Mapping[str, Any]) -> dict[str, float]:
    """Return the weight of each objective that `[objective]` of a joint preset names.

    Raises:
        SpecError: It names none, an entry is no table, or a weight is no number above 0.
        UnknownNameError: No joint objective has this name.
    """
    if not table:
        raise SpecError(
            f"[objective] must name joint objectives, such as itm = {{ weight = 1.0 }}; "
            f"known: {JOINT_OBJECTIVES.names()}"
        )
    weights: dict[str, float] = {}
    for name, entry in table.items():
        JOINT_OBJECTIVES.load(name)
        if not isinstance(entry, Mapping):
            raise SpecError(
                f"[objective].{name} must be a table such as {{ weight = 1.0 }}, found {entry!r}"
            )
        weight = entry.get(_WEIGHT, 1.0)
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < math.inf:
            raise SpecError(f"[objective].{name}.weight must be above 0, found {weight!r}")
        weights[name] = float(weight)
    return weights


def build_joint_objectives(table: Mapping[str, Any]) -> JointObjectives:
    """Build the objectives that `[objective]` of a joint preset names, each with its options.

    Raises:
        SpecError: See `objective_weights`, or an option is unknown, missing or wrong.
        UnknownNameError: No joint objective has this name.
    """
    weighted: dict[str, WeightedObjective] = {}
    for name, weight in objective_weights(table).items():
        part = JOINT_OBJECTIVES.load(name)
        options = {key: value for key, value in table[name].items() if key != _WEIGHT}
        arguments = read_options(part, options, where=f"[objective].{name}")
        weighted[name] = WeightedObjective(weight, part(**arguments))
    return JointObjectives(weighted)
