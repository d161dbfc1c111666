"""Tasks on pairs with their data: batches of two sides, one objective, a validation of both."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from ....adapters.adapter import Adapter
from ....adapters.checkpoint import save_adapter
from ....adapters.klot import Klot
from ....adapters.objective import TeacherFeatures
from ....featcache.config import Table
from ....featcache.errors import SpecError
from ...common.progress import Progress
from ...inputs.pairs import BatchRows, PairDataset
from ...inputs.store_selection import require_entries_there, require_there
from ...ranking.embeddings import PairedEmbeddings
from ..batches import Batch, Batches
from ..distil_options import distil_of
from ..finish import Finish
from ..first_tokens import check_first_tokens
from ..initialise import ClosedFormInit
from ..modules import build_trainable
from ..negative_queue import NegativeQueue
from ..open_task import OpenTask, Surroundings
from ..options import TrainPlan
from ..step import TrainStep
from ..training_inputs import TrainingInputs
from ..unpaired import UnpairedBatches, open_unpaired
from ..unpaired_options import UNPAIRED, unpaired_options
from ..validation import Validation, pair_warnings
from .base import Task


class OpenPairs(OpenTask[BatchRows, Batch]):
    """Pairs of two stores, and the adapter that aligns both sides.

    Args:
        task: Says which labels it needs.
        plan: The resolved training.
        surroundings: Where and how it is trained.
        measure: What is measured of the pairs that validate, beside their loss.

    Attributes:
        stores: Stores to train on.
        train_rows: Numbers of the images to train on.
        validation: Pairs by which weights are chosen, or None.
        teacher: Features of these, where the objective needs them, or None.
        queue: Embeddings of earlier batches, or None.
        unpaired: Batches of items without a partner, or None.

    Raises:
        SpecError: Fewer than two images are left to train on, a label is missing, or the preset is
            wrong.
    """

    stores: PairDataset
    train_rows: Int64[np.ndarray, " n"]
    validation: Validation | None = None
    teacher: TeacherFeatures | None = None
    queue: NegativeQueue | None = None
    unpaired: UnpairedBatches | None = None

    def __init__(
        self,
        task: Task,
        plan: TrainPlan,
        surroundings: Surroundings,
        *,
        measure: Callable[[PairedEmbeddings], dict[str, Any]],
    ) -> None:
        self.plan = plan
        self.measure = measure
        self.options = options = plan.options
        self.device = device = surroundings.device
        seed = surroundings.seed
        self.processes = processes = surroundings.processes
        self._open(task, surroundings)
        self.validated_on = self.validation.name if self.validation else None
        self.trainable = build_trainable(
            plan.table, options, widths=plan.stores.widths, seed=seed, device=device
        )
        self.adapter, self.objective = self.trainable.adapter, self.trainable.objective
        self._pool_once(is_float32=surroundings.dtype == torch.float32)
        self.batches = Batches(
            self.stores,
            self.train_rows,
            options=options,
            seed=seed,
            teacher=self.objective.needs_teacher,
            most_logits=self.objective.most_logits,
            processes=processes,
        )
        if self.validation is not None and self.objective.needs_teacher:
            self.teacher = self.validation.teacher()
        if options.queue:
            # by `belonging`, not `seconds_of`: a text that says the same is no negative either
            self.queue = NegativeQueue(
                options.queue,
                self.stores.belonging,
                width=self.adapter.out_width,
                device=device,
            )
        self.train_step = TrainStep(
            self.trainable,
            options,
            sides=plan.stores.sides,
            dtype=surroundings.dtype,
            device=device,
            scaler=surroundings.scaler,
            processes=processes,
            queue=self.queue,
            unpaired=Klot(**unpaired_options(plan.table).klot) if self.unpaired else None,
            ensemble=surroundings.inputs.ensemble if surroundings.inputs else None,
            distil=distil_of(plan.table),
        )
        self.start = ClosedFormInit(plan.table, self.adapter, self.stores, seed=seed)
        self.finishing = Finish(plan.table, self.adapter, self.stores, seed=seed)
        self.finishes = self.finishing.towers is not None

    def _open(self, task: Task, surroundings: Surroundings) -> None:
        """Open the stores to train on and those that validate, unless they are open already."""
        plan = self.plan
        validates = surroundings.processes.is_first
        # the others wait for the first one's numbers, and need neither its readers nor its memory
        inputs = surroundings.inputs or TrainingInputs.open(
            plan, home=surroundings.home, device=self.device, validates=validates
        )
        self.stores = inputs.stores
        task.check_labels(
            self.stores.pairs, plan.stores.dataset, split=plan.stores.split, validates=False
        )
        self.train_rows, held_out = inputs.rows(plan, surroundings.seed)
        if len(self.train_rows) < 2:
            reasons = "".join(f"; {warning}" for warning in self.stores.warnings)
            owner = self.stores.owner
            raise SpecError(
                f"{len(self.train_rows)} {owner}s of split {plan.stores.split!r} are left to train "
                f"on, and one {owner} has no negatives: extract more, or validate on fewer{reasons}"
            )
        if validates:
            self.validation = Validation.choose(inputs.split, self.stores, held_out)
        self.unpaired = open_unpaired(
            plan,
            self.stores,
            held_out,
            seed=surroundings.seed,
            device=self.device,
            processes=surroundings.processes,
        )

    def _pool_once(self, *, is_float32: bool) -> None:
        """Keep the pooled token of each row where a tower begins with a pool.

        A teacher reads them each time. On a GPU sums round by the size of a batch, which is another
        one after a resume, and `deterministic` promises one result.
        """
        is_on_gpu = self.device.type != "cpu"
        if self.objective.needs_teacher or (self.options.deterministic and is_on_gpu):
            return
        # a training before this one may have pooled the same rows
        if self.stores.pooled:
            return
        self.stores.pool_once(self.adapter, device=self.device, is_float32=is_float32)
        if self.validation is not None and self.validation.stores is not self.stores:
            # True: it runs without autocast, whatever the training does
            self.validation.stores.pool_once(self.adapter, device=self.device, is_float32=True)

    @property
    def notes(self) -> list[str]:
        """Return what is to know of the stores."""
        of_pairs = pair_warnings(self.stores, self.validation)
        return list(dict.fromkeys([*self.stores.notes, *of_pairs]))

    @property
    def warnings(self) -> list[str]:
        """Return what a report says of the pairs, and of a loss whose scale ran into its bound."""
        warnings = pair_warnings(self.stores, self.validation)
        bound = self.objective.at_bound()
        if bound is not None:
            warnings.append(
                f"the scale of the loss ended at {bound}: the bound has taken the place of what "
                "would have been learnt; change the bound or train.learning_rate"
            )
        return warnings

    def check_features(self) -> list[str]:
        """Return a line for each tower that reads first tokens that are the same in all rows.

        Raises:
            SpecError: A tower reads nothing else.
        """
        return check_first_tokens(self.adapter, self.stores, device=self.device)

    def require_there(self) -> None:
        """Pass if the stores to train on, and those that validate, are still there.

        Raises:
            StoreNotFoundError: One was removed meanwhile.
        """
        require_there((self.plan.stores, self.plan.validation))
        if self.plan.unpaired is not None:
            require_entries_there(self.plan.unpaired.entries.values())

    def initialise(self, progress: Progress) -> None:
        """Fill the slots that `[start]` solves, and fit what looks at the training rows.

        The teacher of unpaired items is solved here, too.
        """
        # solved in one process and copied: others may find the same directions with other signs
        self.processes.broadcast_from_rank0(partial(self.start.run, self.train_rows, progress))
        self.processes.copy_first(self.adapter.state_dict().values())
        if self.unpaired is None:
            return
        teacher = self.unpaired.teacher
        self.processes.broadcast_from_rank0(
            partial(teacher.solve, self.stores, self.train_rows, progress)
        )
        self.processes.copy_first(teacher.state().values())

    def load_batch(self, numbered: tuple[int, BatchRows]) -> Batch:
        """Return a batch of pairs, with the unpaired items that its number draws beside it."""
        batch = super().load_batch(numbered)
        if self.unpaired is None:
            return batch
        return replace(batch, unpaired=self.unpaired.load(numbered[0]))

    def describe(self, batch: Batch) -> str:
        """Return a few ids of the first side: `images such as ['scene-3', 'scene-8']`."""
        ids = [self.stores.first.ids[row] for row in batch.rows.first[:3].tolist()]
        return f"{self.plan.stores.sides[0].modality.value}s such as {ids}"

    def validate(self) -> dict[str, Any]:
        """Return the loss and what is measured beside it; nothing where no pairs validate here."""
        if self.validation is None:
            return {}
        return self.validation.measure(
            self.adapter,
            self.objective,
            measure=self.measure,
            batch_size=self.options.batch_size,
            device=self.device,
            teacher=self.teacher,
            same_image=self.options.same_image if self.options.captions == "each" else None,
        )

    def save(self, folder: Path) -> None:
        """Save adapter and objective."""
        save_adapter(folder, self.adapter, self.objective, table=self._table)

    @property
    def _table(self) -> Table:
        return {key: self.plan.table[key] for key in ("towers", "objective")}

    def finish(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Put the step of `[finish]` behind both towers, if there is one."""
        return self.finishing.run(
            folder,
            self.objective,
            self.train_rows,
            table=self._table,
            measured=None if self.validation is None else self._measured,
            device=self.device,
            progress=progress,
        )

    def _measured(self, adapter: Adapter) -> dict[str, Any]:
        assert self.validation is not None, "asked before"
        return self.measure(self.validation.embed(adapter, device=self.device))

    def report(self) -> dict[str, Any]:
        """Return how many images are trained on, how many links lack a row, and where rows are.

        Beside it stands how many items have no partner, by side, where there are.
        """
        unpaired = {} if self.unpaired is None else {"num_unpaired": self.unpaired.num_by_side}
        return {
            "num_images": len(self.train_rows),
            "num_links_lost": self.stores.num_links_lost,
            "residency": self.stores.residency,
            **unpaired,
        }

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        """Return what is remembered of earlier batches, and the teacher of unpaired items."""
        return {
            "queue": self.queue.state() if self.queue else {},
            UNPAIRED: self.unpaired.teacher.state() if self.unpaired else {},
        }

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Remember what was remembered then, and teach as then."""
        if self.queue is not None:
            self.queue.load(state["queue"])
        if self.unpaired is not None:
            self.unpaired.teacher.load(state[UNPAIRED])
