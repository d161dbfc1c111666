"""Tell the class of an object that is blacked out in the image."""

from ..joint_objective import MASKED_BOXES
from ._classified import Classified


class Mpc(Classified):
    """Tell the class of an object that is blacked out in the image.

    -log softmax(z)_c with the logits z of the head `mpc` at the token of its box, and c its place
    in the list, the label `class`; 0 where it is not in the list (c = -1).

    Worked by hand: two classes and z = (log 3, 0) give the first 3/4: log(4/3) = 0.288 where it is
    of the first, log 4 = 1.386 where it is of the second.

    Source: VLE, iflytek/VLE, README and figure. It was not released.
    """

    head = "mpc"
    accuracy = "mpc_accuracy"
    labels = ("class",)
    reading = MASKED_BOXES
    unit = "boxes"
