"""Read pairs by a finished joint run, from files and texts or from stored features.

`match` says whether texts belong to an image; `stored_pairs` scores many pairs of stored items,
as re-ranking does.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .match_spec import MatchSpec
    from .stored_pairs import StoredPairs
else:
    __getattr__ = lazy_exports(__name__, {"MatchSpec": "match_spec", "StoredPairs": "stored_pairs"})

__all__ = ["MatchSpec", "StoredPairs"]
