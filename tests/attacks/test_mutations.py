"""Whatever happens to a file below a home, a command does as it did or refuses in one line."""

import pytest

from .running import run_script


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1])
def test_500_mutations_over_every_kind_of_file_crash_hang_and_change_nothing(seed):
    done = run_script("mutations.py", "--count", "500", "--seed", str(seed))
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
