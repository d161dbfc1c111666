"""A feature store: immutable shards in a folder that is keyed by all that changes a number.

`feature_store` creates, fills and checks one; `catalog` finds those below a home; `key` and
`manifest` say what one holds. Locks, checksums and damage are here, too, and `containers` has
the file formats.
"""

from typing import TYPE_CHECKING

from ..exports import lazy_exports

if TYPE_CHECKING:
    from .catalog import StoreEntry, find_store, read_catalog
    from .feature_store import FeatureStore
    from .key import StoreDescription
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "FeatureStore": "feature_store",
            "StoreDescription": "key",
            "StoreEntry": "catalog",
            "find_store": "catalog",
            "read_catalog": "catalog",
        },
    )

__all__ = ["FeatureStore", "StoreDescription", "StoreEntry", "find_store", "read_catalog"]
