"""Of two commands that write the same, exactly one proceeds and the other is one line."""

import pytest

from .running import run_script


def test_a_training_beside_a_fine_tuning_or_a_removal_proceeds_alone():
    """Those of two trainings are in `tests/pipelines/test_runs.py`."""
    chosen = ("training + fine-tuning", "cache rm --force under a training")
    done = run_script(
        "races.py", "--rounds", "1", *(part for name in chosen for part in ("--only", name))
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_of_two_commands_exactly_one_proceeds():
    done = run_script("races.py", "--rounds", "20")
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
