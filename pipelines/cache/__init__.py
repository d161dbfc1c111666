"""Look after the feature stores of a home: explain, export, repair, remove, clean.

A store is damaged, stale or in use by a run, and each of these is found out before anything is
touched. Nothing is computed here but what `repair` extracts again.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .explain import Explanation, explain_stores
    from .leftovers import find_leftovers
    from .restore import RepairReport
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Explanation": "explain",
            "RepairReport": "restore",
            "explain_stores": "explain",
            "find_leftovers": "leftovers",
        },
    )

__all__ = ["Explanation", "RepairReport", "explain_stores", "find_leftovers"]
