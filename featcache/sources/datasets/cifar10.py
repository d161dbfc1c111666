"""CIFAR-10: 60,000 pictures of 32 x 32 pixels in ten classes."""

from ..readers.cifar import CifarSource, Packing

_NUMBERS = range(1, 6)


class Cifar10Source(CifarSource):
    """Read CIFAR-10 as published, for C or for Python, packed or not, or in class folders."""

    title = "CIFAR-10: 60,000 pictures of 32 x 32 pixels, ten classes"
    published_as = "cifar10"
    packings = (
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
    num_classes = 10
    some_classes = ("airplane", "automobile", "truck")
