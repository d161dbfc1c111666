"""Logits of a large batch, a block of its rows at a time."""

from collections.abc import Callable, Iterator

from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Logits held at once: 48 MiB, and a few times that with what their gradient needs. Below 32 MiB the
# C library keeps what is freed, and hundreds of megabytes gather there.
MOST_LOGITS = 3 * 2**22


def in_blocks(
    block: Callable[[slice], Tensor], num_rows: int, *, num_columns: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the rows of each block, and what `block` returns of them.

    What several blocks need for the gradient is made again for it: all logits of 4,096 images and
    their 20,480 texts would take gigabytes.
    """
    size = max(1, MOST_LOGITS // num_columns)
    if num_rows <= size:
        yield num_rows, block(slice(None))
        return
    for start in range(0, num_rows, size):
        rows = slice(start, min(start + size, num_rows))
        made = checkpoint(block, rows, use_reentrant=False, preserve_rng_state=False)
        yield rows.stop - rows.start, made
