"""Evaluate a run by retrieval across its two sides, and rank encoders before any training.

Both read stored features alone. What the gallery has in common with the training is told beside
the numbers.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .rank_encoders_spec import RankSpec
    from .retrieve_spec import RetrieveSpec
else:
    __getattr__ = lazy_exports(
        __name__, {"RankSpec": "rank_encoders_spec", "RetrieveSpec": "retrieve_spec"}
    )

__all__ = ["RankSpec", "RetrieveSpec"]
