"""Splits: their names, whatever tools call them, and how items without any are given one."""

import hashlib
from collections.abc import Collection, Iterable

# Names that other tools give the three splits. Karpathy's `restval` are training images that were
# set aside at first; published results train on them.
_SPLIT_ALIASES = {
    "training": "train",
    "restval": "train",
    "dev": "val",
    "valid": "val",
    "validation": "val",
    "testing": "test",
}
SPLIT_ORDER = ("train", "val", "test")
# note of a dataset whose splits `splits_by_folder` gives
BY_FOLDERS = "splits are the folders that the image paths begin with"


def split_name(name: str) -> str:
    """Return our name of a split that another tool may call otherwise, such as `dev` for `val`."""
    lower = name.strip().lower()
    return _SPLIT_ALIASES.get(lower, lower)


def in_order(splits: Collection[str]) -> tuple[str, ...]:
    """Return the names of splits in order: train, val, test, then others."""
    others = sorted(set(splits) - set(SPLIT_ORDER))
    return (*(name for name in SPLIT_ORDER if name in splits), *others)


def splits_by_folder(names: Iterable[str]) -> dict[str, str] | None:
    """Return the split of each path by the folder it begins with; None unless all are in one."""
    split_of = {name: split_name(name.partition("/")[0]) for name in names}
    is_given = all("/" in name and split in SPLIT_ORDER for name, split in split_of.items())
    return split_of if is_given else None


def hashed_splits(names: Iterable[str]) -> tuple[dict[str, str], int]:
    """Return the split of each name, and how many are `test`, and as many `val`.

    Names are ordered by their SHA-256; the first 10 %, at least 1 and at most 1,000, are `test`,
    the next as many `val`, the rest `train`. Fewer than three names are all `train`.
    """
    ordered = sorted(set(names), key=sha256_of)
    held_out = 0 if len(ordered) < len(SPLIT_ORDER) else max(1, min(1000, len(ordered) // 10))
    split_of = dict.fromkeys(ordered, "train")
    split_of |= dict.fromkeys(ordered[:held_out], "test")
    split_of |= dict.fromkeys(ordered[held_out : 2 * held_out], "val")
    return split_of, held_out


def sha256_of(name: str) -> bytes:
    """Return the SHA-256 of a name; half of a surrogate pair, which has no UTF-8, counts, too."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
