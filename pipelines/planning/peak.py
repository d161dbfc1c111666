"""Bytes that are in memory when most is, by what they are for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Bytes of each part of memory at the peak of a training step.

    Attributes:
        weights: What is trained, with a moving average if there is one.
        gradients: One number for each that is trained, where they are there at the peak.
        optimiser: Its moments.
        features: Features of the batch, or of the chunks that are at hand.
        activations: What embedding keeps for its gradient, and what else it needs meanwhile.
        loss: Embeddings, similarities and their gradients.
        pooled: What towers that begin with a pool make of all rows, which is kept for the whole
            training, and what making it takes. How many rows there are a plan does not know: it
            has 0 here, and pools in each step instead, as a training does where they do not fit.
    """

    weights: int
    gradients: int
    optimiser: int
    features: int
    activations: int
    loss: int
    pooled: int = 0

    @property
    def total(self) -> int:
        """Return the sum."""
        return sum(vars(self).values())
