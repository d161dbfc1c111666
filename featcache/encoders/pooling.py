"""Features made of an encoder's tokens: all, one, mean, coarser grid, or its own pooling."""

import math
import re
from dataclasses import dataclass

import torch
from torch.nn.functional import adaptive_avg_pool2d

from ..errors import SpecError
from ..modalities import reader_of
from ..tokens import Tokens
from ..types import Modality

LAST = -1  # the layer after the encoder's final norm
POOLED = 1  # in place of a layer: what the model itself pools, which follows its last one
_NAMES = ("tokens", "cls", "mean", "last", "pooled")
_GRID = re.compile(r"grid:([1-9]\d{0,8})x([1-9]\d{0,8})")


@dataclass(frozen=True, kw_only=True)
class LayerLayout:
    """Layout of the tokens that one layer of an encoder returns.

    Attributes:
        width: Features of one token.
        prefix_tokens: Tokens before the grid: CLS, distillation, registers.
        grid: Rows and columns of the patches, or None for text.
        constant_first: Whether the first token is the same whatever follows it, as in a text model
            whose attention is causal, or in a layer that no attention precedes.
        first_is_class: Whether the first token is added to stand for the whole item. A register is
            not, nor the first word of a text whose tokenizer adds nothing before it.
    """

    width: int
    prefix_tokens: int = 0
    grid: tuple[int, int] | None = None
    constant_first: bool = False
    first_is_class: bool = True

    @property
    def tokens_per_item(self) -> int | None:
        """Return the number of tokens of every item, or None where items differ."""
        return None if self.grid is None else self.prefix_tokens + math.prod(self.grid)


@dataclass(frozen=True)
class FeaturePooling:
    """Reduce the tokens of each row.

    Attributes:
        name: `tokens`: all of them. `cls`: the first one, which must be a class token.
            `mean`: of an image, the mean of its grid without the prefix; of a text, the mean of its
            real tokens, special tokens included, as sentence encoders are trained. `last`: the last
            real token of a text. `pooled`: what the model itself makes of them, projected where
            it has a projection, such as CLIP's `image_embeds` before their normalisation.
            `grid:HxW`: the grid of an image averaged down to H rows and W columns, without the
            prefix.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in _NAMES and not _GRID.fullmatch(self.name):
            raise SpecError(f"no features {self.name!r}; known: {', '.join(_NAMES)}, grid:HxW")

    @property
    def keeps_tokens(self) -> bool:
        """Return whether every token of the encoder is a token of the result."""
        return self.name == "tokens"

    def layer_read(self, layer: int) -> int:
        """Return what an encoder is asked for, for these features of `layer`.

        Raises:
            SpecError: The features do not exist of an earlier layer.
        """
        if self.name != "pooled":
            return layer
        if layer != LAST:
            raise SpecError(
                f"features 'pooled' are made of the last layer, {LAST}, only; found layer {layer}"
            )
        return POOLED

    def tokens_per_item(self, layout: LayerLayout, modality: Modality) -> int | None:
        """Return the number of tokens that each row keeps, or None where rows differ.

        Raises:
            SpecError: A layer with this layout, or the modality, has no such features.
        """
        reader_of(modality).check_features(self.name.partition(":")[0])
        if self.keeps_tokens:
            return layout.tokens_per_item
        if self.name == "cls":
            _check_cls(layout)
        if not _GRID.fullmatch(self.name):
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
        if self.name in ("cls", "pooled"):
            return _real(tokens.values[:, :1])
        if self.name == "last":
            places = torch.arange(tokens.mask.shape[1], device=tokens.mask.device)
            ends = torch.where(tokens.mask, places, 0).amax(dim=1)  # whichever side is padded
            return _real(_rows_at(tokens.values, ends))
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
        """Return whether `reduce` makes these features of stored tokens of the same layer."""
        return self.name in ("cls", "mean", "last") or _GRID.fullmatch(self.name) is not None

    def _grid(self) -> tuple[int, int]:
        match = _GRID.fullmatch(self.name)
        assert match is not None, "checked when it was built"
        return int(match[1]), int(match[2])


def _rows_at(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return one token of each row; as tensors alone, for rows that an export does not count."""
    index = places[:, None, None].expand(-1, 1, values.shape[2])
    return values.gather(1, index)


def _check_cls(layout: LayerLayout) -> None:
    is_text = layout.grid is None
    if not is_text and not layout.prefix_tokens:
        raise SpecError("features 'cls' need a CLS token, which this encoder has not")
    if layout.constant_first and is_text:
        raise SpecError(
            "features 'cls' would be one vector for all texts that begin alike: the first token of "
            "this layer knows nothing of those after it; take 'last' or 'mean'"
        )
    if layout.constant_first:
        raise SpecError(
            "features 'cls' would be one vector for all images: no attention precedes this layer; "
            "take a later one, or 'mean'"
        )
    if not layout.first_is_class and is_text:
        raise SpecError(
            "features 'cls' would be those of each text's first word: this encoder's tokenizer "
            "puts no class token before it; take 'mean', 'last' or 'pooled'"
        )
    if not layout.first_is_class:
        raise SpecError(
            f"features 'cls' need a class token, which this encoder has not: before its grid stand "
            f"registers only, {layout.prefix_tokens} an image; take 'mean' or 'pooled'"
        )


def _real(values: torch.Tensor) -> Tokens:
    values = values.contiguous()
    return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))
