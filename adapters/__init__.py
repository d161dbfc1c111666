"""Turn features into embeddings of one shared space: steps make towers, towers make adapters.

An adapter is built from the tables of a preset; objectives train it, and solvers compute it in
closed form. This floor knows nothing of files of features, datasets or encoders.
"""

from typing import TYPE_CHECKING

from ..featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .adapter import Adapter, build_adapter
    from .checkpoint import load_adapter, save_adapter
    from .objective import PairBatch
    from .preset import read_preset
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Adapter": "adapter",
            "PairBatch": "objective",
            "build_adapter": "adapter",
            "load_adapter": "checkpoint",
            "read_preset": "preset",
            "save_adapter": "checkpoint",
        },
    )

__all__ = ["Adapter", "PairBatch", "build_adapter", "load_adapter", "read_preset", "save_adapter"]
