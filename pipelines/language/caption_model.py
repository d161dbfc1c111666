"""Model of transformers that writes a caption of an image, such as BLIP or GIT."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import transformers
from PIL import Image

from ...featcache.config import fingerprint
from ...featcache.encoders.backends._checks import LIBRARY_ERRORS
from ...featcache.encoders.backends._transformers import quiet
from ...featcache.errors import UnreadableItemError
from ...featcache.modalities.image import decode_image
from ...featcache.types import Item
from ..common import stopping
from ..common.progress import SILENT, Progress
from .kept_replies import KeptReplies
from .model_folder import (
    find_model,
    greedy,
    hash_of_folder,
    load_generator,
    read,
    recorded_name,
)

_OPTION = "--caption-model"
_MOST_TOKENS = 50  # of a caption; those of COCO have 11 words on average


class CaptionModel:
    """Captioner on a device, which sees the image and nothing else, by greedy search.

    Args:
        name: Folder of the model, or the name of a hub repository.
        device: Where it computes.

    Raises:
        WeightsNotFoundError: There is no such model.
        WeightsMismatchError: It cannot be read, or makes no text of images.
    """

    def __init__(self, name: str, *, device: torch.device) -> None:
        folder = find_model(name, option=_OPTION)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

        processors: Any = transformers.AutoImageProcessor  # not typed

        def load() -> tuple[Any, Any]:
            return (
                transformers.AutoTokenizer.from_pretrained(folder, **options),
                processors.from_pretrained(folder, **options),
            )

        self._tokenizer, self._processor = read(load, folder, option=_OPTION)
        self._model = load_generator(
            transformers.AutoModelForImageTextToText, folder, option=_OPTION, device=device
        )
        self._device = device
        self._options = greedy(self._model, max_tokens=_MOST_TOKENS)
        self.name = name
        self.identity: Mapping[str, Any] = {
            "kind": "caption model",
            "model": recorded_name(name, folder),
            "files_sha256": hash_of_folder(folder),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "device": device.type,
        }

    @torch.inference_mode()
    def caption(self, image: Image.Image) -> str:
        """Return a caption of an image, which may be empty.

        Raises:
            UnreadableItemError: The model makes nothing of it.
        """
        with quiet():
            try:
                pixels = self._processor(images=image, return_tensors="pt")["pixel_values"]
                written = self._model.generate(
                    pixel_values=pixels.to(self._device, self._model.dtype),
                    generation_config=self._options,
                )
            except LIBRARY_ERRORS as error:
                raise UnreadableItemError(f"{self.name} makes no caption: {error}") from error
        text: str = self._tokenizer.decode(written[0], skip_special_tokens=True)
        return " ".join(text.split())

    def captions(
        self,
        items: Iterable[Item],
        total: int,
        *,
        source: str,
        kept: KeptReplies,
        progress: Progress = SILENT,
    ) -> dict[str, str]:
        """Return a caption of each image by its id; those that cannot be read have none.

        Args:
            items: The images.
            total: Their number.
            source: Fingerprint of the dataset that they are of.
            kept: Captions that are there, which new ones are added to.
            progress: Receives the progress.
        """
        captions = {}
        stopping.keep(stopping.REPLIES)
        for item in progress.track(items, f"captions by {self.name}", total, unit="images"):
            key = fingerprint({"model": dict(self.identity), "image": item.id, "source": source})
            caption = kept.get(key)
            if caption is None:
                try:
                    caption = self.caption(decode_image(item.read_bytes(), item_id=item.id))
                except UnreadableItemError:
                    continue
                kept.add(key, caption)
            if caption:
                captions[item.id] = caption
        return captions
