"""Size of what the first steps of a tower leave of each row; needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PooledShape:
    """Shape of what the first steps of a tower leave of a row, where rows are pooled once.

    Attributes:
        num_steps: How many steps.
        width: Features of the one token that is left, in float32.
        num_bytes: Bytes of all rows that are kept for the whole training.
    """

    num_steps: int
    width: int
    num_bytes: int
