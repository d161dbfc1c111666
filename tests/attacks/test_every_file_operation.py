"""Whatever a command was doing when it was killed or could not write, the same command mends."""

import pytest

from .running import run_script

SCRIPT = "every_file_operation.py"


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", ["kill", "EIO", "ENOSPC"])
def test_commands_that_are_killed_or_cannot_write_at_any_of_their_file_operations(fault):
    done = run_script(SCRIPT, "--faults", fault)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trainings_that_are_killed_at_random_times_end_as_if_undisturbed():
    done = run_script("random_kills.py", "--kills", "100")
    assert done.returncode == 0, done.stdout + done.stderr
