"""Find the files of a published caption dataset in any of its usual layouts."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
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
class PublishedCaptionsOptions:
    """Options of a published caption dataset.

    Attributes:
        root: Absolute path of a folder below which images may lie, too.
    """

    root: str | None = None


class PublishedCaptions(CaptionSource):
    """Published dataset of captioned images, in any of its usual layouts.

    Splits come from the caption file itself, else from split lists, else from Karpathy's JSON
    file, else from the hash of the image names.

    Args:
        place: Folder of the dataset.
        options: See `PublishedCaptionsOptions`.

    Attributes:
        published_as: Name of the dataset.
        caption_files: File names with their readers, the preferred first.
        text_folders: Folders under the place where text files may stand, itself included.
        image_folders: Folders under the place where the images may stand.
        split_lists: Names of files that list the images of a split, one a line, with the split.
        karpathy: Name of the JSON file with captions and Karpathy's splits.
        get_it: Where a user can get the files.

    Raises:
        DatasetNotFoundError: No caption file or no image file is there.
        DatasetFormatError: A text file cannot be understood, or names an image elsewhere.
        SpecError: `root` is no absolute path of a folder.
    """

    Options = PublishedCaptionsOptions
    published_as: ClassVar[str]
    caption_files: ClassVar[Sequence[tuple[str, Callable[[Path], Iterator[Row]]]]]
    text_folders: ClassVar[tuple[str, ...]]
    image_folders: ClassVar[tuple[str, ...]]
    split_lists: ClassVar[Sequence[tuple[str, str]]] = ()
    karpathy: ClassVar[str]
    get_it: ClassVar[str]

    def __init__(self, place: Path, options: PublishedCaptionsOptions) -> None:
        images, path_of = self._captions(place, options.root)
        images = self._with_splits(_without_copies(images), place)
        bare_names = [name for name in images.captions if name not in path_of]
        if bare_names:
            folder = self._image_folder(place, images.file, bare_names)
            places = PicturePlaces(images.file, folder, options.root)
            path_of |= {name: places.path_of(name, "") for name in bare_names}
            places.check()
        super().__init__(place, images, {name: str(path_of[name]) for name in images.captions})

    def _find(self, root: Path, name: str) -> Path | None:
        """Return a text file of the dataset, or None where it is not there."""
        places = (root / folder / name for folder in self.text_folders)
        return next((place for place in places if is_regular(place)), None)

    def _captions(self, root: Path, allowed: str | None) -> tuple[CaptionedImages, dict[str, Path]]:
        """Return the images with their captions, and the files of those named with a folder."""
        readers = (*self.caption_files, (self.karpathy, read_karpathy_json))
        for name, read in readers:
            file = self._find(root, name)
            if file is not None:
                path_of: dict[str, Path] = {}
                places = PicturePlaces(file, root, allowed)
                images = group_rows(_with_file_names(read(file), places, file, path_of), file=file)
                places.check()
                return images, path_of
        raise missing_dataset(self.published_as, root, [name for name, _ in readers], self.get_it)

    def _with_splits(self, images: CaptionedImages, root: Path) -> CaptionedImages:
        if images.split_of:
            return images
        split_of = self._listed_splits(root)
        if split_of:
            return images.with_listed_splits(split_of, listed_in="the official split lists")
        karpathy = self._find(root, self.karpathy)
        if karpathy is not None:
            rows = read_karpathy_json(karpathy)
            split_of = {row.image: split_name(row.split or "") for row in rows}
            return images.with_listed_splits(split_of, listed_in=karpathy.name)
        files = " or ".join(
            filter(None, [", ".join(name for name, _ in self.split_lists), self.karpathy])
        )
        return images.with_hashed_splits(remedy=f"put {files} into {root} for the published splits")

    def _listed_splits(self, root: Path) -> dict[str, str]:
        split_of: dict[str, str] = {}
        for name, split in self.split_lists:
            file = self._find(root, name)
            for place, line in read_lines(file) if file is not None else ():
                image = line.strip()
                if split_of.setdefault(image, split) != split:
                    problem = f"{image!r} is in split {split_of[image]!r} too"
                    raise format_error(file or root, place, problem)
        return split_of

    def _image_folder(self, root: Path, file: Path, names: Sequence[str]) -> Path:
        folders = [root / place for place in self.image_folders]
        for folder in folders:
            if folder.is_dir() and any(is_regular(folder / name) for name in names):
                return folder
        raise DatasetNotFoundError(
            f"{file} names {counted(len(names), 'image')} such as {names[0]!r}, but none is there: "
            f"looked in {', '.join(map(str, folders))}",
            self.get_it,
        )


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
