"""Wrong partners of pairs, drawn from the batch: at random, or what a dual run finds alike.

Axis names: `n` pairs of a batch.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

NONE = -1  # where everything in the batch belongs to an item


@dataclass(frozen=True)
class DualSimilarity:
    """Embeddings of both sides by a dual run, by the row of each item in the stores of a training.

    Attributes:
        first: Unit-length embeddings of the first side.
        second: Those of the second side.
        scale: Factor on cosines before the softmax, as the temperature of a contrastive loss.
    """

    first: Float32[np.ndarray, "rows_first embed"]
    second: Float32[np.ndarray, "rows_second embed"]
    scale: float

    def logits(
        self, first_rows: Int64[np.ndarray, " n"], second_rows: Int64[np.ndarray, " m"]
    ) -> Float32[np.ndarray, "n m"]:
        """Return the scaled cosine of each first row with each second row."""
        scaled: np.ndarray = self.scale * (self.first[first_rows] @ self.second[second_rows].T)
        return scaled


def draw_partners(
    positives: Bool[np.ndarray, "n m"],
    logits: Float[np.ndarray, "n m"] | None,
    *,
    hard: float,
    random: np.random.Generator,
) -> Int64[np.ndarray, " n"]:
    """Return a wrong column for each line, or `NONE` where all columns are right.

    With probability `hard` it is drawn in proportion to softmax(logits) over the wrong columns,
    else uniformly among them. Worked: a line with the logits ln 3, 0 and 9, whose last column is
    right, draws the first column in three of four cases.

    Source: ALBEF (Li et al. 2021, section 3.2), with all positives of a line at zero instead of the
    diagonal alone.

    Args:
        positives: Whether a column belongs to a line.
        logits: How alike they are; needed if `hard` is above 0.
        hard: Share of draws by `logits`, in [0, 1].
        random: Generator of the draws.
    """
    lines = len(positives)
    weights = np.where(positives, 0.0, 1.0)
    is_hard = random.random(lines) < hard
    if is_hard.any():
        assert logits is not None, "hard negatives are drawn by similarity"
        alike = np.where(positives, -np.inf, logits.astype(np.float64))
        highest = alike.max(axis=1, keepdims=True, initial=-np.inf)
        # a line without a wrong column has no highest, and stays at zero
        shifted = alike - np.where(np.isfinite(highest), highest, 0.0)
        weights = np.where(is_hard[:, None], np.exp(shifted), weights)
    ends = weights.cumsum(axis=1)
    totals = ends[:, -1:]
    # a share in (0, 1]: the first column whose end reaches it has a weight above zero
    drawn = (ends < totals * (1.0 - random.random((lines, 1)))).sum(axis=1)
    return np.where(totals[:, 0] > 0, np.minimum(drawn, positives.shape[1] - 1), NONE)
