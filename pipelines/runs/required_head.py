"""Refuse a joint run without the head that a verb reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...adapters.joint_adapter import JointAdapter
from ...featcache.errors import SpecError
from ...featcache.home import command_line
from ..inputs.store_selection import option_of
from . import run_folder


def require_head(adapter: JointAdapter, head: str, *, folder: Path, home: Path) -> None:
    """Pass if the adapter of a run has a head.

    Raises:
        SpecError: It has none; the message says by which command one is trained on the same stores.
    """
    if head in adapter.heads:
        return
    raise SpecError(
        f"run {folder.name} has no head {head!r}, its heads are {', '.join(adapter.heads)}: "
        f"train one by `{_training(head, folder, home)}`"
    )


def _training(head: str, folder: Path, home: Path) -> str:
    """Return the command that trains a head of that name on the stores of a run."""
    stores: Mapping[str, Any] = run_folder.read_spec(folder)["stores"]["train"]
    words = ["train-joint", "--objective", head, "--data", str(stores["dataset"])]
    for side in ("image", "text"):
        if side in stores:
            store = stores[side]
            words += [option_of(side, "encoder"), str(store["encoder"])]
            words += [option_of(side, "features"), str(store["kind"])]
            words.append(f"{option_of(side, 'layers')}={store['layer']}")
    return command_line(*words, home=home)
