"""Read files that others made: regular ones only, within a bound, without ever waiting.

A path may name a pipe that nobody writes to, a device without an end, or a file of any size.
"""

import errno
import os
import stat
from pathlib import Path
from typing import IO

# The largest photo that decoding admits is 64 million pixels: 256 MiB hold it with four bytes for
# each, without any compression.
MAX_PICTURE_BYTES = 256 * 2**20
MAX_TEXT_BYTES = 4 * 2**30  # of a table or file of captions: those of 12 million images are 2.5 GB

_READ_AT_ONCE = 2**20  # bytes; a file that grows while it is read is seen at its limit
_WITHOUT_WAITING = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# what is answered where no file can be, for certain
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes.

    Raises:
        OSError: There is no such file, it cannot be read, it is no regular file, or it is larger.
            A name that no file can have (with a NUL, or without an encoding) is one, too.
    """
    with open_regular(path) as file:
        descriptor = file.fileno()  # read as such: a file object gives None where it would wait
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"{size:,} bytes are more than the {limit:,} allowed")
        blocks = [os.read(descriptor, size)]  # nearly always all of it
        num_bytes = len(blocks[0])
        while block := os.read(descriptor, _READ_AT_ONCE):
            blocks.append(block)
            num_bytes += len(block)
            if num_bytes > limit:
                raise OSError(errno.EFBIG, f"more than the {limit:,} bytes allowed")
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading, without buffering and without waiting.

    Raises:
        OSError: There is no such file, it cannot be read, or it is no regular file. A name that no
            file can have is one, too.
    """
    try:
        descriptor = os.open(path, _WITHOUT_WAITING)
    except ValueError as error:  # a NUL in the name, or half of a surrogate pair
        raise OSError(errno.EINVAL, "no file can have this name") from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # what opening a socket says: "No such device or address"
            raise OSError(errno.EINVAL, "is a socket or a device, not a regular file") from error
        raise
    # of what was opened: the name may lead to something else by now
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb", buffering=0)
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    kind = _KINDS.get(stat.S_IFMT(mode), "a special file")
    raise OSError(errno.EINVAL, f"is {kind}, not a regular file")


def holds(path: Path, content: bytes) -> bool:
    """Return whether a regular file holds this content and nothing else.

    Raises:
        PermissionError: It may not be read.
    """
    try:
        return read_regular(path, limit=len(content)) == content
    except PermissionError:
        raise
    except OSError:  # it is not there, is no regular file, or is larger
        return False


def check_regular(path: Path) -> None:
    """Pass if `path` is a regular file that can be opened; for libraries that open it themselves.

    Raises:
        OSError: It is none; see `open_regular`.
    """
    open_regular(path).close()


def is_there(path: Path) -> bool:
    """Return whether anything has this name; a pipe in the place of a file has it, too.

    Raises:
        OSError: Nobody can tell, as where a folder above may not be searched.
    """
    return _mode(path, follow_links=False) is not None


def is_file(path: Path) -> bool:
    """Return whether a regular file has this name; where nobody can tell, raise as `is_there`."""
    mode = _mode(path, follow_links=True)
    return mode is not None and stat.S_ISREG(mode)


def _mode(path: Path, *, follow_links: bool) -> int | None:
    """Return the mode of what has a name; None where nothing has it, for certain."""
    try:
        return path.stat(follow_symlinks=follow_links).st_mode
    except ValueError:  # a NUL in the name, or half of a surrogate pair
        return None
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        return None


def is_regular(path: Path) -> bool:
    """Return whether `path` is a regular file, whatever its name; nothing is opened."""
    return size_of(path) >= 0


def size_of(path: Path) -> int:
    """Return the size of a regular file in bytes, or -1 where there is none; nothing is opened."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL in the name, or half of a surrogate pair
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
