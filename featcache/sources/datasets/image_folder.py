"""Any images that stand in a folder for each class."""

from pathlib import Path

from ..base import missing_dataset
from ..readers.class_folders import LAYOUTS, read_classes
from ..readers.class_source import ClassSource
from ..readers.class_tables import ClassTableOptions
from ..tables.table import TableFormat


class ImageFolderSource(ClassSource):
    """Read images in class folders, with or without folders of splits, or listed in `index.csv`.

    Tables whose names give splits, such as `train.csv` and `test.csv`, are one table. Parquet may
    hold the images themselves.

    Args:
        place: Folder of the dataset, or a table like `index.csv` of any name and format.
        root: Absolute path of a folder below which images of a table may lie, too.
        image_column: Column of image paths; None recognises it by the usual names.
        class_column: Column of classes, alike.
        split_column: Column of split names; a table may lack it only under its default name.
        delimiter: Character between cells, such as `;` or `tab`; None finds it out.
        encoding: Encoding of the text, such as `cp1252`; None finds it out.
        quoted: Whether cells may be quoted; if not, a quote is a letter like any other.

    Raises:
        DatasetNotFoundError: There is no class folder with images.
        DatasetFormatError: The layout is ambiguous, or a table cannot be understood.
        SpecError: `root` is no absolute path of a folder, the delimiter or encoding is none, or an
            option is of a table and there is none.
    """

    title = "Your own images in a folder for each class, or listed in index.csv"

    def __init__(
        self,
        place: Path,
        /,
        *,
        root: str | None = None,
        image_column: str | None = None,
        class_column: str | None = None,
        split_column: str = "split",
        delimiter: str | None = None,
        encoding: str | None = None,
        quoted: bool = True,
    ) -> None:
        form = TableFormat(delimiter=delimiter, encoding=encoding, quoted=quoted)
        options = ClassTableOptions(
            image_column=image_column,
            class_column=class_column,
            split_column=split_column,
            allowed=root,
            form=form,
        )
        classed = read_classes(place, options)
        if classed is None:
            get_it = "It is your own folder of images."
            raise missing_dataset("image-folder", place, LAYOUTS, get_it)
        super().__init__(place, classed)
