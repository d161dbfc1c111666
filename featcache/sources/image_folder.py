"""Any images that stand in a folder for each class."""

from pathlib import Path

from ..source import missing_dataset
from ._class_folders import LAYOUTS, read_class_folders
from ._class_source import ClassSource, PictureFiles


class ImageFolderSource(ClassSource):
    """Read images in class folders, with or without folders of splits, or listed in `index.csv`.

    Args:
        root: Folder of the dataset.

    Raises:
        DatasetNotFoundError: There is no class folder with images.
        DatasetFormatError: The layout is ambiguous, or the index cannot be understood.
    """

    title = "Your own images in a folder for each class, or listed in index.csv"

    def __init__(self, root: Path) -> None:
        found = read_class_folders(root)
        if found is None:
            get_it = "It is your own folder of images."
            raise missing_dataset("image-folder", root, LAYOUTS, get_it)
        images, paths = found
        super().__init__(root, images, PictureFiles(paths))
