"""Rows of the tables that people have: delimited text, JSON or parquet, in any encoding.

`table` opens each of them as column names and rows of cells. The rest reads one format, finds the
pictures that a row names, or counts the rows that cannot be read.
"""

from typing import TYPE_CHECKING

from ...exports import lazy_exports

if TYPE_CHECKING:
    from .decoding import format_error
    from .json_rows import Row
    from .picture_places import PicturePlaces
    from .table import Table, open_table
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "PicturePlaces": "picture_places",
            "Row": "json_rows",
            "Table": "table",
            "format_error": "decoding",
            "open_table": "table",
        },
    )

__all__ = ["PicturePlaces", "Row", "Table", "format_error", "open_table"]
