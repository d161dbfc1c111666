"""Fit a training-free method: one pass over the pairs, and the weights are known."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from ..adapters.adapter import Adapter, build_adapter, count_parameters
from ..adapters.checkpoint import save_adapter
from ..adapters.objective import build_objective
from ..adapters.solver import AnchorSolver, LinearMap, LinearSolver, Moments, Solver, build_solver
from ..adapters.steps.linear import Linear
from ..adapters.steps.relative import Relative
from ..adapters.steps.weighted_unit import WeightedUnit
from ..featcache.errors import SpecError
from ..featcache.reader import FeatureReader
from ..featcache.types import Side
from .batches import GROUPS
from .joined import partner_mask
from .logs import RunLog
from .pairs import join_stores
from .progress import Progress
from .train import TrainPlan
from .validation import Validation, recalls, split_rows

SLOT = "project"  # what the solver fills
_ROWS = 1024  # images at a time


class ClosedForm:
    """Fill the slot `project` of both towers by the solver of `[fit]`.

    What stands before the slot, such as a pool, is run as it is; each image makes a pair with each
    of its texts, or each of its texts with all others. Where pairs are anchors, they are drawn:
    each image, or each text, once before any comes twice.

    Args:
        plan: The resolved training; its table has a `fit`.
        home: Folder of everything lightalign keeps.
        seed: Seed of the anchors, and of the held-out images where there is no validation split.
        device: Where towers are run.

    Raises:
        SpecError: A tower has no such slot, or something behind it, or another than the method
            fills.
    """

    def __init__(self, plan: TrainPlan, *, home: Path, seed: int, device: torch.device) -> None:
        self.plan = plan
        self.seed = seed
        self.device = device
        self.stores = join_stores(plan.stores, home=home, residency=plan.options.residency)
        self.rows, held_out = split_rows(self.stores.images, plan.holdout, seed)
        split = join_stores(plan.validation, home=home) if plan.validation else None
        self.validation = Validation.choose(split, self.stores, held_out)
        widths = plan.stores.widths
        self.adapter = build_adapter(plan.table["towers"], widths=widths, seed=seed).eval()
        self.adapter.to(device)
        self.solver = build_solver(plan.table["fit"])
        self.steps = [_slot(self.adapter, side, self.solver) for side in widths]
        self.objective = build_objective(plan.table["objective"])

    def fit(self, folder: Path, progress: Progress, *, tensorboard: bool = False) -> dict[str, Any]:
        """Solve, save the adapter in `folder`, and return what happened.

        Args:
            folder: The run folder.
            progress: Receives the progress.
            tensorboard: Whether to log for TensorBoard, too.

        Raises:
            SpecError: The method cannot give as many features as the slot has.
        """
        began = time.perf_counter()
        for note in self.stores.notes:
            progress.note(note)
        if isinstance(self.solver, AnchorSolver):
            num_pairs = self._fill_anchors(self.solver)
        else:
            assert isinstance(self.solver, LinearSolver), "there are two kinds"
            num_pairs = self._fill_maps(self.solver, progress)
        save_adapter(folder, self.adapter, self.objective, table=self.plan.table)
        record: dict[str, Any] = {"epoch": 0, "pairs": num_pairs}
        if self.validation is not None:
            record["validation"] = recalls(self.validation.embed(self.adapter, device=self.device))
        with RunLog(folder, tensorboard=tensorboard) as log:
            log.go_on(epochs=0, next_step=0)
            log.append(record)
        return {
            "best": record,
            "selected_by": "closed form",
            "num_parameters": count_parameters(self.adapter),
            "num_images": len(self.rows),
            "num_links_lost": self.stores.num_links_lost,
            "precision": "float64",
            "device": str(self.device),
            "residency": self.stores.residency,
            "seconds": time.perf_counter() - began,
        }

    def _fill_maps(self, solver: LinearSolver, progress: Progress) -> int:
        """Fill both slots with linear maps and return how many pairs they are of."""
        slots = [step for step in self.steps if isinstance(step, Linear | WeightedUnit)]
        moments = self._moments([slot.linear.in_features for slot in slots], progress)
        maps = solver.solve(moments, slots[0].linear.out_features)
        for slot, found in zip(slots, maps, strict=True):
            _fill(slot, found)
        return moments.count

    @torch.no_grad()
    def _fill_anchors(self, solver: AnchorSolver) -> int:
        """Fill both slots with anchors and return how many there are."""
        slots = [step for step in self.steps if isinstance(step, Relative)]
        images, texts = self._draw_pairs(slots[0].out_width)
        first, second = self.stores.pair.sides
        features = (
            self._in_blocks(self.stores.first, images, first),
            self._in_blocks(self.stores.second, texts, second),
        )
        for slot, found in zip(slots, solver.anchors(*features), strict=True):
            slot.anchors.copy_(torch.from_numpy(found))
        return len(images)

    def _draw_pairs(
        self, count: int
    ) -> tuple[Int64[np.ndarray, " count"], Int64[np.ndarray, " count"]]:
        random = np.random.default_rng(self.seed)
        images = random.permutation(self.stores.all_firsts(self.rows)).tolist()
        texts = [random.permutation(self.stores.seconds_of[image]).tolist() for image in images]
        pairs = [
            (image, own[number])
            for number in range(max(map(len, texts)))
            for image, own in zip(images, texts, strict=True)
            if number < len(own)
        ]
        if count > len(pairs):
            raise SpecError(
                f"{count} anchors are asked for, and there are {len(pairs)} training pairs: set "
                f"towers.both.{SLOT}.anchors to as many at most"
            )
        drawn = np.array(pairs[:count], dtype=np.int64)
        return drawn[:, 0], drawn[:, 1]

    def _in_blocks(
        self, reader: FeatureReader, rows: Int64[np.ndarray, " n"], side: Side
    ) -> Float[np.ndarray, "n features"]:
        starts = range(0, len(rows), _ROWS)
        blocks = [self._before_slot(reader, rows[at : at + _ROWS], side) for at in starts]
        return np.concatenate(blocks)

    def _moments(self, widths: Sequence[int], progress: Progress) -> Moments:
        stores = self.stores
        moments = Moments(*widths)
        starts = range(0, len(self.rows), _ROWS)
        for start in progress.track(starts, "pairs", len(starts), unit="blocks"):
            firsts = stores.all_firsts(self.rows[start : start + _ROWS])
            partners = [np.array(stores.seconds_of[row]) for row in firsts.tolist()]
            seconds = np.unique(np.concatenate(partners))
            lines, columns = np.nonzero(partner_mask(partners, seconds).numpy())
            first_side, second_side = stores.pair.sides
            first = self._before_slot(stores.first, firsts, first_side)
            second = self._before_slot(stores.second, seconds, second_side)
            moments.add(first[lines], second[columns])
        return moments

    @torch.inference_mode()
    def _before_slot(
        self, reader: FeatureReader, rows: Int64[np.ndarray, " n"], side: Side
    ) -> Float[np.ndarray, "n features"]:
        groups, order = reader.padded_groups(rows, GROUPS)
        found = np.concatenate(
            [
                self.adapter.before_last(group.to(self.device), side).cpu().numpy()
                for group in groups
            ]
        )
        in_order = np.empty_like(found)
        in_order[order] = found
        return in_order


def _slot(adapter: Adapter, side: Side, solver: Solver) -> Linear | WeightedUnit | Relative:
    """Return the slot of one tower, if `solver` can fill it."""
    name = adapter.paths[side][-1]
    step = adapter.steps[name]
    fills = Relative if isinstance(solver, AnchorSolver) else Linear | WeightedUnit
    if name.partition("/")[2] != SLOT or not isinstance(step, fills):
        needed = "relative" if fills is Relative else "linear or weighted-unit"
        raise SpecError(
            f"this training-free method fills the slot {SLOT!r}, a {needed} step at the end of "
            f"each tower; the {side.value} tower ends in {name!r}, a {type(step).__name__}"
        )
    if name.partition("/")[0] != side.value:
        raise SpecError(f"slot {SLOT!r} must say per_modality = true")
    if isinstance(step, Linear) and step.linear.bias is None:
        raise SpecError(f"slot {SLOT!r} needs a bias: a training-free method centres the features")
    assert isinstance(step, Linear | WeightedUnit | Relative), "looked at above"
    return step


@torch.no_grad()
def _fill(slot: Linear | WeightedUnit, found: LinearMap) -> None:
    if (found.weights is not None) != isinstance(slot, WeightedUnit):
        needed = "linear" if found.weights is None else "weighted-unit"
        raise SpecError(f"slot {SLOT!r} must be a {needed} step for this training-free method")
    slot.linear.weight.copy_(torch.from_numpy(found.weight))
    slot.linear.bias.copy_(torch.from_numpy(found.bias))
    if isinstance(slot, WeightedUnit):
        slot.weights.copy_(torch.from_numpy(found.weights))
