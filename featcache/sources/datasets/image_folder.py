"""Any images that stand in a folder for each class."""

from pathlib import Path

from ..base import missing_dataset
from ..readers.class_folders import LAYOUTS, read_classes
from ..readers.class_source import ClassSource
from ..readers.class_tables import ClassTableOptions


class ImageFolderSource(ClassSource):
    """Read images in class folders, with or without folders of splits, or listed in `index.csv`.

    Tables whose names give splits, such as `train.csv` and `test.csv`, are one table. Parquet may
    hold the images themselves.

    Args:
        place: Folder of the dataset, or a table like `index.csv` of any name and format.
        options: See `ClassTableOptions`.

    Raises:
        DatasetNotFoundError: There is no class folder with images.
        DatasetFormatError: The layout is ambiguous, or a table cannot be understood.
        SpecError: `root` is no absolute path of a folder, the delimiter or encoding is none, or an
            option is of a table and there is none.
    """

    title = "Your own images in a folder for each class, or listed in index.csv"
    Options = ClassTableOptions

    def __init__(self, place: Path, options: ClassTableOptions) -> None:
        images = read_classes(place, options)
        if images is None:
            get_it = "It is your own folder of images."
            raise missing_dataset("image-folder", place, LAYOUTS, get_it)
        super().__init__(place, images)
