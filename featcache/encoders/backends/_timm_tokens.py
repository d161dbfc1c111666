"""Tokens of what a timm model returns: where its cells lie, and the norm that it applies last."""

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import WeightsMismatchError


@dataclass(frozen=True, kw_only=True)
class FinalNorm:
    """The norm that a model applies to its pooled vector only, else the identity without a name.

    Attributes:
        name: Path of the module within the model.
        on_maps: Whether the module takes [rows, width, 1, 1].
    """

    name: str | None
    module: nn.Module
    on_maps: bool = False

    @property
    def described(self) -> str:
        """Return the norm as identities name it."""
        return "norm" if self.name is None else f"{self.name.replace('_', '-')} on tokens"

    def __call__(
        self, tokens: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens width"]:
        """Return each token as the model would return it, were it the pooled vector."""
        rows = tokens
        if self.on_maps:
            rows = tokens.reshape(-1, tokens.shape[2], 1, 1)
        elif isinstance(self.module, nn.BatchNorm1d):
            rows = tokens.reshape(-1, tokens.shape[2])
        normed: Tensor = self.module(rows).reshape(tokens.shape)
        return normed.contiguous()


@dataclass(frozen=True, kw_only=True)
class FeatureShape:
    """Shape of a model's features: prefix tokens, then the cells of a grid.

    Attributes:
        channels_last: Whether a map is [rows, columns, width] rather than [width, rows, columns].
    """

    prefix_tokens: int
    grid: tuple[int, int]
    width: int
    channels_last: bool = False

    def tokens(self, features: Tensor) -> Float[Tensor, "batch tokens width"]:
        """Return features as tokens; the cells of a map are read row by row."""
        if features.ndim == 3:
            return features
        if self.channels_last:
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)


def find_shape(model: Any, features: object, *, image: tuple[int, int], what: str) -> FeatureShape:
    """Return where the cells of features lie.

    Args:
        model: The timm model.
        features: What its `forward_features` returns for one image.
        image: Height and width of the image in pixels.
        what: Encoder and architecture, for messages.

    Raises:
        WeightsMismatchError: The features are not one grid of cells.
    """
    if not isinstance(features, Tensor):
        parts = features if isinstance(features, (list, tuple)) else ()
        shapes = " and ".join(
            "x".join(map(str, part.shape[1:])) for part in parts if isinstance(part, Tensor)
        )
        raise WeightsMismatchError(
            f"{what} returns several sets of tokens ({shapes or type(features).__name__}), not one "
            "grid: choose another architecture"
        )
    if features.ndim == 4:
        last = _is_channels_last(model, features)
        width = features.shape[3] if last else features.shape[1]
        rows, columns = features.shape[1:3] if last else features.shape[2:]
        return FeatureShape(prefix_tokens=0, grid=(rows, columns), width=width, channels_last=last)
    if features.ndim != 3:
        raise WeightsMismatchError(
            f"{what} returns one vector an image, not a grid of tokens: choose another architecture"
        )
    _, num_tokens, width = features.shape
    prefix = getattr(model, "num_prefix_tokens", None)
    # a class token stands first also where the model does not count it (VOLO, XCiT); where it
    # stands alone (PiT) it is no grid of one cell
    counts = (0, 1) if prefix is None else (int(prefix),)
    for count in counts:
        grid = _grid(num_tokens - count, image)
        if grid is not None and (prefix is not None or math.prod(grid) > 1):
            return FeatureShape(prefix_tokens=count, grid=grid, width=width)
    raise WeightsMismatchError(
        f"{what} returns {num_tokens} tokens for an image of {image[0]} x {image[1]} pixels, which "
        "form no grid of its proportions: choose another architecture"
    )


