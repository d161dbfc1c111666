"""Helpers for verbs of all kinds that belong to none of them: progress, sizes, plots.

Nothing here knows of stores, runs or metrics. Most files are a few functions on plain values or
on the process: its threads, its streams, its seed.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .printable import printable
    from .progress import SILENT, Progress
    from .torchrun import Launch
    from .versions import library_versions
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Launch": "torchrun",
            "Progress": "progress",
            "SILENT": "progress",
            "library_versions": "versions",
            "printable": "printable",
        },
    )

__all__ = ["SILENT", "Launch", "Progress", "library_versions", "printable"]
