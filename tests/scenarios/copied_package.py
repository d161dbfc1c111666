"""A copy of the package with further files in it, and its commands."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lightalign as package

PACKAGE = Path(package.__file__).parent
PLACES = ("data", "featcache", "adapters", "pipelines")


def copy_package(place: Path, further: str) -> Path:
    """Copy the package below `place`, with the files of the folder `further` beside this one."""
    copy = place / "lightalign"
    for name in PLACES:
        shutil.copytree(PACKAGE / name, copy / name)
    for name in ("__init__.py", "__main__.py", "cli.py"):
        shutil.copy(PACKAGE / name, copy / name)
    shutil.copytree(Path(__file__).parent / further, copy, dirs_exist_ok=True)
    return copy


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the copied package, with the home beside it."""
    return subprocess.run(
        [sys.executable, "-m", "lightalign", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "LIGHTALIGN_HOME": str(place / "home")},
    )
