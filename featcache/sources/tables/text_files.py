"""Read the caption file formats in the wild; each reader gives `Row`s in file order."""

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..base import format_error
from .decoding import DecodedText, read_published_text
from .delimited import DelimitedRows, lines_of
from .json_rows import NO_OBJECT, parse_json, parse_value

# what programs write for a missing value; no picture is described by such a word
_MISSING = frozenset(("NaN", "nan", "NAN", "<NA>", "#N/A", "NULL", "null", "None"))
_LITERAL = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<missing>None|nan))"""
    r"""(?:\s*,|(?=\s)|(?=$))""",
    re.DOTALL,
)


class Row(NamedTuple):
    """Entry of a caption file: one image, its captions there and perhaps its split.

    Attributes:
        image: The image as the file names it.
        captions: Its captions there, as written; empty ones included.
        split: The split that the file gives, if it gives one.
        place: Where this stands in the file, such as `line 7`.
    """

    image: str
    captions: tuple[str, ...]
    split: str | None
    place: str


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, line) of every line that is not blank, without its line end.

    Only LF, CR LF and CR end a line: a caption may hold any other Unicode separator.

    Raises:
        DatasetFormatError: The file is not UTF-8 or cannot be read.
    """
    text = read_published_text(path).replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line


def captions_of(cell: object) -> tuple[str, ...]:
    """Return the captions of one cell: a text, a list of texts, or nothing.

    A text may be a list itself, as JSON, Python or NumPy write it. What stands for a missing value,
    such as NaN, is an empty caption.

    >>> captions_of("['a dog', 'two dogs']"), captions_of("[a dog]"), captions_of("NaN")
    (('a dog', 'two dogs'), ('[a dog]',), ('',))

    Raises:
        ValueError: The cell holds something else.
    """
    if isinstance(cell, str):
        if cell[:1] in "[ \t" and (texts := listed_texts(cell)) is not None:
            return tuple(map(text_of, texts))
        return (text_of(cell),)
    if is_missing(cell):
        return ("",)
    if isinstance(cell, (list, tuple)) and all(
        isinstance(caption, str) or is_missing(caption) for caption in cell
    ):
        return tuple(text_of(caption) if isinstance(caption, str) else "" for caption in cell)
    raise ValueError(f"a caption must be text or a list of texts, found {cell!r:.200}")


def text_of(cell: str) -> str:
    """Return a text, and an empty one for what programs write for a missing value."""
    return "" if cell.strip() in _MISSING else cell


def is_missing(cell: object) -> bool:
    """Return whether a cell is nothing, or a number that is none."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def listed_texts(cell: str) -> list[str] | None:
    """Return the texts of a list that is written as JSON, Python or NumPy write it, or None.

    NumPy puts no comma between them, which Python would take for one text.
    """
    body = cell.strip()
    if not (body.startswith("[") and body.endswith("]")):
        return None
    try:
        value = parse_value(body)
    except ValueError:
        return _python_texts(body[1:-1])
    texts = ["" if is_missing(item) else item for item in value]
    return texts if all(isinstance(item, str) for item in texts) else None


def _python_texts(body: str) -> list[str] | None:
    """Return the texts between the brackets of a list of Python or NumPy, or None."""
    texts: list[str] = []
    at = 0
    while at < len(body):
        literal = _LITERAL.match(body, at)
        if literal is None:
            return texts if not body[at:].strip() else None
        text, name = literal.group("text", "missing")
        try:
            texts.append("" if name else ast.literal_eval(text))
        except (ValueError, SyntaxError, MemoryError):
            return None
        at = literal.end()
    return texts


def _published_captions(cell: object, path: Path, place: str) -> tuple[str, ...]:
    """Return the captions of one cell of a published file, as they stand there."""
    captions = [cell or ""] if cell is None or isinstance(cell, str) else cell
    if isinstance(captions, list) and all(isinstance(caption, str) for caption in captions):
        return tuple(captions)
    raise format_error(path, place, f"a caption must be text or a list of texts, found {cell!r}")


def read_kaggle_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of Kaggle's Flickr8k `captions.txt`: a csv with header `image,caption`.

    Raises:
        DatasetFormatError: The header is another one, or a row is broken.
    """
    decoded = DecodedText(read_published_text(path), "utf-8")

    def refuse(place: str, reason: str) -> None:
        raise format_error(path, place, reason)

    rows = DelimitedRows(path, lines_of(decoded), ",", refuse, is_broken=False, quoted=True)
    if [cell.strip() for cell in rows.header] != ["image", "caption"]:
        problem = f"expected the header image,caption, found {rows.header}"
        raise format_error(path, rows.place, problem)
    for place, (image, caption) in rows:
        yield Row(image.strip(), (caption,), None, place)


