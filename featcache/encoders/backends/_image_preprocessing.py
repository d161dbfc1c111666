"""Preprocessing of photos as timm and transformers define it for a model."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ...errors import SpecError, UnreadableItemError
from ...modalities.image import check_resized
from ...modalities.pictures.patch_geometry import (
    Resampling,
    Size,
    processor_resamplings,
    proportional,
    timm_resampling,
)
from ...tokens import Tokens
from ..pooling import LayerLayout
from ._resampling import agreeing

# The entries of a transformers image processor that decide no number. All others are part of a
# store's key: a key that changes without need costs an extraction, the reverse wrong features.
_INERT_SETTINGS = {
    *("_name_or_path", "_processor_class", "auto_map", "feature_extractor_type"),
    *("image_processor_type", "processor_class", "transformers_version"),  # names
    *("data_format", "device", "input_data_format", "model_input_names", "return_tensors"),
}


class Preprocessing(ABC):
    """Turn a decoded photo into the tensor that a model reads.

    Attributes:
        resampling: How a photo is resized and cropped, or None where the settings do not tell, or
            tell otherwise than a drawn picture shows.
    """

    resampling: Resampling | None

    @abstractmethod
    def __call__(self, image: Image.Image) -> Float[Tensor, "channels height width"]:
        """Return `image` resized, cropped and normalised, float32."""

    @abstractmethod
    def resized(self, size: Size) -> Size:
        """Return height and width to which a photo of some height and width is resized.

        Where that is not known it is what keeping the proportions would make of it.
        """

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Return all that decides the tensor, as JSON values."""

    @property
    def companion_names(self) -> tuple[str, ...]:
        """Return the companions of an encoder's photos: none where the resampling is not known."""
        return () if self.resampling is None else ("geometry",)

    def companions(self, image: object) -> dict[str, np.ndarray]:
        """Return where in a photo the patches lie; see `modalities/pictures/patch_geometry.py`."""
        assert isinstance(image, Image.Image)
        if self.resampling is None:
            return {}
        return {"geometry": self.resampling.geometry((image.height, image.width))}

    def of_item(self, image: object, *, item_id: str) -> Float[Tensor, "channels height width"]:
        """Return the tensor of the photo of one item.

        Raises:
            UnreadableItemError: Resized it would be larger than `check_resized` allows, or the
                library cannot resize it, such as to an edge of less than a pixel.
        """
        assert isinstance(image, Image.Image), "texts are refused before"
        size = (image.height, image.width)
        check_resized(size, self.resized(size), item_id=item_id)
        try:
            return self(image)
        except (MemoryError, ValueError, ArithmeticError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise UnreadableItemError(
                f"{item_id}: {size[0]} x {size[1]} pixels (height x width) cannot be resized: "
                f"{reason}"
            ) from error


class TimmPreprocessing(Preprocessing):
    """Resize, crop and normalise as timm's configuration of a model says.

    These are the data entries of a pretrained configuration, `pretrained`. A model that is not
    built for their size has an `image_size` of its own, height and width in pixels. timm is
    imported where it is used: that takes two seconds, and who reads texts needs none of it.
    """

    def __init__(self, pretrained: Mapping[str, Any], *, image_size: Size | None = None) -> None:
        from timm.data.config import resolve_data_config
        from timm.data.transforms_factory import create_transform

        resolve: Any = resolve_data_config  # Any: timm's function carries no types
        input_size = None if image_size is None else (3, *image_size)
        self._config: dict[str, Any] = resolve(
            args={"input_size": input_size}, pretrained_cfg=dict(pretrained)
        )
        self._transform: Any = create_transform(**self._config, is_training=False)
        resampling = timm_resampling(self._config)
        self._resize = resampling.resize
        self.resampling = agreeing([resampling], self)

    @classmethod
    def of_architecture(cls, name: str) -> "TimmPreprocessing":
        """Return the preprocessing that timm keeps for the pretrained model `name`."""
        import timm

        pretrained: Any = timm.get_pretrained_cfg(name)
        return cls(pretrained.to_dict())

    def __call__(self, image: Image.Image) -> Float[Tensor, "channels height width"]:
        tensor: Tensor = self._transform(image)
        return tensor

    def resized(self, size: Size) -> Size:
        return self._resize(size)

    def identity(self) -> dict[str, object]:
        return {"library": "timm", **{key: _json(self._config[key]) for key in self._config}}


class ProcessorPreprocessing(Preprocessing):
    """Run the image processor that a transformers directory describes."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoImageProcessor

        processors: Any = AutoImageProcessor  # Any: its methods carry no types
        self._processor: Any = processors.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        settings = self._processor.to_dict()
        self.resampling = agreeing(processor_resamplings(settings), self)
        self._resize = proportional(settings) if self.resampling is None else self.resampling.resize

    def __call__(self, image: Image.Image) -> Float[Tensor, "channels height width"]:
        tensor: Tensor = self._processor(images=image, return_tensors="pt")["pixel_values"][0]
        if tensor.ndim != 3:  # such as patches of pictures of any size
            shape = " x ".join(map(str, tensor.shape))
            raise ValueError(f"it gives {shape} numbers, not channels, height and width")
        return tensor.to(torch.float32)

    def resized(self, size: Size) -> Size:
        return self._resize(size)

    def identity(self) -> dict[str, object]:
        used = {
            key: _json(value)
            for key, value in sorted(self._processor.to_dict().items())
            if key not in _INERT_SETTINGS and value is not None
        }
        # the class names the resampler
        return {"library": "transformers", "processor": type(self._processor).__name__, **used}


def probe_image(preprocessing: Preprocessing) -> Float[Tensor, "1 channels height width"]:
    """Return a batch of one grey photo, to see what a model makes of an input of its own size."""
    return preprocessing(Image.new("RGB", (320, 240), (128, 128, 128))).unsqueeze(0)


def drawn_image(preprocessing: Preprocessing) -> Float[Tensor, "1 channels height width"]:
    """Return a batch of one photo of stripes, to see what differs between photos."""
    picture = Image.new("RGB", (320, 240), (128, 128, 128))
    for left in range(0, 320, 64):
        picture.paste((left // 2, 200, 255 - left // 2), (left, 0, left + 32, 240))
    return preprocessing(picture).unsqueeze(0)


def channels_first(values: Tensor) -> Tensor:
    """Return a map of a square grid with its features before its rows and columns."""
    if values.ndim == 4 and values.shape[1] == values.shape[2] != values.shape[3]:
        return values.permute(0, 3, 1, 2)
    return values


def all_real(values: Float[Tensor, "batch tokens features"]) -> Tokens:
    """Return features of images as tokens, none of them masked, on the CPU."""
    return Tokens(on_cpu(values), torch.ones(values.shape[:2], dtype=torch.bool))


def on_cpu(
    values: Float[Tensor, "batch tokens features"],
) -> Float[Tensor, "batch tokens features"]:
    """Return a float32 copy; what inference mode computes itself can be in no later gradient."""
    return values.float().cpu().clone()


@contextmanager
def compute_precision(device: torch.device, precision: str) -> Iterator[None]:
    """Run matrix products in `precision`, convolutions in no less than float32."""
    low = precision == "bfloat16"
    with (
        # on a GPU TF32 is the default of convolutions: features must not tell the device
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=low),
    ):
        yield


def scaled_layout(values: Float[Tensor, "batch tokens features"], last: LayerLayout) -> LayerLayout:
    """Return the layout of a layer from what it gave, and from the layout of the last layer.

    Transformers keep their tokens; the maps of a convolutional model are larger before its end, in
    the same proportions.

    Raises:
        SpecError: The tokens form no grid of these proportions.
    """
    _, num_tokens, width = values.shape
    if num_tokens == last.tokens_per_item:
        return replace(last, width=width)
    assert last.grid is not None, "layers of images have grids"
    times = math.isqrt(num_tokens // math.prod(last.grid))
    grid = (last.grid[0] * times, last.grid[1] * times)
    if last.prefix_tokens or math.prod(grid) != num_tokens:
        raise SpecError(
            f"a layer of {num_tokens} tokens is no multiple of the grid {last.grid}: choose another"
        )
    return LayerLayout(width=width, grid=grid)


def final_tokens(features: Tensor, norm: nn.Module) -> Float[Tensor, "batch tokens features"]:
    """Return `features` after `norm`; the cells of a feature map become tokens row by row."""
    if features.ndim == 4:  # [batch, width, rows, columns]
        features = features.flatten(2).transpose(1, 2)
    normed: Tensor = norm(features)
    return normed.contiguous()


def _json(value: Any) -> object:
    if isinstance(value, Mapping):
        return {str(key): _json(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_json(inner) for inner in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value
