"""Cost of a training before it begins: parameters, memory and minutes.

`plan` answers for shapes that a user names, `dry_run` for a training that is set up. Memory is
predicted from three small steps, or measured by real ones in a process of their own.
"""

from typing import TYPE_CHECKING

from ...featcache.exports import lazy_exports

if TYPE_CHECKING:
    from .spec import PlanSpec, TrainEstimate
else:
    __getattr__ = lazy_exports(__name__, {"PlanSpec": "spec", "TrainEstimate": "spec"})

__all__ = ["PlanSpec", "TrainEstimate"]
