"""Record of other files in the state of a stopped training, read without its tensors."""

import errno
import os
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from ...featcache.documents import check, parse_json
from ...featcache.errors import StoreCorruptError
from ...featcache.regular_files import open_regular
from ...featcache.store.manifest import ShardFile

ENTRY = "lightalign"  # name of our entry in the metadata
_LENGTH = 8  # bytes of the length of a header of safetensors, in little endian
_MOST = 2**26  # bytes of a header: a tensor has a hundred of them


class LogPromise(TypedDict):
    """The log as the state has seen it: lines, their bytes, and the checksum of these."""

    lines: Annotated[int, Meta(ge=0, lt=2**53)]
    bytes: Annotated[int, Meta(ge=0, lt=2**53)]
    sha256: str


class OtherFiles(TypedDict):
    """Record of the files beside a state; states of earlier versions lack parts of it."""

    best_files: NotRequired[dict[str, ShardFile]]
    log: NotRequired[LogPromise | None]


class _Sealed(TypedDict):
    """Our entry in the metadata of a state."""

    counts: NotRequired[OtherFiles]  # earlier versions wrote none, but what is in it


def other_files(path: Path, *, advice: str) -> OtherFiles:
    """Return what a state records of the files beside it.

    Raises:
        StoreCorruptError: It is no state.
    """
    try:
        entry = _entry(path)
        check(entry, _Sealed, where=f"{path}: metadata")
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreCorruptError(f"{path} cannot be gone on from: {reason}; {advice}") from error
    recorded: OtherFiles = entry.get("counts", {})
    return recorded


def _entry(path: Path) -> Any:
    with open_regular(path) as file:
        length = int.from_bytes(os.read(file.fileno(), _LENGTH), "little")
        if length > min(_MOST, os.fstat(file.fileno()).st_size):
            raise OSError(errno.EINVAL, "its header is longer than the file")
        header = parse_json(os.read(file.fileno(), length).decode(), where=f"{path}: header")
    return parse_json(header["__metadata__"][ENTRY], where=f"{path}: metadata")
