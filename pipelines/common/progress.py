"""Progress of a verb as a stream of calls; the command line decides how it looks."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Listener to the progress of a verb; this one ignores everything.

    Attributes:
        shows_downloads: Whether libraries may draw their own download bars on standard error.
    """

    shows_downloads = False

    def note(self, message: str) -> None:
        """Receive one line that a user should see."""

    def start(self, label: str, total: int, *, unit: str, done: int = 0) -> None:
        """Receive the beginning of a counted piece of work.

        Args:
            label: What is being done.
            total: Units in all.
            unit: What is counted, in the plural.
            done: Units that an earlier run has finished.
        """

    def advance(self, count: int) -> None:
        """Receive that `count` more units are finished."""

    def detail(self, message: str) -> None:
        """Receive what the work is spending its time on at the moment."""

    def finish(self) -> None:
        """Receive that the piece of work is over."""

    def track(self, values: Iterable[T], label: str, total: int, *, unit: str) -> Iterator[T]:
        """Iterate over `values`, counting each as one finished unit when the next is asked for."""
        self.start(label, total, unit=unit)
        try:
            for value in values:
                yield value
                self.advance(1)
        finally:
            self.finish()


SILENT = Progress()
