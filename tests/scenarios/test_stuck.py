"""A command that is stopped ends, whatever one of its threads waits for."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..helpers import slow
from ..pipelines.conftest import SCENES

# A disk that does not answer: a thread that reads from a pipe to which nobody writes.
STUCK = """
import os
import sys

from lightalign import cli
from lightalign.featcache.encoders.backends import toy

cli._PATIENCE = 1.0
reading, writing = os.pipe()
word_rows = toy.ToyEncoder._word_rows

def read_for_ever(self, text):
    print("reading", file=sys.stderr, flush=True)
    os.read(reading, 1)

toy.ToyEncoder._word_rows = read_for_ever
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT)])
def test_a_thread_that_waits_for_ever_does_not_outlive_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    sets = [f"--set=source.{name}={value}" for name, value in SCENES.items()]
    command = ["extract", "--encoder", "toy-text", "--data", "shapes", "--home", str(tmp_path)]
    running = subprocess.Popen(
        [sys.executable, "-c", STUCK, *command, *sets],
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert running.stderr is not None
    while running.stderr.readline().strip() != "reading":
        assert running.poll() is None
    began = time.monotonic()
    running.send_signal(number)
    _, rest = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert time.monotonic() - began < 10
    assert rest.count("lightalign: stopped; finished shards are kept") == 1
