"""Build, save and ask indexes of embeddings.

`build_index` embeds a split and saves it with what each row is; `search` answers a text or a
picture from it, with a contact sheet. A saved index opens in no time, however large it is.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .build_index_spec import IndexSpec
    from .saved_index import SavedIndex
    from .search_spec import SearchSpec
else:
    __getattr__ = lazy_exports(
        __name__,
        {"IndexSpec": "build_index_spec", "SavedIndex": "saved_index", "SearchSpec": "search_spec"},
    )

__all__ = ["IndexSpec", "SavedIndex", "SearchSpec"]
