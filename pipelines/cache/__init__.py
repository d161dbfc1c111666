"""Look after the feature stores of a home: explain, export, repair, remove, clean.

A store is damaged, stale or in use by a run, and each of these is found out before anything is
touched. Nothing is computed here but what `repair` extracts again.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .leftovers import find_leftovers
    from .stores import Explanation, RepairReport, explain_stores
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Explanation": "stores",
            "RepairReport": "stores",
            "explain_stores": "stores",
            "find_leftovers": "leftovers",
        },
    )

__all__ = ["Explanation", "RepairReport", "explain_stores", "find_leftovers"]
