"""Names of splits, whatever the tools that made a dataset call them."""

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


def split_name(name: str) -> str:
    """Return our name of a split that another tool may call otherwise, such as `dev` for `val`."""
    lower = name.strip().lower()
    return _SPLIT_ALIASES.get(lower, lower)
