"""Let threads beside an encoder take as little of its cores as they can."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import get_native_id

import torch


def use_one_thread() -> None:
    """Let this thread compute by itself: helpers of its own would be more than there are cores.

    OpenMP then stops waiting actively, and the many short waits of an encoder become long ones.
    """
    torch.set_num_threads(1)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Undo for threads to come what `use_one_thread` has set."""
    number = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(number)


def lower_thread_priority() -> None:
    """Let this thread run when others do not want the processor, where the system can do that."""
    # elsewhere the number of a thread would be taken for that of a process
    if sys.platform == "linux":
        with suppress(OSError):
            priority = os.getpriority(os.PRIO_PROCESS, get_native_id())
            os.setpriority(os.PRIO_PROCESS, get_native_id(), priority + 10)
