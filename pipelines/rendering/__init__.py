"""Turn reports into tables and lines for people; nothing here prints.

A file is the reports of one room. What others wrote is shown as it is, and what people copy from
a table is never cut.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .evaluations import retrieval_parts
    from .tables import rows_table
    from .training import extract_lines, train_lines
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "extract_lines": "training",
            "retrieval_parts": "evaluations",
            "rows_table": "tables",
            "train_lines": "training",
        },
    )

__all__ = ["extract_lines", "retrieval_parts", "rows_table", "train_lines"]
