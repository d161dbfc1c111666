"""Any images that stand in a folder for each class."""

from pathlib import Path

from ..source import missing_dataset
from ._class_folders import LAYOUTS, read_classes
from ._class_source import ClassSource


class ImageFolderSource(ClassSource):
    """Read images in class folders, with or without folders of splits, or listed in `index.csv`.

    Tables whose names give splits, such as `train.csv` and `test.csv`, are one table. Parquet may
    hold the images themselves.

    Args:
        place: Folder of the dataset, or a table like `index.csv` of any name and format.
        root: Absolute path of a folder below which images of `index.csv` may lie, too.

    Raises:
        DatasetNotFoundError: There is no class folder with images.
        DatasetFormatError: The layout is ambiguous, or the index cannot be understood or names
            an image elsewhere.
        SpecError: `root` is no absolute path of a folder.
    """

    title = "Your own images in a folder for each class, or listed in index.csv"

    def __init__(self, place: Path, /, *, root: str | None = None) -> None:
        classed = read_classes(place, allowed=root)
        if classed is None:
            get_it = "It is your own folder of images."
            raise missing_dataset("image-folder", place, LAYOUTS, get_it)
        super().__init__(place, classed)
