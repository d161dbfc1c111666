"""Read the caption file formats in the wild; each reader gives `Row`s in file order."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DatasetFormatError
from ..regular_files import MAX_TEXT_BYTES, read_regular

_LONGEST_PROBLEM = 400  # letters of a message; it is one line


class Row(NamedTuple):
    """Hold what one place of a caption file says about one image.

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


def format_error(path: Path, place: str, problem: str) -> DatasetFormatError:
    """Build the error for `problem` at one place of a file; `place` may be empty.

    A problem that quotes a long cell is shortened in the middle.
    """
    where = f"{path}, {place}" if place else f"{path}"
    if len(problem) > _LONGEST_PROBLEM:
        half = _LONGEST_PROBLEM // 2
        problem = f"{problem[:half]} ... {problem[-half:]}"
    return DatasetFormatError(f"{where}: {problem}")


def read_text(path: Path) -> str:
    """Return a UTF-8 file, with or without a byte order mark; line ends stay as they are.

    Raises:
        DatasetFormatError: The file is not UTF-8, cannot be read, or is larger than
            `MAX_TEXT_BYTES`.
    """
    try:
        data = read_regular(path, limit=MAX_TEXT_BYTES)
        return data.decode("utf-8-sig")
    except OSError as error:
        raise format_error(path, "", f"cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise format_error(path, "", "is larger than the memory there is") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise format_error(path, f"line {line}", "is not UTF-8; save it as UTF-8") from error


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (place, line) of every line that is not blank, without its line end.

    Only LF, CR LF and CR end a line: a caption may hold any other Unicode separator.

    Raises:
        DatasetFormatError: The file is not UTF-8 or cannot be read.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line


def read_csv(path: Path, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, cells) of every row of a delimited file, the header first.

    Rows are as long as the header; blank lines are skipped. Quoting is read strictly: a forgiving
    reader takes everything from a stray quote to the next one for a single caption.

    Args:
        path: The file.
        delimiter: The character between cells.

    Raises:
        DatasetFormatError: The quoting is broken, a row has another number of cells than the
            header, or there is no header.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    width = 0
    try:
        for cells in reader:
            if not any(cells):
                continue
            place = f"line {reader.line_num}"
            width = width or len(cells)
            if len(cells) != width:
                problem = f"{len(cells)} cells where the header has {width}"
                raise format_error(path, place, f"{problem}; quote cells that hold {delimiter!r}")
            yield place, cells
    except csv.Error as error:
        raise format_error(path, f"line {reader.line_num}", f"broken quoting: {error}") from error
    if not width:
        raise format_error(path, "", "is empty, expected a header line")


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) of every line that is not blank.

    Raises:
        DatasetFormatError: A line is not a JSON object.
    """
    for place, line in read_lines(path):
        value = _parse_json(line, path, place)
        if not isinstance(value, dict):
            raise format_error(path, place, "is not a JSON object such as {...}")
        yield place, value


def _parse_json(text: str, path: Path, place: str = "") -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = place or f"line {error.lineno}"
        raise format_error(path, place, f"is not JSON: {error.msg}") from error
    except ValueError as error:  # a number of thousands of digits
        raise format_error(path, place, f"is not JSON: {error}") from error
    except RecursionError as error:
        raise format_error(path, place, "is nested too deeply for JSON of captions") from error
    except MemoryError as error:
        raise format_error(path, place, "takes more memory than there is") from error


def captions_of(cell: object, path: Path, place: str) -> tuple[str, ...]:
    """Return the captions of one cell: a text, a list of texts, or nothing.

    Raises:
        DatasetFormatError: The cell holds something else.
    """
    if isinstance(cell, str):
        return (cell,)
    if cell is None:
        return ("",)
    if isinstance(cell, (list, tuple)) and all(isinstance(caption, str) for caption in cell):
        return tuple(cell)
    raise format_error(path, place, f"a caption must be text or a list of texts, found {cell!r}")


def read_kaggle_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of Kaggle's Flickr8k `captions.txt`: a csv with header `image,caption`.

    Raises:
        DatasetFormatError: The header is another one, or a row is broken.
    """
    rows = read_csv(path, ",")
    place, header = next(rows)
    if [cell.strip() for cell in header] != ["image", "caption"]:
        raise format_error(path, place, f"expected the header image,caption, found {header}")
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
    for place, value in read_json_lines(path):
        image, split = value.get("image"), value.get("split")
        if not isinstance(image, str) or not isinstance(split, str) or "captions" not in value:
            raise format_error(path, place, "expected the keys split, image and captions")
        yield Row(image, captions_of(value["captions"], path, place), split, place)


def read_karpathy_json(path: Path) -> Iterator[Row]:
    """Yield the rows of a `dataset_*.json` with Karpathy's splits.

    Source: Karpathy and Fei-Fei, Deep Visual-Semantic Alignments, CVPR 2015.

    Raises:
        DatasetFormatError: The file is not such a JSON file.
    """
    expected = 'expected {"images": [{"filename", "split", "sentences": [{"raw"}]}]}'
    value = _parse_json(read_text(path), path)
    images = value.get("images") if isinstance(value, dict) else None
    if not isinstance(images, list):
        raise format_error(path, "", expected)
    for number, image in enumerate(images):
        place = f"image {number}"
        try:
            captions = captions_of([one["raw"] for one in image["sentences"]], path, place)
            row = Row(image["filename"], captions, image["split"], place)
        except (KeyError, TypeError) as error:
            raise format_error(path, place, expected) from error
        if not isinstance(row.image, str) or not isinstance(row.split, str):
            raise format_error(path, place, expected)
        yield row
