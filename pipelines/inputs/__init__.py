"""Inputs of the verbs: stores, their rows joined by id, and their original items.

`store_selection` chooses stores or says which command would make them. `pairs` is the contract of
two stores joined item by item, and `labelled_images` that of images with classes.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .image_text import join_stores
    from .labelled_images import LabelledImages
    from .pairs import PairDataset
    from .store_selection import DatasetQuery, StorePair, require_stores
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "DatasetQuery": "store_selection",
            "LabelledImages": "labelled_images",
            "PairDataset": "pairs",
            "StorePair": "store_selection",
            "join_stores": "image_text",
            "require_stores": "store_selection",
        },
    )

__all__ = [
    "DatasetQuery",
    "LabelledImages",
    "PairDataset",
    "StorePair",
    "join_stores",
    "require_stores",
]
