"""What an adapter takes from its training rows before the first step of a training."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ..adapters.adapter import Adapter
from ..adapters.solver import LinearSolver, build_solver
from ..adapters.step import FittedStep
from ..adapters.steps.heads import Heads
from ..featcache.config import Table
from ..featcache.errors import SpecError
from .common.progress import Progress
from .inputs.pairs import JoinedStores
from .slots import Slots, blocks_before, require_own


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
        solver = build_solver(table["start"], where="[start]")
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
        fit_steps(self.adapter, self.stores, rows)
        if self.solver is not None and self.slots is not None:
            progress.note("solving the heads in closed form")
            self.slots.fill(self.solver, rows, progress)


def fit_steps(adapter: Adapter, stores: JoinedStores, rows: Int64[np.ndarray, " n"]) -> None:
    """Fit the steps that look at the training rows, in their order.

    Args:
        adapter: The adapter, in evaluation mode.
        stores: Where the features are.
        rows: Numbers of the images that are trained on.

    Raises:
        SpecError: Such a step is shared by both sides, or reads several tokens a row.
    """
    if not any(isinstance(step, FittedStep) for step in adapter.steps.values()):
        return
    firsts = stores.all_firsts(rows)
    partners = {second for first in firsts.tolist() for second in stores.seconds_of[first]}
    of_side = (firsts, np.array(sorted(partners), dtype=np.int64))
    for side, reader, own in zip(stores.pair.sides, stores.sources, of_side, strict=True):
        for name in adapter.paths[side]:
            step = adapter.steps[name]
            if isinstance(step, FittedStep):
                require_own(name, side)
                step.fit(*_moments_of(blocks_before(adapter, name, reader, own, side)))


def _moments_of(
    blocks: Iterable[Float[np.ndarray, "block features"]],
) -> tuple[Float64[Tensor, " features"], Float64[Tensor, " features"]]:
    """Return mean and variance of each feature over all blocks.

    Source: Chan et al. 1979, updating formulae, equation 2.1: no cancellation of large squares.
    """
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for block in blocks:
        values = block.astype(np.float64)
        own = values.mean(axis=0)
        total = count + len(values)
        apart = own - mean
        squares = squares + ((values - own) ** 2).sum(axis=0)
        squares = squares + apart**2 * (count * len(values) / total)
        mean = mean + apart * (len(values) / total)
        count = total
    return torch.from_numpy(mean), torch.from_numpy(squares / count)
