"""Make rows that are near to everything on the other side less similar to all of it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ...featcache.errors import SpecError
from ...featcache.tokens import Tokens
from ...featcache.types import Side
from ..step import BankStep

_TINY = 1e-30  # under the logarithm, where the bank is empty
# exp(sharpness) and its sum over a bank are far from the largest float32
_SHARPEST = 50.0


class HubOffset(BankStep):
    """Make rows that are near to everything on the other side less similar to all of it.

    With u = x / |x| and a bank of training rows y_j of the other side, of length one,
    b(x) = log(mean_j exp(s u . y_j)) / s is large for hubs, rows that are among the nearest of many
    queries. Minus its mean over the bank's rows of x's side, and cut to [-l, l], it makes four more
    features: a row of the first side is (u, -b / sqrt(l), sqrt(l), p, 0), one of the second
    (u, sqrt(l), -b / sqrt(l), 0, p), and p = sqrt(l - b^2 / l) gives all one length. So the cosine
    of a row of each is (u . v - b(u) - b(v)) / (1 + 2 l): the scores of an inverted softmax, in
    embeddings that any index can hold. b of the query is the same for all of a gallery, so that one
    cosine serves both directions.

    Worked by hand: s = 1 and a bank of e_1 and e_2. e_1 has b = log((e + 1) / 2) = 0.6201, -e_1 has
    log((1/e + 1) / 2) = -0.3799.

    The bank is compared along its first `features` principal directions, which at 128 ranks as all
    1,024 do (tests/benchmarks/RESULTS.md) and takes an eighth of the memory.

    Source: the inverted softmax of Smith et al. 2017, arXiv 1702.03859, equation 6, whose
    normalisation Bogolin et al. 2022, arXiv 2112.12777 (QB-Norm) take from training queries. We
    differ in subtracting its logarithm from both sides, and inside of the embeddings.

    Args:
        bank: Training rows of the other side at most.
        features: Directions in which similarities to the bank are taken; all where there are fewer.
        sharpness: s, in (0, 50].
        limit: l, the largest offset of a similarity; positive. Cosines shrink by 1 + 2 l.

    Raises:
        SpecError: An option is out of its range.
    """

    rows: Tensor
    weights: Tensor
    directions: Tensor
    mean: Tensor

    def __init__(
        self,
        width: int,
        *,
        bank: int = 4096,
        features: int = 128,
        sharpness: float = 12.0,
        limit: float = 0.1,
    ) -> None:
        super().__init__(width + 4)
        if min(bank, features) < 1:
            raise SpecError(f"bank and features must be positive, found {bank} and {features}")
        if not 0.0 < sharpness <= _SHARPEST:
            raise SpecError(f"sharpness must be in (0, {_SHARPEST:g}], found {sharpness}")
        if limit <= 0.0:
            raise SpecError(f"limit must be positive, found {limit}")
        self.sharpness = sharpness
        self.limit = limit
        self.register_buffer("rows", torch.zeros(bank, min(features, width)))
        self.register_buffer("weights", torch.zeros(bank))
        self.register_buffer("directions", torch.zeros(min(features, width), width))
        self.register_buffer("mean", torch.zeros(()))

    @property
    def size(self) -> int:
        """Return how many rows of the other side the bank has room for."""
        return len(self.rows)

    @torch.no_grad()
    def fill(
        self,
        rows: Float[Tensor, "n width"],
        other_rows: Float[Tensor, "m width"],
    ) -> None:
        """Take the first of `other_rows` as the bank, and the mean offset of `rows`."""
        bank = functional.normalize(other_rows[: self.size].double(), dim=1)
        # ascending, so that the last are the directions of the largest products
        vectors = torch.linalg.eigh(bank.T @ bank).eigenvectors[:, -len(self.directions) :]
        self.directions.copy_(vectors.T)
        self.rows.zero_()[: len(bank)].copy_(bank @ vectors)
        self.weights.zero_()[: len(bank)] = 1 / len(bank)
        self.mean.copy_(self._log_mean(functional.normalize(rows.to(self.rows), dim=1)).mean())

    def forward(self, tokens: Tokens, side: Side) -> Tokens:
        """Return the tokens, each of one length and with four features more."""
        # float32 even under autocast: exp makes a rounding of a cosine s times as large
        with torch.autocast(tokens.values.device.type, enabled=False):
            values = tokens.values.to(self.rows.dtype)
            units = functional.normalize(values, dim=2)
            offsets = (self._log_mean(units) - self.mean).clamp(-self.limit, self.limit)[:, :, None]
            root = math.sqrt(self.limit)
            minus, constant = -offsets / root, torch.full_like(offsets, root)
            # a rest on axes of its own lengthens a row and adds nothing to a cosine across sides
            rest = (self.limit - minus.square()).clamp(min=0).sqrt()
            none = torch.zeros_like(rest)
            last = (minus, constant, rest, none)
            if side is not self.sides[0]:
                last = (constant, minus, none, rest)
            return tokens.with_values(torch.cat([units, *last], dim=2))

    def _log_mean(self, units: Float[Tensor, "*rows width"]) -> Float[Tensor, " *rows"]:
        """Return log(mean_j exp(s u . y_j)) / s over the bank."""
        similarities = functional.linear(functional.linear(units, self.directions), self.rows)
        return ((self.sharpness * similarities).exp() @ self.weights + _TINY).log() / self.sharpness
