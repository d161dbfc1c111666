"""Fit a training-free method: one pass over the pairs, and the weights are known."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.adapter import Adapter, build_adapter, count_parameters
from ...adapters.checkpoint import save_adapter
from ...adapters.objective import build_objective
from ...adapters.solver import AnchorSolver, LinearSolver, build_solver
from ...adapters.steps.heads import Heads
from ...adapters.steps.relative import Relative
from ...featcache.errors import SpecError
from ..common.progress import Progress
from ..inputs.image_text import join_stores
from .finish import Finish
from .first_tokens import check_first_tokens
from .initialise import SLOT, ClosedFormLayers, fit_steps, pairs_in_turn
from .log import RunLog
from .options import TrainPlan
from .tasks import PairedTask, task_of
from .validation import Validation, pair_warnings, split_rows


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
            fills; or the task is of no pairs, or lacks a label.
        UnknownNameError: There is no such task.
    """

    def __init__(self, plan: TrainPlan, *, home: Path, seed: int, device: torch.device) -> None:
        self.plan = plan
        self.seed = seed
        self.device = device
        task = task_of(plan.table)
        if not isinstance(task, PairedTask):
            raise SpecError("[fit] solves for pairs, of which this [task] has none")
        self.task = task
        same_text = plan.options.same_text
        self.stores = join_stores(
            plan.stores, home=home, residency=plan.options.residency, same_text=same_text
        )
        task.check_labels(
            self.stores.pairs, plan.stores.dataset, split=plan.stores.split, validates=False
        )
        self.rows, held_out = split_rows(self.stores.images, plan.holdout, seed)
        split = None
        if plan.validation:
            split = join_stores(plan.validation, home=home, same_text=same_text)
        self.validation = Validation.choose(split, self.stores, held_out)
        widths = plan.stores.widths
        self.adapter = build_adapter(plan.table["towers"], widths=widths, seed=seed).eval()
        self.adapter.to(device)
        self.solver = build_solver(plan.table["fit"])
        self.slots = ClosedFormLayers(self.adapter, self.stores, self.solver)
        # a linear solver fills one head of a Heads slot, and nothing here would train the rest
        if any(isinstance(step, Heads) for step in self.slots.steps):
            raise SpecError("[fit] trains nothing, and heads would stay random: use [start]")
        self.objective = build_objective(plan.table["objective"])
        self.finish = Finish(plan.table, self.adapter, self.stores, seed=seed)

    def fit(self, folder: Path, progress: Progress, *, tensorboard: bool = False) -> dict[str, Any]:
        """Solve, save the adapter in the run folder, and return what happened.

        Raises:
            SpecError: The method cannot give as many features as the slot has.
        """
        began = time.perf_counter()
        warnings = pair_warnings(self.stores, self.validation)
        for note in dict.fromkeys([*self.stores.notes, *warnings]):
            progress.note(note)
        fit_steps(self.adapter, self.stores, self.rows)
        if isinstance(self.solver, AnchorSolver):
            num_pairs = self._fill_anchors(self.solver)
        else:
            assert isinstance(self.solver, LinearSolver), "there are two kinds"
            self.slots.set_anchors(self.rows, seed=self.seed)
            num_pairs = self.slots.fill(self.solver, self.rows, progress)
        save_adapter(folder, self.adapter, self.objective, table=self.plan.table)
        record: dict[str, Any] = {"epoch": 0, "pairs": num_pairs}
        if self.validation is not None:
            record["validation"] = self._measured(self.adapter)
        with RunLog(folder, tensorboard=tensorboard, numbers=self.task) as log:
            log.go_on(epochs=0, next_step=0)
            log.append(record)
        finished = self.finish.run(
            folder,
            self.objective,
            self.rows,
            table=self.plan.table,
            measured=None if self.validation is None else self._measured,
            device=self.device,
            progress=progress,
        )
        return {
            "best": record,
            **finished,
            "selected_by": "closed form",
            "num_parameters": count_parameters(self.adapter),
            "num_images": len(self.rows),
            "num_links_lost": self.stores.num_links_lost,
            "precision": "float64",
            "device": str(self.device),
            "residency": self.stores.residency,
            "warnings": warnings,
            "seconds": time.perf_counter() - began,
        }

    def _measured(self, adapter: Adapter) -> dict[str, Any]:
        assert self.validation is not None, "asked before"
        return self.task.measure(self.validation.embed(adapter, device=self.device))

    def check_features(self) -> list[str]:
        """Return a line for each tower that reads first tokens that are the same in all rows.

        Raises:
            SpecError: A tower reads nothing else.
        """
        return check_first_tokens(self.adapter, self.stores, device=self.device)

    @torch.no_grad()
    def _fill_anchors(self, solver: AnchorSolver) -> int:
        """Fill both slots with anchors and return how many there are."""
        # `ClosedFormLayers` has refused all other kinds of slots
        slots = [step for step in self.slots.steps if isinstance(step, Relative)]
        images, texts = self._draw_pairs(slots[0].out_width)
        first, second = self.stores.pair.sides
        features = (
            self.slots.features_before(self.stores.first, images, first),
            self.slots.features_before(self.stores.second, texts, second),
        )
        for slot, anchors in zip(slots, solver.anchors(*features), strict=True):
            slot.anchors.copy_(torch.from_numpy(anchors))
        return len(images)

    def _draw_pairs(
        self, count: int
    ) -> tuple[Int64[np.ndarray, " count"], Int64[np.ndarray, " count"]]:
        pairs = pairs_in_turn(self.stores, self.rows, seed=self.seed)
        if count > len(pairs):
            raise SpecError(
                f"{count} anchors are asked for, and there are {len(pairs)} training pairs: set "
                f"towers.both.{SLOT}.anchors to as many at most"
            )
        drawn = np.array(pairs[:count], dtype=np.int64)
        return drawn[:, 0], drawn[:, 1]
