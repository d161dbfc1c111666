"""Fit a training-free method: one pass over the pairs, and the weights are known."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64

from ..adapters.adapter import Adapter, build_adapter, count_parameters
from ..adapters.checkpoint import save_adapter
from ..adapters.objective import build_objective
from ..adapters.solver import LinearMap, Moments, build_solver
from ..adapters.steps.linear import Linear
from ..adapters.steps.weighted_unit import WeightedUnit
from ..featcache.errors import SpecError
from ..featcache.reader import FeatureReader
from ..featcache.types import Modality
from . import runs
from .batches import GROUPS
from .logs import append_json
from .loop import split_rows
from .pairs import PairedStores
from .progress import Progress
from .train import TrainPlan
from .validation import Validation, recalls

SLOT = "project"  # what the solver fills
_ROWS = 1024  # images at a time


class ClosedForm:
    """Fill the slot `project` of both towers by the solver of `[fit]`.

    What stands before the slot, such as a pool, is run as it is; each image makes a pair with each
    of its texts.

    Args:
        plan: The resolved training; its table has a `fit`.
        home: Folder of everything lightalign keeps.
        seed: Seed of the held-out images, where there is no validation split.
        device: Where towers are run.

    Raises:
        SpecError: A tower has no such slot, or something behind it.
    """

    def __init__(self, plan: TrainPlan, *, home: Path, seed: int, device: torch.device) -> None:
        self.plan = plan
        self.device = device
        self.stores = PairedStores(plan.stores, home=home, residency=plan.options.residency)
        self.rows, held_out = split_rows(self.stores.image_rows, plan.holdout, seed)
        split = PairedStores(plan.validation, home=home) if plan.validation else None
        self.validation = Validation.choose(split, self.stores, held_out)
        widths = plan.stores.widths
        self.adapter = build_adapter(plan.table["towers"], widths=widths, seed=seed).eval()
        self.adapter.to(device)
        self.slots = [_slot(self.adapter, modality) for modality in widths]
        self.solver = build_solver(plan.table["fit"])
        self.objective = build_objective(plan.table["objective"])

    def fit(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Solve, save the adapter in `folder`, and return what happened.

        Raises:
            SpecError: The method cannot give as many features as the slot has.
        """
        began = time.perf_counter()
        moments = self._moments(progress)
        maps = self.solver.solve(moments, self.slots[0].linear.out_features)
        for slot, found in zip(self.slots, maps, strict=True):
            _fill(slot, found)
        save_adapter(folder, self.adapter, self.objective, table=self.plan.table)
        record: dict[str, Any] = {"epoch": 0, "pairs": moments.count}
        if self.validation is not None:
            record["validation"] = recalls(self.validation.embed(self.adapter, device=self.device))
        append_json(folder / runs.LOG, record)
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

    def _moments(self, progress: Progress) -> Moments:
        stores = self.stores
        moments = Moments(*(slot.linear.in_features for slot in self.slots))
        starts = range(0, len(self.rows), _ROWS)
        for start in progress.track(starts, "pairs", len(starts), unit="blocks"):
            images = self.rows[start : start + _ROWS]
            texts = stores.texts_of_images(images)
            lines, columns = np.nonzero(stores.positives(images, texts).numpy())
            first = self._before_slot(stores.image, images)
            second = self._before_slot(stores.text, texts)
            moments.add(first[lines], second[columns])
        return moments

    @torch.inference_mode()
    def _before_slot(
        self, reader: FeatureReader, rows: Int64[np.ndarray, " n"]
    ) -> Float[np.ndarray, "n features"]:
        modality = Modality(reader.description.modality)
        groups, order = reader.padded_groups(rows, GROUPS)
        found = np.concatenate(
            [
                self.adapter.before_last(group.to(self.device), modality).cpu().numpy()
                for group in groups
            ]
        )
        in_order = np.empty_like(found)
        in_order[order] = found
        return in_order


def _slot(adapter: Adapter, modality: Modality) -> Linear | WeightedUnit:
    name = adapter.paths[modality][-1]
    step = adapter.steps[name]
    if name.partition("/")[2] != SLOT or not isinstance(step, Linear | WeightedUnit):
        raise SpecError(
            f"a training-free method fills the slot {SLOT!r}, a linear or weighted-unit step at "
            f"the end of each tower; the {modality.value} tower ends in {name!r}"
        )
    if name.partition("/")[0] != modality.value:
        raise SpecError(f"slot {SLOT!r} must say per_modality = true")
    if step.linear.bias is None:
        raise SpecError(f"slot {SLOT!r} needs a bias: a training-free method centres the features")
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
