"""Whatever happens to a file below a home, a command does as it did or refuses in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("mutations.py")


def attack(*options: str) -> None:
    """Run the script as people do, so that a crash is that of a process of its own."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LIGHTALIGN_HOME": "/nowhere"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def test_mutated_files_crash_hang_and_change_nothing():
    """Two mutations of each of the kinds that are read most."""
    kinds = (
        *("manifest", "zarr.json", "hdf5 shard", "run.toml", "report.json", "pairs"),
        "verified memory",
    )
    chosen = [part for kind in kinds for part in ("--only", kind)]
    attack("--count", str(2 * len(kinds)), "--verbs", "1", *chosen)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1])
def test_500_mutations_over_every_kind_of_file_crash_hang_and_change_nothing(seed):
    attack("--count", "500", "--seed", str(seed))
