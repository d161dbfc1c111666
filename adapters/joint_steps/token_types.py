"""Add the embedding of its type to every token."""

from torch import nn

from ...featcache.errors import SpecError
from ...featcache.types import Sides
from ..building import check_spread, start_normal
from ..joint_step import JointStep
from ..joint_tokens import JointTokens


class TokenTypes(JointStep):
    """Add the embedding of its type to every token.

    h_s = x_s + E[type_s]. Unless types are given, type 0 is the second side (texts), 1 the first
    (images), and 2 + i the box in slot i; a word that names box i has its type, too, which is how
    the two find one another.

    Source: VLE, iflytek/VLE, commit e322bb9, models/VLE/modeling_vle.py, `token_type_embeddings`,
    with count = 2, and more for boxes; the idea is that of BERT's segments.

    Args:
        count: Types; 2, and one more for each box that a row may have.
        spread: Standard deviation of the embeddings at the start.

    Raises:
        SpecError: There are fewer than 2 types, or `spread` is not positive.
    """

    def __init__(self, width: int, sides: Sides, *, count: int = 2, spread: float = 0.02) -> None:
        super().__init__(width, sides)
        if count < 2:
            raise SpecError(f"count must be at least 2, a type for each side, found {count}")
        check_spread(spread)
        self.num_types = count
        self.types = nn.Embedding(count, width)
        start_normal(self.types, spread)

    def forward(self, rows: JointTokens) -> JointTokens:
        """Return the rows with types in their tokens."""
        tokens = {
            side: of_side.with_values(of_side.values + self.types(rows.types[side]))
            for side, of_side in rows.tokens.items()
        }
        return JointTokens(tokens, rows.types, rows.pooled)
