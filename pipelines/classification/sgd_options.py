"""Options of training a head of classes by plain gradient steps."""

from dataclasses import dataclass
from typing import Annotated

from ...featcache.bounds import MOST
from ...featcache.settings import Setting, check_settings


@dataclass(frozen=True, kw_only=True)
class SgdOptions:
    """Options of training a head; the defaults are LightCRL's linear classification.

    Source: lightweightCRL, commit e3421ad, text_image/downstream_task: two matrices without a
    non-linearity between them, momentum 0.9, no decay, no schedule, batches of 64 in 100 epochs,
    measured after every fifth, on features as they come out of the adapter. We differ: there the
    frozen adapter runs with its dropout on; here features are those of evaluation mode.

    """

    epochs: Annotated[int, Setting("Passes over the images.", least=1, most=MOST)] = 100
    every: Annotated[int, Setting("Epochs between two measurements.", least=1, most=MOST)] = 5
    unit: Annotated[bool, Setting("Divide embeddings by their length.")] = False
    scaled: Annotated[
        bool, Setting("Shift and scale features by those of the training images.")
    ] = False
    hidden: Annotated[
        int, Setting("Features between the two matrices; 0: one matrix.", least=0, most=MOST)
    ] = 128
    learning_rate: Annotated[float, Setting("Length of a step.", above=0)] = 1e-3
    momentum: Annotated[float, Setting("Share of the last step in the next.", least=0, below=1)] = (
        0.9
    )
    batch_size: Annotated[int, Setting("Images of a step.", least=1, most=MOST)] = 64

    def __post_init__(self) -> None:
        check_settings(self)
