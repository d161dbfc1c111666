"""A line of progress that nobody can take ends no work; a result that is lost is no success."""

import json
import os
import pty
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..ends import forked
from ..helpers import lightalign, tree_bytes

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks
needs_full = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="there is no full device here"
)
EXTRACT = ["extract", "--encoder", "toy-image", "--data", "shapes", "--split", "test"]
EXTRACT += [
    "--set",
    "source.test=40",
    "--set",
    "source.size=32",
    "--device",
    "cpu",
    "--batch-size",
    "8",
]
LOST = "lightalign: cannot print the result: "


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def not_to_be_written() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def without_a_reader() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def closed() -> None:
    return None


def gone_terminal() -> int:
    """Return a terminal whose window was closed."""
    window, terminal = pty.openpty()
    os.close(window)
    return terminal


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    home = tmp_path_factory.mktemp("whole")
    assert lightalign(*EXTRACT, home=home).returncode == 0
    return tree_bytes(home)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(full, marks=needs_full),
        not_to_be_written,
        without_a_reader,
        closed,
        gone_terminal,
    ],
)
def test_an_extraction_goes_on_without_standard_error(stream, whole, tmp_path):
    done = forked(*EXTRACT, home=tmp_path / "home", err=stream())
    assert done.code == 0
    assert "toy-image test: 40 rows" in done.out
    assert tree_bytes(tmp_path / "home") == whole


@pytest.mark.slow
def test_bars_on_a_terminal_that_goes_away_end_no_extraction(whole, tmp_path):
    """The window is closed once the first bar is drawn; its thread goes on drawing."""
    window, terminal = pty.openpty()

    def read_a_bar_and_close(_child: int) -> None:
        os.close(terminal)
        seen = b""
        while b"images" not in seen:
            seen += os.read(window, 4096)
        os.close(window)

    def slow() -> None:
        from lightalign.featcache.encoders.backends.toy import ToyEncoder

        encode = ToyEncoder.encode
        ToyEncoder.encode = lambda self, batch: (time.sleep(0.1), encode(self, batch))[1]
        os.close(window)

    done = forked(
        *EXTRACT,
        home=tmp_path / "home",
        err=terminal,
        before=slow,
        meanwhile=read_a_bar_and_close,
    )
    assert done.code == 0
    assert tree_bytes(tmp_path / "home") == whole


@pytest.mark.parametrize(
    "stream", [pytest.param(full, marks=needs_full), not_to_be_written, gone_terminal]
)
def test_a_result_that_is_lost_is_one_line_and_the_store_is_whole(stream, whole, tmp_path):
    done = forked(*EXTRACT, home=tmp_path / "home", out=stream())
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(LOST)
    assert "Traceback" not in done.err
    assert tree_bytes(tmp_path / "home") == whole


@needs_full
@pytest.mark.parametrize(
    "command",
    [
        "list fusions --json",  # shorter than the buffer of the stream
        "list encoders --json",  # longer
        "list encoders",
        "--version",
        "--help",
    ],
)
def test_a_result_on_a_full_disk_is_no_success(command, tmp_path):
    done = forked(*command.split(), home=tmp_path / "home", out=full())
    assert (done.code, done.err) == (2, f"{LOST}No space left on device\n")


@pytest.mark.parametrize(
    "command", ["list fusions", "list fusions --json", "cache ls", "runs list"]
)
def test_what_is_kept_nowhere_is_not_printed_to_nobody(command, tmp_path):
    done = forked(*command.split(), home=tmp_path / "home", out=None)
    assert (done.code, done.err) == (2, f"{LOST}Bad file descriptor\n")


@pytest.mark.parametrize(("more", "code"), [([], 0), (["--json"], 2)])
def test_a_table_of_what_is_kept_may_be_for_nobody_and_json_may_not(more, code, whole, tmp_path):
    done = forked(*EXTRACT, *more, home=tmp_path / "home", out=None)
    assert done.code == code
    assert tree_bytes(tmp_path / "home") == whole


@pytest.mark.parametrize("command", ["list encoders", "list encoders --json", "list fusions"])
def test_a_reader_that_has_seen_enough_is_no_line(command, tmp_path):
    done = forked(*command.split(), home=tmp_path / "home", out=without_a_reader())
    assert (done.code, done.err) == (1, "")


def test_a_mistake_that_nobody_can_be_told_is_exit_code_2(tmp_path):
    for stream in (None, without_a_reader()):
        assert forked("list", "nothing", home=tmp_path / "home", err=stream).code == 2
        assert forked("retrieve", home=tmp_path / "home", err=stream).code == 2


@needs_full
def test_the_interpreter_ends_as_the_command_did(tmp_path):
    """Python flushes once more, and would end with 120 and a traceback."""
    command = shlex.join([sys.executable, "-m", "lightalign", "list", "fusions", "--json"])
    done = subprocess.run(
        f"{command} 2>/dev/full && {command} >/dev/full",
        shell=True,
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert json.loads(done.stdout)["fusions"]
    assert (done.returncode, done.stderr) == (2, f"{LOST}No space left on device\n")
