"""Compute the next results in threads while the current one is used."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def prefetch(
    function: Callable[[In], Out],
    inputs: Iterable[In],
    *,
    ahead: int,
    workers: int = 1,
    initializer: Callable[[], None] | None = None,
) -> Generator[Out, None, None]:
    """Yield `function` of each input, in order, while threads compute up to `ahead` further ones.

    An error is raised in the place of its result. Threads suffice where the work is decoding,
    tokenising or copying, which release the interpreter lock.

    Args:
        function: What to compute; called from the threads.
        inputs: Its arguments.
        ahead: Results computed before they are asked for, at least 1.
        workers: Number of threads; 0 computes each result when it is asked for.
        initializer: Called once in each thread.
    """
    if workers == 0:
        yield from map(function, inputs)
        return
    waiting: deque[Future[Out]] = deque()
    pool = ThreadPoolExecutor(workers, initializer=initializer)
    try:
        for value in inputs:
            # submitted before the oldest is waited for: `ahead` others are then under way
            waiting.append(pool.submit(function, value))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # waits for no thread: one may hang on a disk that does not answer
        pool.shutdown(wait=False, cancel_futures=True)
