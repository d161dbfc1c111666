"""One training step as a plan looks at it: its memory, predicted or measured."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch

from ..adapters.adapter import build_adapter, count_parameters, parameter_groups
from ..adapters.objective import build_objective
from ..featcache.errors import OutOfMemoryError
from ..featcache.spec import Table, to_table
from .loop import resolve_precision
from .memory_model import MemoryModel
from .optimisers import build_optimiser
from .plan import InputShape
from .train import TrainOptions


@dataclass(frozen=True, kw_only=True)
class Task:
    """Hold what a step is made of.

    Attributes:
        towers: Table of the towers.
        objective: Table of the objective.
        options: How it is trained.
        shape: What one row is.
        device: Where.
    """

    towers: Table
    objective: Table
    options: TrainOptions
    shape: InputShape
    device: str

    def model(self) -> tuple[MemoryModel, int]:
        """Return the model of the step's memory, and the numbers that are trained."""
        adapter = build_adapter(self.towers, widths=self.shape.widths, seed=0)
        objective = build_objective(self.objective)
        groups = parameter_groups(
            adapter,
            objective,
            weight_decay=self.options.weight_decay,
            decay_all=self.options.decay_all,
        )
        model = MemoryModel(
            adapter,
            objective,
            lambda: build_optimiser(
                self.options.optimiser, groups, learning_rate=self.options.learning_rate
            ),
            shape=self.shape,
            averaged=bool(self.options.ema),
            dtype=resolve_precision(self.options.precision, torch.device(self.device)),
        )
        return model, count_parameters(adapter) + count_parameters(objective)

    def measure(self) -> int:
        """Return the most bytes that three steps take in a process of their own.

        Raises:
            OutOfMemoryError: They do not fit.
        """
        shape = {
            "tokens": {m.value: count for m, count in self.shape.tokens.items()},
            "widths": {m.value: count for m, count in self.shape.widths.items()},
            "texts": self.shape.texts,
            "feature_bytes": self.shape.feature_bytes,
        }
        task: dict[str, Any] = {
            "towers": self.towers,
            "objective": self.objective,
            "options": to_table(self.options),
            "shape": shape,
            "device": self.device,
        }
        code = f"from {__package__}.measured_steps import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], input=json.dumps(task), capture_output=True, text=True
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
            raise OutOfMemoryError(f"three steps could not be run here: {reason}")
        return int(json.loads(done.stdout)["peak"])
