"""Every benchmark runs to its end."""

import subprocess
import sys

import pytest

from .test_architecture import BENCHMARKS, CHECKOUT


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_every_benchmark_ends_with_few_data(path):
    done = subprocess.run(
        [sys.executable, path, "--quick"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
