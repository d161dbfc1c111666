"""Names of files that hold tables, and the folders of a dataset in which they may lie."""

from pathlib import Path

DELIMITED = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ","}  # the usual delimiter
JSON = (".jsonl", ".ndjson", ".json")
PLACES = ("data", "annotations")  # folders in a dataset in which hubs and COCO keep tables


def suffix_of(file: Path) -> str:
    """Return the suffix that tells the format, which `.gz` may follow."""
    return Path(file.name.lower().removesuffix(".gz")).suffix


def is_table_name(file: Path) -> bool:
    """Return whether a file is called as one that `open_table` reads."""
    return suffix_of(file) in {*DELIMITED, *JSON, ".parquet"}


def folders_of_tables(root: Path) -> list[Path]:
    """Return the folders in which the tables of a dataset may lie, the preferred first."""
    return [root, *(root / place for place in PLACES)]