def read_token_file(path: Path) -> Iterator[Row]:
    """Yield the rows of an official token file: `name.jpg#number<TAB>caption`.

    Raises:
        DatasetFormatError: A line has no tab or its first field no `#`.
    """
    for place, line in read_lines(path):
        key, tab, caption = line.partition("\t")
        image, hash_sign, _ = key.rpartition("#")
        if not tab or not hash_sign:
            raise format_error(path, place, "expected name.jpg#number<TAB>caption")
        yield Row(image.strip(), (caption,), None, place)


def read_bar_file(path: Path) -> Iterator[Row]:
    """Yield the rows of Kaggle's Flickr30k `results.csv`: `name| number| caption`.

    One published row, of 2199200615.jpg, lacks its second bar; number and caption are then split
    at the first space.

    Raises:
        DatasetFormatError: The header is another one, or a row cannot be understood.
    """
    lines = read_lines(path)
    place, header = next(lines, ("", ""))
    if [cell.strip() for cell in header.split("|")] != ["image_name", "comment_number", "comment"]:
        problem = f"expected the header image_name| comment_number| comment, found {header!r}"
        raise format_error(path, place, problem)
    for place, line in lines:
        image, _, rest = line.partition("|")
        number, bar, caption = rest.partition("|")
        if not bar:
            number, _, caption = rest.strip().partition(" ")
        if not number.strip().isdecimal():
            raise format_error(path, place, "expected name.jpg| number| caption")
        yield Row(image.strip(), (caption,), None, place)


def read_caption_json_lines(path: Path) -> Iterator[Row]:
    """Yield the rows of a `captions.jsonl`: one object {split, image, captions} a line.

    Raises:
        DatasetFormatError: A line is broken or lacks a key.
    """
    for place, line in read_lines(path):
        value = parse_json(line, path, place)
        if not isinstance(value, dict):
            raise format_error(path, place, NO_OBJECT)
        image, split = value.get("image"), value.get("split")
        if not isinstance(image, str) or not isinstance(split, str) or "captions" not in value:
            raise format_error(path, place, "expected the keys split, image and captions")
        yield Row(image, _published_captions(value["captions"], path, place), split, place)


def read_karpathy_json(path: Path) -> Iterator[Row]:
    """Yield the rows of a `dataset_*.json` with Karpathy's splits.

    Source: Karpathy and Fei-Fei, Deep Visual-Semantic Alignments, CVPR 2015.

    Raises:
        DatasetFormatError: The file is not such a JSON file.
    """
    expected = 'expected {"images": [{"filename", "split", "sentences": [{"raw"}]}]}'
    value = parse_json(read_published_text(path), path)
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list):
        raise format_error(path, "", expected)
    for number, image in enumerate(images):
        place = f"image {number}"
        try:
            texts = [sentence["raw"] for sentence in image["sentences"]]
            captions = _published_captions(texts, path, place)
            row = Row(image["filename"], captions, image["split"], place)
        except (KeyError, TypeError) as error:
            raise format_error(path, place, expected) from error
        if not isinstance(row.image, str) or not isinstance(row.split, str):
            raise format_error(path, place, expected)
        yield row
