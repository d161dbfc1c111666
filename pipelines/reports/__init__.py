"""List the runs of a home, and write one page about some: numbers side by side, plots, failures.

`run_list` lists them; `report` renders the page, `comparison` collects what stands in it, and
`failure_pictures` finds the items behind the worst answers.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .report_spec import ReportSpec
else:
    __getattr__ = lazy_exports(__name__, {"ReportSpec": "report_spec"})

__all__ = ["ReportSpec"]
