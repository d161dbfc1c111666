"""Gradients of a large contrastive batch in the memory of a small one.

Source: Gao et al. 2021, arXiv 2101.06983, section 3.2 (GradCache). Embeddings of all chunks first,
without a graph; then the loss on all of them, and its gradient with respect to each embedding; then
each chunk once more, with a graph, through which its part of that gradient goes. What is random in
an adapter draws the same numbers both times.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from ..featcache.tokens import Tokens
from ..featcache.types import IMAGE_TEXT, Side, Sides
from .objective import Loss, Objective, PairBatch
from .positives import PairMask

Embed: TypeAlias = Callable[[Tokens, Side], Float[Tensor, "rows embed"]]
Scale: TypeAlias = Callable[[Tensor], Tensor]
LazyTokens: TypeAlias = Callable[[], Tokens]
Join: TypeAlias = Callable[[Sequence[Tensor], int], Float[Tensor, "rows embed"]]


def backward_in_chunks(
    embed: Embed,
    objective: Objective,
    *,
    first: Sequence[LazyTokens],
    second: Sequence[LazyTokens],
    positives: PairMask,
    sides: Sides = IMAGE_TEXT,
    load_all: Callable[[Sequence[LazyTokens]], Iterable[Tokens]] = lambda loads: (
        load() for load in loads
    ),
    scale: Scale = lambda total: total,
    join: Join = lambda parts, _num_rows: torch.cat(list(parts)),
    complete: Callable[[PairBatch], PairBatch] = lambda batch: batch,
) -> Loss:
    """Add the gradient of the loss of the whole batch to all parameters, a chunk at a time.

    It is the gradient that one graph over all chunks would give. Features are loaded twice, so that
    those of a few chunks are in memory at a time.

    Args:
        embed: Embeds the rows of a chunk; may draw random numbers.
        objective: Loss of the whole batch.
        first: What loads each chunk of the first side.
        second: What loads each chunk of the second side.
        positives: Which of all rows of both sides belong together.
        sides: What both sides are.
        load_all: Loads chunks in order, ahead of their use if it likes.
        scale: Changes the total before its gradient is taken, as gradient scalers do.
        join: Returns the embeddings of the whole batch, in the order of `positives`, from those of
            the chunks and the number of rows; where other processes have further chunks, it adds
            their embeddings, and the gradient added here is that through these chunks.
        complete: Adds to the batch what else the objective looks at; called once.
    """
    loads = [*first, *second]
    owners = [sides[0]] * len(first) + [sides[1]] * len(second)
    # one state a chunk: the second pass draws each chunk's dropout again, as the first did
    states: list[list[Tensor]] = []
    embedded: list[Tensor] = []
    with torch.no_grad():
        for chunk, side in zip(load_all(loads), owners, strict=True):
            states.append(_random_states())
            embedded.append(embed(chunk, side))
    # dropout of the next batch must not depend on the number of chunks
    afterwards = _random_states()
    leaves = [embedding.detach().requires_grad_() for embedding in embedded]
    num_first, num_second = positives.shape
    joined = join(leaves[: len(first)], num_first), join(leaves[len(first) :], num_second)
    batch = PairBatch(*joined, positives, sides=sides)
    loss = objective(complete(batch))
    torch.autograd.backward(scale(loss.total))
    again = zip(load_all(loads), owners, states, leaves, strict=True)
    for chunk, side, state, leaf in again:
        _set_random_states(state)
        torch.autograd.backward(embed(chunk, side), leaf.grad)
    _set_random_states(afterwards)
    return Loss(loss.total.detach(), loss.parts)


def _random_states() -> list[Tensor]:
    states = [torch.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states += torch.cuda.get_rng_state_all()
    return states


def _set_random_states(states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(list(states[1:]))
