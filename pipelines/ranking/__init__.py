"""Order a gallery for every query: exactly or by a FAISS index, and count what is found.

Embeddings and their relations come in, recalls with intervals go out. Scores may be corrected for
items near to every query, and first answers put into a new order.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .embeddings import PairedEmbeddings
    from .faiss_index import BuiltIndex
    from .ranking import Ranking
    from .recall import Retrieval
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "BuiltIndex": "faiss_index",
            "PairedEmbeddings": "embeddings",
            "Ranking": "ranking",
            "Retrieval": "recall",
        },
    )

__all__ = ["BuiltIndex", "PairedEmbeddings", "Ranking", "Retrieval"]
