"""The part of the attacks that the default suite has: one import of everything serves all."""

import pytest

from ..helpers import slow
from .running import run_script


@pytest.mark.parametrize("attack", ["operation", *slow("mutation")])
def test_a_little_of_the_attacks_crashes_hangs_and_changes_nothing(attack):
    """Kills and failing writes, or mutated files."""
    done = run_script("brief.py", attack)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
