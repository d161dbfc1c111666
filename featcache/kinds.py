"""What of an encoder's tokens is kept: all of them, one, their mean, or a coarser grid."""

import math
import re
from dataclasses import dataclass

import torch
from torch.nn.functional import adaptive_avg_pool2d

from .errors import SpecError
from .tokens import Tokens
from .types import Modality

_GRID = re.compile(r"grid:([1-9]\d{0,8})x([1-9]\d{0,8})")


@dataclass(frozen=True, kw_only=True)
class LayerLayout:
    """Say which tokens one layer of an encoder returns.

    Attributes:
        width: Features of one token.
        prefix_tokens: Tokens before the grid: CLS, distillation, registers.
        grid: Rows and columns of the patches, or None for text.
    """

    width: int
    prefix_tokens: int = 0
    grid: tuple[int, int] | None = None

    @property
    def tokens_per_item(self) -> int | None:
        """Return the number of tokens of every item, or None where items differ."""
        return None if self.grid is None else self.prefix_tokens + math.prod(self.grid)


@dataclass(frozen=True)
class Kind:
    """Reduce the tokens of each row.

    Attributes:
        name: `tokens`: all of them. `cls`: the first one; images must have a prefix token.
            `mean`: of an image, the mean of its grid without the prefix; of a text, the mean of its
            real tokens, special tokens included, as sentence encoders are trained. `grid:HxW`: the
            grid of an image averaged down to H rows and W columns, without the prefix.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in {"tokens", "cls", "mean"} and not _GRID.fullmatch(self.name):
            raise SpecError(f"no features {self.name!r}; known: tokens, cls, mean, grid:HxW")

    @property
    def keeps_tokens(self) -> bool:
        """Say whether every token of the encoder is a token of the result."""
        return self.name == "tokens"

    def tokens_per_item(self, layout: LayerLayout, modality: Modality) -> int | None:
        """Return the number of tokens that each row keeps, or None where rows differ.

        Raises:
            SpecError: A layer with this layout has no such features.
        """
        if self.keeps_tokens:
            return layout.tokens_per_item
        if self.name == "mean":
            return 1
        if self.name == "cls":
            if modality is Modality.IMAGE and not layout.prefix_tokens:
                raise SpecError("features 'cls' need a CLS token, which this encoder has not")
            return 1
        rows, columns = self._grid()
        if layout.grid is None or rows > layout.grid[0] or columns > layout.grid[1]:
            raise SpecError(
                f"features {self.name!r} need a grid of at least {rows}x{columns}, this encoder "
                f"has {'none' if layout.grid is None else 'x'.join(map(str, layout.grid))}"
            )
        return rows * columns

    def reduce(self, tokens: Tokens, layout: LayerLayout) -> Tokens:
        """Return what is kept of each row of `tokens`.

        Where H does not divide the rows of the grid, neighbouring cells of the result share some.
        """
        if self.keeps_tokens:
            return tokens
        if self.name == "cls":
            return _real(tokens.values[:, :1])
        if layout.grid is None:
            weight = tokens.mask.unsqueeze(2)
            total = torch.where(weight, tokens.values, 0).sum(dim=1, keepdim=True)
            return _real(total / weight.sum(dim=1, keepdim=True))
        patches = tokens.values[:, layout.prefix_tokens :]
        if self.name == "mean":
            return _real(patches.mean(dim=1, keepdim=True))
        cells = patches.transpose(1, 2).reshape(patches.shape[0], layout.width, *layout.grid)
        pooled = adaptive_avg_pool2d(cells, self._grid())
        return _real(pooled.flatten(2).transpose(1, 2))

    @property
    def is_derivable(self) -> bool:
        """Say whether `reduce` makes it of the tokens that a store of the same layer holds."""
        return self.name in ("cls", "mean", "last") or _GRID.fullmatch(self.name) is not None

    def _grid(self) -> tuple[int, int]:
        found = _GRID.fullmatch(self.name)
        assert found is not None, "checked when it was built"
        return int(found[1]), int(found[2])


def _real(values: torch.Tensor) -> Tokens:
    values = values.contiguous()
    return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))
