"""The contract of a task with its data: what the training loop asks for, and nothing it knows of.

A batch is loaded from rows, which `order` yields; what both are is a matter of the task.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from ..common.progress import Progress
from .course import Course
from .distributed import ALONE, ProcessGroup
from .modules import TrainingModules
from .training_inputs import TrainingInputs

RowsT = TypeVar("RowsT")
BatchT = TypeVar("BatchT")
LoadedT_co = TypeVar("LoadedT_co", covariant=True)
SteppedT_contra = TypeVar("SteppedT_contra", contravariant=True)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Surroundings of a task: where and how it is trained.

    Attributes:
        home: Folder of everything lightalign keeps.
        seed: Seed of initialisation, order and dropout.
        device: Where to train.
        dtype: Type of matrix products.
        scaler: Scales losses whose gradients would vanish in float16; for other types it does not.
        processes: Who trains together; only the first validates.
        inputs: Stores that another training of the plan has opened, or None.
    """

    home: Path
    seed: int
    device: torch.device
    dtype: torch.dtype
    scaler: torch.amp.GradScaler
    processes: ProcessGroup = ALONE
    inputs: TrainingInputs | None = None


class BatchSource(Protocol[RowsT, LoadedT_co]):
    """Batches of a training.

    Attributes:
        course: Batches, steps and epochs.
    """

    course: Course

    def order(self, epoch: int) -> Iterator[RowsT]:
        """Yield the rows of each batch of an epoch, which is counted from 1."""

    def load(self, rows: RowsT) -> LoadedT_co:
        """Return the batch of these rows; it is called from a thread, ahead of its step."""


class BatchStep(Protocol[SteppedT_contra]):
    """Steps of the optimiser, each by the gradients of one batch or several."""

    def add_gradient(self, batch: SteppedT_contra, *, step: int | None = None) -> dict[str, float]:
        """Add the gradient of a batch's loss, and return `loss` and its parts by name."""

    def take(self, factor: float = 1.0) -> None:
        """Step by the gradients that were added, with `factor` of the highest learning rate."""


class OpenTask(ABC, Generic[RowsT, BatchT]):
    """A task with its data, its modules and its batches.

    Attributes:
        trainable: What is trained.
        batches: What it is trained on.
        train_step: How.
        validated_on: What validates, in words, or None: the last epoch is kept then.
        finishes: Whether `finish` changes the best weights that `save` has written.
    """

    trainable: TrainingModules[Any, Any]
    batches: BatchSource[RowsT, BatchT]
    train_step: BatchStep[BatchT]
    validated_on: str | None
    finishes: bool = False

    @property
    @abstractmethod
    def notes(self) -> list[str]:
        """Return what people should know before the first step."""

    @property
    @abstractmethod
    def warnings(self) -> list[str]:
        """Return what to know after the last step, before numbers are compared with others."""

    @abstractmethod
    def check_features(self) -> list[str]:
        """Return what is wrong with features that can be trained on all the same.

        Raises:
            SpecError: They cannot.
        """

    @abstractmethod
    def require_there(self) -> None:
        """Pass if all data are still there; asked before each batch is trained on.

        Raises:
            StoreNotFoundError: Some were removed meanwhile.
        """

    @abstractmethod
    def initialise(self, progress: Progress) -> None:
        """Give the modules what is solved before the first step, in every process the same."""

    def load_batch(self, numbered: tuple[int, RowsT]) -> BatchT:
        """Return a batch by its number among all of the training, from 0, and by its rows."""
        _, rows = numbered
        return self.batches.load(rows)

    @abstractmethod
    def describe(self, batch: BatchT) -> str:
        """Return some items of a batch in words, for the message of a loss that is not finite."""

    @abstractmethod
    def validate(self) -> dict[str, Any]:
        """Return what the validation measures, `loss` among it; nothing where none is open here."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Save the modules as they are now in a run folder, in the place of those of before."""

    def finish(self, folder: Path, progress: Progress) -> dict[str, Any]:
        """Save what becomes of the best weights, which the modules have; return what is reported.

        Called once all epochs are done, in the first process alone; again after a stop within it.
        """
        del folder, progress
        return {}

    @abstractmethod
    def report(self) -> dict[str, Any]:
        """Return what the report of the run says of the data, `num_images` among it."""

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        """Return what a training that goes on needs of it beside its modules, by owner and name."""
        return {}

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore what `state` returned, which stands among the states of others."""
        del state


AnyTask: TypeAlias = OpenTask[Any, Any]
