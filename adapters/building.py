"""Build modules from tables whose numbers may be of any size: on the meta device first, by a seed.

Nothing is allocated before the outline has told how much that will be, and the global generators
are left as they were.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..featcache.errors import SpecError
from ..featcache.hardware import free_memory


@contextmanager
def outlining(where: str) -> Iterator[None]:
    """Build modules on the meta device within it: names and shapes alone.

    Messages call what is built `where`, such as `[towers]`.

    Raises:
        SpecError: A number is larger than any tensor's axis.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            yield
    except (RuntimeError, TypeError, OverflowError, MemoryError) as error:  # of sizes alone
        reason = str(error).splitlines()[0]
        raise SpecError(f"{where} cannot be built, a size is too large: {reason:.200}") from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` within it; the global generators are as before behind it."""
    with torch.random.fork_rng(devices=[]):
        # the CPU's generator only: torch.manual_seed would reseed those of all devices
        torch.default_generator.manual_seed(seed)
        yield


def check_memory(outline: nn.Module, *, described: str) -> None:
    """Check that a module fits into the free memory; its outline on the meta device is enough.

    Messages begin with `described`, such as `[towers] describes an adapter`.

    Raises:
        SpecError: It does not.
    """
    num_bytes, free = sum(tensor.nbytes for tensor in outline.state_dict().values()), free_memory()
    if num_bytes > free:
        raise SpecError(
            f"{described} of {num_bytes / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB "
            "of memory are free: give its parts smaller sizes"
        )


def start_normal(module: nn.Module, spread: float) -> None:
    """Draw all matrices and embeddings of a module anew from N(0, spread), and set biases to zero.

    Norms are left as they are. Source: BERT's start, which VLE has, too: iflytek/VLE, commit
    e322bb9, models/VLE/modeling_vle.py, `_init_weights`, with spread 0.02.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=spread)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def check_spread(spread: float) -> None:
    """Check the standard deviation of a normal start.

    Raises:
        SpecError: It is not positive.
    """
    if spread <= 0:
        raise SpecError(f"spread must be positive, found {spread}")
