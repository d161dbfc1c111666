"""A signal ends a command in order: one line, 128 and its number, and a way to go on."""

import os
import pty
import signal
import time

import pytest

from ..ends import forked
from ..helpers import SIGNALS, lightalign, tree_bytes

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # forks
    pytest.mark.usefixtures("heard_signals"),
]
EXTRACT = ["extract", "--encoder", "toy-image", "--data", "shapes", "--split", "train"]
EXTRACT += ["--set", "source.train=24", "--set", "source.size=32", "--device", "cpu"]
EXTRACT += ["--batch-size", "2", "--set", "rows_per_shard=4"]
GOES_ON = "lightalign: stopped; finished shards are kept: run the same command to go on"


def raised_in_batch(home, number, *signals):
    """Have the extraction get signals in a batch, past the first shard of two."""

    def patch() -> None:
        from lightalign.featcache.encoders.backends.toy import ToyEncoder

        encode, batches = ToyEncoder.encode, []

        def interrupted(self, batch):
            if any(home.rglob("manifest.json")):  # what is encoded before belongs to no shard
                batches.append(len(batch))
            if len(batches) == number:
                for one in signals:
                    signal.raise_signal(one)
            return encode(self, batch)

        ToyEncoder.encode = interrupted

    return patch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    home = tmp_path_factory.mktemp("whole")
    assert lightalign(*EXTRACT, home=home).returncode == 0
    return tree_bytes(home)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_extraction_says_so_and_goes_on(number, whole, tmp_path):
    home = tmp_path / "home"
    done = forked(*EXTRACT, home=home, before=raised_in_batch(home, 4, number))
    assert done.code == 128 + number
    assert done.err.splitlines()[-1] == GOES_ON
    assert "Traceback" not in done.err
    assert 0 < len(list(home.rglob("c/0/0/0"))) < 6  # shards
    assert lightalign(*EXTRACT, home=home).returncode == 0
    assert tree_bytes(home) == whole


def test_under_nohup_a_terminal_may_close(whole, tmp_path):
    home = tmp_path / "home"
    patch = raised_in_batch(home, 4, signal.SIGHUP)

    def as_nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        patch()

    assert forked(*EXTRACT, home=home, before=as_nohup).code == 0
    assert tree_bytes(home) == whole


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_asked_again_it_ends_at_once_with_one_line(again, tmp_path):
    """The second signal comes while the first is told: nothing is waited for any more."""
    home = tmp_path / "home"

    def stopped_while_stopping() -> None:
        from lightalign import cli

        raised_in_batch(home, 4, signal.SIGINT)()
        finish = cli._finish

        def asked_again(number, earlier):
            signal.raise_signal(again)
            finish(number, earlier)

        cli._finish = asked_again

    done = forked(*EXTRACT, home=home, before=stopped_while_stopping)
    assert done.code == 128 + again
    assert done.err.count("lightalign: stopped; ") == 1


def test_a_terminal_that_closes_says_so_more_than_once(tmp_path):
    """Its shell does, too: that cuts no orderly end short."""
    home = tmp_path / "home"

    def closed_twice() -> None:
        from lightalign import cli

        raised_in_batch(home, 4, signal.SIGHUP)()
        finish = cli._finish

        def told_again(number, earlier):
            signal.raise_signal(signal.SIGHUP)
            finish(number, earlier)

        cli._finish = told_again

    done = forked(*EXTRACT, home=home, before=closed_twice)
    assert (done.code, done.err.splitlines()[-1]) == (129, GOES_ON)


def test_the_terminal_is_gone_when_it_is_told(tmp_path):
    """The window closes while bars are drawn, and the signal comes after it."""
    home = tmp_path / "home"
    window, terminal = pty.openpty()
    patch = raised_in_batch(home, 4, signal.SIGHUP)

    def close_and_patch() -> None:
        os.close(window)
        patch()

    def close(_child: int) -> None:
        os.close(terminal)
        time.sleep(0.05)
        os.close(window)

    assert (
        forked(*EXTRACT, home=home, err=terminal, before=close_and_patch, meanwhile=close).code
        == 129
    )
    assert lightalign(*EXTRACT, home=home).returncode == 0
