"""The part of the attacks that the default suite has: one import of everything serves all."""

from .running import run_script


def test_a_little_of_every_attack_crashes_hangs_and_changes_nothing():
    """Kills and failing writes, mutated files, and commands that race, each in its own script."""
    done = run_script("brief.py")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
