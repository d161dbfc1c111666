"""Of two commands that write the same, exactly one proceeds and the other is one line."""

import pytest

from .running import run_script


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_two_commands_exactly_one_proceeds():
    done = run_script("races.py", "--rounds", "20")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
