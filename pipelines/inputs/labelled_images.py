"""Images of a split with their features and classes, from the stores alone."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64

from ...featcache.errors import SpecError, StoreCorruptError
from ...featcache.reading.streams import open_streams
from ...featcache.store import catalog
from ...featcache.store.catalog import StoreEntry
from ...featcache.store.remedies import extraction, removal_of_store
from .pooled_features import mean_vectors


class LabelledImages:
    """Images of a split that have a row, with the class of each.

    `residency` and `device` are those of `FeatureReader`, and `further` are stores of the same
    images that a tower reads beside the first.

    Attributes:
        labels: Class of each row, an index into `names`.

    Raises:
        SpecError: The dataset has no classes.
        StoreCorruptError: An image has no class.
    """

    def __init__(
        self,
        entry: StoreEntry,
        *further: StoreEntry,
        home: Path,
        residency: str = "auto",
        device: torch.device | None = None,
    ) -> None:
        self.entry = entry
        folders = [entry.folder, *(stream.folder for stream in further)]
        self.reader = open_streams(folders, residency=residency, device=device)
        description = entry.description
        path = catalog.pairs_path(home, description.dataset, description.split, description.source)
        classes = catalog.read_pairs(path).classes
        if classes is None:
            raise SpecError(
                f"dataset {description.dataset!r} has no classes: name one of classes, see "
                "`lightalign list datasets`"
            )
        lacking = next((item for item in self.reader.ids if item not in classes.of_image), None)
        if lacking is not None:
            removal = removal_of_store(entry.folder, home)
            raise StoreCorruptError(
                f"{path} has no class of image {lacking!r}: remove the store by `{removal}` and "
                f"extract it again by `{extraction(description, home=home)}`"
            )
        self.names = classes.names
        labels = [classes.of_image[item] for item in self.reader.ids]
        self.labels: Int64[np.ndarray, " n"] = np.array(labels, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def name(self) -> str:
        """Return the dataset and the split, as messages name them."""
        return f"{self.entry.description.dataset}/{self.entry.description.split}"

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """Return the numbers of all rows."""
        return np.arange(len(self))

    @property
    def num_skipped(self) -> int:
        """Return how many images of the split have no row, as they could not be read."""
        return self.entry.description.num_items - len(self)

    def pooled(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m width"]:
        """Return the mean over the tokens of each row: features that no adapter has seen."""
        return mean_vectors(self.reader, rows)


def hold_out(
    labels: Int64[np.ndarray, " n"], *, share: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return places to train on and places to choose by, both sorted, class by class at random.

    Of a class of m images round(share m) are held out, at least 1 and at most m - 1: one of a
    single image holds none.
    """
    random = np.random.default_rng(seed)
    held = [np.empty(0, dtype=np.int64)]
    for label in np.unique(labels):
        places = random.permutation(np.flatnonzero(labels == label))
        # at least one is held out and at least one stays, however small a class is
        count = min(max(1, round(share * len(places))), len(places) - 1)
        held.append(places[:count])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
