"""The log of a training: one record an epoch, for programs, for TensorBoard and for people."""

import hashlib
import importlib
import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ...featcache import atomic_files
from ...featcache.documents import MAX_BYTES, read_text
from ...featcache.errors import MissingExtraError
from ...featcache.regular_files import check_regular, read_regular
from ...featcache.writing import naming
from ..runs import run_folder
from ..runs.state_record import LogPromise
from .tasks.base import Numbers

PLAIN = Numbers()
EVENTS = "tensorboard.summary.writer.record_writer"  # what frames events


def require_tensorboard() -> None:
    """Refuse to go on where TensorBoard's files cannot be written.

    Raises:
        MissingExtraError: The package is not installed, or cannot be imported.
    """
    try:
        importlib.import_module(EVENTS)
    except ImportError as error:
        raise MissingExtraError(
            f"--tensorboard needs the package tensorboard, found: {error}; run "
            '`pip install "lightalign[tensorboard]"`'
        ) from error


class RunLog:
    """Log of a training in its run folder: a line of JSON an epoch, and scalars if asked.

    Scalars are float32 numbers by step, in files of their own for each time that a training is
    begun or gone on with.

    Args:
        folder: The run folder.
        tensorboard: Whether to write the scalars of each record, too.
        writes: Whether to write anything; of several processes the first one does.
        numbers: How TensorBoard calls what a validation measured.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tensorboard: bool,
        writes: bool = True,
        numbers: Numbers = PLAIN,
    ) -> None:
        self._lines = folder / run_folder.LOG
        self._place = folder / run_folder.TENSORBOARD
        self._tensorboard = tensorboard
        self._writes = writes
        self._numbers = numbers
        self._events: _Events | None = None

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._events is not None:
            self._events.close()

    def go_on(self, *, epochs: int, next_step: int) -> None:
        """Drop the records after so many epochs: a stop may have come before their state."""
        if not self._writes:
            return
        if self._lines.is_file():
            # what comes after the last line break was not written whole
            lines = read_text(self._lines).split("\n")[:-1][:epochs]
            atomic_files.write_bytes(self._lines, "".join(f"{line}\n" for line in lines).encode())
        if self._tensorboard:
            self._events = _Events(self._place, next_step=next_step)

    def promise(self) -> LogPromise | None:
        """Return what a state records of the log, which is durable before the state is."""
        if not self._writes:
            return None
        atomic_files.sync_tree(self._lines)
        content = read_regular(self._lines, limit=MAX_BYTES)
        return LogPromise(
            lines=content.count(b"\n"),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def append(self, record: dict[str, Any]) -> None:
        """Write the record of an epoch; `go_on` comes first."""
        if not self._writes:
            return
        with naming(self._lines):
            if self._lines.exists():
                # opening a pipe would wait for its reader
                check_regular(self._lines)
            with self._lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if self._events is not None:
            self._events.append(scalars(record, self._numbers), step=record.get("step", 0))


class _Events:
    """File of events for TensorBoard, in which each record is written before the training goes on.

    The writers of TensorBoard and of torch write from a thread, whose traceback is printed where
    the disk is full.

    Args:
        folder: Where to; it is made.
        next_step: First step that is written; what earlier files have from it on is void.
    """

    def __init__(self, folder: Path, *, next_step: int) -> None:
        # by name: the package is an extra, which type checkers need not have
        self._event = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        folder.mkdir(exist_ok=True)
        # the names sort by time: TensorBoard reads them in that order
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        with naming(self._path):
            self._file = self._path.open("xb")
        self._records: Any = importlib.import_module(EVENTS).RecordWriter(self._file)  # not typed
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        try:
            with naming(self._path):
                self._write(file_version="brain.Event:2")
                # TensorBoard drops from files of before what they say of this step and later ones
                self._write(step=next_step, session_log=start)
                self._file.flush()
        except BaseException:
            # closing flushes, and fails as the write before it did
            with suppress(OSError):
                self._file.close()
            raise

    def append(self, values: Mapping[str, float], *, step: int) -> None:
        """Write some numbers of a step by name."""
        with naming(self._path):
            for name, value in values.items():
                scalar = self._summary.Summary.Value(tag=name, simple_value=value)
                self._write(step=step, summary=self._summary.Summary(value=[scalar]))
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with naming(self._path):
            self._file.close()

    def _write(self, **fields: Any) -> None:
        event = self._event.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())


def scalars(record: dict[str, Any], validated: Numbers = PLAIN) -> dict[str, float]:
    """Return the numbers of a record by the names under which TensorBoard shows them.

    `train/waiting` is the share of the epoch in which the next batch was not ready, in [0, 1].
    """
    numbers: dict[str, float] = {}
    # a closed form has no loss
    if "loss" in record:
        numbers = {
            "train/loss": record["loss"],
            **{f"train/{name}": value for name, value in record["parts"].items()},
            "train/learning_rate": record["learning_rate"],
            "train/images_per_second": record["images_per_second"],
            "train/waiting": record["seconds_waiting"] / record["seconds"],
        }
    of_validation = validated.scalars(record.get("validation", {}))
    numbers |= {f"validation/{name}": value for name, value in of_validation.items()}
    return numbers


def summary(record: dict[str, Any], epochs: int, numbers: Numbers = PLAIN) -> str:
    """Return the record of an epoch in one line, in which `numbers` says what was validated."""
    text = f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.3f}"
    if "validation" in record:
        text += f", {numbers.words(record['validation'])}"
    if "scale" in record["parts"]:
        text += f", scale {record['parts']['scale']:.1f}"
    waiting = record["seconds_waiting"] / record["seconds"]
    speed = f"{record['images_per_second']:.0f} {numbers.counted}/s"
    return f"{text} ({speed}, {waiting:.0%} waiting for data)"
