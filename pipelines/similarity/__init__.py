"""Compare cosines of texts with people's judgement, through an adapter and without one.

`similarity` is the verb; `scorers` are the ways in which two texts are compared, and
`evaluate_pairs` turns cosines and grades into numbers with intervals. Texts that were trained on
are found and told.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .similarity_spec import SimilarityReport, SimilaritySpec
else:
    __getattr__ = lazy_exports(
        __name__, {"SimilarityReport": "similarity_spec", "SimilaritySpec": "similarity_spec"}
    )

__all__ = ["SimilarityReport", "SimilaritySpec"]
