"""Symmetric contrastive loss with several positives a row."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ..blocks import MOST_LOGITS, in_blocks
from ..objective import Loss, Objective, PairBatch, at_least_float32, split_parts
from ..positives import Positives


class Clip(Objective):
    """Contrast each row of one side with all rows of the other in the batch, both ways.

    L = (L_first + L_second) / 2, with logits l_ij = scale * first_i . second_j and
    L_first = -1/I sum_i 1/|P_i| sum_{j in P_i} log softmax_j(l_ij), P_i the partners of row i,
    such as the texts of an image; L_second is the same with the roles exchanged. A row with n
    partners in the batch asks for weight 1/n on each: they pull one another level and are never
    its negatives, and L_first cannot fall below the mean of log n. With one text an image it is
    CLIP's loss.

    An embedding may have several `parts` of one width, as the step `heads` makes them. Then each of
    the first `contrasted` is divided by its length and contrasted on its own, and L is the mean.

    Negatives of earlier batches, if there are, add exp(l) to the denominator of each softmax.

    Worked by hand: two orthogonal pairs, first = second = [[1, 0], [0, 1]], scale 1. Each row of
    logits is (1, 0) in some order, the right column has softmax e / (e + 1), and all four
    cross-entropies are log(1 + 1/e) = 0.3133.

    The scale is exp of a parameter, and that parameter is clamped in place when the loss is next
    computed, as CLIP does after each step. A clamp inside the graph would have gradient zero
    above the bound and hold the scale there for good; a straight-through clamp would let the
    parameter wander far above the bound and take as long to come back.

    Source: Radford et al. 2021, arXiv 2103.00020, figure 3 and section 2.5 (one positive, scale
    1/0.07 clipped at 100); uniform targets as L_out in Khosla et al. 2020, arXiv 2004.11362,
    equation 2; older negatives as in Wang et al. 2020, arXiv 1912.06798, section 3.2. We differ
    from LightCRL (lightweightCRL, commit e3421ad), which takes 0.07 for the logarithm of the scale
    and clamps that to [0.01, 20]: scale_init = 1.0725, scale_min = 1.01 and scale_max = 4.85e8
    here. FuseMix (commit 25f83ee) trains the temperature itself (`learn_temperature`), from 0.07
    and clamped to [0.001, 0.5]: scale_min = 2, scale_max = 1000.

    Args:
        scale_init: First value of the scale, 1 / temperature; positive.
        scale_max: Upper bound of the scale.
        scale_min: Lower bound of the scale; positive.
        learnable: Whether the scale is trained.
        label_smoothing: Share of the target weight that is spread over all columns of the batch, in
            [0, 1).
        learn_temperature: Whether the parameter is 1 / scale, not the logarithm of the scale.
        parts: Parts of one width that an embedding has.
        contrasted: How many of them are contrasted, or 0 for all.

    Raises:
        SpecError: An option is out of its range.
    """

    most_logits = MOST_LOGITS

    log_scale: Tensor
    temperature: Tensor

    def __init__(
        self,
        *,
        scale_init: float = 14.2857,  # 1 / 0.07
        scale_max: float = 100.0,
        scale_min: float = 1e-3,
        learnable: bool = True,
        label_smoothing: float = 0.0,
        learn_temperature: bool = False,
        parts: int = 1,
        contrasted: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 < scale_min <= scale_init <= scale_max:
            raise SpecError(
                f"scale_init must be in [scale_min, scale_max], found {scale_init} with min "
                f"{scale_min} and max {scale_max}; scale_min must be positive"
            )
        if not 0.0 <= label_smoothing < 1.0:
            raise SpecError(f"label_smoothing must be in [0, 1), found {label_smoothing}")
        if parts < 1 or not 0 <= contrasted <= parts:
            raise SpecError(
                f"parts must be positive and contrasted in [0, parts], found {parts}, {contrasted}"
            )
        self.parts = parts
        self.contrasted = contrasted or parts
        self.label_smoothing = label_smoothing
        self.learn_temperature = learn_temperature
        if learn_temperature:
            name, value, self.bounds = "temperature", 1 / scale_init, (1 / scale_max, 1 / scale_min)
        else:
            bounds = math.log(scale_min), math.log(scale_max)
            name, value, self.bounds = "log_scale", math.log(scale_init), bounds
        if learnable:
            setattr(self, name, nn.Parameter(torch.tensor(value)))
        else:
            self.register_buffer(name, torch.tensor(value))

    def scale(self) -> Float[Tensor, ""]:
        """Clamp the parameter to its bounds and return the scale."""
        parameter = self.temperature if self.learn_temperature else self.log_scale
        with torch.no_grad():
            parameter.clamp_(*self.bounds)
        return 1 / parameter if self.learn_temperature else parameter.exp()

    def at_bound(self) -> str | None:
        """Return the bound that the scale has run into, in words, or None."""
        parameter = self.temperature if self.learn_temperature else self.log_scale
        if not isinstance(parameter, nn.Parameter):
            return None
        low, high = self.bounds
        value = float(parameter.detach())
        rounding = 1e-6 * (abs(low) + abs(high))
        if low + rounding < value < high - rounding:
            return None
        is_low = value <= low + rounding
        bound = low if is_low else high
        scale = 1 / bound if self.learn_temperature else math.exp(bound)
        which = "smallest" if is_low != self.learn_temperature else "largest"
        return f"its {which} value, {scale:.4g}"

    def forward(self, batch: PairBatch) -> Loss:
        """Return the loss; its parts are those of both directions and `scale`.

        Directions are called after the sides, such as `image_to_text` and `text_to_image`.
        """
        scale = self.scale()
        # float32 even under autocast: 8 bits of mantissa are too few at scale 100
        with torch.autocast(batch.first.device.type, enabled=False):
            forth, back = [], []
            positives = Positives.of(batch.positives)
            for part in split_parts(batch, self.parts, first=self.contrasted):
                first, second = at_least_float32(part.first), at_least_float32(part.second)
                old = part.remembered
                old_second = None if old is None else (old.second, old.first_to_second)
                old_first = None if old is None else (old.first, old.second_to_first)
                forth.append(self._mean(first, second, positives, scale, old_second))
                back.append(self._mean(second, first, positives.T, scale, old_first))
            first_to_second, second_to_first = torch.stack(forth).mean(), torch.stack(back).mean()
        total = (first_to_second + second_to_first) / 2
        names = [side.value for side in batch.sides]
        parts = {
            f"{names[0]}_to_{names[1]}": first_to_second,
            f"{names[1]}_to_{names[0]}": second_to_first,
            "scale": scale,
        }
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def _mean(
        self,
        rows: Float[Tensor, "rows embed"],
        columns: Float[Tensor, "columns embed"],
        positives: Positives,
        scale: Float[Tensor, ""],
        remembered: tuple[Float[Tensor, "old embed"], Bool[Tensor, "rows old"]] | None,
    ) -> Float[Tensor, ""]:
        """Return the mean loss of `rows`."""

        def block(part: slice) -> Float[Tensor, ""]:
            negatives = None
            if remembered is not None:
                other, is_negative = remembered
                negatives = scale * (rows[part] @ other.T)
                negatives = negatives.masked_fill(~is_negative[part], float("-inf"))
            logits = scale * (rows[part] @ columns.T)
            return self._contrast(logits, positives.within(part), negatives)

        old = 0 if remembered is None else len(remembered[0])
        losses = list(in_blocks(block, len(rows), num_columns=len(columns) + old))
        if len(losses) == 1:
            return losses[0][1]
        total = rows.new_zeros(())
        for count, loss in losses:
            total = total + count * loss
        return total / len(rows)

    def _contrast(
        self,
        logits: Float[Tensor, "rows columns"],
        positives: Positives,
        negatives: Float[Tensor, "rows old"] | None,
    ) -> Float[Tensor, ""]:
        counts = torch.bincount(positives.rows, minlength=len(logits))
        assert bool((counts > 0).all()), "a row of the batch has no positive"
        shares = 1 / counts[positives.rows].to(logits.dtype)
        if negatives is None and not self.label_smoothing:
            loss: Tensor = _CrossEntropy.apply(logits, positives.rows, positives.columns, shares)
            return loss
        targets = torch.zeros_like(logits)
        targets[positives.rows, positives.columns] = shares
        if negatives is None:
            return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        targets = (1 - self.label_smoothing) * targets + self.label_smoothing / logits.shape[1]
        denominator = torch.cat([logits, negatives], dim=1).logsumexp(dim=1)
        return (denominator - (targets * logits).sum(dim=1)).mean()


class _CrossEntropy(torch.autograd.Function):
    """`functional.cross_entropy` to the bit, of targets that are zero but for some columns.

    Dense targets take five more passes over all logits.
    """

    @staticmethod
    def forward(
        context: Any,
        logits: Float[Tensor, "rows columns"],
        rows: Int64[Tensor, " links"],
        columns: Int64[Tensor, " links"],
        shares: Float[Tensor, " links"],
    ) -> Float[Tensor, ""]:
        log_probabilities = logits.log_softmax(dim=1)
        context.save_for_backward(log_probabilities, rows, columns, shares)
        # summed among zeros, as sums of floats depend on their order
        products = torch.zeros_like(logits)
        products[rows, columns] = log_probabilities[rows, columns] * shares
        return -products.sum() / len(logits)

    @staticmethod
    def backward(
        context: Any, gradient: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "rows columns"], None, None, None]:
        log_probabilities, rows, columns, shares = context.saved_tensors
        slopes = torch.zeros_like(log_probabilities)
        slopes[rows, columns] = -(gradient / len(slopes)) * shares
        of_logits = torch.ops.aten._log_softmax_backward_data(
            slopes, log_probabilities, 1, log_probabilities.dtype
        )
        return of_logits, None, None, None
