"""Runs: the folder of a training, and what is done with one that is finished.

`run_folder` and `provenance` write what rebuilds and explains a run; `trained_run` and `embedder`
open it again to evaluate it or to embed new items. `evaluation` is the frame of every verb that
measures, and `leakage` finds what it has in common with a training.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .embed_stored import embed_rows
    from .embedder import Embedder
    from .evaluation import Evaluation
    from .leakage import find_leakage
    from .trained_run import TrainedRun
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Embedder": "embedder",
            "Evaluation": "evaluation",
            "TrainedRun": "trained_run",
            "embed_rows": "embed_stored",
            "find_leakage": "leakage",
        },
    )

__all__ = ["Embedder", "Evaluation", "TrainedRun", "embed_rows", "find_leakage"]
