"""Small datasets of classes in every layout that the sources read."""

import io
import struct
import tarfile
from functools import cache

import numpy as np

from .sources_helpers import write_csv

CLASSES = ("cat", "dog", "red fox")


@cache
def picture(seed):
    """Return the pixels of a picture of noise, uint8 [32, 32, 3]."""
    return np.random.default_rng(seed).integers(256, size=(32, 32, 3)).astype(np.uint8)


def write_image(path, size):
    """Write what stands for an image where none is decoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def write_class_folders(root, *, count=10, classes=CLASSES):
    for label, name in enumerate(classes):
        for number in range(count):
            write_image(root / name / f"{number:02}.png", 100 * label + number + 1)


def folders_without_splits(root):
    write_class_folders(root)


def folders_with_splits(root):
    for number, split in enumerate(("train", "validation", "test")):
        write_class_folders(root / split, count=5 - number)


def folder_of_train_alone(root):
    write_class_folders(root / "train")


def listed_in_an_index(root, *, classes=CLASSES):
    write_class_folders(root / "pictures", classes=classes)
    rows = [
        (f"pictures/{name}/{number:02}.png", name, label)
        for label, name in enumerate(classes)
        for number in range(10)
    ]
    write_csv(root / "index.csv", ["image", "class", "label"], rows)


TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_OTHERS = tuple(f"class_{number:02}" for number in range(1, 98))
HUNDRED = ("aquarium_fish", *_OTHERS, "pickup_truck", "willow_tree")


def batches(*, train_files, num_classes, per_file=4):
    """Return (pixels uint8 [n, 32, 32, 3], labels) of each training file, and of the test file."""
    made = []
    for number in range(train_files + 1):
        pixels = np.stack([picture(1000 * number + row) for row in range(per_file)])
        labels = [(7 * number + 3 * row) % num_classes for row in range(per_file)]
        made.append((pixels, labels))
    return made


def plane_rows(pixels):
    """Return pictures as CIFAR has them: red, then green, then blue, row by row."""
    return [
        picture[:, :, 0].tobytes() + picture[:, :, 1].tobytes() + picture[:, :, 2].tobytes()
        for picture in pixels
    ]


def binary_file(pixels, labels, groups=None):
    """Return CIFAR's binary records: the group, where there are any, the class, and the planes."""
    return b"".join(
        bytes([label] if groups is None else [group, label]) + row
        for row, label, group in zip(plane_rows(pixels), labels, groups or labels, strict=True)
    )


# The opcodes of a protocol 2 pickle as Python 2 wrote it, put together by hand.


def old_text(text):
    data = text if isinstance(text, bytes) else text.encode()
    return b"U" + bytes([len(data)]) + data


def old_integer(value):
    return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)


def old_list(parts):
    return b"](" + b"".join(parts) + b"e"


def old_array(rows):
    data = b"".join(rows)
    shape = old_integer(len(rows)) + old_integer(len(rows[0])) + b"\x86"
    number_type = (
        b"cnumpy\ndtype\n" + old_text("u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + old_text("|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    )
    content = b"T" + struct.pack("<i", len(data)) + data
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + old_text("b")
        + b"\x87R(K\x01"
        + shape
        + number_type
        + b"\x89"
        + content
        + b"tb"
    )


def old_pickle(entries):
    items = b"".join(old_text(key) + value for key, value in entries.items())
    return b"\x80\x02}q\x01(" + items + b"u."


def python_file(pixels, labels, *, labels_key):
    names = [old_text(f"picture_{row}.png") for row in range(len(labels))]
    return old_pickle(
        {
            "batch_label": old_text("training batch 1 of 5"),
            labels_key: old_list([old_integer(label) for label in labels]),
            "data": old_array(plane_rows(pixels)),
            "filenames": old_list(names),
        }
    )


def cifar10_binary_files():
    *train, test = batches(train_files=5, num_classes=10)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    files = {name: binary_file(*batch) for name, batch in zip(names, train, strict=True)}
    meta = "\n".join(TEN) + "\n\n"
    return {**files, "test_batch.bin": binary_file(*test), "batches.meta.txt": meta.encode()}


