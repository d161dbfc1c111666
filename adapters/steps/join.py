"""Make one stream of several: of features, or of tokens."""

from collections.abc import Sequence

import torch

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step

WAYS = ("features", "tokens")


class Join(Step):
    """Make one stream of those that a tower reads, in their order; one alone stays as it is.

    By features: h_s = [x_s^1 ; x_s^2 ; ...], token by token, of streams that have as many tokens,
    such as one each after a pool. By tokens: h = (x_1^1, ..., x_S1^1, x_1^2, ..., x_S2^2), of
    streams of one width. Between rows of features (1, 2) and (3) of one token each, the first gives
    one token (1, 2, 3).

    Source: this project.

    Args:
        by: `features` or `tokens`.

    Raises:
        SpecError: `by` is none of these, or streams that are joined by tokens differ in width.
    """

    fixed = True

    def __init__(self, width: int | Sequence[int], *, by: str = "features") -> None:
        widths = [width] if isinstance(width, int) else list(width)
        super().__init__(sum(widths) if by == "features" else widths[0])
        if by not in WAYS:
            raise SpecError(f"by must be one of {list(WAYS)}, found {by!r}")
        if by == "tokens" and len(set(widths)) > 1:
            raise SpecError(
                f"streams of widths {widths} cannot be joined by tokens: put a linear step before "
                "that brings them to one width, or join them by features"
            )
        self.by = by

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one stream.

        Raises:
            SpecError: Streams that are joined by features differ in their tokens.
        """
        streams = tokens.streams
        if len(streams) == 1:
            return tokens
        values = [stream.values for stream in streams]
        masks = [stream.mask for stream in streams]
        if self.by == "tokens":
            # padding of an earlier stream stands between: a mask may have holes
            return Tokens(torch.cat(values, dim=1), torch.cat(masks, dim=1))
        first, *others = masks
        if not torch.compiler.is_compiling() and not all(
            mask.shape == first.shape and bool((mask == first).all()) for mask in others
        ):
            raise SpecError(
                f"the streams of the {side.label} tower differ in their tokens: put a pool before "
                "the slot that joins them, or say by = 'tokens'"
            )
        return Tokens(torch.cat(values, dim=2), first)
