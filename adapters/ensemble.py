"""Several adapters of one table as one, whose cosines are the mean of theirs.

Axis names: `batch` rows, `embed` features of an embedding.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.tokens import PooledTokens, Tokens
from ..featcache.types import Side
from .adapter import Adapter
from .preset import BOTH
from .step import Step
from .steps.cls_pool import ClsPool
from .steps.concat_pool import ConcatPool
from .steps.mean_pool import MeanPool

MOST_MEMBERS = 1000  # each is an adapter of its own, in memory and on disk
POOLS = (ClsPool, ConcatPool, MeanPool)  # fixed steps that leave one token
_SLOT = f"{BOTH}/members"


class Members(Step):
    """Embed rows by each of several adapters, and join their embeddings to one.

    An embedding is the members' one after the other, of length 1 each, divided by the square root
    of their number M, so that its length is 1, too. Then the cosine of two rows is the mean of the
    members' cosines. The mean of the embeddings would not do: each member turns its space as its
    seed has it.

    Worked by hand: M = 2, and the two embeddings of a row are (1, 0) and (0, 1); those of another
    row are (1, 0) and (0.6, 0.8). The members' cosines are 1 and 0.8, and (1, 0, 0, 1) / sqrt(2)
    times (1, 0, 0.6, 0.8) / sqrt(2) is 0.9.

    Source: of the mean of the predictions, Hansen and Salamon 1990, Neural network ensembles.

    Args:
        members: Adapters of one table and of the same widths.
        shared: How many first steps of a side are run before, once for all.
    """

    def __init__(self, members: Sequence[Adapter], shared: Mapping[Side, int]) -> None:
        super().__init__(sum(member.out_width for member in members))
        self.members = nn.ModuleList(members)
        self.shared = dict(shared)
        # of towers, not of steps: who subtracts features takes them as they are
        self.exact = any(  # type: ignore[misc]
            member.is_exact(side) for member in members for side in member.paths
        )

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one token a row, of length 1, in float32 (float64 if weights are)."""
        parts: list[Tensor] = []
        rows = tokens
        # the steps that are the same in all members stand before this one
        if done := self.shared[side]:
            values = torch.cat([stream.values for stream in tokens.streams], dim=2)
            rows = PooledTokens(values, tokens.mask, done)
        for member in self.members:
            assert isinstance(member, Adapter), "nothing else is among them"
            parts.append(member.embed(rows, side))
        joined = torch.cat(parts, dim=1) / len(parts) ** 0.5
        # of the tensor, not of its length, which an export would write down as a number
        mask = torch.ones_like(joined[:, :1], dtype=torch.bool)
        return Tokens(joined[:, None], mask)


def _num_shared(member: Adapter, side: Side) -> int:
    """Return how many first steps are run once for all members."""
    count = member.num_fixed(side)
    streams = member.before_join.get(side, ())
    # streams are handed on side by side, as one token each; where they are more, nothing is shared
    are_pooled = all(
        any(isinstance(member.steps[name], POOLS) for name in names[:count]) for names in streams
    )
    return count if are_pooled else 0


def ensemble_of(members: Sequence[Adapter]) -> Adapter:
    """Return adapters of one table as one adapter; it holds the same modules.

    First steps without weights, such as a pool, are run once for all members.

    Raises:
        SpecError: They have not the same steps and widths.
    """
    first = members[0]
    built = (first.paths, first.before_join, first.stream_widths)
    if any((each.paths, each.before_join, each.stream_widths) != built for each in members):
        raise SpecError("an ensemble is of adapters with the same steps and the same widths")
    shared = {side: _num_shared(first, side) for side in first.paths}
    before_join = {
        side: [names[: shared[side]] for names in streams]
        for side, streams in first.before_join.items()
    }
    paths = {}
    for side, names in first.paths.items():
        streams = first.before_join.get(side, ((),))
        paths[side] = (*names[: max(0, shared[side] - len(streams[0]))], _SLOT)
    names_shared = {name for names in paths.values() for name in names if name != _SLOT}
    names_shared |= {name for streams in before_join.values() for each in streams for name in each}
    steps: dict[str, Step] = {}
    for name, step in first.steps.items():
        if name in names_shared:
            assert isinstance(step, Step), "towers hold nothing else"
            steps[name] = step
    return Adapter(
        {**steps, _SLOT: Members(members, shared)},
        paths=paths,
        widths=first.stream_widths,
        before_join=before_join,
    )