def cifar10_python_files():
    *train, test = batches(train_files=5, num_classes=10)
    names = [f"data_batch_{number}" for number in range(1, 6)]
    made = zip([*names, "test_batch"], [*train, test], strict=True)
    files = {name: python_file(*batch, labels_key="labels") for name, batch in made}
    meta = {"num_cases_per_batch": old_integer(4), "label_names": old_list(map(old_text, TEN))}
    return {**files, "batches.meta": old_pickle(meta)}


def cifar100_binary_files():
    train, test = batches(train_files=1, num_classes=100, per_file=8)
    files = {
        f"{name}.bin": binary_file(*batch, groups=[label // 5 for label in batch[1]])
        for name, batch in (("train", train), ("test", test))
    }
    return {**files, "fine_label_names.txt": "\n".join(HUNDRED).encode()}


def cifar100_python_files():
    train, test = batches(train_files=1, num_classes=100, per_file=8)
    files = {
        name: python_file(*batch, labels_key="fine_labels")
        for name, batch in (("train", train), ("test", test))
    }
    meta = {"fine_label_names": old_list(map(old_text, HUNDRED))}
    return {**files, "meta": old_pickle(meta)}


def write_files(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_archive(path, folder, files):
    with tarfile.open(path, "w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))


def cifar10_binary(root):
    write_files(root / "cifar-10-batches-bin", cifar10_binary_files())


def cifar10_python(root):
    write_files(root, cifar10_python_files())


def cifar10_binary_archive(root):
    write_archive(root / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", cifar10_binary_files())


def cifar10_python_archive(root):
    write_archive(root / "cifar-10-python.tar.gz", "cifar-10-batches-py", cifar10_python_files())


def cifar100_binary(root):
    write_files(root, cifar100_binary_files())


def cifar100_python(root):
    write_files(root / "cifar-100-python", cifar100_python_files())


def cifar100_binary_archive(root):
    write_archive(root / "cifar-100-binary.tar.gz", "cifar-100-binary", cifar100_binary_files())


def cifar100_python_archive(root):
    write_archive(root / "cifar-100-python.tar.gz", "cifar-100-python", cifar100_python_files())


def cifar10_in_an_index(root):
    listed_in_an_index(root, classes=TEN)


def cifar100_in_folders(root):
    for split in ("train", "test"):
        write_class_folders(root / split, count=1, classes=HUNDRED)


WNIDS = ("n02124075", "n01443537", "n02012849")
WORDS = {
    "n01443537": "goldfish, Carassius auratus",
    "n02012849": "crane",
    "n02124075": "Egyptian cat",
    "n99999999": "what is in no class",
}


def tiny_imagenet(root):
    for wnid in WNIDS:
        for number in range(3):
            place = root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
            write_image(place, int(wnid[-4:]) + number)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("x\t0\t0\t62\t62\n")
    for number in range(2):
        write_image(root / "val" / "images" / f"val_{number}.JPEG", number + 1)
    write_image(root / "test" / "images" / "test_0.JPEG", 9)
    (root / "val" / "val_annotations.txt").write_text(
        "val_0.JPEG\tn02012849\t0\t32\t44\t62\nval_1.JPEG\tn02124075\t52\t55\t57\t59\n"
    )
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text("".join(f"{key}\t{words}\n" for key, words in WORDS.items()))


FOLDERS = [folders_without_splits, folders_with_splits, folder_of_train_alone, listed_in_an_index]
CLASS_LAYOUTS = {
    "image-folder": FOLDERS,
    "cifar10": [
        cifar10_binary,
        cifar10_python,
        cifar10_binary_archive,
        cifar10_python_archive,
        cifar10_in_an_index,
    ],
    "cifar100": [
        cifar100_binary,
        cifar100_python,
        cifar100_binary_archive,
        cifar100_python_archive,
        cifar100_in_folders,
    ],
    "tiny-imagenet": [tiny_imagenet],
}
