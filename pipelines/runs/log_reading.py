"""The log of a run, read and compared with what its training recorded of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...featcache import atomic_files
from ...featcache.documents import MAX_BYTES, check
from ...featcache.errors import StoreCorruptError
from ...featcache.regular_files import read_regular
from ...featcache.store.verified_files import require
from . import run_folder
from .schemas import EpochRecord
from .state_record import LogPromise


def read_log(folder: Path, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the records of the log of a finished run.

    Reports of early versions have no checksum of it.

    Raises:
        StoreCorruptError: The log is not as the training has written it.
    """
    log = folder / run_folder.LOG
    promises = report.get("files", {})
    if run_folder.LOG in promises:
        require(folder, {run_folder.LOG: promises[run_folder.LOG]})
    elif not log.is_file():
        return []
    records = atomic_files.read_json_lines(log)  # which opens none but a regular file
    for number, record in enumerate(records, start=1):
        check(record, EpochRecord, where=f"line {number} of {log}")
    return records


def require_log(folder: Path, promise: LogPromise | None) -> None:
    """Pass if the log of a stopped training begins with what its state has seen of it.

    It may be ahead by an epoch: a stop may have come after a line and before the state.
    States of earlier versions promise nothing.

    Raises:
        StoreCorruptError: It begins otherwise.
    """
    if promise is None:
        return
    path = folder / run_folder.LOG
    ways = f"restore it, or remove the run by `{run_folder.removal(folder)}` and train anew"
    try:
        # the log may be ahead of the state by an epoch, so only its beginning is compared
        content = read_regular(path, limit=MAX_BYTES)[: promise["bytes"]]
    except PermissionError:
        raise
    except OSError as error:
        raise StoreCorruptError(f"cannot read {path}: {error.strerror}; {ways}") from error
    if hashlib.sha256(content).hexdigest() != promise["sha256"]:
        raise StoreCorruptError(
            f"{path} is not as it was after epoch {promise['lines']}, when the training stopped: "
            f"{ways}"
        )
