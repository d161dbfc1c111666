"""Small stores in a home, with their pairs, and runs that were trained on them."""

import json
from pathlib import Path

from lightalign.featcache.links import Links
from lightalign.featcache.store import catalog
from lightalign.featcache.types import IMAGE_TEXT, Modality

from ...featcache.store.test_feature_store import describe, write


def put(home: Path, **changes) -> Path:
    """Write a store of five items into `home` and return its folder."""
    description = describe(**changes)
    write(description.folder(home), description)
    put_pairs(home, description.source, description.split)
    return description.folder(home)


def put_pairs(home: Path, source: str = "abc", split: str = "train") -> Path:
    path = catalog.pairs_path(home, "d", split, source)
    catalog.write_pairs(
        path, Links.of({Modality.IMAGE: ["a"], Modality.TEXT: ["b"]}, {IMAGE_TEXT: [("a", "b")]})
    )
    return path


def put_run(home: Path, name: str, key: str, *, finished: bool = True) -> None:
    """Write what a training on the image store with `key` leaves of it."""
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    (folder / "run.toml").write_text(f'[stores.train.image]\nkey = "{key}"\n')
    if finished:
        stores = {"train": {"image": {"key": key}}}
        (folder / "report.json").write_text(json.dumps({"spec": {"stores": stores}}))
