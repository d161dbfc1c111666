"""Join an image store and a text store by id and draw batches from them."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64

from ..featcache import catalog
from ..featcache.errors import StoreCorruptError
from ..featcache.reader import FeatureReader
from .stores import StorePair


class PairedStores:
    """Hold the readers of both stores and who belongs to whom, by row number.

    An image or text whose partner has no row, because it could not be read, takes no part.

    Args:
        pair: The two stores.
        home: Folder of everything lightalign keeps.
        residency: Where to hold the features, as `FeatureReader` says.
        device: Where they will be used, or None for the CPU.

    Raises:
        StoreCorruptError: No image and text with a row belong together.
        UnknownNameError: There is no such residency.
    """

    def __init__(
        self,
        pair: StorePair,
        *,
        home: Path,
        residency: str = "auto",
        device: torch.device | None = None,
    ) -> None:
        self.pair = pair
        self.image = FeatureReader(pair.image.folder, residency=residency, device=device)
        self.text = FeatureReader(pair.text.folder, residency=residency, device=device)
        path = catalog.pairs_path(home, pair.dataset, pair.split, pair.source)
        links = catalog.read_pairs(path).links
        texts_of: dict[int, list[int]] = defaultdict(list)
        for image_id, text_id in links:
            image, text = self.image.row_of.get(image_id), self.text.row_of.get(text_id)
            if image is not None and text is not None:
                texts_of[image].append(text)
        if not texts_of:
            raise StoreCorruptError(f"no pair of {path} has both its rows in the stores")
        self.num_links = sum(len(texts) for texts in texts_of.values())
        self.num_links_lost = len(links) - self.num_links
        self.texts_of = {image: tuple(sorted(texts)) for image, texts in sorted(texts_of.items())}

    @property
    def residency(self) -> dict[str, dict[str, Any]]:
        """Return where the features of both modalities are, and why."""
        return {"image": self.image.residency.report(), "text": self.text.residency.report()}

    @property
    def image_rows(self) -> Int64[np.ndarray, " n"]:
        """Return the rows of all images that have a text, in order."""
        return np.fromiter(self.texts_of, dtype=np.int64)

    @property
    def text_rows(self) -> Int64[np.ndarray, " n"]:
        """Return the rows of all texts that have an image, in order."""
        return self.texts_of_images(self.image_rows)

    def texts_of_images(self, image_rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Return the rows of all texts of these images, each once, in order."""
        texts = [text for image in image_rows.tolist() for text in self.texts_of[image]]
        return np.unique(np.array(texts, dtype=np.int64))

    def first_text_of(self, image_rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Return the first text of each image, by row number."""
        return np.array([self.texts_of[image][0] for image in image_rows.tolist()], dtype=np.int64)

    def draw_texts(
        self, image_rows: Int64[np.ndarray, " n"], random: np.random.Generator
    ) -> Int64[np.ndarray, " m"]:
        """Return one text of each image, drawn at random; each text once, in order."""
        drawn = [random.choice(self.texts_of[image]) for image in image_rows.tolist()]
        return np.unique(np.array(drawn, dtype=np.int64))

    def positives(
        self, image_rows: Int64[np.ndarray, " n"], text_rows: Int64[np.ndarray, " m"]
    ) -> Bool[torch.Tensor, "n m"]:
        """Say which of these images and texts belong together; `text_rows` must be sorted."""
        mask = np.zeros((len(image_rows), len(text_rows)), dtype=bool)
        for line, image in enumerate(image_rows.tolist()):
            texts = np.array(self.texts_of[image])
            places = np.searchsorted(text_rows, texts)
            places = np.minimum(places, len(text_rows) - 1)
            mask[line, places[text_rows[places] == texts]] = True
        return torch.from_numpy(mask)
