"""Sources of items: datasets by name, and any folder or table that a user points at.

`base` is the contract of a dataset, `opening` turns what `--data` names into one, and `datasets`
has one family a file. `readers` and `tables` read what people publish: folders, archives, text
files, JSON, parquet.
"""

from typing import TYPE_CHECKING

from ..exports import lazy_exports

if TYPE_CHECKING:
    from .base import Source
    from .opening import list_datasets, open_source, parse_data
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Source": "base",
            "list_datasets": "opening",
            "open_source": "opening",
            "parse_data": "opening",
        },
    )

__all__ = ["Source", "list_datasets", "open_source", "parse_data"]
