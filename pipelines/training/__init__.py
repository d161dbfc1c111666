"""Train a light adapter on the features of two stores.

`plan` resolves a spec into all that a training needs, `train` carries it out, and `trainer` is the
loop: batches from the cache, one of `tasks`, the best weights by its validation. A closed form
needs no loop; several processes may share one, and `members` trains several seeds.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .options import TrainOptions, TrainPlan
    from .spec import TrainReport, TrainSpec
    from .trainer import Trainer
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "TrainOptions": "options",
            "TrainPlan": "options",
            "TrainReport": "spec",
            "TrainSpec": "spec",
            "Trainer": "trainer",
        },
    )

__all__ = ["TrainOptions", "TrainPlan", "TrainReport", "TrainSpec", "Trainer"]
