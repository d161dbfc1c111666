"""CIFAR-100: 60,000 pictures of 32 x 32 pixels in a hundred classes."""

from ..readers.cifar import CifarSource, Packing

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
    published_as = "cifar100"
    packings = _PACKINGS
    num_classes = 100
    some_classes = ("aquarium_fish", "pickup_truck", "willow_tree")
