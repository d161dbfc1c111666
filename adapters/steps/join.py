"""Make one stream of several: of features, of tokens, or of their sum."""

from collections.abc import Sequence

import torch

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import Step

WAYS = ("features", "tokens", "sum")


class Join(Step):
    """Make one stream of those that a tower reads, in their order; one alone stays as it is.

    By features: h_s = [x_s^1 ; x_s^2 ; ...], token by token, of streams that have as many tokens,
    such as one each after a pool. By tokens: h = (x_1^1, ..., x_S1^1, x_1^2, ..., x_S2^2), of
    streams of one width. By sum: h_s = x_s^1 + x_s^2 + ..., of streams of one width and as many
    tokens: behind a matrix of each that is one matrix of all features. Of two streams of one token
    each, (1, 2) and (3, 4), these are (1, 2, 3, 4); the two tokens; and (4, 6).

    Source: this project.

    Args:
        by: `features`, `tokens` or `sum`.

    Raises:
        SpecError: `by` is none of these, or streams that are joined by tokens or sum differ in
            width.
    """

    fixed = True

    def __init__(self, width: int | Sequence[int], *, by: str = "features") -> None:
        widths = [width] if isinstance(width, int) else list(width)
        super().__init__(sum(widths) if by == "features" else widths[0])
        if by not in WAYS:
            raise SpecError(f"by must be one of {list(WAYS)}, found {by!r}")
        if by != "features" and len(set(widths)) > 1:
            raise SpecError(
                f"streams of widths {widths} cannot be joined by {by}: put a linear step before "
                "that brings them to one width, or join them by features"
            )
        self.by = by

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return one stream.

        Raises:
            SpecError: Streams that are joined by features or sum differ in their tokens.
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
        joined = (
            torch.cat(values, dim=2) if self.by == "features" else torch.stack(values).sum(dim=0)
        )
        return Tokens(joined, first)
