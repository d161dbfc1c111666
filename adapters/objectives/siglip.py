"""Judge every pair of the batch on its own, by a sigmoid."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ..blocks import MOST_LOGITS, in_blocks
from ..objective import Loss, Objective, PairBatch, at_least_float32
from ..positives import PairMask

_CACHED_LOGITS = 2**20  # of a block: its 4 MiB and as much thrice over stay in the processor


class Siglip(Objective):
    """Judge every pair of the batch on its own, by a sigmoid.

    L = -(1/I + 1/T) / 2 * sum_ij log sigmoid(z_ij (scale * first_i . second_j + bias)), z_ij = 1
    for pairs that belong together and -1 for all others, I rows of the first side (images, say) and
    T of the second (texts). With one text an image it is the published loss, a sum over pairs
    divided by the size of the batch. Several positives a row need no other treatment: pairs do not
    compete. Negatives of earlier batches, if there are, add 1 / (2 I) of the sum over first rows of
    the batch and old second ones, and 1 / (2 T) of that over second rows of the batch and old first
    ones: as if each row had more columns.

    Worked by hand: two orthogonal pairs, scale 1, bias 0. The two positives have logit 1, the two
    others 0: L = (2 log(1 + 1/e) + 2 log 2) / 2 = 1.0064.

    With `mean` it is divided by the mean of I and T once more: without older negatives that is the
    mean over all pairs.

    Source: Zhai et al. 2023, arXiv 2303.15343, equation 1 and algorithm 1, which start at scale 10
    and bias -10; the mean is that of SAIL (Zhang et al. 2025, arXiv 2412.04616), whose optimiser
    heeds signs only, and whose scale is kept in [1, 100]. We differ: as in `clip`, the scale has an
    upper bound.

    Args:
        scale_init: First value of the scale; positive.
        bias_init: First value of the bias.
        scale_min: Lower bound of the scale, 0 for none.
        scale_max: Upper bound of the scale.
        learnable: Whether scale and bias are trained.
        mean: Whether to take the mean over pairs, in the place of the sum over the size of the
            batch.

    Raises:
        SpecError: An option is out of its range.
    """

    most_logits = MOST_LOGITS

    log_scale: Tensor
    bias: Tensor

    def __init__(
        self,
        *,
        scale_init: float = 10.0,
        bias_init: float = -10.0,
        scale_min: float = 0.0,
        scale_max: float = 100.0,
        learnable: bool = True,
        mean: bool = False,
    ) -> None:
        super().__init__()
        if not (0.0 <= scale_min <= scale_init <= scale_max and scale_init > 0.0):
            raise SpecError(
                "scale_init must be positive and in [scale_min, scale_max], found "
                f"{scale_init} with min {scale_min} and max {scale_max}"
            )
        self.mean = mean
        self.bounds = (math.log(scale_min) if scale_min else -math.inf, math.log(scale_max))
        numbers = {"log_scale": math.log(scale_init), "bias": bias_init}
        for name, value in numbers.items():
            if learnable:
                setattr(self, name, nn.Parameter(torch.tensor(value)))
            else:
                self.register_buffer(name, torch.tensor(value))

    def at_bound(self) -> str | None:
        """Return the bound that the scale has run into, in words, or None."""
        value = float(self.log_scale.detach())
        if not isinstance(self.log_scale, nn.Parameter):
            return None
        smallest, largest = self.bounds
        if value >= largest - 1e-6 * abs(largest):
            return f"its largest value, {math.exp(largest):.4g}"
        if value <= smallest + 1e-6 * abs(smallest) and math.isfinite(smallest):
            return f"its smallest value, {math.exp(smallest):.4g}"
        return None

    def forward(self, batch: PairBatch) -> Loss:
        """Return the loss; its parts are `positives`, `negatives`, `scale` and `bias`."""
        with torch.no_grad():
            self.log_scale.clamp_(*self.bounds)
        scale = self.log_scale.exp()
        with torch.autocast(batch.first.device.type, enabled=False):
            first, second = at_least_float32(batch.first), at_least_float32(batch.second)
            share = (1 / len(first) + 1 / len(second)) / 2
            positives, negatives = share * self._sums(first, second, batch.positives, scale)
            if (old := batch.remembered) is not None:
                forth = self._sum_of_old(first, old.second, old.first_to_second, scale)
                back = self._sum_of_old(second, old.first, old.second_to_first, scale)
                negatives = negatives + forth / (2 * len(first)) + back / (2 * len(second))
            if self.mean:
                size = (len(first) + len(second)) / 2
                positives, negatives = positives / size, negatives / size
        parts = {"positives": positives, "negatives": negatives, "scale": scale, "bias": self.bias}
        return Loss(positives + negatives, {name: part.detach() for name, part in parts.items()})

    def _sums(
        self,
        first: Float[Tensor, "first embed"],
        second: Float[Tensor, "second embed"],
        positives: PairMask,
        scale: Float[Tensor, ""],
    ) -> Float[Tensor, "2"]:
        """Return the sums of the losses of the positives and of all other pairs."""
        if positives.numel() > MOST_LOGITS:
            in_parts: Tensor = _BlockedSums.apply(first, second, scale, self.bias, positives)
            return in_parts
        belong = positives[:]
        logits = scale * (first @ second.T) + self.bias
        signs = torch.where(belong, 1.0, -1.0).to(logits.dtype)
        sums: Tensor = _SumsOfBoth.apply(-functional.logsigmoid(signs * logits), belong)
        return sums

    def _sum_of_old(
        self,
        rows: Float[Tensor, "rows embed"],
        old: Float[Tensor, "old embed"],
        is_negative: Bool[Tensor, "rows old"],
        scale: Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """Return the sum of the losses of rows of the batch and older negatives."""

        def block(part: slice) -> Float[Tensor, ""]:
            losses = functional.softplus(scale * (rows[part] @ old.T) + self.bias)
            return losses[is_negative[part]].sum()

        sums = [made for _, made in in_blocks(block, len(rows), num_columns=len(old))]
        return sums[0] if len(sums) == 1 else torch.stack(sums).sum()


class _SumsOfBoth(torch.autograd.Function):
    """Sums of losses where a mask is true and where it is false.

    The gradient is one number for each of both, while that of an index is a scatter, which took
    most of the time of the whole loss.
    """

    @staticmethod
    def forward(
        context: Any,
        losses: Float[Tensor, "rows columns"],
        mask: Bool[Tensor, "rows columns"],
    ) -> Float[Tensor, "2"]:
        context.save_for_backward(mask)
        return torch.stack([losses[mask].sum(), losses[~mask].sum()])

    @staticmethod
    def backward(
        context: Any, gradient: Float[Tensor, "2"]
    ) -> tuple[Float[Tensor, "rows columns"], None]:
        (mask,) = context.saved_tensors
        return torch.where(mask, gradient[0], gradient[1]), None


class _BlockedSums(torch.autograd.Function):
    """Sums of the losses of the positives and of all other pairs, a block of first rows at a time.

    The gradient is taken with the losses: other than in a softmax that of a pair depends on nothing
    but its own logit, so that each block is made once and in the same memory.
    """

    @staticmethod
    def forward(
        context: Any,
        first: Float[Tensor, "first embed"],
        second: Float[Tensor, "second embed"],
        scale: Float[Tensor, ""],
        bias: Float[Tensor, ""],
        positives: PairMask,
    ) -> Float[Tensor, "2"]:
        size = max(1, _CACHED_LOGITS // len(second))
        memory = first.new_empty(4, min(size, len(first)), len(second))
        # [0] of the sum over positives, [1] of that over the others: each has a factor of its own
        sums, biases = first.new_zeros(2), first.new_zeros(2)
        firsts, seconds = first.new_zeros(2, *first.shape), second.new_zeros(2, *second.shape)
        for start in range(0, len(first), size):
            rows = first[start : start + size]
            logits, slopes, *spare = memory[:, : len(rows)]
            torch.mm(rows, second.T, out=logits).mul_(scale).add_(bias)
            lines, columns = positives[start : start + size].nonzero(as_tuple=True)
            right = logits[lines, columns]
            logits[lines, columns] = -torch.inf  # neither a loss nor a slope as a negative
            torch.sigmoid(logits, out=slopes)
            sums[0] -= functional.logsigmoid(right).sum()
            sums[1] += _softplus(logits, spare).sum()
            right_slopes = -torch.sigmoid(-right)[:, None]
            biases += torch.stack([right_slopes.sum(), slopes.sum()])
            firsts[0].index_add_(0, start + lines, right_slopes * second[columns])
            seconds[0].index_add_(0, columns, right_slopes * rows[lines])
            torch.mm(slopes, second, out=firsts[1, start : start + size])
            seconds[1].addmm_(slopes.T, rows)
        scales = (firsts * first).sum(dim=(1, 2))
        context.save_for_backward(scale, firsts, seconds, scales, biases)
        return sums

    @staticmethod
    def backward(
        context: Any, gradient: Float[Tensor, "2"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        scale, firsts, seconds, scales, biases = context.saved_tensors
        first, second = (scale * torch.tensordot(gradient, side, 1) for side in (firsts, seconds))
        return first, second, scales @ gradient, biases @ gradient, None


def _softplus(
    values: Float[Tensor, "rows columns"], memory: Sequence[Float[Tensor, "rows columns"]]
) -> Float[Tensor, "rows columns"]:
    """Return log(1 + exp(x)) of values x, in the place of these; `memory` is for what is between.

    max(x, 0) + log1p(u) with u = exp(-|x|), and log1p(u) = u log(w) / (w - 1) for w = 1 + u as it
    is rounded, or u where that is 1. It is as accurate as the kernels of log1p and of softplus, and
    both take ten times as long as that of log.

    Source: Goldberg 1991, What every computer scientist should know about floating-point
    arithmetic, theorem 4.
    """
    small, ratio = memory
    torch.abs(values, out=small).neg_().exp_()
    rounded = torch.add(small, 1.0, out=ratio)
    factors = rounded.log().div_(rounded.sub_(1.0)).nan_to_num_(nan=1.0)
    return values.clamp_(min=0.0).add_(small.mul_(factors))
