"""Tell which of several texts fits a question about an image."""

from ...featcache.errors import SpecError
from ..joint_objective import CHOICES
from ._classified import Classified


class Choice(Classified):
    """Tell which of several texts fits a question about an image.

    -log softmax(z)_r with the logits z that the head `choice` gives the texts of one question, and
    r the right one, the label `choice`. The rows of a question stand one behind the other.

    Worked by hand: four equal logits: log 4 = 1.386 whichever is right.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForVCRQ2A` and
    `VLEForVCRQA2R`. No difference.

    Args:
        choices: Texts of a question.

    Raises:
        SpecError: There are fewer than two.
    """

    head = "choice"
    accuracy = "choice_accuracy"
    labels = ("choice",)
    reading = CHOICES
    unit = "questions"

    def __init__(self, *, choices: int = 4) -> None:
        super().__init__()
        if choices < 2:
            raise SpecError(f"[objective].choice.choices must be at least 2, found {choices}")
        self.rows_per_unit = choices
