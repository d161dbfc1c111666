"""A batch of a joint training: rows of both sides, and which of them are read jointly.

Axis names: `n` pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from ..featcache.errors import SpecError
from ..featcache.tokens import Tokens
from ..featcache.types import Side, sides_of


@dataclass(frozen=True)
class JointBatch:
    """Rows that are distinct items of each side, and the pairs of them that are read jointly.

    Attributes:
        tokens: Tokens of the rows of each side.
        pairs: Rows of each pair: in column 0 that of the first side (images), in column 1 that of
            the second (texts). A row may be in several pairs.
        labels: By name, one entry a pair: `matches` (bool) whether both belong together, `answers`
            (float, one column an answer of the list) its score in [0, 1], `answer` (int64) the
            place of the one answer in the list, or -1.

    Raises:
        SpecError: The entries of a label are not as many as the pairs.
    """

    tokens: Mapping[Side, Tokens]
    pairs: Int64[Tensor, "n 2"]
    labels: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, entries in self.labels.items():
            if len(entries) != len(self.pairs):
                raise SpecError(
                    f"label {name!r} has {len(entries)} entries for {len(self.pairs)} pairs"
                )

    def __len__(self) -> int:
        return len(self.pairs)

    def paired(self) -> dict[Side, Tokens]:
        """Return the tokens of each side, one row a pair: what a joint adapter reads.

        Worked: rows a, b of images and p, q, r of texts with pairs (0, 2), (1, 0), (0, 1) give
        a, b, a and r, p, q.
        """
        sides = sides_of(list(self.tokens))
        return {side: self.tokens[side].take(self.pairs[:, i]) for i, side in enumerate(sides)}
