"""CIFAR-100: 60,000 pictures of 32 x 32 pixels in a hundred classes."""

from ..readers.cifar import CifarSource, Packing


class Cifar100Source(CifarSource):
    """Read CIFAR-100 as published, for C or for Python, packed or not, or in class folders.

    The hundred fine classes are read.
    """

    title = "CIFAR-100: 60,000 pictures of 32 x 32 pixels, a hundred classes"
    published_as = "cifar100"
    packings = (
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
    num_classes = 100
    some_classes = ("aquarium_fish", "pickup_truck", "willow_tree")
