"""Any folder of images, each with a text file of its captions beside it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ...item_ids import storable_id
from ...regular_files import is_regular
from ..base import counted, missing_dataset
from ..readers.caption_source import CaptionedImages, CaptionSource
from ..readers.image_files import LeftOut, paths_below
from ..splits import splits_by_folder
from ..tables.decoding import read_any_text
from ..tables.delimited import lines_of

_SUFFIX = ".txt"


class ImageTextFilesSource(CaptionSource):
    """Read images below a folder, with the lines of `NAME.txt` beside `NAME.jpg` as its captions.

    Image ids are paths below the folder. Folders called train, val and test are splits, if all
    images stand in such; else splits come from a hash of the ids.

    Args:
        place: The folder.

    Raises:
        DatasetNotFoundError: No image has a text file beside it.
        DatasetFormatError: Two images would get the same id, or a text is not UTF-8.
    """

    title = "Your own images, each with its captions in a .txt file beside it"

    def __init__(self, place: Path) -> None:
        left_out = LeftOut(place, expected=_SUFFIX)
        paths = paths_below(place, left_out)
        texts = {name: _captions_beside(Path(path)) for name, path in paths.items()}
        captions = {name: text.lines if text else () for name, text in texts.items()}
        if not any(captions.values()):
            get_it = "It is your own folder of images."
            raise missing_dataset("image-text-files", place, ("image.jpg with image.txt",), get_it)
        split_of = splits_by_folder(captions)
        images = CaptionedImages(place, captions, split_of or {}, _notes(texts, left_out))
        if split_of is None:
            remedy = "to choose, put the images into folders train, val and test"
            images = images.with_hashed_splits(remedy=remedy)
        super().__init__(place, images, paths)


class _Captions(NamedTuple):
    """Lines of a text file, and the encoding that it was in."""

    file: Path
    lines: tuple[str, ...]
    encoding: str


def _captions_beside(image: Path) -> _Captions | None:
    """Return the captions in the text file beside an image, or None where there is none."""
    file = image.with_suffix(_SUFFIX)
    if not is_regular(file):
        return None
    decoded = read_any_text(file)
    lines = (line.strip() for line in lines_of(decoded))
    return _Captions(file, tuple(line for line in lines if line), decoded.title)


def _notes(texts: Mapping[str, _Captions | None], left_out: LeftOut) -> tuple[str, ...]:
    """Return what a user should know of the text files, and of what is not read."""
    notes = []
    without = sum(text is None for text in texts.values())
    if without:
        notes.append(f"{counted(without, 'image')} without a .txt file")
    read = {text.file for text in texts.values() if text}
    alone = [file for file in left_out.beside if file not in read]
    if alone:
        example = storable_id(min(alone).name)
        notes.append(f"{counted(len(alone), '.txt file')} without an image, such as {example:.80}")
    encodings = Counter(text.encoding for text in texts.values() if text)
    notes += [
        f"encoding of {counted(count, '.txt file')} is {encoding}"
        for encoding, count in encodings.items()
        if encoding != "UTF-8"
    ]
    return (*notes, *left_out.notes())
