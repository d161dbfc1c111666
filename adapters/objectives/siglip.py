"""Judge every pair of the batch on its own, by a sigmoid."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...featcache.errors import SpecError
from ..objective import Loss, Objective, PairBatch, at_least_float32


class Siglip(Objective):
    """Judge every pair of the batch on its own, by a sigmoid.

    L = -(1/I + 1/T) / 2 * sum_ij log sigmoid(z_ij (scale * image_i . text_j + bias)), z_ij = 1 for
    pairs that belong together and -1 for all others, I images and T texts. With one text an image
    it is the published loss, a sum over pairs divided by the size of the batch. Several positives a
    row need no other treatment: pairs do not compete. Negatives of earlier batches, if there are,
    add 1 / (2 I) of the sum over images of the batch and old texts, and 1 / (2 T) of that over
    texts of the batch and old images: as if each row had more columns.

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
        with torch.autocast(batch.image.device.type, enabled=False):
            image, text = at_least_float32(batch.image), at_least_float32(batch.text)
            logits = scale * (image @ text.T) + self.bias
            signs = torch.where(batch.positives, 1.0, -1.0).to(logits.dtype)
            losses = -functional.logsigmoid(signs * logits)
            share = (1 / losses.shape[0] + 1 / losses.shape[1]) / 2
            positives = share * losses[batch.positives].sum()
            negatives = share * losses[~batch.positives].sum()
            if (old := batch.remembered) is not None:
                to_text = functional.softplus(scale * (image @ old.text.T) + self.bias)
                to_image = functional.softplus(scale * (text @ old.image.T) + self.bias)
                negatives = negatives + to_text[old.image_to_text].sum() / (2 * len(image))
                negatives = negatives + to_image[old.text_to_image].sum() / (2 * len(text))
            if self.mean:
                size = (len(image) + len(text)) / 2
                positives, negatives = positives / size, negatives / size
        parts = {"positives": positives, "negatives": negatives, "scale": scale, "bias": self.bias}
        return Loss(positives + negatives, {name: part.detach() for name, part in parts.items()})
