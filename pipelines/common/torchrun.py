"""Rank of this process among those that torchrun started; needs no torch."""

import os
from dataclasses import dataclass

from ...featcache.errors import SpecError

_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_MEETING = ("MASTER_ADDR", "MASTER_PORT")  # where processes find one another


@dataclass(frozen=True)
class Launch:
    """Rank of this process among those that train together.

    Attributes:
        rank: Number of this process, in [0, count).
        local_rank: Its number among those of this machine.
        count: Number of processes.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls) -> "Launch":
        """Read the variables of torchrun; without them this process is the only one.

        Raises:
            SpecError: There are several processes, and this one's number is missing or wrong.
        """
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return cls()
        variables = {name: os.environ.get(name, "") for name in _VARIABLES}
        if not all(value.isdecimal() for value in variables.values()):
            raise SpecError(
                f"WORLD_SIZE is not 1 and not all of {variables} are numbers: use torchrun"
            )
        if not all(os.environ.get(name) for name in _MEETING):
            raise SpecError(f"WORLD_SIZE is not 1 and not all of {_MEETING} are set: use torchrun")
        launch = cls(*(int(variables[name]) for name in _VARIABLES))
        if not launch.local_rank <= launch.rank < launch.count:
            raise SpecError(f"no process has these numbers: {variables}; use torchrun")
        return launch

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that writes files and prints for all."""
        return self.rank == 0
