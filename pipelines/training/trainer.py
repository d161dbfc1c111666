"""The training loop: batches from the cache, one objective, the best weights by validation."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.checkpoint import save_adapter
from ...adapters.objective import TeacherFeatures
from ...featcache.errors import DivergedError, SpecError
from ..common import stopping
from ..common.prefetch import prefetch
from ..common.progress import Progress
from ..common.reproducibility import resolve_precision, seeded
from ..inputs.image_text import join_stores
from ..inputs.pairs import PairDataset
from ..inputs.store_selection import require_there
from ..runs import run_folder
from ..runs.log_reading import require_log
from .batches import Batch, Batches
from .checkpoint import TrainingState, load_state, restoring, save_state
from .course import single_step_warning
from .distributed import ALONE, ProcessGroup
from .finish import Finish
from .initialise import ClosedFormInit
from .log import RunLog, summary
from .modules import build_trainable
from .negative_queue import NegativeQueue
from .options import TrainPlan
from .schedule import follow_plateau, learning_rate_factor
from .step import TrainStep
from .validation import Validation, pair_warnings, split_rows


@dataclass(frozen=True)
class TrainingInputs:
    """Stores of a training, opened; several trainings of one plan may share them.

    Attributes:
        stores: What is trained on.
        split: What validates, of a split of its own, or None.
    """

    stores: PairDataset
    split: PairDataset | None

    @classmethod
    def open(
        cls, plan: TrainPlan, *, home: Path, device: torch.device, validates: bool = True
    ) -> "TrainingInputs":
        """Open the stores of a plan; without `validates` those that are trained on alone."""
        join = partial(
            join_stores,
            home=home,
            residency=plan.options.residency,
            device=device,
            same_text=plan.options.same_text,
        )
        stores = join(plan.stores)
        return cls(stores, join(plan.validation) if plan.validation and validates else None)

    def rows(
        self, plan: TrainPlan, seed: int
    ) -> tuple[Int64[np.ndarray, " trained"], Int64[np.ndarray, " held"]]:
        """Return the images to train on and those held out, for a training of this seed."""
        drawn_by = seed if plan.holdout_seed is None else plan.holdout_seed
        return split_rows(self.stores.images, plan.holdout, drawn_by)


class Trainer:
    """Train the adapter of one plan.

    Args:
        plan: The resolved training.
        home: Folder of everything lightalign keeps.
        seed: Seed of initialisation, order and dropout.
        device: Where to train.
        processes: Who trains together; only the first validates and writes.
        inputs: The opened stores of the plan, or None to open them.

    Raises:
        SpecError: Fewer than two images are left to train on, or the preset is wrong.
    """

    def __init__(
        self,
        plan: TrainPlan,
        *,
        home: Path,
        seed: int,
        device: torch.device,
        processes: ProcessGroup = ALONE,
        inputs: TrainingInputs | None = None,
    ) -> None:
        self.plan = plan
        self.home = home
        self.processes = processes
        self.options = plan.options
        self.seed = seed
        self.device = device
        self.dtype = resolve_precision(plan.options.precision, device)
        # the others wait for the first one's numbers, and need neither its readers nor its memory
        inputs = inputs or TrainingInputs.open(
            plan, home=home, device=device, validates=processes.is_first
        )
        self.stores = inputs.stores
        self.train_rows, held_out = inputs.rows(plan, seed)
        if len(self.train_rows) < 2:
            reasons = "".join(f"; {warning}" for warning in self.stores.warnings)
            raise SpecError(
                f"{len(self.train_rows)} images of split {plan.stores.split!r} are left to train "
                f"on, and one image has no negatives: extract more, or validate on fewer{reasons}"
            )
        self.validation: Validation | None = None
        if processes.is_first:
            self.validation = Validation.choose(inputs.split, self.stores, held_out)
        trainable = build_trainable(
            plan.table, plan.options, widths=plan.stores.widths, seed=seed, device=device
        )
        self.trainable = trainable
        self.adapter, self.objective = trainable.adapter, trainable.objective
        self._pool_once()
        self.optimiser, self.average = trainable.optimiser, trainable.average
        # float16 has so few exponents that small gradients would vanish; other types need no scale
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.batches = Batches(
            self.stores,
            self.train_rows,
            options=plan.options,
            seed=seed,
            teacher=self.objective.needs_teacher,
            most_logits=self.objective.most_logits,
            processes=processes,
        )
        self.course = self.batches.course
        self.teacher: TeacherFeatures | None = None  # of the validation pairs
        if self.validation is not None and self.objective.needs_teacher:
            self.teacher = self.validation.teacher()
        self.queue: NegativeQueue | None = None
        if plan.options.queue:
            # by `belonging`, not `seconds_of`: a text that says the same is no negative either
            self.queue = NegativeQueue(
                plan.options.queue,
                self.stores.belonging,
                width=self.adapter.out_width,
                device=device,
            )
        self.train_step = TrainStep(
            trainable,
            plan.options,
            sides=plan.stores.sides,
            dtype=self.dtype,
            device=device,
            scaler=self.scaler,
            processes=processes,
            queue=self.queue,
        )
        self.start = ClosedFormInit(plan.table, self.adapter, self.stores, seed=seed)
        self.finish = Finish(plan.table, self.adapter, self.stores, seed=seed)
        self.counts = TrainingState()

    def fit(self, folder: Path, progress: Progress, *, tensorboard: bool = False) -> dict[str, Any]:
        """Train all epochs, keep the best weights in the run folder, and return what happened.

        Raises:
            DivergedError: A loss is not finite.
        """
        for note in self.notes:
            progress.note(note)
        log = RunLog(folder, tensorboard=tensorboard, writes=self.processes.is_first)
        with self.seeded(), log:
            self._restore(folder, progress)
            log.go_on(epochs=self.counts.epoch, next_step=self.counts.step + 1)
            # solved in one process and copied: others may find the same directions with other signs
            if not self.counts.epoch:
                self.processes.broadcast_from_rank0(
                    partial(self.start.run, self.train_rows, progress)
                )
                self.processes.copy_first(self.adapter.state_dict().values())
            while not self._finished():
                self.train_epoch(folder, log, progress)
        self.processes.broadcast_from_rank0(partial(self.counts.require_best, folder))
        finish = partial(
            self.finish.run,
            folder,
            self.train_rows,
            validation=self.validation,
            device=self.device,
            progress=progress,
        )
        finished = self.processes.broadcast_from_rank0(finish)
        warnings = self._warnings()
        for warning in warnings:
            progress.note(f"warning: {warning}")
        return {
            "best": self.counts.best,
            **finished,
            "epochs": self.counts.epoch,
            "steps": self.counts.step,
            "selected_by": self._selection(),
            "num_parameters": self.trainable.num_parameters,
            "num_images": len(self.train_rows),
            "num_links_lost": self.stores.num_links_lost,
            "precision": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "processes": self.processes.count,
            "residency": self.stores.residency,
            "warnings": warnings,
            "seconds": self.counts.seconds,
            "seconds_waiting": self.counts.seconds_waiting,
        }

    def _warnings(self) -> list[str]:
        """Return what to know before this training is compared with others."""
        warnings = pair_warnings(self.stores, self.validation)
        bound = self.objective.at_bound()
        if bound is not None:
            warnings.append(
                f"the scale of the loss ended at {bound}: the bound has taken the place of what "
                "would have been learnt; change the bound or train.learning_rate"
            )
        warnings += single_step_warning(
            num_images=self.course.rows,
            batch_size=self.options.batch_size * self.options.accumulate,
            epochs=self.course.epochs,
            counted=self.course.counted,
            steps=self.options.steps,
        )
        return warnings

    @property
    def notes(self) -> list[str]:
        """Return what people should know before the first step."""
        of_pairs = [*self.stores.notes, *pair_warnings(self.stores, self.validation)]
        return [*dict.fromkeys(of_pairs), *self.course.notes()]

    @property
    def num_batches(self) -> int:
        """Return the batches of an epoch."""
        return self.course.batches

    @property
    def num_steps(self) -> int:
        """Return the steps of all epochs."""
        return self.course.steps

    def seeded(self) -> AbstractContextManager[None]:
        """Return a block within which what is random is that of the training's seed."""
        # rows of other processes should meet other dropout
        seed = self.processes.seed(self.seed)
        return seeded(seed, device=self.device, deterministic=self.options.deterministic)

    def loaded(self, epoch: int, most: int | None = None) -> Iterator[Batch]:
        """Yield the batches of an epoch, or the first of them, counting the seconds of waiting.

        Raises:
            StoreNotFoundError: A store was removed meanwhile.
        """
        # two ahead: one waits while another is read
        order = islice(self.batches.order(epoch), most)
        batches = prefetch(self.batches.load, order, ahead=2)
        for batch in self.counts.waiting_for(batches):
            # maps of files stay readable after these were removed: a training would not notice
            require_there((self.plan.stores, self.plan.validation))
            yield batch

    def steps(self, batches: Iterable[Batch]) -> Iterator[dict[str, float]]:
        """Train on the batches of an epoch, and yield the loss of each with its parts.

        Raises:
            DivergedError: A loss is not finite.
        """
        self.adapter.train()
        # whoever stopped amid an accumulated step, as a timing does, has left gradients
        self.optimiser.zero_grad(set_to_none=True)
        for number, batch in enumerate(batches, start=1):
            losses = self.train_step.add_gradient(batch, step=self.counts.step)
            self._check_loss(losses["loss"], batch)
            # batches left over at the end of an epoch are a step of their own, a smaller one
            if number % self.options.accumulate == 0 or number == self.num_batches:
                factor = learning_rate_factor(
                    self.counts.step, self.options, self.course, plateau=self.counts.factor
                )
                self.train_step.take(factor)
                self.counts.step += 1
            yield losses

    def _restore(self, folder: Path, progress: Progress) -> None:
        """Restore the end of the last whole epoch of a call that was stopped."""
        if not (folder / run_folder.STATE).is_file():
            return
        self.counts, others = load_state(
            folder, self.trainable.modules, self.optimiser, progress.note
        )
        require_log(folder, self.counts.log)
        # what fails from here on is a file of another training, not a mistake in the options
        with restoring(folder):
            if self.average is not None:
                self.average.load(others["average"])
            if self.queue is not None:
                self.queue.load(others["queue"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict({k: v.item() for k, v in others["scaler"].items()})
            self.processes.set_random_state(others.get("random", {}), self.device)
        progress.note(f"going on after epoch {self.counts.epoch}")

    def train_epoch(self, folder: Path, log: RunLog, progress: Progress) -> None:
        """Train one epoch, log it, keep its weights if they are the best, and keep the state."""
        began = time.perf_counter()
        counts = self.counts
        counts.epoch += 1
        record = self.run_epoch(counts.epoch, progress)
        log.append(record)
        progress.note(summary(record, self.course.epochs))
        score = self.score(record)
        if score > counts.best_score:
            counts.best, counts.best_score, counts.bad_epochs = record, score, 0
            if self.processes.is_first:
                table = {key: self.plan.table[key] for key in ("towers", "objective")}
                with self._averaged():
                    save_adapter(folder, self.adapter, self.objective, table=table)
                counts.promise_best(folder)
        elif counts.epoch >= self.options.early_stopping_from:
            counts.bad_epochs += 1
        if self.options.schedule == "plateau":
            follow_plateau(counts, record["validation"]["loss"], self.options)
        counts.seconds += time.perf_counter() - began
        # nothing goes on from a finished training: the report takes the place of the state
        if self._finished():
            return
        others = {
            "average": self.average.state() if self.average else {},
            "scaler": self.scaler.state_dict(),
            "queue": self.queue.state() if self.queue else {},
            "random": self.processes.random_states(self.device),
        }
        if self.processes.is_first:
            # the log is durable before the state that vouches for its lines
            counts.log = log.promise()
            save_state(folder, counts, self.trainable.modules, self.optimiser, others)
            stopping.keep(run_folder.kept_of(folder, self.home))

    def score(self, record: dict[str, Any]) -> float:
        """Return what the best epoch has most of; without validation the last epoch wins."""
        if "validation" not in record:
            return float(record["epoch"])
        if self.options.select_by == "loss":
            return -float(record["validation"]["loss"])
        return float(record["validation"]["recall_sum"])

    def _finished(self) -> bool:
        """Return whether all epochs are done, or too many in a row were no better than the best."""
        all_done = self.counts.epoch >= self.course.epochs
        return all_done or 0 < self.options.early_stopping <= self.counts.bad_epochs

    def _averaged(self) -> AbstractContextManager[None]:
        """Return a block within which the averaged weights stand in the adapter, if there are."""
        return self.average.in_place() if self.average else nullcontext()

    def _pool_once(self) -> None:
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
        is_float32 = self.dtype == torch.float32
        self.stores.pool_once(self.adapter, device=self.device, is_float32=is_float32)
        if self.validation is not None and self.validation.stores is not self.stores:
            # True: it runs without autocast, whatever the training does
            self.validation.stores.pool_once(self.adapter, device=self.device, is_float32=True)

    def run_epoch(self, epoch: int, progress: Progress) -> dict[str, Any]:
        """Train on the batches of an epoch, validate, and return its record."""
        began = time.perf_counter()
        sums: Counter[str] = Counter()
        waited_before = self.counts.seconds_waiting
        label = f"epoch {epoch}/{self.course.epochs}"
        num_batches = self.course.batches_of(epoch)
        batches = self.loaded(epoch, num_batches)
        tracked = progress.track(batches, label, num_batches, unit="batches")
        for losses in self.steps(tracked):
            sums.update(losses)
        seconds = time.perf_counter() - began
        means = {name: total / num_batches for name, total in sums.items()}
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": self.counts.step,
            "loss": means.pop("loss"),
            "parts": means,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "seconds": seconds,
            "seconds_waiting": self.counts.seconds_waiting - waited_before,
            "images_per_second": self.course.rows * num_batches / self.course.batches / seconds,
        }
        # before validation, which takes finite embeddings for granted
        self._check_weights()
        with self._averaged():
            validation = self.processes.broadcast_from_rank0(self.validate)
        return {**record, "validation": validation} if validation else record

    def _check_loss(self, loss: float, batch: Batch) -> None:
        """Refuse a batch whose loss is not finite, and name some of its items."""
        if math.isfinite(loss):
            return
        ids = [self.stores.first.ids[row] for row in batch.rows.first[:3].tolist()]
        items = f"{self.plan.stores.sides[0].modality.value}s"
        raise DivergedError(
            f"the loss is {loss} at step {self.counts.step + 1}, with {items} such as {ids}: "
            "lower train.learning_rate"
        )

    def _check_weights(self) -> None:
        """Refuse what the last step did, which no later loss would show."""
        if not all(bool(torch.isfinite(p).all()) for p in self.trainable.parameters):
            raise DivergedError(
                f"the weights are not finite after step {self.counts.step}: lower "
                "train.learning_rate"
            )

    def validate(self) -> dict[str, Any]:
        """Return what the validation measures, or nothing where this process has none."""
        if self.validation is None:
            return {}
        return self.validation.measure(
            self.adapter,
            self.objective,
            batch_size=self.options.batch_size,
            device=self.device,
            teacher=self.teacher,
            same_image=self.options.same_image if self.options.captions == "each" else None,
        )

    def _selection(self) -> str:
        if self.validation is None:
            return "last epoch"
        name = "loss" if self.options.select_by == "loss" else "recall_sum"
        return f"{name} on {self.validation.name}"
