"""Of two commands that write the same, exactly one proceeds and the other is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("races.py")


def race(*options: str) -> None:
    """Run the script, which forks; in this process threads may be running."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LIGHTALIGN_HOME": "/nowhere"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


def test_a_training_beside_a_fine_tuning_or_a_removal_proceeds_alone():
    """Those of two trainings are in `tests/pipelines/test_runs.py`."""
    chosen = ("training + fine-tuning", "cache rm --force under a training")
    race("--rounds", "1", *(part for name in chosen for part in ("--only", name)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_two_commands_exactly_one_proceeds():
    race("--rounds", "20")
