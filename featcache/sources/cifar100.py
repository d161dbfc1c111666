"""CIFAR-100: 60,000 pictures of 32 x 32 pixels in a hundred classes."""

from pathlib import Path

from ._cifar import CifarSource, Packing, read_cifar

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

    Raises:
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: A file cannot be understood, or names an image elsewhere.
        SpecError: `root` is no absolute path of a folder.
    """

    title = "CIFAR-100: 60,000 pictures of 32 x 32 pixels, a hundred classes"
    some_classes = ("aquarium_fish", "pickup_truck", "willow_tree")

    def __init__(self, place: Path, /, *, root: str | None = None) -> None:
        classed = read_cifar(
            place,
            "cifar100",
            _PACKINGS,
            num_classes=100,
            get_it="Get it from https://www.cs.toronto.edu/~kriz/cifar.html.",
            allowed=root,
        )
        super().__init__(place, classed)
