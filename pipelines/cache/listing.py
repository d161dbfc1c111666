"""List the feature stores of a home."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ...featcache.errors import LightalignError
from ...featcache.store.catalog import read_catalog
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.manifest import COPY, MANIFEST, read_manifest


def store_rows(home: Path) -> list[dict[str, Any]]:
    """Return one row for each feature store below `home`, newest first.

    One that cannot be read is there with the reason as its `problem`.
    """
    catalog = read_catalog(home)
    rows = {unread.folder: _unreadable(str(unread)) for unread in catalog.unread}
    for entry in catalog.everything:
        try:
            rows[entry.folder] = _store_row(entry.folder)
        except (LightalignError, OSError) as error:  # noqa: PERF203  # removed meanwhile, say
            rows[entry.folder] = _unreadable(str(error))
    # by name where two changed at once, so that the order is the same each time
    named = [
        (-last_change(folder), str(folder.relative_to(home / "features")), row)
        for folder, row in rows.items()
    ]
    return [{"store": name, **row} for _, name, row in sorted(named, key=lambda line: line[:2])]


def last_change(folder: Path) -> int:
    """Return when a store was last changed, in nanoseconds since the epoch; 0 if it is gone."""
    times = [0]
    for name in (MANIFEST, COPY):
        with suppress(OSError):
            times.append((folder / name).stat().st_mtime_ns)
    return max(times)


def _unreadable(problem: str) -> dict[str, Any]:
    return {"state": "unreadable", "problem": " ".join(problem.splitlines())}


def _store_row(folder: Path) -> dict[str, Any]:
    store = FeatureStore(folder, read_manifest(folder))
    description = store.description
    view = {} if description.view is None else {"view": description.view}
    return {
        "key": description.key,
        "modality": description.modality,
        "encoder": description.encoder,
        "kind": description.kind,
        "layer": description.layer,
        "type": description.dtype,
        "container": description.container,
        "rows": store.num_rows,
        "items": description.num_items,
        "bytes": store.num_bytes,
        "shards": store.num_shards,
        "finished_shards": store.num_shards - len(store.missing_shards()),
        "state": "complete" if store.complete else "incomplete",
        **view,
    }
