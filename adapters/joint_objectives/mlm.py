"""Tell which words were masked."""

from ..joint_objective import MASKED_TOKENS
from ._classified import Classified


class Mlm(Classified):
    """Tell which tokens were masked.

    -log softmax(z)_t with the logits z of the head `mlm` at a masked token, and t the place in the
    list of what stood there, the label `token`; 0 where it is not in the list (t = -1).

    Worked by hand: three tokens in the list and z = (0, 0, log 2) give the third 1/2, so that the
    loss is log 2 = 0.693 where it stood there.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForMLM`, as BERT. No
    difference but for tokens that are in no list, of which there are none there.
    """

    head = "mlm"
    accuracy = "mlm_accuracy"
    labels = ("token",)
    reading = MASKED_TOKENS
    unit = "masked tokens"
