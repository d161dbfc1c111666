"""Report of the export of a store; nothing here imports torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """Report of one exported store.

    Attributes:
        store: Folder of the store.
        path: What was written.
        format: Its format.
        rows: Rows in it.
        tokens: Tokens of all rows together.
        dtype: Type of the values.
        bytes: Size of all its files.
        warnings: What to know before it is used.
    """

    store: Path
    path: Path
    format: str
    rows: int
    tokens: int
    dtype: str
    bytes: int
    warnings: tuple[str, ...] = ()
