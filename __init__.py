"""Align frozen encoders: cache features once, train a light adapter, evaluate from the cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipelines.loaded_joint import LoadedJointRun
    from .pipelines.loaded_run import LoadedRun

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_joint"]


def load(
    run: str | Path | None = None,
    *,
    home: str | Path | None = None,
    device: str = "auto",
    weights: Mapping[str, str | Path] | None = None,
) -> "LoadedRun":
    """Open a finished run to embed with it: images and texts, or texts by two encoders.

    Args:
        run: Name or folder of the run, or None for the newest.
        home: Folder of everything lightalign keeps, or None for `$LIGHTALIGN_HOME` or its default.
        device: `auto`, `cpu` or `cuda`.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.

    Raises:
        RunNotFoundError: There is no such finished run.
        LightalignError: See `LoadedRun`.
    """
    from .featcache.home import expanded, usual_home
    from .pipelines import loaded_run  # imports torch

    place = expanded(Path(home)) if home else usual_home()
    return loaded_run.load(run, home=place, device=device, weights=weights)


def load_joint(
    run: str | Path | None = None,
    *,
    home: str | Path | None = None,
    device: str = "auto",
    weights: Mapping[str, str | Path] | None = None,
) -> "LoadedJointRun":
    """Open a finished run of a joint adapter, which reads an image and a text together.

    Args:
        run: Name or folder of the run, or None for the newest that `train-joint` has made.
        home: Folder of everything lightalign keeps, or None for `$LIGHTALIGN_HOME` or its default.
        device: `auto`, `cpu` or `cuda`.
        weights: Weights file or hub directory by encoder name, where they are not found otherwise.

    Raises:
        RunNotFoundError: There is no such finished run.
        SpecError: It embeds each side alone.
        LightalignError: See `LoadedJointRun`.
    """
    from .featcache.home import expanded, usual_home
    from .pipelines import loaded_joint  # imports torch

    place = expanded(Path(home)) if home else usual_home()
    return loaded_joint.load_joint(run, home=place, device=device, weights=weights)
