"""A linear teacher from the training pairs alone: what is near to what among items without pairs.

Axis names: `n` rows, `width` features of a token, `taught` of the teacher's vectors.
"""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from ...adapters.gradcache import LazyTokens
from ...adapters.solver import LinearSolver, build_solver
from ...featcache.errors import SpecError
from ...featcache.reading.reader import FeatureReader
from ...featcache.types import Side
from ..common.progress import Progress
from ..inputs.pairs import PairDataset
from .batches import loads_of, unit_means
from .pair_moments import pair_moments
from .unpaired_options import UNPAIRED, UnpairedOptions


class LinearTeacher:
    """Map averaged tokens of each side into one space, by a closed form on the training pairs.

    Until it is solved, or what another process has solved is copied, all of its vectors are zero.

    Args:
        options: Which solver, and how many features it gives.
        widths: Features of a token of each side.
        device: Where its vectors are used.

    Raises:
        SpecError: The solver is none that gives linear maps of features, or gives fewer features.
        UnknownNameError: There is no such solver.
    """

    def __init__(
        self, options: UnpairedOptions, *, widths: Mapping[Side, int], device: torch.device
    ) -> None:
        solver = build_solver(options.teacher, where=f"[{UNPAIRED}.teacher]")
        if not isinstance(solver, LinearSolver) or solver.weighs or solver.by_kernel:
            raise SpecError(
                f"[{UNPAIRED}.teacher] needs a solver of two linear maps such as cca, found "
                f"{options.teacher.get('part')!r}"
            )
        self._solver: LinearSolver = solver
        self._widths = dict(widths)
        self._taught = options.width(widths)
        self._device = device
        self._weights = {
            side: torch.zeros(self._taught, width, device=device) for side, width in widths.items()
        }
        self._biases = {side: torch.zeros(self._taught, device=device) for side in widths}

    def solve(
        self, stores: PairDataset, rows: Int64[np.ndarray, " images"], progress: Progress
    ) -> None:
        """Solve it on the pairs of the images `rows`.

        Raises:
            SpecError: The method cannot give as many features.
        """
        progress.note("solving the teacher of unpaired items in closed form")
        moments = pair_moments(
            stores,
            rows,
            [partial(_vectors, reader) for reader in (stores.first, stores.second)],
            widths=list(self._widths.values()),
            averages=self._solver.averages,
            progress=progress,
        )
        maps = self._solver.solve(moments, self._taught)
        for side, linear_map in zip(self._widths, maps, strict=True):
            self._weights[side].copy_(torch.from_numpy(linear_map.weight))
            self._biases[side].copy_(torch.from_numpy(linear_map.bias))

    def vectors(self, loads: Iterable[LazyTokens], side: Side) -> Float[Tensor, "n taught"]:
        """Return the vectors of all that is loaded, in order, of length 1."""
        units = torch.cat([unit_means(load()).to(self._device) for load in loads])
        mapped = units @ self._weights[side].T + self._biases[side]
        return functional.normalize(mapped, dim=1)

    def state(self) -> dict[str, Tensor]:
        """Return the maps of both sides by name."""
        by_side = {"weight": self._weights, "bias": self._biases}
        return {
            f"{name}-{side.value}": tensors[side]
            for name, tensors in by_side.items()
            for side in self._widths
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: It is of another teacher.
        """
        for name, tensor in self.state().items():
            if state[name].shape != tensor.shape:
                raise ValueError(f"{name} of the teacher has shape {list(state[name].shape)}")
            tensor.copy_(state[name])


def _vectors(reader: FeatureReader, rows: Int64[np.ndarray, " n"]) -> Float[np.ndarray, "n width"]:
    return np.concatenate([unit_means(load()).cpu().numpy() for load in loads_of(reader, rows)])
