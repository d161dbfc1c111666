"""The part of the attacks that the default suite has: one import of everything serves all."""

from .running import run_script


def test_a_little_of_the_attacks_crashes_hangs_and_changes_nothing():
    """Kills, failing writes and mutated files, each in its own script."""
    done = run_script("brief.py")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
