"""The training loop: batches from the cache, one task, the best weights by its validation."""

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from ...adapters.checkpoint import load_adapter
from ...adapters.objective import TeacherFeatures
from ...featcache.errors import DivergedError, SpecError
from ..common import stopping
from ..common.prefetch import prefetch
from ..common.progress import Progress
from ..common.reproducibility import resolve_precision, seeded
from ..inputs.pairs import PairDataset
from ..runs import run_folder
from ..runs.log_reading import require_log
from .checkpoint import TrainingState, load_state, restoring, save_state
from .course import single_step_warning
from .distributed import ALONE, ProcessGroup
from .log import RunLog, summary
from .open_task import AnyTask, Surroundings
from .options import TrainPlan
from .schedule import follow_plateau, learning_rate_factor
from .tasks import task_of
from .tasks._open_pairs import OpenPairs
from .tasks.base import Best
from .training_inputs import TrainingInputs
from .validation import Validation


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
        SpecError: The data are too few or lack what the task needs, or the preset is wrong.
        UnknownNameError: There is no such task.
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
        # float16 has so few exponents that small gradients would vanish; other types need no scale
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.task = task_of(plan.table)
        self.opened: AnyTask = self.task.open(
            plan,
            Surroundings(
                home=home,
                seed=seed,
                device=device,
                dtype=self.dtype,
                scaler=self.scaler,
                processes=processes,
                inputs=inputs,
            ),
        )
        self.trainable = self.opened.trainable
        self.adapter, self.objective = self.trainable.adapter, self.trainable.objective
        self.optimiser, self.average = self.trainable.optimiser, self.trainable.average
        self.batches, self.train_step = self.opened.batches, self.opened.train_step
        self.course = self.batches.course
        self.counts = TrainingState()

    def fit(self, folder: Path, progress: Progress, *, tensorboard: bool = False) -> dict[str, Any]:
        """Train all epochs, keep the best weights in the run folder, and return what happened.

        Raises:
            DivergedError: A loss is not finite.
        """
        for note in self.notes:
            progress.note(note)
        log = RunLog(
            folder,
            tensorboard=tensorboard,
            writes=self.processes.is_first,
            numbers=self.task,
        )
        with self.seeded(), log:
            self._restore(folder, progress)
            log.go_on(epochs=self.counts.epoch, next_step=self.counts.step + 1)
            if not self.counts.epoch:
                self.opened.initialise(progress)
            while not self._finished():
                self.train_epoch(folder, log, progress)
            self.processes.broadcast_from_rank0(partial(self.counts.require_best, folder))
            if self.opened.finishes and not self.counts.is_finishing:
                self._keep_best(folder, log)
        finish = partial(self.opened.finish, folder, progress)
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
            **self.opened.report(),
            "precision": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "processes": self.processes.count,
            "warnings": warnings,
            "seconds": self.counts.seconds,
            "seconds_waiting": self.counts.seconds_waiting,
        }

    def _warnings(self) -> list[str]:
        """Return what to know before this training is compared with others."""
        single_step = single_step_warning(
            num_images=self.course.rows,
            batch_size=self.options.batch_size * self.options.accumulate,
            epochs=self.course.epochs,
            counted=self.course.counted,
            steps=self.options.steps,
        )
        return [*self.opened.warnings, *single_step]

    @property
    def notes(self) -> list[str]:
        """Return what people should know before the first step."""
        return [*self.opened.notes, *self.course.notes()]

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

    def loaded(self, epoch: int, most: int | None = None) -> Iterator[Any]:
        """Yield the batches of an epoch, or the first of them, counting the seconds of waiting.

        Raises:
            StoreNotFoundError: A store was removed meanwhile.
        """
        # two ahead: one waits while another is read
        order = islice(self.batches.order(epoch), most)
        numbered = enumerate(order, start=(epoch - 1) * self.num_batches)
        batches = prefetch(self.opened.load_batch, numbered, ahead=2)
        for batch in self.counts.waiting_for(batches):
            # maps of files stay readable after these were removed: a training would not notice
            self.opened.require_there()
            yield batch

    def steps(self, batches: Iterable[Any]) -> Iterator[dict[str, float]]:
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
            self.opened.load_state(others)
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
        progress.note(summary(record, self.course.epochs, self.task))
        score = self.score(record)
        if score > counts.best_score:
            counts.best, counts.best_score, counts.bad_epochs = record, score, 0
            if self.processes.is_first:
                with self._averaged():
                    self.opened.save(folder)
                counts.promise_best(folder)
        elif counts.epoch >= self.options.early_stopping_from:
            counts.bad_epochs += 1
        if self.options.schedule == "plateau":
            follow_plateau(counts, record["validation"]["loss"], self.options)
        counts.seconds += time.perf_counter() - began
        # nothing goes on from a finished training: the report takes the place of the state
        if not self._finished():
            self._save_state(folder, log)

    def _keep_best(self, folder: Path, log: RunLog) -> None:
        """Keep the best weights in the state: those in the run folder are replaced by what follows.

        Whoever is stopped from here on begins with that again.
        """
        if self.processes.is_first:
            adapter, objective, _ = load_adapter(folder)
            self.adapter.load_state_dict(adapter.state_dict())
            self.objective.load_state_dict(objective.state_dict())
        self.counts.begin_finish()
        self._save_state(folder, log)

    def _save_state(self, folder: Path, log: RunLog) -> None:
        others = {
            "average": self.average.state() if self.average else {},
            "scaler": self.scaler.state_dict(),
            **self.opened.state(),
            "random": self.processes.random_states(self.device),
        }
        if self.processes.is_first:
            # the log is durable before the state that vouches for its lines
            self.counts.log = log.promise()
            save_state(folder, self.counts, self.trainable.modules, self.optimiser, others)
            stopping.keep(run_folder.kept_of(folder, self.home))

    def score(self, record: dict[str, Any]) -> float:
        """Return what the best epoch has most of; without validation the last epoch wins."""
        if "validation" not in record:
            return float(record["epoch"])
        return self._best.score(record["validation"])

    def _finished(self) -> bool:
        """Return whether all epochs are done, or too many in a row were no better than the best."""
        all_done = self.counts.epoch >= self.course.epochs
        return all_done or 0 < self.options.early_stopping <= self.counts.bad_epochs

    def _averaged(self) -> AbstractContextManager[None]:
        """Return a block within which the averaged weights stand in the adapter, if there are."""
        return self.average.in_place() if self.average else nullcontext()

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

    def _check_loss(self, loss: float, batch: Any) -> None:
        """Refuse a batch whose loss is not finite, and name some of its items."""
        if math.isfinite(loss):
            return
        items = self.opened.describe(batch)
        raise DivergedError(
            f"the loss is {loss} at step {self.counts.step + 1}, with {items}: lower "
            "train.learning_rate"
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
        return self.opened.validate()

    @property
    def _best(self) -> Best:
        """Return the number that the kept epoch is best in: that of the task, or the loss."""
        return self.task.best_by(self.options.select_by)

    def _selection(self) -> str:
        validated_on = self.opened.validated_on
        return "last epoch" if validated_on is None else f"{self._best.name} on {validated_on}"

    def check_features(self) -> list[str]:
        """Return what is wrong with features that can be trained on all the same.

        Raises:
            SpecError: They cannot.
        """
        return self.opened.check_features()

    @property
    def pairs(self) -> OpenPairs:
        """Return the task, if it is one on pairs.

        Raises:
            SpecError: It is another.
        """
        if not isinstance(self.opened, OpenPairs):
            raise SpecError("[task] is of no pairs, and the cost of these alone can be estimated")
        return self.opened

    @property
    def stores(self) -> PairDataset:
        """Return the stores of pairs to train on."""
        return self.pairs.stores

    @property
    def train_rows(self) -> Int64[np.ndarray, " n"]:
        """Return the numbers of the images to train on."""
        return self.pairs.train_rows

    @property
    def validation(self) -> Validation | None:
        """Return the pairs by which weights are chosen, or None."""
        return self.pairs.validation

    @property
    def teacher(self) -> TeacherFeatures | None:
        """Return the features of these that the objective needs, or None."""
        return self.pairs.teacher
