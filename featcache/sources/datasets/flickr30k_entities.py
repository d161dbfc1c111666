"""Flickr30k Entities: which words of the captions of Flickr30k name which boxes in its photos.

Source: Plummer et al., Flickr30k Entities: Collecting Region-to-Phrase Correspondences for Richer
Image-to-Sentence Models, ICCV 2015; https://github.com/BryanPlummer/flickr30k_entities.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ...errors import SourceOptionError, one_line
from ...regions import NOWHERE
from ...regular_files import is_regular, read_regular
from ..base import counted, format_error, missing_dataset
from ..readers.item_ledger import ItemLedger
from ..readers.region_source import RegionRows, RegionSource, find_pictures
from ..splits import hashed_splits
from ..tables.text_files import read_lines

_CAPTIONS, _PHRASES = "captions", "phrases"
_SENTENCES, _ANNOTATIONS = "Sentences", "Annotations"
_FOLDERS = ("", "annotations", "flickr30k_entities")  # into which programs unpack the archive
_LISTS = {"train": "train.txt", "val": "val.txt", "test": "test.txt"}
_IMAGE_FOLDERS = (
    "flickr30k-images",
    "flickr30k_images",
    "flickr30k_images/flickr30k_images",
    "images",
    "Images",
    "",
)
_TYPES = (
    "people",
    "clothing",
    "bodyparts",
    "animals",
    "vehicles",
    "instruments",
    "scene",
    "other",
)
_NOT_VISUAL = "0"  # chain of words that name nothing in the picture
_MARKED = re.compile(r"\[/EN#(?P<chain>\d+)/(?P<types>[^\s\[\]]+) (?P<words>[^\[\]]*)\]")
_MOST_BYTES = 2**22  # of a file of one picture: the official ones have a few thousand


@dataclass(frozen=True, kw_only=True)
class Flickr30kEntitiesOptions:
    """Options of Flickr30k Entities.

    Attributes:
        texts: `captions`, of which some words name boxes, or `phrases`: those words alone.
        root: Absolute path of a folder below which images may lie, too.

    Raises:
        SourceOptionError: There are no such texts.
    """

    texts: str = _CAPTIONS
    root: str | None = None

    def __post_init__(self) -> None:
        if self.texts not in {_CAPTIONS, _PHRASES}:
            problem = f"must be {_CAPTIONS} or {_PHRASES}, found {self.texts!r:.80}"
            raise SourceOptionError(f"source.texts {problem}")


class _Phrase(NamedTuple):
    """Words of a caption that name a chain of boxes.

    Attributes:
        chain: Number of the chain, the same in all captions of an image.
        kind: The first type of what is named, such as `people`.
        first: First character of the words in the caption.
        last: Last character of them + 1.
    """

    chain: str
    kind: str
    first: int
    last: int


class _Caption(NamedTuple):
    """Caption without its markup."""

    text: str
    phrases: tuple[_Phrase, ...]


class _Box(NamedTuple):
    """Box of one or more chains.

    Attributes:
        chains: Their numbers.
        corners: x1, y1, x2, y2.
        place: Where it stands in its file.
    """

    chains: tuple[str, ...]
    corners: tuple[float, ...]
    place: str


class Flickr30kEntitiesSource(RegionSource):
    """Read Flickr30k Entities from its official files, beside the photos of Flickr30k.

    Splits are those of `train.txt`, `val.txt` and `test.txt`, else from the SHA-256 of the names.
    The class of a box is the type of the first words that name it. Words of a scene, or of what
    nobody drew a box around, mention none. With `texts` = `phrases` each text is some words of an
    image's captions, once, that name a box.

    Args:
        place: Folder of the dataset.
        options: See `Flickr30kEntitiesOptions`.

    Raises:
        DatasetNotFoundError: No sentences and annotations, or none of the images is there.
        DatasetFormatError: A file cannot be understood, most captions have another markup, or an
            image lies elsewhere.
        SpecError: `texts` or `root` has no such value.
    """

    title = "Flickr30k Entities: captions of 31,000 photos whose words name boxes"
    Options = Flickr30kEntitiesOptions

    def __init__(self, place: Path, options: Flickr30kEntitiesOptions) -> None:
        folder = _folder(place)
        ledger = ItemLedger("region")
        rows = RegionRows(ledger)
        split_of = _splits(folder, ledger)
        reader = _Reader(folder, rows, ledger, by_phrase=options.texts == _PHRASES)
        for image, (split, listed_at) in split_of.items():
            reader.add_image(image, split, listed_at)
        reader.finish()
        file = folder / _SENTENCES
        places = find_pictures(
            rows.names, _IMAGE_FOLDERS, place=place, root=options.root, file=file
        )
        super().__init__(
            place, rows, places, file=file, class_names=list(reader.class_names), ledger=ledger
        )


def _folder(place: Path) -> Path:
    """Return the folder of the text files."""
    for folder in (place / name for name in _FOLDERS):
        if (folder / _SENTENCES).is_dir() and (folder / _ANNOTATIONS).is_dir():
            return folder
    get_it = "Get it from https://github.com/BryanPlummer/flickr30k_entities."
    looked_for = [f"{_SENTENCES}/*.txt and {_ANNOTATIONS}/*.xml"]
    raise missing_dataset("flickr30k-entities", place, looked_for, get_it)


def _splits(folder: Path, ledger: ItemLedger) -> dict[str, tuple[str, str]]:
    """Return the split of each image, and where it is listed.

    Raises:
        DatasetFormatError: An image is listed twice, by a name that is none, or none has sentences.
    """
    sentences = sorted(path.stem for path in (folder / _SENTENCES).glob("*.txt"))
    if not sentences:
        raise format_error(folder / _SENTENCES, "", "holds no .txt files")
    lists = {split: folder / name for split, name in _LISTS.items() if is_regular(folder / name)}
    if not lists:
        split_of, held_out = hashed_splits(sentences)
        lacking = ", ".join(_LISTS.values())
        ledger.note(
            f"no file gives the splits: {held_out:,} test and {held_out:,} val images chosen by "
            f"the SHA-256 of their names; put {lacking} into {folder} for the published splits"
        )
        return {image: (split_of[image], f"{_SENTENCES}/{image}.txt") for image in sentences}
    listed: dict[str, tuple[str, str]] = {}
    for split, file in lists.items():
        for place, line in read_lines(file):
            image = line.strip().removesuffix(".jpg")
            if not re.fullmatch(r"[\w-]+", image):
                raise format_error(file, place, f"expected the number of an image, found {line!r}")
            if image in listed:
                raise format_error(file, place, f"{image} is in {listed[image][1]}, too")
            listed[image] = (split, f"{file.name}, {place}")
    num_unlisted = len(set(sentences) - set(listed))
    if num_unlisted:
        lists_named = ", ".join(file.name for file in lists.values())
        images = f"{counted(num_unlisted, 'image')} of {_SENTENCES}"
        ledger.note(f"{images} left out: no split in {lists_named}")
    return listed


class _Reader:
    """Reader of the captions and boxes of images, one after the other."""

    def __init__(
        self, folder: Path, rows: RegionRows, ledger: ItemLedger, *, by_phrase: bool
    ) -> None:
        self._folder = folder
        self._rows = rows
        self._ledger = ledger
        self._by_phrase = by_phrase
        self._num_captions = 0
        self._num_unboxed = 0
        self._captions = ItemLedger("caption")  # those with another markup
        self.class_names = {name: number for number, name in enumerate(_TYPES)}

    def add_image(self, image: str, split: str, listed_at: str) -> None:
        """Append an image with its boxes and texts, or list why it is left out."""
        text_file = self._folder / _SENTENCES / f"{image}.txt"
        box_file = self._folder / _ANNOTATIONS / f"{image}.xml"
        lacking = next((file for file in (text_file, box_file) if not is_regular(file)), None)
        if lacking is not None:
            where = f"there is no {lacking.parent.name}/<name>{lacking.suffix} of it"
            self._ledger.skip(f"{image} of {listed_at}", where, noun="image")
            return
        captions = list(self._read_captions(text_file))
        size, boxes = _read_boxes(box_file)
        number = self._rows.add_image(f"{image}.jpg", split, size, place="", path=box_file)
        kind_of: dict[str, str] = {}  # by chain
        for phrase in (phrase for caption in captions for phrase in caption.phrases):
            kind_of.setdefault(phrase.chain, phrase.kind)
        boxes_of: dict[str, list[int]] = {}
        for box in boxes:
            kind = next((kind_of[chain] for chain in box.chains if chain in kind_of), None)
            added = self._rows.add_box(
                number,
                box.corners,
                place=f"{_ANNOTATIONS}/{box_file.name}, {box.place}",
                label=NOWHERE if kind is None else self._label_of(kind),
            )
            if added is not None:
                for chain in box.chains:
                    boxes_of.setdefault(chain, []).append(added)
        add = self._add_phrases if self._by_phrase else self._add_captions
        add(number, captions, boxes_of)

    def finish(self) -> None:
        """Tell what became known of all images.

        Raises:
            DatasetFormatError: Most captions have another markup.
        """
        self._captions.check(self._num_captions, self._folder)
        if self._num_unboxed:
            phrases = counted(self._num_unboxed, "phrase")
            what = "left out" if self._by_phrase else "in the captions"
            self._ledger.note(f"{phrases} without a box {what}")

    def _label_of(self, kind: str) -> int:
        return self.class_names.setdefault(kind, len(self.class_names))

    def _read_captions(self, file: Path) -> Iterator[_Caption]:
        for place, line in read_lines(file):
            caption = without_markup(line)
            if isinstance(caption, _Caption):
                self._num_captions += 1
                yield caption
                continue
            for ledger in (self._ledger, self._captions):
                ledger.skip(f"{_SENTENCES}/{file.name}, {place}", caption, noun="caption")

    def _add_captions(
        self, image: int, captions: Sequence[_Caption], boxes_of: dict[str, list[int]]
    ) -> None:
        for caption in captions:
            text = self._rows.add_text(image, caption.text)
            for phrase in caption.phrases:
                boxes = boxes_of.get(phrase.chain, [])
                self._num_unboxed += not boxes
                for box in boxes:
                    self._rows.add_mention(text, box, phrase.first, phrase.last)

    def _add_phrases(
        self, image: int, captions: Sequence[_Caption], boxes_of: dict[str, list[int]]
    ) -> None:
        """Append the words that name a box, each once; those of two chains name boxes of both."""
        boxes_of_words: dict[str, list[int]] = {}
        unboxed: set[str] = set()
        for caption in captions:
            for phrase in caption.phrases:
                words = caption.text[phrase.first : phrase.last].lower()
                boxes = boxes_of.get(phrase.chain)
                if boxes is None:
                    unboxed.add(words)
                    continue
                named = boxes_of_words.setdefault(words, [])
                named += [box for box in boxes if box not in named]
        for words, boxes in boxes_of_words.items():
            text = self._rows.add_text(image, words)
            for box in boxes:
                self._rows.add_mention(text, box, 0, len(words))
        self._num_unboxed += len(unboxed - set(boxes_of_words))


def without_markup(line: str) -> _Caption | str:
    """Return a caption without its markup, and what that says; or why it is none.

    Of `[/EN#7/people A girl] naps .` the text is `A girl naps .`, of which the characters 0 to 6
    name chain 7, a person.
    """
    text, at, line = "", 0, line.strip()
    phrases: list[_Phrase] = []
    for marked in _MARKED.finditer(line):
        words = marked["words"].strip()
        text += line[at : marked.start()]
        first, at = len(text), marked.end()
        text += words
        if not words:
            return "a pair of brackets holds no words"
        if marked["chain"] != _NOT_VISUAL:
            kind = marked["types"].partition("/")[0]
            phrases.append(_Phrase(marked["chain"], kind, first, len(text)))
    text += line[at:]
    if "[" in text or "]" in text:
        return "a bracket is not [/EN#number/type words]"
    return _Caption(text, tuple(phrases))


def _read_boxes(file: Path) -> tuple[tuple[int, int], list[_Box]]:
    """Return width and height of a picture, and its boxes.

    Corners are pixels counted from 1, both within the box: it begins before the first of them and
    ends behind the last.

    Raises:
        DatasetFormatError: The file is another one.
    """
    root = _parsed(file)
    size = tuple(_whole(root, f"size/{name}") for name in ("width", "height"))
    if root.tag != "annotation" or not all(edge is not None and edge > 0 for edge in size):
        raise format_error(file, "", "expected <annotation> with <size> of <width> and <height>")
    boxes = []
    for number, entry in enumerate(root.findall("object"), start=1):
        place = f"object {number}"
        chains = tuple((name.text or "").strip() for name in entry.findall("name"))
        if not chains or not all(chain.isdecimal() for chain in chains):
            raise format_error(file, place, "expected <name> with the number of a chain")
        frame = entry.find("bndbox")
        if frame is None:  # a scene, or nothing that has an outline
            continue
        corners = [_number(frame, name) for name in ("xmin", "ymin", "xmax", "ymax")]
        if any(corner is None for corner in corners):
            expected = "expected <bndbox> with the numbers xmin, ymin, xmax and ymax"
            raise format_error(file, place, expected)
        left, top, right, bottom = (corner for corner in corners if corner is not None)
        boxes.append(_Box(chains, (left - 1, top - 1, right, bottom), place))
    width, height = (edge for edge in size if edge is not None)
    return (width, height), boxes


def _parsed(file: Path) -> ElementTree.Element:
    try:
        data = read_regular(file, limit=_MOST_BYTES)
    except OSError as error:
        raise format_error(file, "", f"cannot be read: {error.strerror}") from error
    # an entity of entities could fill the memory
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise format_error(file, "", "declares a document type, which the official files do not")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter of its encoding
        raise format_error(file, "", f"is not XML: {one_line(error)}") from error


def _number(entry: ElementTree.Element, name: str) -> float | None:
    try:
        return float(entry.findtext(name) or "")
    except ValueError:
        return None


def _whole(entry: ElementTree.Element, name: str) -> int | None:
    text = (entry.findtext(name) or "").strip()
    is_short = text.isdecimal() and len(text) < 10
    return int(text) if is_short else None
