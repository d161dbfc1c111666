"""Tasks, each a file that says what a training is for; a preset names one in its `[task]`.

A task says which data it needs, what validation measures, which of these numbers the kept weights
are best in, and how they are printed. The loop (`training/trainer.py`) asks the task of its preset
for all of it; what works on the data is an `OpenTask`. Nothing here imports torch until one is
opened.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....adapters.options import build_part
from ....featcache.registry import Registry
from ._paired import PairedTask
from .base import Best, Curve, Numbers, Task

DEFAULT = "retrieval"
TASKS: Registry[Task] = Registry("task", __name__, Path(__file__).parent, Task)


def task_of(table: Mapping[str, Any]) -> Task:
    """Return the task of a preset, or of a run by its spec: retrieval, if it names none.

    Raises:
        SpecError: Its table `[task]` names no part, or an option is unknown, missing or wrong.
        UnknownNameError: There is no such task.
    """
    return build_part(TASKS, table.get("task", {"part": DEFAULT}), where="[task]", example=DEFAULT)


__all__ = ["DEFAULT", "TASKS", "Best", "Curve", "Numbers", "PairedTask", "Task", "task_of"]
