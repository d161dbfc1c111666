"""Fit the closed-form layer at the end of each tower, on the output of the steps before it.

Axis names: `n` rows, `features` of the one token that a slot reads.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from ...adapters.adapter import Adapter, table_of
from ...adapters.solver import AnchorSolver, LinearMap, LinearSolver, Moments, Solver, build_solver
from ...adapters.step import FittedStep, Step
from ...adapters.steps.heads import Heads
from ...adapters.steps.kernel_map import KernelMap, arc_cosine
from ...adapters.steps.linear import Linear
from ...adapters.steps.relative import Relative
from ...adapters.steps.weighted_unit import WeightedUnit
from ...featcache.config import Table
from ...featcache.errors import SpecError
from ...featcache.types import Side
from ..common.progress import Progress
from ..inputs.cached_steps import RowReader
from ..inputs.pairs import PairDataset
from .batches import GROUPS
from .pair_moments import ROWS, pair_moments

SLOT = "project"  # what a solver fills
_NUMBERS = 2**24  # of the tokens that are in memory at a time
_NUGGET = 1e-8  # of the mean diagonal of a kernel matrix: equal anchors would leave it singular


class ClosedFormLayers:
    """Find the slot `project` of both towers, and run what stands before it.

    Args:
        adapter: The adapter, in evaluation mode.
        stores: Where the features are.
        solver: What is to fill the slots.

    Attributes:
        steps: The two slots.

    Raises:
        SpecError: A tower has no such slot, or something behind it, or another than the solver
            fills.
    """

    def __init__(self, adapter: Adapter, stores: PairDataset, solver: Solver) -> None:
        self.adapter = adapter
        self.stores = stores
        self.steps = [_slot(adapter, side, solver) for side in stores.pair.sides]

    def fill(self, solver: LinearSolver, rows: Int64[np.ndarray, " n"], progress: Progress) -> int:
        """Fill both slots with linear maps and return how many pairs they are of.

        A head among others takes as many features as the method has, and has zeros in the rest.
        The pairs are those of the images `rows`. What compares by a kernel has its anchors
        already, by `set_anchors`.

        Raises:
            SpecError: The method cannot give as many features as a slot has.
        """
        # of either slot: both towers end in one width
        out = _solved(self.steps[0]).out_features
        if isinstance(self.steps[0], Heads):
            out = min(out, *(_width_of_solved(step) for step in self.steps))
        maps, count = self._solve(solver, out, rows, progress)
        for step, linear_map in zip(self.steps, maps, strict=True):
            _fill(step, linear_map)
        return count

    @torch.no_grad()
    def set_anchors(self, rows: Int64[np.ndarray, " n"], *, seed: int) -> None:
        """Give slots that compare by a kernel their anchors: all items of a side, or drawn ones.

        The items are those of the pairs of the images `rows`.
        """
        kernels = [kernel for step in self.steps if (kernel := _kernel(step)) is not None]
        if not kernels:
            return
        columns = zip(*pairs_in_turn(self.stores, rows, seed=seed), strict=True)
        for kernel, reader, column, side in zip(
            kernels, self.stores.sources, columns, self.stores.pair.sides, strict=True
        ):
            items = list(dict.fromkeys(column))[: len(kernel.anchors)]
            kernel.set_anchors(
                torch.from_numpy(self.features_before(reader, np.array(items), side)).to(
                    kernel.anchors.device
                )
            )

    def _solve(
        self, solver: LinearSolver, out: int, rows: Int64[np.ndarray, " n"], progress: Progress
    ) -> tuple[Sequence[LinearMap], int]:
        """Return the maps of both slots, and how many pairs they are of."""
        kernels = [kernel for step in self.steps if (kernel := _kernel(step)) is not None]
        if not kernels:
            widths = [_solved(step).in_features for step in self.steps]
            moments = self._moments(rows, widths, progress, averages=solver.averages)
            return solver.solve(moments, out), moments.count
        anchors = [kernel_anchors(step) for step in kernels]
        moments = self._moments(
            rows, [len(side) for side in anchors], progress, averages=solver.averages
        )
        progress.note(f"solving with {len(anchors[0]):,} and {len(anchors[1]):,} anchors")
        # maps of K^(-1/2) k(x), whose ridge is the norm of a function, are folded into maps of k(x)
        roots = [_inverse_root(side) for side in anchors]
        maps = solver.solve(moments.mapped(*roots), out)
        return [
            LinearMap(linear_map.weight @ root, linear_map.bias)
            for linear_map, root in zip(maps, roots, strict=True)
        ], moments.count

    def features_before(
        self, reader: RowReader, rows: Int64[np.ndarray, " n"], side: Side
    ) -> Float[np.ndarray, "n features"]:
        """Return what the slot of a side reads of these rows."""
        name = self.adapter.paths[side][-1]
        return np.concatenate(list(blocks_before(self.adapter, name, reader, rows, side)))

    def _moments(
        self,
        rows: Int64[np.ndarray, " n"],
        widths: Sequence[int],
        progress: Progress,
        *,
        averages: bool,
    ) -> Moments:
        stores = self.stores
        return pair_moments(
            stores,
            rows,
            [
                partial(self._vectors, step, reader, side)
                for step, reader, side in zip(
                    self.steps, stores.sources, stores.pair.sides, strict=True
                )
            ],
            widths=widths,
            averages=averages,
            progress=progress,
        )

    def _vectors(
        self, step: Step, reader: RowReader, side: Side, rows: Int64[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n features"]:
        """Return of these rows what the matrix of a slot is multiplied by."""
        features = self.features_before(reader, rows, side)
        kernel = _kernel(step)
        if kernel is None:
            return features
        anchors = kernel_anchors(kernel)
        turned = kernel.turned(torch.from_numpy(features).to(kernel.anchors.device)).cpu()
        values = [
            arc_cosine(turned[start : start + ROWS].double(), anchors)
            for start in range(0, len(features), ROWS)
        ]
        return torch.cat(values).numpy()


def kernel_anchors(step: KernelMap) -> Float64[Tensor, "anchors width"]:
    """Return the anchors that are there, in float64 on the CPU; the others are zero."""
    anchors = step.anchors.detach().cpu().double()
    return anchors[anchors.any(dim=1)]


def _inverse_root(anchors: Float64[Tensor, "n width"]) -> Float64[np.ndarray, "n n"]:
    """Return L^(-1), K = L L^T the kernel matrix of the anchors with a little on its diagonal."""
    kernel = arc_cosine(anchors, anchors)
    identity = torch.eye(len(kernel), dtype=kernel.dtype)
    factor = torch.linalg.cholesky(kernel + _NUGGET * kernel.diagonal().mean() * identity)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.numpy()


@torch.inference_mode()
def blocks_before(
    adapter: Adapter,
    name: str,
    reader: RowReader,
    rows: Int64[np.ndarray, " n"],
    side: Side,
) -> Iterator[Float[np.ndarray, "block features"]]:
    """Yield what the step `name` of a tower reads of these rows, in their order.

    A block is of rows whose tokens have 64 MiB at most, in float32.
    """
    # an adapter may have no parameters but buffers, as one of anchors
    device = next(chain(adapter.parameters(), adapter.buffers())).device
    size = max(1, _NUMBERS // max(1, reader.largest_row(rows)))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        groups, order = reader.padded_groups(block, GROUPS)
        features = np.concatenate(
            [
                adapter.features_before(group.to(device), side, name).cpu().numpy()
                for group in groups
            ]
        )
        in_order = np.empty_like(features)
        in_order[order] = features
        yield in_order


def _slot(adapter: Adapter, side: Side, solver: Solver) -> Step:
    """Return the slot of one tower, if `solver` can fill it."""
    name = adapter.paths[side][-1]
    step = adapter.steps[name]
    needed = "linear"
    by_kernel = isinstance(solver, LinearSolver) and solver.by_kernel
    kinds: tuple[type[Step], ...] = (Linear, Heads)
    if isinstance(solver, AnchorSolver):
        needed, kinds = "relative", (Relative,)
    elif isinstance(solver, LinearSolver) and solver.weighs:
        needed, kinds = "weighted-unit", (WeightedUnit,)
    elif by_kernel:
        needed, kinds = "kernel-map", (KernelMap, Heads)
    if name.partition("/")[2] != SLOT or not isinstance(step, kinds):
        raise SpecError(
            f"this training-free method fills the slot {SLOT!r}, a {needed} step at the end of "
            f"each tower; the {side.value} tower ends in {name!r}, a {type(step).__name__}"
        )
    require_own(name, side)
    if isinstance(step, Linear) and step.linear.bias is None:
        raise SpecError(f"slot {SLOT!r} needs a bias: a training-free method centres the features")
    if isinstance(step, Heads) and step.solved is None:
        raise SpecError(f"slot {SLOT!r} has no head in closed form: it must say solved = 1.0, say")
    if isinstance(step, Heads) and by_kernel != (_kernel(step) is not None):
        raise SpecError(
            f"the solved head of slot {SLOT!r} compares with anchors where its method is "
            "kernel-cca, and only there: name anchors = 2048, say, or another method"
        )
    assert isinstance(step, Step), "looked at above"
    return step


def require_own(name: str, side: Side) -> None:
    """Refuse a step that is filled or fitted for one side, and that the other shares.

    Raises:
        SpecError: Both sides share it.
    """
    if table_of(name) != side.value:
        slot = name.partition("/")[2]
        raise SpecError(f"slot {slot!r} must say per_modality = true")


def _solved(step: Step) -> nn.Linear:
    """Return the matrix of a slot that a closed form gives."""
    layer = step.solved if isinstance(step, Heads) else step.linear
    if isinstance(layer, KernelMap):
        layer = layer.linear
    assert isinstance(layer, nn.Linear), "looked at before"
    return layer


def _kernel(step: Step) -> KernelMap | None:
    """Return what of a slot compares by a kernel."""
    part = step.solved if isinstance(step, Heads) else step
    return part if isinstance(part, KernelMap) else None


def _width_of_solved(step: Step) -> int:
    """Return how many features a closed form reads: of anchors, those that are there."""
    kernel = _kernel(step)
    return _solved(step).in_features if kernel is None else len(kernel_anchors(kernel))


@torch.no_grad()
def _fill(step: Step, solution: LinearMap) -> None:
    layer, out = _solved(step), len(solution.bias)
    # a head may have more rows than the method has directions, and a kernel more anchors than there
    # were items: zeros add nothing to a cosine
    weight = torch.from_numpy(solution.weight)
    layer.weight.zero_()[:out, : weight.shape[1]].copy_(weight)
    layer.bias.zero_()[:out].copy_(torch.from_numpy(solution.bias))
    if isinstance(step, WeightedUnit):
        step.weights.copy_(torch.from_numpy(solution.weights))


def pairs_in_turn(
    stores: PairDataset, rows: Int64[np.ndarray, " n"], *, seed: int
) -> list[tuple[int, int]]:
    """Return all pairs of images in random order, each image once before any comes twice."""
    random = np.random.default_rng(seed)
    images = random.permutation(stores.all_firsts(rows)).tolist()
    texts = [random.permutation(stores.seconds_of[image]).tolist() for image in images]
    return [
        (image, image_texts[number])
        for number in range(max(map(len, texts)))
        for image, image_texts in zip(images, texts, strict=True)
        if number < len(image_texts)
    ]


class ClosedFormInit:
    """Fit steps that look at the training rows, and fill heads in closed form by `[start]`.

    Args:
        table: The preset.
        adapter: Its adapter.
        stores: Where the features are.
        seed: Of the anchors that are drawn where there are more items.

    Raises:
        SpecError: `[start]` names no linear solver or finds no head to fill, or there is such a
            head and no `[start]`.
        UnknownNameError: There is no such solver.
    """

    def __init__(self, table: Table, adapter: Adapter, stores: PairDataset, *, seed: int) -> None:
        self.adapter = adapter
        self.stores = stores
        self.seed = seed
        self.layers: tuple[ClosedFormLayers, LinearSolver] | None = None
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
        self.layers = ClosedFormLayers(adapter, stores, solver), solver

    def run(self, rows: Int64[np.ndarray, " n"], progress: Progress) -> None:
        """Fit steps and heads by the pairs of the images `rows`, which are trained on."""
        self.adapter.eval()
        fit_steps(self.adapter, self.stores, rows)
        if self.layers is not None:
            progress.note("solving the heads in closed form")
            layers, solver = self.layers
            layers.set_anchors(rows, seed=self.seed)
            layers.fill(solver, rows, progress)


def fit_steps(adapter: Adapter, stores: PairDataset, rows: Int64[np.ndarray, " n"]) -> None:
    """Fit the steps that look at the training rows, in their order, in evaluation mode.

    Raises:
        SpecError: Such a step is shared by both sides, or reads several tokens a row.
    """
    if not any(isinstance(step, FittedStep) for step in adapter.steps.values()):
        return
    firsts = stores.all_firsts(rows)
    partners = {second for first in firsts.tolist() for second in stores.seconds_of[first]}
    of_side = (firsts, np.array(sorted(partners), dtype=np.int64))
    # in the order of the tower: what a later step looks at has been through the fitted ones
    for side, reader, side_rows in zip(stores.pair.sides, stores.sources, of_side, strict=True):
        names = adapter.steps_of(side)
        for name in names:
            step = adapter.steps[name]
            if isinstance(step, FittedStep):
                require_own(name, side)
                if names.count(name) > 1:
                    slot = name.partition("/")[2]
                    raise SpecError(f"slot {slot!r} must say per_stream = true")
                step.fit(*_moments_of(blocks_before(adapter, name, reader, side_rows, side)))


def _moments_of(
    blocks: Iterable[Float[np.ndarray, "block features"]],
) -> tuple[Float64[Tensor, " features"], Float64[Tensor, " features"]]:
    """Return mean and variance of each feature over all blocks.

    Source: Chan et al. 1979, updating formulae, equation 2.1: no cancellation of large squares.
    """
    # in float64: differences from a mean lose digits that products would keep
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for block in blocks:
        values = block.astype(np.float64)
        block_mean = values.mean(axis=0)
        total = count + len(values)
        apart = block_mean - mean
        squares = squares + ((values - block_mean) ** 2).sum(axis=0)
        squares = squares + apart**2 * (count * len(values) / total)
        mean = mean + apart * (len(values) / total)
        count = total
    return torch.from_numpy(mean), torch.from_numpy(squares / count)
