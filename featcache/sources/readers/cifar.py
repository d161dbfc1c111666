"""Read CIFAR-10 and CIFAR-100 as they are published: binary, for Python, packed or not.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Int64, UInt8

from ...errors import DatasetNotFoundError
from ...item_ids import storable_id
from ...regular_files import is_regular, read_regular
from ...types import Item
from ..base import Doubt, ImageReader, format_error, missing_dataset
from .class_folders import LAYOUTS, read_class_folders
from .class_source import ClassedImage, ClassedImages, ClassSource
from .class_tables import ClassTableOptions, IndexOptions
from .plain_pickle import read_plain_pickle
from .tar_files import read_tar_files

_SIZE = 32  # pixels of a side
_NUM_BYTES = 3 * _SIZE * _SIZE
_MOST_BYTES = 2**30  # of a file, or an archive unpacked: six times what is published


@dataclass(frozen=True, kw_only=True)
class Packing:
    """File and key names of one published packing of CIFAR.

    Attributes:
        archive: Name of the archive as it is downloaded.
        folder: Name of the folder in it.
        train: Files of the training images, in order.
        test: File of the test images.
        names: File with the names of the classes.
        names_key: Key of the names in it, or None for text, one name a line.
        labels_key: Key of the classes in a file of images, or None for bytes in each record.
        label_bytes: Bytes before the pixels of a record; the last one is the class.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    names_key: str | None = None
    labels_key: str | None = None
    label_bytes: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        """Return the names of all files."""
        return (*self.train, self.test, self.names)


_Planes = UInt8[np.ndarray, "n 3 32 32"]  # red, green and blue, one after another
_Labels = Int64[np.ndarray, " n"]


class PixelReader(ImageReader):
    """Reader of images that are rows of arrays of pixels; a place is an array and a row.

    Args:
        arrays: Pixels of many images each.
    """

    def __init__(self, arrays: Sequence[UInt8[np.ndarray, "_ 3 32 32"]]) -> None:
        self._arrays = arrays

    def item(self, image_id: str, place: tuple[int, int]) -> Item:
        """Return an image as a PPM file: a line of text and the pixels as they are."""
        pixels = self._pixels(place).transpose(1, 2, 0)
        return Item(id=image_id, data=f"P6 {_SIZE} {_SIZE} 255\n".encode() + pixels.tobytes())

    def digest(self, places: Sequence[tuple[int, int]]) -> str | None:
        """Return a hash of the pixels of images."""
        digest = hashlib.sha256()
        for place in places:
            digest.update(self._pixels(place).tobytes())
        return digest.hexdigest()

    def _pixels(self, place: tuple[int, int]) -> UInt8[np.ndarray, "3 32 32"]:
        array, row = place
        pixels: np.ndarray = self._arrays[array][row]
        return pixels


class CifarSource(ClassSource):
    """Serve CIFAR in any packing: for C or for Python, packed or not, or in class folders.

    The published files in `place` or in their own folder below it go before archives, and these
    before class folders; folders of as many other classes are somebody's own. Ids are
    `train-00000` and so on in the order of the files, the same in every packing; in class folders
    they are paths. No file of it is unpacked onto the disk, and pickles are read without running
    anything of them.

    Args:
        place: Folder of the dataset, or the archive as downloaded.
        options: Options of an `index.csv`.

    Raises:
        DatasetNotFoundError: Nothing of it is there, or some of the files are not.
        DatasetFormatError: A file cannot be understood, or names an image elsewhere.
        SpecError: `root` is no absolute path of a folder, or an option of a table is given, and
            there is none.
    """

    Options = IndexOptions
    published_as: ClassVar[str]  # name of the dataset
    packings: ClassVar[tuple[Packing, ...]]  # how it is published, the preferred first
    num_classes: ClassVar[int]
    some_classes: ClassVar[tuple[str, ...]]  # names of published ones

    def __init__(self, place: Path, options: IndexOptions) -> None:
        super().__init__(place, self._read(place, ClassTableOptions(**vars(options))))

    def _read(self, root: Path, options: ClassTableOptions) -> ClassedImages:
        for packing in self.packings:
            for place in (root, root / packing.folder):
                if any(is_regular(place / file) for file in packing.files):
                    options.require_none(place)
                    contents = _read_folder(packing, place)
                    return _read_packed(packing, place, contents, self.num_classes)
        # unpacked files are read in place; an archive has to be read from its beginning
        for packing in self.packings:
            archive = root if is_regular(root) else root / packing.archive
            if archive.name == packing.archive and is_regular(archive):
                options.require_none(archive)
                contents = _read_archive(packing, archive)
                return _read_packed(packing, archive, contents, self.num_classes)
        images = read_class_folders(root, options)
        if images is None:
            files = [(f"{kind.folder}/{kind.test}", kind.archive) for kind in self.packings]
            looked_for = [text for layout in files for text in layout]
            get_it = "Get it from https://www.cs.toronto.edu/~kriz/cifar.html."
            raise missing_dataset(self.published_as, root, [*looked_for, *LAYOUTS], get_it)
        if len(images.names) != self.num_classes:
            counts = f"{len(images.names)} classes, and {self.published_as} has {self.num_classes}"
            ways = f"get all of them, or read these by --data image-folder={root}"
            raise format_error(images.origin, "", f"holds {counts}: {ways}")
        doubts = [
            Doubt(None, f"has no class {name!r}", stands=False, is_open=False)
            for name in self.some_classes
            if name not in images.names
        ]
        return replace(images, report=replace(images.report, doubt=next(iter(doubts), None)))


