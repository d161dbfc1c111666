"""Tell image patches that belong to what the text names from those that do not."""

from ._classified import Classified


class Pbc(Classified):
    """Tell image patches that belong to what the text names from those that do not.

    -log softmax(z)_y with the two logits z of the head `pbc` at a patch, and y = 1 where the label
    `named` is true: where boxes that the text names cover enough of it.

    Worked by hand: z = (0, log 3) gives a patch 3/4, so the loss is log(4/3) = 0.288 where it
    belongs, and log 4 = 1.386 where it does not.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForPBC`. We differ:
    its call has the classes on the last axis, where the loss looks for patches, and raises.
    """

    head = "pbc"
    accuracy = "pbc_accuracy"
    balanced_by = "named"
    labels = ("named",)
    unit = "patches"
