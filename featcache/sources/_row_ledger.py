"""Rows of a table that cannot be read: listed with their lines, and an end where they are many."""

from collections.abc import Sequence
from pathlib import Path

from ..source import SkippedRow
from ._decoding import format_error, shortened

_LISTED = 10  # lines in a note


class RowLedger:
    """Collect the rows of a table that cannot be read.

    Args:
        file: The table, for messages.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.rows: list[SkippedRow] = []

    def skip(self, place: str, reason: str) -> None:
        """Add a row.

        Args:
            place: Where it stands, such as `line 7`.
            reason: Why it cannot be read.
        """
        self.rows.append(SkippedRow(place, shortened(reason)))

    def check(self, num_read: int) -> None:
        """Pass if at least as many rows were read as were not.

        Raises:
            DatasetFormatError: Most rows cannot be read: the table is of another kind.
        """
        if len(self.rows) <= num_read:
            return
        first = self.rows[0]
        total = len(self.rows) + num_read
        others = f" ({len(self.rows):,} of {total:,} rows cannot be read)" if total > 1 else ""
        raise format_error(self._file, first.place, f"{first.reason}{others}")

    def notes(self) -> tuple[str, ...]:
        """Return a note that names the lines and the reason of the first, if there are any."""
        if not self.rows:
            return ()
        return (f"{_places(self.rows)} left out, cannot be read: {self.rows[0].reason}",)


def _places(rows: Sequence[SkippedRow]) -> str:
    """Return the places of rows in a few words, such as `line 7, line 9 and 3 more rows`."""
    places = ", ".join(row.place for row in rows[:_LISTED])
    more = len(rows) - _LISTED
    return f"{places} and {more:,} more" if more > 0 else places
