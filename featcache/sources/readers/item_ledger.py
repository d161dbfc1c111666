"""Notes on the items of a dataset while they are read, and those that are left out."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...errors import DatasetFormatError
from ..base import ReadReport, SkippedRow, counted
from ..tables.row_ledger import shortened_places

Skip = Callable[[str, str], None]  # takes the place of an item that is left out, and why


class ItemLedger:
    """Collect notes, and the places of items that are left out.

    Args:
        noun: What an item is called, such as `question`.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._notes: list[str] = []
        self._rows: list[tuple[str, SkippedRow]] = []

    def note(self, *notes: str) -> None:
        """Add what a user should know, one line each."""
        self._notes += notes

    def skip(self, place: str, reason: str, *, noun: str | None = None) -> None:
        """Add an item that is left out.

        Args:
            place: Where it stands, such as `line 7`.
            reason: Why it is left out.
            noun: What it is called, if it is another one than usual.
        """
        self._rows.append((noun or self._noun, SkippedRow(place, reason)))

    def skip_in(self, file: Path) -> Skip:
        """Return `skip` for the places in a file."""
        return lambda place, reason: self.skip(f"{file.name}, {place}", reason)

    def check(self, num_read: int, root: Path) -> None:
        """Pass if at least as many items were read as were left out.

        Args:
            num_read: Items that were read; of those of other nouns nothing is asked.
            root: Folder of the dataset, for the message.

        Raises:
            DatasetFormatError: Most were left out: the files are of another kind.
        """
        rows = [row for noun, row in self._rows if noun == self._noun]
        if len(rows) > num_read:
            total = len(rows) + num_read
            counts = f"{len(rows):,} of {counted(total, self._noun)} cannot be read"
            raise DatasetFormatError(f"{root}: {rows[0].place}: {rows[0].reason} ({counts})")

    def report(self, report: ReadReport) -> ReadReport:
        """Return a report with all that was added."""
        places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for noun, row in self._rows:
            places[noun, row.reason].append(row.place)
        left_out = [
            f"{counted(len(rows), noun)} left out, {reason}: {shortened_places(rows)}"
            for (noun, reason), rows in places.items()
        ]
        return replace(
            report,
            notes=(*report.notes, *self._notes, *left_out),
            skipped_rows=(*report.skipped_rows, *(row for _, row in self._rows)),
        )
