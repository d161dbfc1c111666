"""Recognise a lack of memory, for which libraries raise errors of many types."""

import errno
import re
import resource
from collections.abc import Iterator

# by the dynamic linker, torch on a CPU and on a GPU, C++, and Python where it begins a thread
_LACKS = re.compile(
    r"failed to map segment|cannot allocate memory|can't allocate memory|out of memory|bad_alloc"
    r"|unable to allocate|can't start new thread|failed to allocate|cannot apply additional memory",
    re.IGNORECASE,
)


def lack_of_memory(error: BaseException) -> str | None:
    """Return in one line what memory was lacking for; None where it was something else."""
    for cause in _chain(error):
        if _is_lack(cause):
            return str(cause) or "an object of Python"
        told = next((line for line in str(cause).splitlines() if _LACKS.search(line)), None)
        if told is not None:
            return told
    return None


def _is_lack(error: BaseException) -> bool:
    if isinstance(error, SystemError):  # modules in C that look at no result of an allocation
        return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    lacks = isinstance(error, OSError) and error.errno == errno.ENOMEM
    # that of torch on a GPU is known by name: torch may be what could not be imported
    return lacks or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from or after, as a traceback shows them."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
