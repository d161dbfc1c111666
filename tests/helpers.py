"""What tests of several packages share."""

from pathlib import Path


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below `folder` by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
