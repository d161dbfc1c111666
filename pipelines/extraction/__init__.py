"""Run frozen encoders once over a dataset and keep their features.

`extract` makes the stores of every split complete, in as few passes over the items as it can, and
`estimate` says before what that will cost. Other files take a part of the work each: which stores
there are to fill, what can be derived, batches that fit the memory, rows that become shards.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .reports import Estimate, ExtractReport
    from .spec import ExtractSpec
else:
    __getattr__ = lazy_exports(
        __name__, {"Estimate": "reports", "ExtractReport": "reports", "ExtractSpec": "spec"}
    )

__all__ = ["Estimate", "ExtractReport", "ExtractSpec"]
