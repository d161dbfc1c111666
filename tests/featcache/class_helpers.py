"""Small datasets of classes in every layout that the sources read."""

import io

import numpy as np
from PIL import Image

from .sources_helpers import write_csv

CLASSES = ("cat", "dog", "red fox")


def picture(seed, size=32):
    """Return the pixels of a picture of noise, uint8 [size, size, 3]."""
    return np.random.default_rng(seed).integers(256, size=(size, size, 3)).astype(np.uint8)


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    path.write_bytes(stream.getvalue())


def write_class_folders(root, *, count=10, classes=CLASSES):
    for label, name in enumerate(classes):
        for number in range(count):
            write_png(root / name / f"{number:02}.png", picture(100 * label + number, 8))


def folders_without_splits(root):
    write_class_folders(root)


def folders_with_splits(root):
    for number, split in enumerate(("train", "validation", "test")):
        write_class_folders(root / split, count=5 - number)


def folder_of_train_alone(root):
    write_class_folders(root / "train")


def listed_in_an_index(root):
    write_class_folders(root / "pictures")
    rows = [
        (f"pictures/{name}/{number:02}.png", name, label)
        for label, name in enumerate(CLASSES)
        for number in range(10)
    ]
    write_csv(root / "index.csv", ["image", "class", "label"], rows)


FOLDERS = [folders_without_splits, folders_with_splits, folder_of_train_alone, listed_in_an_index]
CLASS_LAYOUTS = {
    "image-folder": FOLDERS,
}
