"""Whatever a command was doing when it was killed or could not write, the same command mends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("every_file_operation.py")


def attack(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script, which forks; in this process threads may be running."""
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)


def test_commands_that_are_killed_or_cannot_write_at_some_of_their_file_operations():
    done = attack("--fast", "--points", "1", "--rotate")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", ["kill", "EIO", "ENOSPC"])
def test_commands_that_are_killed_or_cannot_write_at_any_of_their_file_operations(fault):
    done = attack("--faults", fault)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trainings_that_are_killed_at_random_times_end_as_if_undisturbed():
    command = [sys.executable, str(SCRIPT.with_name("random_kills.py")), "--kills", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
