"""Turn features into embeddings of one shared space: steps make towers, towers make adapters.

A joint adapter reads the tokens of both sides together instead, and scores pairs by its heads.
An adapter is built from the tables of a preset; objectives train it, and solvers compute it in
closed form. This floor knows nothing of files of features, datasets or encoders.
"""

from typing import TYPE_CHECKING

from ..featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .adapter import Adapter, build_adapter
    from .checkpoint import load_adapter, save_adapter
    from .joint_adapter import JointAdapter, build_joint_adapter
    from .joint_batch import JointBatch
    from .joint_checkpoint import load_joint_adapter, save_joint_adapter
    from .objective import PairBatch
    from .preset import read_preset
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Adapter": "adapter",
            "JointAdapter": "joint_adapter",
            "JointBatch": "joint_batch",
            "PairBatch": "objective",
            "build_adapter": "adapter",
            "build_joint_adapter": "joint_adapter",
            "load_adapter": "checkpoint",
            "load_joint_adapter": "joint_checkpoint",
            "read_preset": "preset",
            "save_adapter": "checkpoint",
            "save_joint_adapter": "joint_checkpoint",
        },
    )

__all__ = [
    "Adapter",
    "JointAdapter",
    "JointBatch",
    "PairBatch",
    "build_adapter",
    "build_joint_adapter",
    "load_adapter",
    "load_joint_adapter",
    "read_preset",
    "save_adapter",
    "save_joint_adapter",
]
