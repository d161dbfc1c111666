"""Tiny ImageNet: 200 classes of ImageNet in pictures of 64 x 64 pixels.

Source: Le and Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N, 2015.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...item_ids import storable_id
from ...regular_files import is_regular
from ..base import ReadReport, format_error, missing_dataset
from ..readers.class_source import ClassedImage, ClassedImages, ClassSource
from ..readers.images import require_images
from ..tables.text_files import read_lines

_FOLDER = "tiny-imagenet-200"
_LISTED = "wnids.txt"
_ANNOTATIONS = "val_annotations.txt"


class TinyImagenetSource(ClassSource):
    """Read Tiny ImageNet in the published layout.

    Classes are in the order of `wnids.txt` and called by the first of their words in `words.txt`,
    or by all of them and the id where two classes share the first. The published `test` has no
    labels and is left out.

    Args:
        root: Folder of the dataset, or the one that holds `tiny-imagenet-200`.

    Raises:
        DatasetNotFoundError: The files are not there.
        DatasetFormatError: A file cannot be understood.
    """

    title = "Tiny ImageNet: 110,000 pictures of 64 x 64 pixels, 200 classes"

    def __init__(self, root: Path) -> None:
        place = next(
            (folder for folder in (root, root / _FOLDER) if is_regular(folder / _LISTED)), None
        )
        if place is None:
            raise missing_dataset(
                "tiny-imagenet",
                root,
                [_LISTED, f"{_FOLDER}/{_LISTED}"],
                "Get it from http://cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it.",
            )
        super().__init__(root, _read(place))


def _read(place: Path) -> ClassedImages:
    listed = place / _LISTED
    wnids = [line.strip() for _, line in read_lines(listed)]
    if not wnids:
        raise format_error(listed, "", "names no classes; unpack the dataset again")
    index_of = {wnid: index for index, wnid in enumerate(wnids)}
    if len(index_of) < len(wnids):
        raise format_error(listed, "", "names a class twice")
    images = {
        storable_id(path.relative_to(place).as_posix()): ClassedImage(
            str(path), index_of[wnid], split
        )
        for split, rows in (("train", _train(place, wnids)), ("val", _val(place, index_of)))
        for path, wnid in rows
    }
    if not images:
        problem = f"names {len(wnids)} classes, but train/{wnids[0]}/images holds no image"
        raise format_error(listed, "", problem)
    names, notes = _names(place, wnids)
    if any((place / "test").glob("images/*")):
        notes += ("the published test images have no labels and are left out",)
    empty = set(index_of.values()) - {image.label for image in images.values()}
    if empty:
        notes += (f"{len(empty):,} of {len(wnids):,} classes without any image",)
    require_images([image.place for image in images.values()])
    return ClassedImages(origin=listed, names=names, images=images, report=ReadReport(notes=notes))


def _train(place: Path, wnids: Sequence[str]) -> list[tuple[Path, str]]:
    return [
        (path, wnid)
        for wnid in wnids
        for path in sorted((place / "train" / wnid / "images").glob("*.JPEG"))
    ]


def _val(place: Path, index_of: Mapping[str, int]) -> list[tuple[Path, str]]:
    file = place / "val" / _ANNOTATIONS
    rows = []
    for line_number, line in read_lines(file) if is_regular(file) else ():
        name, tab, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if not tab or wnid not in index_of or "/" in name or name in ("", "..", "."):
            problem = f"expected name.JPEG<TAB>class of {_LISTED}, found {line!r:.60}"
            raise format_error(file, line_number, problem)
        rows.append((place / "val" / "images" / name, wnid))
    return rows


def _names(place: Path, wnids: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes, and what to know about them."""
    file = place / "words.txt"
    if not is_regular(file):
        return tuple(wnids), (f"{file.name} is missing: classes go by their WordNet ids",)
    words: dict[str, str] = {}
    for line_number, line in read_lines(file):
        wnid, tab, text = line.partition("\t")
        if not tab or not text.strip():
            raise format_error(file, line_number, f"expected id<TAB>words, found {line!r:.60}")
        words[wnid] = text.strip()
    lacking = [wnid for wnid in wnids if wnid not in words]
    if lacking:
        raise format_error(file, "", f"has no words for {lacking[0]}, which {_LISTED} names")
    shortest = [words[wnid].split(",")[0].strip() for wnid in wnids]
    times = Counter(shortest)
    return tuple(
        name if times[name] == 1 else f"{words[wnid]} ({wnid})"
        for name, wnid in zip(shortest, wnids, strict=True)
    ), ()