def _read_folder(packing: Packing, place: Path) -> dict[str, bytes]:
    contents = {}
    for file in packing.files:
        if not is_regular(place / file):
            continue
        try:
            contents[file] = read_regular(place / file, limit=_MOST_BYTES)
        except OSError as error:
            raise format_error(place / file, "", f"cannot be read: {error.strerror}") from error
    return contents


def _read_archive(packing: Packing, archive: Path) -> dict[str, bytes]:
    """Return the content of the files of an archive by name; nothing is written anywhere."""
    names = {f"{packing.folder}/{file}": file for file in packing.files}
    contents = read_tar_files(archive, names, limit=_MOST_BYTES)
    return {names[name]: content for name, content in contents.items()}


def _read_packed(
    packing: Packing, place: Path, contents: Mapping[str, bytes], num_classes: int
) -> ClassedImages:
    lacking = [file for file in packing.files if file not in contents]
    if lacking:
        raise DatasetNotFoundError(
            f"{place} lacks {', '.join(lacking)}; unpack all of {packing.archive} again"
        )
    names = _read_names(packing, contents[packing.names], place / packing.names)
    if len(names) != num_classes:
        problem = f"names {len(names)} classes, expected {num_classes}"
        raise format_error(place / packing.names, "", problem)
    images: dict[str, ClassedImage] = {}
    arrays: list[np.ndarray] = []
    num_images = {"train": 0, "test": 0}
    for file in (*packing.train, packing.test):
        split = "test" if file == packing.test else "train"
        pixels, labels = _read_batch(packing, contents[file], place / file)
        if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
            bounds = [int(labels.min()), int(labels.max())]
            problem = f"classes are 0 to {num_classes - 1}, found {bounds}"
            raise format_error(place / file, "", problem)
        for row, label in enumerate(labels.tolist()):
            image = ClassedImage((len(arrays), row), label, split)
            images[f"{split}-{num_images[split]:05d}"] = image
            num_images[split] += 1
        arrays.append(pixels)
    return ClassedImages(origin=place, names=names, images=images, reader=PixelReader(arrays))


def _read_names(packing: Packing, content: bytes, file: Path) -> tuple[str, ...]:
    if packing.names_key is None:
        lines = content.decode("latin-1").splitlines()
        return tuple(line.strip() for line in lines if line.strip())
    names = _value(read_plain_pickle(content, file=file), packing.names_key, file)
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise format_error(file, "", f"{packing.names_key!r} is no list of texts")
    texts = (name.decode("latin-1") if isinstance(name, bytes) else name for name in names)
    return tuple(map(storable_id, texts))


def _read_batch(packing: Packing, content: bytes, file: Path) -> tuple[_Planes, _Labels]:
    if packing.labels_key is None:
        size = packing.label_bytes + _NUM_BYTES
        if not content or len(content) % size:
            problem = f"has {len(content):,} bytes, expected a multiple of {size:,}"
            raise format_error(file, "", f"{problem}: it is cut off or another file")
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, size)
        labels = records[:, packing.label_bytes - 1].astype(np.int64)
        return records[:, packing.label_bytes :].reshape(-1, 3, _SIZE, _SIZE), labels
    table = read_plain_pickle(content, file=file)
    pixels, labels = _value(table, "data", file), _value(table, packing.labels_key, file)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        raise format_error(file, "", "'data' is no array of bytes")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise format_error(file, "", f"{packing.labels_key!r} is no list of integers")
    if pixels.shape != (len(labels), _NUM_BYTES):
        problem = f"'data' is {list(pixels.shape)}, expected {[len(labels), _NUM_BYTES]}"
        raise format_error(file, "", problem)
    return pixels.reshape(-1, 3, _SIZE, _SIZE), np.array(labels, dtype=np.int64)


def _value(table: Mapping[str, Any], key: str, file: Path) -> Any:
    if key not in table:
        raise format_error(file, "", f"has no key {key!r}; keys: {sorted(table)}")
    return table[key]
