"""Score whether an image patch belongs to what the text names."""

from typing import ClassVar

from ..head import HeadInputs
from ._two_layers import TwoLayers


class Pbc(TwoLayers):
    """Score whether an image patch belongs to what the text names, by two layers on its token.

    Two logits a patch: that it does not, and that it does. At 768 features 593,666 parameters.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForPBC`, whose label 1
    is a patch that belongs. No difference.

    Args:
        spread: Standard deviation of both matrices at the start; biases are zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    reads: ClassVar[str] = "image"

    def __init__(self, inputs: HeadInputs, *, spread: float = 0.02) -> None:
        super().__init__(inputs.token_width, 2, spread=spread)
