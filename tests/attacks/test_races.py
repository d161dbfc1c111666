"""Of two commands that write the same, exactly one proceeds and the other is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("races.py")


@pytest.mark.parametrize(
    "rounds", [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_of_two_commands_exactly_one_proceeds(rounds):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rounds", str(rounds)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LIGHTALIGN_HOME": "/nowhere"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
