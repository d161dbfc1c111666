"""The contract of tasks whose pairs are read together, by a joint adapter with heads."""

from typing import TYPE_CHECKING, Any

from ....featcache.errors import SpecError
from ....featcache.types import IMAGE_TEXT
from ..joint.options import AnswerList, WrongPairs, check_blind
from ..options import TrainPlan
from .base import Best, Task, Validated

if TYPE_CHECKING:
    from ..open_task import Surroundings
    from ._open_joint import OpenJoint
else:
    # As in `base`.
    OpenJoint = Any
    Surroundings = Any

ANSWERS_TOLD = Best("accuracy", title="accuracy of answers", digits=1)
MATCHES_TOLD = Best("itm_accuracy", title="balanced accuracy of matching", digits=1)


class JointTask(Task):
    """Read an image and a text together by the objectives of the preset.

    Args:
        hard_negatives: `WrongPairs.hard`.
        negatives_from: `WrongPairs.run`.
        negatives_sha256: `WrongPairs.adapter_sha256`.
        negatives_scale: `WrongPairs.scale`.
        blind: Side that is not looked at, `image` or `text`, as a control; or empty.
        most_validated: Pairs that validate at most; 0 for all.

    Raises:
        SpecError: An option is out of range.
    """

    sides = IMAGE_TEXT
    counted = "pairs"
    answer_list: AnswerList | None = None  # of a task whose answers are listed

    def __init__(
        self,
        *,
        hard_negatives: float = 0.3,
        negatives_from: str = "",
        negatives_sha256: str = "",
        negatives_scale: float = 20.0,
        blind: str = "",
        most_validated: int = 2000,
    ) -> None:
        if most_validated < 0:
            raise SpecError(f"[task] most_validated must be at least 0, found {most_validated}")
        self.most_validated = most_validated
        self.blind = check_blind(blind)
        self.wrong_pairs = WrongPairs(
            hard=hard_negatives,
            run=negatives_from,
            adapter_sha256=negatives_sha256,
            scale=negatives_scale,
        )

    def open(self, plan: TrainPlan, surroundings: Surroundings) -> OpenJoint:
        """Join the stores, and build adapter, objectives and batches."""
        from ._open_joint import OpenJoint  # imports torch

        return OpenJoint(
            self,
            plan,
            surroundings,
            wrong_pairs=self.wrong_pairs,
            answer_list=self.answer_list,
            most_validated=self.most_validated,
            blind=self.blind,
        )

    def words(self, validation: Validated) -> str:
        """Return the accuracies: `validation accuracy of answers 31.0 %, loss 2.304`."""
        accuracies = [f"{words} {value:.1f} %" for words, value in _accuracies(validation).items()]
        loss = f"loss {validation['loss']:.3f}"
        return f"validation {', '.join([*accuracies, loss])}"

    def headlines(self, validation: Validated) -> dict[str, float]:
        """Return the accuracies, as `validation accuracy of answers`."""
        return {f"validation {words}": value for words, value in _accuracies(validation).items()}


def _accuracies(validation: Validated) -> dict[str, float]:
    return {
        best.words: validation[best.name]
        for best in (ANSWERS_TOLD, MATCHES_TOLD)
        if best.name in validation
    }
