"""Score each answer of a list by two layers, as VLE does."""

from ..head import HeadInputs
from ._two_layers import TwoLayers


class Answers(TwoLayers):
    """Score each answer of a list by two layers on the vector of a row; see `TwoLayers`.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `vqa_classifier`. No
    difference.

    Args:
        spread: Standard deviation of both matrices at the start; biases are zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    list_name = "answers"

    def __init__(self, inputs: HeadInputs, *, spread: float = 0.02) -> None:
        super().__init__(inputs.pooled_width, inputs.listed["answers"], spread=spread)
