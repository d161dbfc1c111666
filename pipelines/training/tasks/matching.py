"""Image-text matching: whether an image and a text belong together."""

from ._joint import MATCHES_TOLD, JointTask
from .base import Curve


class Matching(JointTask):
    """Tell right pairs from wrong ones; the best has the highest balanced accuracy."""

    best = MATCHES_TOLD
    curve = Curve("Validation matching", "balanced accuracy, %", "itm_accuracy")
