"""CIFAR-10: 60,000 pictures of 32 x 32 pixels in ten classes."""

from ..readers.cifar import CifarSource, Packing

_NUMBERS = range(1, 6)
_PACKINGS = (
    Packing(
        archive="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{number}.bin" for number in _NUMBERS),
        test="test_batch.bin",
        names="batches.meta.txt",
        label_bytes=1,
    ),
    Packing(
        archive="cifar-10-python.tar.gz",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in _NUMBERS),
        test="test_batch",
        names="batches.meta",
        names_key="label_names",
        labels_key="labels",
    ),
)


class Cifar10Source(CifarSource):
    """Read CIFAR-10 as published, for C or for Python, packed or not, or in class folders.

    Pickles are read without running anything of them.

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

    title = "CIFAR-10: 60,000 pictures of 32 x 32 pixels, ten classes"
    published_as = "cifar10"
    packings = _PACKINGS
    num_classes = 10
    some_classes = ("airplane", "automobile", "truck")
