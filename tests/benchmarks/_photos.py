"""Photos with their captions, real ones where they are there, as a dataset for benchmarks."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lightalign.featcache.sources.datasets.shapes import ShapesOptions, ShapesSource
from lightalign.featcache.types import Modality

Rows = Sequence[dict[str, Any]]
ANYWHERE = {"root": "/"}  # options of a table that names photos where they are


def photo_rows(folder: Path, count: int) -> Rows:
    data = os.environ.get("LIGHTALIGN_TEST_DATA")
    if data:
        place = Path(data) / "flickr8k"
        lines = (place / "captions.jsonl").read_text(encoding="utf-8").splitlines()[:count]
        found = [json.loads(line) for line in lines]
        return [{"image": str(place / row["image"]), "captions": row["captions"]} for row in found]
    source = ShapesSource(Path(), ShapesOptions(train=count))
    texts = [item.text for item in source.items("train", Modality.TEXT)]
    rows = []
    for number, item in enumerate(source.items("train", Modality.IMAGE)):
        path = folder / f"{item.id}.jpg"
        Image.open(io.BytesIO(item.read_bytes())).convert("RGB").save(path, quality=90)
        rows.append({"image": str(path), "captions": texts[5 * number : 5 * number + 5]})
    return rows


def write_table(folder: Path, rows: Rows) -> Path:
    folder.mkdir(parents=True)
    lines = [json.dumps({**row, "split": "train"}) + "\n" for row in rows]
    (folder / "captions.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "captions.jsonl"
