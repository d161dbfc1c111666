"""Several adapters of one table as one, whose cosines are the mean of theirs.

Axis names: `batch` rows, `embed` features of an embedding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..featcache.errors import SpecError
from ..featcache.tokens import PooledTokens, Tokens
from ..featcache.types import Side
from .adapter import SHARED, Adapter
from .step import Step

MOST_MEMBERS = 1000  # each is an adapter of its own, in memory and on disk
_SLOT = f"{SHARED}/members"


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
    """

    def __init__(self, members: Sequence[Adapter]) -> None:
        super().__init__(sum(member.out_width for member in members))
        self.members = nn.ModuleList(members)
        # of towers, not of steps: who subtracts features takes them as they are
        self.exact = any(  # type: ignore[misc]
            member.is_exact(side) for member in members for side in member.paths
        )

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one token a row, of length 1, in float32 (float64 if weights are)."""
        parts: list[Tensor] = []
        for member in self.members:
            assert isinstance(member, Adapter), "nothing else is among them"
            # the steps that are the same in all members stand before this one
            done = member.num_fixed(side)
            rows = PooledTokens(tokens.values, tokens.mask, done) if done else tokens
            parts.append(member.embed(rows, side))
        joined = torch.cat(parts, dim=1) / len(parts) ** 0.5
        # of the tensor, not of its length, which an export would write down as a number
        mask = torch.ones_like(joined[:, :1], dtype=torch.bool)
        return Tokens(joined[:, None], mask)


def ensemble_of(members: Sequence[Adapter]) -> Adapter:
    """Return adapters of one table as one adapter; it holds the same modules.

    First steps without weights, such as a pool, are run once for all members.

    Raises:
        SpecError: They have not the same steps and widths.
    """
    first = members[0]
    if any((member.paths, member.widths) != (first.paths, first.widths) for member in members):
        raise SpecError("an ensemble is of adapters with the same steps and the same widths")
    before = {side: names[: first.num_fixed(side)] for side, names in first.paths.items()}
    steps: dict[str, Step] = {}
    for name in (name for names in before.values() for name in names):
        step = first.steps[name]
        assert isinstance(step, Step), "towers hold nothing else"
        steps[name] = step
    return Adapter(
        {**steps, _SLOT: Members(members)},
        paths={side: (*names, _SLOT) for side, names in before.items()},
        widths=first.widths,
    )
