"""Rows of JSON: one object a line, an array of objects, COCO captions, or Karpathy's images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...item_ids import has_encoding
from ..base import format_error
from .decoding import DecodedText
from .delimited import Skip

NO_OBJECT = "is not a JSON object such as {...}"
_BLANK = 1000  # letters behind an object that nearly always tell whether others follow
_EXPECTED = (
    "expected one object a line, a list of objects, {images, annotations} as COCO has captions, or "
    "{images} with sentences as Karpathy has them"
)


class _Broken(ValueError):
    """A text that is not JSON, and the line where it ends to be."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


Row = tuple[str, dict[str, Any]]


class JsonRows(NamedTuple):
    """Rows of a JSON file.

    Attributes:
        rows: Place and object of every row.
        names_pictures: Whether it is of COCO or Karpathy, which name pictures without their folder.
    """

    rows: list[Row]
    names_pictures: bool = False


def read_json_rows(file: Path, decoded: DecodedText, skip: Skip) -> JsonRows:
    """Return (place, object) of every row of a JSON file, whatever its layout.

    Args:
        file: The file, for messages.
        decoded: Its text.
        skip: Takes the place of each row that cannot be read, and why.

    Raises:
        DatasetFormatError: It is one value, and broken or of another layout.
    """
    text = decoded.text
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        return JsonRows(_objects(_whole(file, text), skip))
    if text[start : start + 1] == "{":
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError, MemoryError):
            if not _has_object_lines(text):
                _whole(file, text)  # which says what is wrong
        else:
            if not text[end : end + _BLANK].strip() and not text[end:].strip():
                number = text.count("\n", 0, start) + 1
                return _of_object(file, value, f"line {number}", skip)
    return JsonRows(list(_of_lines(decoded, skip)))


def _has_object_lines(text: str) -> bool:
    """Return whether some line is an object by itself, as far as its ends tell."""
    lines = (line.strip() for line in text.split("\n"))
    return any(line.startswith("{") and line.endswith("}") for line in lines)


def parse_value(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        _Broken: It is none.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _Broken(f"is not JSON: {error.msg}", error.lineno) from error
    except ValueError as error:  # a number of thousands of digits
        raise _Broken(f"is not JSON: {error}", 0) from error
    except RecursionError as error:
        raise _Broken("is nested too deeply for JSON of captions", 0) from error
    except MemoryError as error:
        raise _Broken("takes more memory than there is", 0) from error


def parse_json(text: str, file: Path, place: str = "") -> Any:
    """Return the value of a JSON text that stands at one place of a file.

    Raises:
        DatasetFormatError: It is none.
    """
    try:
        return parse_value(text)
    except _Broken as broken:
        line = f"line {broken.line}" if broken.line else ""
        raise format_error(file, place or line, str(broken)) from broken


def _whole(file: Path, text: str) -> Any:
    if not text.isascii() and not has_encoding(text):
        problem = "is not UTF-8; name its encoding, such as --set source.encoding=cp1252"
        raise format_error(file, "", problem)
    return parse_json(text, file)


def _of_lines(decoded: DecodedText, skip: Skip) -> Iterator[Row]:
    lines = decoded.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        if decoded.is_broken and not has_encoding(line):
            skip(place, "is not UTF-8")
            continue
        try:
            value = parse_value(line)
        except _Broken as broken:
            skip(place, str(broken))
            continue
        if isinstance(value, dict):
            yield place, value
        else:
            skip(place, NO_OBJECT)


def _objects(values: list[Any], skip: Skip) -> list[Row]:
    rows = []
    for number, value in enumerate(values, start=1):
        if isinstance(value, dict):
            rows.append((f"row {number}", value))
        else:
            skip(f"row {number}", NO_OBJECT)
    return rows


def _of_object(file: Path, value: Any, place: str, skip: Skip) -> JsonRows:
    images, annotations = value.get("images"), value.get("annotations")
    if isinstance(images, list) and isinstance(annotations, list):
        return JsonRows(_of_coco(file, images, annotations, skip), True)
    if isinstance(images, list) and any(isinstance(entry, dict) for entry in images):
        return JsonRows(_of_karpathy(images, skip), True)
    lists = [entry for entry in value.values() if isinstance(entry, list) and entry]
    lists = [entry for entry in lists if isinstance(entry[0], dict)]
    if not lists:
        return JsonRows([(place, value)])
    if len(lists) > 1:
        raise format_error(file, "", _EXPECTED)
    return JsonRows(_objects(lists[0], skip))


def _of_coco(file: Path, images: list[Any], annotations: list[Any], skip: Skip) -> list[Row]:
    """Return a row for each image with its captions, in the order of the images.

    Source: Chen et al., Microsoft COCO Captions, 2015: captions name the `id` of their image.
    """
    captions: dict[Any, list[Any]] = {}
    names: dict[Any, str] = {}
    for number, image in enumerate(images, start=1):
        try:
            key, name = image["id"], image["file_name"]
            hash(key)
        except (KeyError, TypeError):
            skip(f"image {number}", "has no id or no file_name")
            continue
        if names.setdefault(key, name) != name:
            raise format_error(file, f"image {number}", f"a second image has the id {key!r:.80}")
        captions.setdefault(key, [])
    if annotations and not any(_caption_of(entry) for entry in annotations):
        raise format_error(file, "", "its annotations have no caption; name a file of captions")
    for number, annotation in enumerate(annotations, start=1):
        caption = _caption_of(annotation)
        if caption is None or caption[0] not in captions:
            skip(f"annotation {number}", "has no caption, or an image_id that no image has")
        else:
            captions[caption[0]].append(caption[1])
    return [
        (f"image {number}", {"image": name, "captions": captions[key]})
        for number, (key, name) in enumerate(names.items(), start=1)
    ]


def _caption_of(annotation: Any) -> tuple[Any, Any] | None:
    """Return the id of an image and a caption of it, or None where an annotation has none."""
    try:
        key, caption = annotation["image_id"], annotation["caption"]
        hash(key)
    except (KeyError, TypeError):
        return None
    return key, caption


def _of_karpathy(images: list[Any], skip: Skip) -> list[Row]:
    rows = []
    for number, image in enumerate(images, start=1):
        try:
            folder, name = image.get("filepath", ""), image["filename"]
            captions = [sentence["raw"] for sentence in image["sentences"]]
            cells = {"image": f"{folder}/{name}" if folder else name, "captions": captions}
            cells |= {"split": image["split"]} if "split" in image else {}
        except (KeyError, TypeError, AttributeError):
            skip(f"image {number}", "lacks filename or sentences")
            continue
        rows.append((f"image {number}", cells))
    return rows