def find_norm(model: Any, images: Tensor) -> tuple[Any, FinalNorm]:
    """Return the features of images, and the norm that the model applies to its pooled vector only.

    That is `fc_norm` of a model whose `norm` is switched off, or else the first module of the
    classifier's head which computes anything, if it is a norm and the features are no norm's
    output.
    """
    children = dict(model.named_children())
    if isinstance(children.get("norm"), nn.Identity) and "fc_norm" in children:
        return model.forward_features(images), FinalNorm(name="fc_norm", module=children["fc_norm"])
    with recorded_calls(model, lambda module: is_norm(module) or _has_weights(module)) as calls:
        features = model.forward_features(images)
        if not isinstance(features, Tensor) or features.ndim < 3 or _is_normed(features, calls):
            return features, FinalNorm(name=None, module=nn.Identity())
        calls.clear()
        if "pre_logits" in inspect.signature(model.forward_head).parameters:
            model.forward_head(features, pre_logits=True)
    return features, _head_norm(calls, features)


@dataclass(frozen=True)
class ModuleCall:
    """Call of one module of a model: its first input and its output."""

    path: str
    module: nn.Module
    before: Tensor
    after: Tensor


@contextmanager
def recorded_calls(
    model: nn.Module, chosen: Callable[[nn.Module], bool]
) -> Iterator[list[ModuleCall]]:
    """Yield a list to which every call of a chosen module is added as `model` runs."""
    calls: list[ModuleCall] = []

    def record(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                calls.append(ModuleCall(path, module, inputs[0], output))

        return hook

    handles = [
        module.register_forward_hook(record(path))
        for path, module in model.named_modules()
        if chosen(module)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises, by the name of its class."""
    return "norm" in type(module).__name__.lower() and not list(module.children())


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def in_order(
    model: Any, images: Tensor, features: Tensor, shape: FeatureShape, *, what: str
) -> None:
    """Refuse a model that returns its cells in another order than row by row.

    Raises:
        WeightsMismatchError: Its last intermediate map holds the same values elsewhere (Hiera
            with fewer poolings).
    """
    if features.ndim != 3 or not hasattr(model, "forward_intermediates"):
        return
    intermediates = model.forward_intermediates(images, indices=1, intermediates_only=True)
    if not intermediates or not isinstance(intermediates[-1], Tensor):
        return
    cells = intermediates[-1].flatten(2).transpose(1, 2)
    ours = shape.tokens(features)[:, shape.prefix_tokens :]
    if cells.shape != ours.shape or torch.allclose(cells, ours, atol=1e-4):
        return
    if torch.allclose(_sorted(cells), _sorted(ours), atol=1e-4):
        raise WeightsMismatchError(
            f"{what} returns its cells in an order that is not row by row: choose another "
            "architecture"
        )


def _sorted(tokens: Tensor) -> Tensor:
    return tokens.flatten(1).sort(dim=1).values


def _head_norm(calls: list[ModuleCall], features: Tensor) -> FinalNorm:
    """Return the norm that the head begins with, unless it is of several tokens joined."""
    if calls and is_norm(calls[0].module):
        pooled = calls[0].before
        on_maps = pooled.ndim == 4 and pooled.shape[2:] == (1, 1)
        width = pooled.shape[1] if on_maps else pooled.shape[-1]
        if width in features.shape[1:]:
            return FinalNorm(name=calls[0].path, module=calls[0].module, on_maps=on_maps)
    return FinalNorm(name=None, module=nn.Identity())


def _is_normed(features: Tensor, calls: list[ModuleCall]) -> bool:
    """Return whether the features are what the last norm gave, whatever their order of axes."""
    normed = [call.after for call in calls if is_norm(call.module)]
    if not normed or normed[-1].numel() != features.numel():
        return False
    last = normed[-1]
    if last.shape == features.shape:
        return torch.equal(last, features)
    return torch.equal(last.flatten().sort().values, features.flatten().sort().values)


def _is_channels_last(model: Any, features: Tensor) -> bool:
    """Return whether a map is [rows, columns, width]."""
    width = int(model.num_features)
    if (features.shape[1] == width) != (features.shape[3] == width):
        return features.shape[3] == width
    return str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")


def _grid(num_cells: int, image: tuple[int, int]) -> tuple[int, int] | None:
    """Return rows and columns of cells in the proportions of an image, or None."""
    rows = round(math.sqrt(num_cells * image[0] / image[1])) if num_cells > 0 else 0
    if rows < 1 or num_cells % rows:
        return None
    columns = num_cells // rows
    return (rows, columns) if abs(rows * image[1] - columns * image[0]) < max(image) else None
