"""Watch how much memory this process takes for itself."""

import threading
from pathlib import Path
from types import TracebackType

from ...featcache.hardware import memory_fields

STATUS = Path("/proc/self/status")  # where Linux says how much memory a process takes
_SECONDS = 0.005  # between two looks; the products and sums at a peak last longer


class ProcessMemory:
    """Note the most bytes that this process takes while the block runs, above those before it.

    Pages of files do not count: libraries that are read in when they are first needed, and stores
    that are mapped, can be dropped at any time. The kernel keeps no peak without them, so that
    someone has to look, two hundred times a second.

    Attributes:
        bytes: The most bytes so far.
    """

    def __init__(self) -> None:
        self._before = self._most = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "ProcessMemory":
        self._before = self._most = _own_bytes()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self._most = max(self._most, _own_bytes())

    @property
    def bytes(self) -> int:
        """Return the most bytes so far."""
        return self._most - self._before

    def _watch(self) -> None:
        while not self._done.wait(_SECONDS):
            self._most = max(self._most, _own_bytes())


def _own_bytes() -> int:
    return memory_fields(STATUS)["RssAnon"]
