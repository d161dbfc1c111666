"""Rows of a table that cannot be read: listed with their lines, and an end where they are many."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..base import SkippedRow, format_error, shortened
from .table_files import TableFiles

_LISTED = 10  # lines in a note

RowT = TypeVar("RowT")


class RowLedger:
    """Collect the rows of a table that cannot be read.

    Args:
        files: The files of the table.
    """

    def __init__(self, files: TableFiles) -> None:
        self._files = files
        self.rows: list[SkippedRow] = []

    def skip(self, place: str, reason: str) -> None:
        """Add a row by its place, such as `line 7`, and why it cannot be read."""
        self.rows.append(SkippedRow(place, shortened(reason)))

    def skip_in(self, number: int) -> Callable[[str, str], None]:
        """Return `skip` for places in one of the files."""
        return lambda place, reason: self.skip(self._files.place_of(number, place), reason)

    def check(self, num_read: int) -> None:
        """Put the rows into file order, and pass if at least as many were read as were not.

        Raises:
            DatasetFormatError: Most rows cannot be read: the table is of another kind.
        """
        self.rows.sort(key=lambda row: _in_file(row.place))
        if len(self.rows) <= num_read:
            return
        first = self.rows[0]
        total = len(self.rows) + num_read
        counts = f" ({len(self.rows):,} of {total:,} rows cannot be read)" if total > 1 else ""
        raise format_error(self._files.name, first.place, f"{first.reason}{counts}")

    def notes(self) -> tuple[str, ...]:
        """Return a note that names the lines and the reason of the first, if there are any."""
        if not self.rows:
            return ()
        places = shortened_places([row.place for row in self.rows])
        return (f"{places} left out, cannot be read: {self.rows[0].reason}",)


def of_one_value(
    rows: Sequence[RowT],
    key: Callable[[RowT], tuple[str, str | None, str]],
    value_name: str,
    ledger: RowLedger,
) -> list[RowT]:
    """Return the rows of images that have one value in all of theirs; those of others are listed.

    Which of the values is right nobody can tell: an image of two classes, or in two splits, is left
    out whole.

    Args:
        rows: The rows.
        key: Returns the image of a row, its value, and the place of the row.
        value_name: What the value is, such as `class`.
        ledger: The rows that cannot be read.
    """
    places: dict[str, dict[str | None, str]] = {}
    for row in rows:
        image, value, place = key(row)
        places.setdefault(image, {}).setdefault(value, place)
    unambiguous = []
    for row in rows:
        image, value, place = key(row)
        other = next((other for other in places[image] if other != value), value)
        if other == value:
            unambiguous.append(row)
            continue
        values = f"{value_name} {value!r:.80}, and of {other!r:.80} in {places[image][other]}"
        ledger.skip(place, f"{image!r:.200} is of {values}")
    return unambiguous


def _in_file(place: str) -> list[tuple[str, int]]:
    """Return a key by which `line 9` stands before `line 10`.

    >>> _in_file("a-2.csv, line 10")
    [('a-', 2), ('.csv, line ', 10), ('', -1)]
    """
    parts = re.split(r"(\d+)", place)
    numbers = [int(part) for part in parts[1::2]]
    return list(zip(parts[::2], [*numbers, -1], strict=True))


def shortened_places(places: Sequence[str]) -> str:
    """Return the places of rows in a few words, such as `line 7, line 9 and 3 more`."""
    more = len(places) - _LISTED
    listed = ", ".join(places[:_LISTED])
    return f"{listed} and {more:,} more" if more > 0 else listed
