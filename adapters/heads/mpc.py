"""Score the class of an object that is blacked out in the image."""

from typing import ClassVar

from ..head import HeadInputs
from ._two_layers import TwoLayers


class Mpc(TwoLayers):
    """Score the class of an object that is blacked out, by two layers on the token of its box.

    One logit a class of the list.

    Source: VLE, iflytek/VLE, whose README and figure show the class of an object told from the
    fused token of its box. Neither head nor list were released: the layers are those of its other
    heads.

    Args:
        spread: Standard deviation of both matrices at the start; biases are zero.

    Raises:
        SpecError: `spread` is not positive.
    """

    reads: ClassVar[str] = "image"
    list_name = "classes"

    def __init__(self, inputs: HeadInputs, *, spread: float = 0.02) -> None:
        super().__init__(inputs.token_width, inputs.listed["classes"], spread=spread)
