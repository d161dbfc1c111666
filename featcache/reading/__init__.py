"""Read rows of complete stores by number or id, as fast as the machine can.

Rows come from memory maps, from memory or from a device, whichever has the room. Orders that
visit a few shards at a time keep reads of a store larger than memory sequential.
"""

from typing import TYPE_CHECKING

from ..exports import lazy_exports

if TYPE_CHECKING:
    from .reader import FeatureReader
    from .shuffle import block_shuffle
else:
    __getattr__ = lazy_exports(__name__, {"FeatureReader": "reader", "block_shuffle": "shuffle"})

__all__ = ["FeatureReader", "block_shuffle"]
