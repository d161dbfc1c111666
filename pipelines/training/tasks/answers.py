"""Visual question answering: the answer to a question about an image, out of a list."""

from ..joint.options import AnswerList
from ._joint import ANSWERS_TOLD, JointTask
from .base import Curve


class Answers(JointTask):
    """Answer questions about images; the best has the highest accuracy.

    Args:
        vocabulary: `AnswerList.way`.
        least_count: `AnswerList.least_count`.
        normalise: `AnswerList.normalise`.
        hard_negatives: This and the further options are those of `JointTask`.
        negatives_from: See there.
        negatives_sha256: See there.
        negatives_scale: See there.
        blind: See there.
        most_validated: See there.

    Raises:
        SpecError: An option is out of range.
    """

    best = ANSWERS_TOLD
    curve = Curve("Validation accuracy", "accuracy of answers, %", "accuracy")
    labels = ("answers",)

    def __init__(
        self,
        *,
        vocabulary: str = "auto",
        least_count: int = 9,
        normalise: bool = True,
        hard_negatives: float = 0.3,
        negatives_from: str = "",
        negatives_sha256: str = "",
        negatives_scale: float = 20.0,
        blind: str = "",
        most_validated: int = 0,
    ) -> None:
        super().__init__(
            hard_negatives=hard_negatives,
            negatives_from=negatives_from,
            negatives_sha256=negatives_sha256,
            negatives_scale=negatives_scale,
            blind=blind,
            most_validated=most_validated,
        )
        self.answer_list = AnswerList(way=vocabulary, least_count=least_count, normalise=normalise)
