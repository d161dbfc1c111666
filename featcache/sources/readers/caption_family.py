"""Find the files of a published caption dataset in any of its usual layouts."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ...errors import DatasetNotFoundError
from ...regular_files import is_regular
from ..base import counted, format_error, missing_dataset
from ..splits import split_name
from ..tables.picture_places import PicturePlaces
from ..tables.text_files import Row, read_karpathy_json, read_lines
from .caption_source import CaptionedImages, CaptionSource, group_rows


@dataclass(frozen=True, kw_only=True)
class CaptionFamily:
    """File and folder names of one dataset family of captioned images.

    Attributes:
        name: Name of the dataset.
        caption_files: Reader by file name, the preferred first.
        text_folders: Folders under the root where text files may stand, the root included.
        image_folders: Folders under the root where the images may stand.
        split_lists: Split by name of a file that lists its images, one a line.
        karpathy: Name of the JSON file with captions and Karpathy's splits.
        get_it: Where a user can get the files.
    """

    name: str
    caption_files: Mapping[str, Callable[[Path], Iterator[Row]]]
    text_folders: tuple[str, ...]
    image_folders: tuple[str, ...]
    split_lists: Mapping[str, str]
    karpathy: str
    get_it: str

    def find(self, root: Path, name: str) -> Path | None:
        """Return a text file of the dataset, or None where it is not there."""
        places = (root / folder / name for folder in self.text_folders)
        return next((place for place in places if is_regular(place)), None)


@dataclass(frozen=True, kw_only=True)
class PublishedCaptionsOptions:
    """Options of a published caption dataset.

    Attributes:
        root: Absolute path of a folder below which images may lie, too.
    """

    root: str | None = None


class PublishedCaptions(CaptionSource):
    """Published dataset of captioned images, in any of the layouts of its family.

    Splits come from the caption file itself, else from split lists, else from Karpathy's JSON
    file, else from the hash of the image names.

    Args:
        place: Folder of the dataset.
        options: See `PublishedCaptionsOptions`.

    Raises:
        DatasetNotFoundError: No caption file or no image file is there.
        DatasetFormatError: A text file cannot be understood, or names an image elsewhere.
        SpecError: `root` is no absolute path of a folder.
    """

    Options = PublishedCaptionsOptions
    family: ClassVar[CaptionFamily]

    def __init__(self, place: Path, options: PublishedCaptionsOptions) -> None:
        images, path_of = _read_captions(place, self.family, options.root)
        images = _with_splits(_without_copies(images), place, self.family)
        bare_names = [name for name in images.captions if name not in path_of]
        if bare_names:
            folder = _image_folder(place, self.family, images.file, bare_names)
            places = PicturePlaces(images.file, folder, options.root)
            path_of |= {name: places.path_of(name, "") for name in bare_names}
            places.check()
        super().__init__(place, images, {name: str(path_of[name]) for name in images.captions})


def _read_captions(
    root: Path, family: CaptionFamily, allowed: str | None
) -> tuple[CaptionedImages, dict[str, Path]]:
    """Return the images with their captions, and the files of those named with a folder."""
    readers = {**family.caption_files, family.karpathy: read_karpathy_json}
    for name, read in readers.items():
        file = family.find(root, name)
        if file is not None:
            path_of: dict[str, Path] = {}
            places = PicturePlaces(file, root, allowed)
            images = group_rows(_with_file_names(read(file), places, file, path_of), file=file)
            places.check()
            return images, path_of
    raise missing_dataset(family.name, root, list(readers), family.get_it)


def _with_file_names(
    rows: Iterable[Row], places: PicturePlaces, file: Path, path_of: dict[str, Path]
) -> Iterator[Row]:
    """Replace an image path by its file name, so that ids are the same in every layout."""
    keys: dict[str, str] = {}  # ways to write the path of a picture are one
    for row in rows:
        if "/" not in row.image:
            yield row
            continue
        path = places.path_of(row.image, row.place)
        path_of.setdefault(path.name, path)
        key = places.key_of(row.image)
        if keys.setdefault(path.name, key) != key:
            raise format_error(file, row.place, f"a second image is called {path.name!r}")
        yield row._replace(image=path.name)


def _without_copies(images: CaptionedImages) -> CaptionedImages:
    """Drop captions of `name.jpg.1`.

    The official Flickr8k file captions one such image; it is no file and in no official split.
    """
    captions = {
        name: texts
        for name, texts in images.captions.items()
        if not re.fullmatch(r".+\.jpg\.\d+", name)
    }
    dropped = len(images.captions) - len(captions)
    if not dropped:
        return images
    note = f"{counted(dropped, 'image')} named like name.jpg.1 left out: there is no such file"
    return replace(images, captions=captions, notes=(*images.notes, note))


def _with_splits(images: CaptionedImages, root: Path, family: CaptionFamily) -> CaptionedImages:
    if images.split_of:
        return images
    listed = _read_split_lists(root, family)
    if listed:
        return images.with_listed_splits(listed, listed_in="the official split lists")
    karpathy = family.find(root, family.karpathy)
    if karpathy is not None:
        listed = {row.image: split_name(row.split or "") for row in read_karpathy_json(karpathy)}
        return images.with_listed_splits(listed, listed_in=karpathy.name)
    files = " or ".join(filter(None, [", ".join(family.split_lists), family.karpathy]))
    return images.with_hashed_splits(remedy=f"put {files} into {root} for the published splits")


def _read_split_lists(root: Path, family: CaptionFamily) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for name, split in family.split_lists.items():
        file = family.find(root, name)
        for place, line in read_lines(file) if file is not None else ():
            image = line.strip()
            if split_of.setdefault(image, split) != split:
                problem = f"{image!r} is in split {split_of[image]!r} too"
                raise format_error(file or root, place, problem)
    return split_of


def _image_folder(root: Path, family: CaptionFamily, file: Path, names: Sequence[str]) -> Path:
    folders = [root / place for place in family.image_folders]
    for folder in folders:
        if folder.is_dir() and any(is_regular(folder / name) for name in names):
            return folder
    raise DatasetNotFoundError(
        f"{file} names {counted(len(names), 'image')} such as {names[0]!r}, but none is there: "
        f"looked in {', '.join(map(str, folders))}",
        family.get_it,
    )
