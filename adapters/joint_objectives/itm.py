"""Tell pairs that belong together from pairs that do not."""

from ._classified import Classified


class Itm(Classified):
    """Tell pairs that belong together from pairs that do not.

    -log softmax(z)_y with the two logits z of the head `itm`, and y = 1 where the label `matches`
    is true.

    Worked by hand: z = (0, log 3) gives a match 3/4, so the loss is log(4/3) = 0.288 where it is
    one, and log 4 = 1.386 where it is none.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `VLEForITM`. No
    difference.
    """

    head = "itm"
    accuracy = "itm_accuracy"
    balanced_by = "matches"
    labels = ("matches",)
