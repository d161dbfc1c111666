"""One training step as a plan looks at it: its memory, predicted or measured."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import torch

from ...featcache.config import Table, build, to_table
from ...featcache.errors import OutOfMemoryError, SpecError
from ...featcache.types import sides_of
from ..common.reproducibility import resolve_precision
from ..training.modules import build_trainable
from ..training.options import TrainOptions
from .memory_model import MemoryModel
from .process_memory import STATUS
from .shapes import InputShape

# glibc otherwise keeps blocks of many megabytes when they are freed, up to half of a peak again
_RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
_LACKING = ("out of memory", "can't allocate memory", "MemoryError")


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """Parts that a planned training step is made of.

    Attributes:
        table: Preset with `towers` and `objective`.
        options: How it is trained.
        shape: What one row is.
        device: Where.
    """

    table: Table
    options: TrainOptions
    shape: InputShape
    device: str

    def model(self) -> tuple[MemoryModel, int]:
        """Return the model of the step's memory, and the numbers that are trained."""
        trainable = build_trainable(
            self.table,
            self.options,
            widths=self.shape.widths,
            seed=0,
            device=torch.device("cpu"),
        )
        model = MemoryModel(
            trainable,
            shape=self.shape,
            dtype=resolve_precision(self.options.precision, torch.device(self.device)),
            accumulates=self.options.accumulate > 1,
            queue=self.options.queue,
        )
        return model, trainable.num_parameters

    def measure(self) -> int:
        """Return the most bytes that three steps take in a process of their own.

        On a CPU with glibc the process gives back what is freed, as none does by default: what the
        C library keeps differs from run to run, and would be given to other tensors.

        Raises:
            SpecError: This system does not say how much memory a process takes.
            OutOfMemoryError: They do not fit.
        """
        if self.device == "cpu" and not STATUS.is_file():
            raise SpecError(f"--measure on a CPU needs {STATUS}, which this system has not")
        code = f"from {__package__}.measure import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(self.to_json()),
            env={**os.environ, **_RETURNED},
            capture_output=True,
            text=True,
        )
        if done.returncode < 0 or any(words in done.stderr for words in _LACKING):
            reason = (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]
            raise OutOfMemoryError(f"three steps do not fit this machine: {reason}")
        if done.returncode:
            raise RuntimeError(f"the process that measures has failed:\n{done.stderr}")
        return int(json.loads(done.stdout)["peak"])

    def to_json(self) -> Table:
        """Return the step as JSON values."""
        assert not self.shape.pooled, "rows that are pooled once are those of stores"
        return {
            "table": self.table,
            "options": to_table(self.options),
            "tokens": {side.value: count for side, count in self.shape.tokens.items()},
            "widths": {side.value: width for side, width in self.shape.widths.items()},
            "shape": {
                "texts": self.shape.texts,
                "feature_bytes": self.shape.feature_bytes,
                "ready": self.shape.ready,
            },
            "device": self.device,
        }

    @classmethod
    def from_json(cls, found: Table) -> "PlannedStep":
        """Return the step that `to_json` wrote."""
        sides = sides_of(found["tokens"])
        return cls(
            table=found["table"],
            options=build(TrainOptions, found["options"], where="[train]"),
            shape=InputShape(
                tokens={side: found["tokens"][side.value] for side in sides},
                widths={side: found["widths"][side.value] for side in sides},
                **found["shape"],
            ),
            device=found["device"],
        )
