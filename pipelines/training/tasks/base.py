"""The contract of a task: its data, its numbers, and what the best of them is.

What a validation measures is a table of names: `loss`, the mean loss on data that is not trained
on, and further numbers, or tables of numbers such as one for each direction of a retrieval.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ....featcache.errors import SpecError
from ....featcache.links import Links
from ....featcache.types import Sides
from ..options import TrainPlan

if TYPE_CHECKING:
    from ..open_task import AnyTask, Surroundings
else:
    # At run time torch is imported only once a task is opened: a list of runs asks for its numbers.
    AnyTask = Any
    Surroundings = Any

Validated: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Best:
    """Number of a validation that is best in the weights to keep.

    Attributes:
        name: Its name.
        lowest: Whether the lowest is best, as of a loss, or else the highest.
        title: What it is in words; its name, if empty.
        digits: Digits after the point that people are shown.
    """

    name: str
    lowest: bool = False
    title: str = ""
    digits: int = 3

    def score(self, validation: Validated) -> float:
        """Return the number, or its negative, such that the higher is the better."""
        value = float(validation[self.name])
        return -value if self.lowest else value

    @property
    def words(self) -> str:
        """Return what it is, in words."""
        return self.title or _words(self.name)

    def shown(self, value: float) -> str:
        """Return a value of it as people read it."""
        return f"{value:.{self.digits}f}"


LOSS = Best("loss", lowest=True)


@dataclass(frozen=True)
class Curve:
    """Plot of one number of the validation over the epochs.

    Attributes:
        title: What it is.
        label: What the number is, with its unit.
        name: Name of the number.
    """

    title: str
    label: str
    name: str


class Numbers:
    """Numbers of a validation, as they are chosen by and shown; here each by its name.

    Attributes:
        best: The number that the kept weights are best in.
        curve: What a page plots over the epochs, or None.
        counted: What a training reads so many of in a second, in the plural.
    """

    best: ClassVar[Best] = LOSS
    curve: ClassVar[Curve | None] = None
    counted: ClassVar[str] = "images"

    def words(self, validation: Validated) -> str:
        """Return what the line of an epoch says: `validation loss 2.304, accuracy 31.000`."""
        shown = ", ".join(f"{_words(name)} {value:.3f}" for name, value in _plain(validation))
        return f"validation {shown}"

    def scalars(self, validation: Validated) -> dict[str, float]:
        """Return all numbers by their names in TensorBoard, below `validation/`."""
        return dict(_plain(validation))

    def headlines(self, validation: Validated) -> dict[str, float]:
        """Return what tells runs apart in a list of them: numbers in percent, by what they are."""
        del validation
        return {}


class Task(Numbers, ABC):
    """Ask for data, and say what to train on them is for.

    A subclass takes its options keyword-only, with types and defaults in the signature: a preset's
    `[task]` table names `part` and any of them.

    Attributes:
        sides: The two sides that it is of, or None where any two are.
        labels: What has to be known of the items beside what belongs together, by the names of
            `Links.labels`.
    """

    sides: ClassVar[Sides | None] = None
    labels: ClassVar[tuple[str, ...]] = ()

    def best_by(self, select_by: str) -> Best:
        """Return the number that weights are chosen by: the loss, if `loss` was asked for."""
        return LOSS if select_by == "loss" else self.best

    @abstractmethod
    def open(self, plan: TrainPlan, surroundings: Surroundings) -> AnyTask:
        """Return the task with its data and what is trained on them.

        Raises:
            SpecError: The data are too few or lack what the task needs, or the preset is wrong.
        """

    def check_sides(self, sides: Sides) -> None:
        """Pass if the task is of these sides.

        Raises:
            SpecError: It is of others.
        """
        if self.sides is not None and sides != self.sides:
            wanted, given = (
                " and ".join(side.value for side in each) for each in (self.sides, sides)
            )
            raise SpecError(f"[task] is of {wanted}, found {given}: name encoders of these sides")

    def check_labels(self, pairs: Links, dataset: str, *, split: str, validates: bool) -> None:
        """Pass if a split has the labels that the task needs.

        Args:
            pairs: What is known of its items.
            dataset: Name of the dataset.
            split: Name of the split.
            validates: Whether it is not trained on, but chooses the epoch to keep.

        Raises:
            SpecError: It lacks one.
        """
        missing = [name for name in self.labels if name not in pairs.labels]
        if missing:
            way_out = "train on another dataset"
            if validates:
                way_out = "validate on a part of the training by --set train.validation=0.1"
            raise SpecError(
                f"[task] needs {missing[0]}, and split {split!r} of dataset {dataset} has none: "
                f"{way_out}"
            )


def _plain(validation: Validated) -> list[tuple[str, float]]:
    return [(name, value) for name, value in validation.items() if isinstance(value, int | float)]


def _words(name: str) -> str:
    return name.replace("_", " ")
