"""CIFAR-100: 60,000 pictures of 32 x 32 pixels in a hundred classes."""

from pathlib import Path

from ..readers.cifar import CifarSource, Packing, read_cifar
from ..readers.class_tables import ClassTableOptions
from ..tables.table import TableFormat

_PACKINGS = (
    Packing(
        archive="cifar-100-binary.tar.gz",
        folder="cifar-100-binary",
        train=("train.bin",),
        test="test.bin",
        names="fine_label_names.txt",
        label_bytes=2,  # one of the twenty groups, then the class
    ),
    Packing(
        archive="cifar-100-python.tar.gz",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        names="meta",
        names_key="fine_label_names",
        labels_key="fine_labels",
    ),
)


class Cifar100Source(CifarSource):
    """Read CIFAR-100 as published, for C or for Python, packed or not, or in class folders.

    The hundred fine classes are read. Pickles are read without running anything of them.

    Args:
        place: Folder of the dataset, or the archive as downloaded.
        root: Absolute path of a folder below which images of an `index.csv` may lie, too.
        delimiter: Character between the cells of an `index.csv`; None finds it out.
        encoding: Encoding of its text, such as `cp1252`; None finds it out.
        quoted: Whether its cells may be quoted; if not, a quote is a letter like any other.

    Raises:
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: A file cannot be understood, or names an image elsewhere.
        SpecError: `root` is no absolute path of a folder.
    """

    title = "CIFAR-100: 60,000 pictures of 32 x 32 pixels, a hundred classes"
    some_classes = ("aquarium_fish", "pickup_truck", "willow_tree")

    def __init__(
        self,
        place: Path,
        /,
        *,
        root: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        quoted: bool = True,
    ) -> None:
        form = TableFormat(delimiter=delimiter, encoding=encoding, quoted=quoted)
        classed = read_cifar(
            place,
            "cifar100",
            _PACKINGS,
            num_classes=100,
            get_it="Get it from https://www.cs.toronto.edu/~kriz/cifar.html.",
            options=ClassTableOptions(allowed=root, form=form),
        )
        super().__init__(place, classed)
