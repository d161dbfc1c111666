"""Fixtures that all tests share."""

import functools
import gc
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Two workers with as many threads each as there are cores would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import typer.main

from . import typing_hook
from .torch_plugin import forced_bfloat16

# Typer reads the signatures of all commands at each call, and a process calls the command once.
# The suite calls it a thousand times in one process.
typer.main.get_command = functools.cache(typer.main.get_command)  # type: ignore[assignment]

typing_hook.install()
forced_bfloat16.reach_processes()

hypothesis.settings.register_profile("suite", max_examples=25, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

# Waiting for the disk was half of the suite's time. No test pulls the plug: what a killed process
# has written is there without it.
os.fsync = lambda _descriptor: None


# Libraries and thousands of tests are a million objects that stay: a collection that looks at them
# finds nothing, and they were a tenth of the suite's time.
gc.set_threshold(100_000, 50, 100)


def pytest_collection_finish() -> None:
    """Leave what is there before the first test out of every collection."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end the other worker would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture
def test_data() -> Path:
    """Return the folder of real data, or skip."""
    folder = os.environ.get("LIGHTALIGN_TEST_DATA")
    if not folder:
        pytest.skip("LIGHTALIGN_TEST_DATA does not name a folder of real data")
    return Path(folder)


@pytest.fixture
def heard_signals() -> Iterator[None]:
    """Have the signals that end a command do so, also under nohup or in a script's background."""
    defaults = {
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    ignored = [number for number in defaults if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, defaults[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


_HOMES = itertools.count()


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the caches and run folders of whoever runs it.

    The folder is not made: most tests need none, and there are thousands.
    """
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_HOMES))
    monkeypatch.setenv("LIGHTALIGN_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
