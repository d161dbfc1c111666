"""What an adapter takes from its training rows before the first step of a training."""

import numpy as np
import torch
from jaxtyping import Int64

from ..adapters.adapter import Adapter
from ..adapters.solver import LinearSolver, build_solver
from ..adapters.step import FittedStep
from ..adapters.steps.heads import Heads
from ..featcache.errors import SpecError
from ..featcache.spec import Table
from ..featcache.types import Side
from .joined import JoinedStores
from .progress import Progress
from .slots import Slots, features_before


class Start:
    """Fit steps that look at the training rows, and fill heads in closed form by `[start]`.

    Args:
        table: The preset.
        adapter: Its adapter.
        stores: Where the features are.

    Raises:
        SpecError: `[start]` names no linear solver or finds no head to fill, or there is such a
            head and no `[start]`.
        UnknownNameError: There is no such solver.
    """

    def __init__(self, table: Table, adapter: Adapter, stores: JoinedStores) -> None:
        self.adapter = adapter
        self.stores = stores
        self.solver: LinearSolver | None = None
        self.slots: Slots | None = None
        steps = adapter.steps.values()
        if "start" not in table:
            if any(isinstance(step, Heads) and step.solved is not None for step in steps):
                raise SpecError(
                    "a heads step has a solved head, and there is no [start] to fill it"
                )
            return
        solver = build_solver(table["start"])
        if not isinstance(solver, LinearSolver):
            raise SpecError(f"[start] needs a linear solver such as cca, found {table['start']}")
        self.solver = solver
        self.slots = Slots(adapter, stores, solver)

    def run(self, rows: Int64[np.ndarray, " n"], progress: Progress) -> None:
        """Look at the training pairs.

        Args:
            rows: Numbers of the images that are trained on.
            progress: Receives the progress.
        """
        self.adapter.eval()
        firsts = self.stores.all_firsts(rows)
        partners = {second for first in firsts.tolist() for second in self.stores.seconds_of[first]}
        seconds = np.array(sorted(partners), dtype=np.int64)
        readers = (self.stores.first, self.stores.second)
        for side, reader, own in zip(
            self.stores.pair.sides, readers, (firsts, seconds), strict=True
        ):
            for name in self.adapter.paths[side]:
                step = self.adapter.steps[name]
                if isinstance(step, FittedStep):
                    _check_own(name, side)
                    found = features_before(self.adapter, name, reader, own, side)
                    found = found.astype(np.float64)
                    step.fit(
                        torch.from_numpy(found.mean(axis=0)), torch.from_numpy(found.var(axis=0))
                    )
        if self.solver is not None and self.slots is not None:
            progress.note("solving the heads in closed form")
            self.slots.fill(self.solver, rows, progress)


def _check_own(name: str, side: Side) -> None:
    if name.partition("/")[0] != side.value:
        raise SpecError(f"slot {name.partition('/')[2]!r} must say per_modality = true")
