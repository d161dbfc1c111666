"""Restore the damaged files of a store; the caller computes the rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ...featcache.errors import DatasetChangedError
from ...featcache.store import remedies
from ...featcache.store.damage import clear_damage, find_damage
from ...featcache.store.feature_store import FeatureStore
from ...featcache.store.manifest import read_manifest, read_whole_manifest

Recompute: TypeAlias = Callable[[FeatureStore, list[int]], None]


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """Report of one repaired store.

    Attributes:
        store: Folder of the store.
        damaged: One line for each damaged file that was found.
        recomputed: Numbers of the shards that were computed again.
        differing: Those of them whose bytes are not what they were: another version of a library,
            another device or batch size rounds otherwise.
        left: One line for each file that is still not as it should be; lightalign did not write it.
    """

    store: Path
    damaged: tuple[str, ...]
    recomputed: tuple[int, ...]
    differing: tuple[int, ...]
    left: tuple[str, ...]


def restore(folder: Path, recompute: Recompute) -> RepairReport:
    """Restore the damaged files of a store; only damaged shards are computed again.

    The store keeps its age, by which verbs choose the newest.

    Args:
        folder: The store.
        recompute: Writes the shards of these numbers into the store.

    Raises:
        StoreCorruptError: The manifest and its copy are both damaged.
        StoreInUseError: A living process writes one of the damaged shards.
        DatasetChangedError: An item can no longer be read; its shard stays missing.
    """
    damage = find_damage(folder)
    if not damage:
        return RepairReport(store=folder, damaged=(), recomputed=(), differing=(), left=())
    # read first: clearing damage takes the receipts of the shards with it
    before = FeatureStore(folder, read_whole_manifest(folder)).receipt_of_each_shard()
    clear_damage(folder, damage)
    opened = FeatureStore(folder, read_manifest(folder))
    differing: list[int] = []
    if damage.shards or damage.pairs:
        recompute(opened, list(damage.shards))
        if not opened.complete and not opened.missing_shards():
            opened.finish()
        differing = _compare_receipts(opened, before)
    return RepairReport(
        store=folder,
        damaged=damage.lines,
        recomputed=damage.shards,
        differing=tuple(differing),
        left=find_damage(folder).lines,
    )


def _compare_receipts(store: FeatureStore, before: Mapping[int, Mapping[str, Any]]) -> list[int]:
    """Return the shards whose files differ from what they were.

    Raises:
        DatasetChangedError: One has other rows; all such are missing then.
    """
    after = store.receipt_of_each_shard()
    both = [index for index in before if index in after]
    lost = {
        index: [item for item in after[index]["skipped"] if item not in before[index]["skipped"]]
        for index in both
    }
    changed = [index for index in both if lost[index]]
    if changed:
        store.drop_shards(changed)
        reasons = [item["reason"] for index in changed for item in lost[index]]
        raise DatasetChangedError(
            f"shards {changed} of {store.folder} would lose rows and stay missing: "
            f"{'; '.join(reasons[:3])}; restore these and run "
            f"`{remedies.repair(store.folder, store.folder.absolute().parents[3])}`"
        )
    return [index for index in both if before[index]["files"] != after[index]["files"]]
