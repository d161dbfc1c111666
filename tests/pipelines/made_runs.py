"""Runs that are trained once and copied, for tests of what becomes of a run that is there.

The folder of a run holds neither its name nor its home.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from lightalign.featcache.config import fingerprint
from lightalign.pipelines.runs import run_folder

from .training.test_resume import stop_in_epoch
from .training.test_train import QUICK, quick_train


def made_run(
    home: Path, name: str, *, epochs: int = 2, stopped_in: int | None = None, **changes: Any
) -> Path:
    """Return the folder of a new run of a home whose features are those of the fixture `home`.

    Args:
        home: The home.
        name: Name of the run.
        epochs: Number of epochs.
        stopped_in: Epoch within which the training is stopped, or None to let it finish.
        changes: Fields of `TrainSpec`.
    """
    overrides = (f"train.epochs={epochs}", *QUICK[1:])
    made = fingerprint([epochs, stopped_in, changes])[:12]
    features = (home / "features").resolve()
    template = features.parent.with_name(f"{features.parent.name}-{made}")
    if not template.exists():
        template.mkdir()
        (template / "features").symlink_to(features)
        if stopped_in is None:
            quick_train(template, name="made", overrides=overrides, **changes)
        else:
            with pytest.MonkeyPatch.context() as patch:
                stop_in_epoch(patch, stopped_in)
                with pytest.raises(KeyboardInterrupt):
                    quick_train(template, name="made", overrides=overrides, **changes)
    folder = run_folder.runs_folder(home) / name
    shutil.copytree(
        run_folder.runs_folder(template) / "made", folder, copy_function=shutil.copyfile
    )
    return folder
