"""The log of a training: one line an epoch, for programs and for people."""

import json
from pathlib import Path
from typing import Any

from ..featcache import files


def keep_lines(path: Path, count: int) -> None:
    """Cut a log to its first lines: a stop may have come after a line and before the state."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    files.write_bytes(path, "".join(lines[:count]).encode())


def append_json(path: Path, record: dict[str, Any]) -> None:
    """Append one line to a log."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def summary(record: dict[str, Any], epochs: int) -> str:
    """Return the record of an epoch in one line."""
    text = f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.3f}"
    if "validation" in record:
        found = record["validation"]
        recalls = [
            f"{direction.replace('_', ' ')} {recall['1']:.1f} %"
            for direction, recall in found.items()
            if isinstance(recall, dict)
        ]
        text += f", validation R@1 {', '.join(recalls)}"
    if "scale" in record["parts"]:
        text += f", scale {record['parts']['scale']:.1f}"
    waiting = record["seconds_waiting"] / record["seconds"]
    return f"{text} ({record['images_per_second']:.0f} images/s, {waiting:.0%} waiting for data)"
