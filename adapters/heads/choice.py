"""Score how well a text fits, one of several to choose from."""

from ..head import HeadInputs
from ._two_layers import TwoLayers


class Choice(TwoLayers):
    """Score how well a text fits, by two layers on the vector of the row.

    One logit a row; those of the texts of one question are compared. At 768 features, of which a
    vector has twice as many, 2,365,441 parameters.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForVCRQ2A` and
    `VLEForVCRQA2R`. No difference.

    Args:
        spread: Standard deviation of both matrices at the start; biases are zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    def __init__(self, inputs: HeadInputs, *, spread: float = 0.02) -> None:
        super().__init__(inputs.pooled_width, 1, spread=spread)
