"""Links as arrays with names, in which they are written, and from the JSON of earlier versions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer, Shaped
from typing_extensions import NotRequired, TypedDict

from ..answers import STRINGS, Answers
from ..links import (
    ANSWERS,
    CLASSES,
    GRADES,
    REGIONS,
    TEXT_MARKS,
    Links,
    absent,
    compact,
    places_of,
)
from ..regions import ARRAYS, Regions
from ..string_array import Strings
from ..types import IMAGE_TEXT, Classes, Grades, Modality, Sides

_MARK_BITS = 48
_GRADED = f"{GRADES}.pairs"


class Scale(TypedDict):
    """Range of grades."""

    lowest: float
    highest: float
    binary: bool


class Names(TypedDict):
    """Names and scale of labels, which are no arrays."""

    class_names: NotRequired[list[str]]
    scale: NotRequired[Scale]


class _ClassesTable(TypedDict):
    names: list[str]
    of_image: dict[str, int]


class _GradesTable(Scale):
    links: list[tuple[str, str, float]]


class LinksTable(TypedDict):
    """All of the links, in JSON, as earlier versions wrote them."""

    image_ids: list[str]
    text_ids: list[str]
    links: list[tuple[str, str]]
    classes: NotRequired[_ClassesTable]
    grades: NotRequired[_GradesTable]
    text_marks: NotRequired[list[str]]  # came later
    file: NotRequired[str]  # its own name, came later still


def to_arrays(links: Links) -> tuple[dict[str, np.ndarray], Names]:
    """Return the arrays of links by name, and what is no array.

    `ids.M` and `ids.M.ends` are the bytes and ends of the ids of modality M, `pairs.M.N` two
    places a pair, `classes` a number an image, `grades` a number for each of `grades.pairs`, two
    places among the texts, and `text_marks` a number a text. `answers.ends` has a number a text,
    too: where its answers end among the strings `answers.given`. These and all other strings of
    answers, such as `answers.chosen`, are in bytes and ends as ids are. `regions.boxes` and the
    other arrays of `Regions` are as there.

    Raises:
        ValueError: An id is there twice, one of a label is not there, there are not as many
            questions with answers as texts, or regions are of other images and texts.
    """
    arrays: dict[str, np.ndarray] = {}
    names = Names()
    place_of = {modality: places_of(ids, modality) for modality, ids in links.ids.items()}
    for modality, ids in links.ids.items():
        arrays |= _string_arrays(_ids(modality), ids)
    for sides, places in links.pairs.items():
        arrays[_pairs(sides)] = compact(places)
    if links.classes is not None:
        arrays[CLASSES] = _class_numbers(links.classes, links.ids_of(Modality.IMAGE))
        names["class_names"] = list(links.classes.names)
    if links.grades is not None:
        of_text = place_of.get(Modality.TEXT, {})
        for first, second, _ in links.grades.links:
            if first not in of_text or second not in of_text:
                raise absent((first, second))
        graded = [[of_text[first], of_text[other]] for first, other, _ in links.grades.links]
        arrays[_GRADED] = compact(np.array(graded, dtype=np.int64).reshape(-1, 2))
        arrays[GRADES] = np.array([grade for *_, grade in links.grades.links], dtype=np.float64)
        names["scale"] = Scale(
            lowest=links.grades.lowest, highest=links.grades.highest, binary=links.grades.binary
        )
    if links.text_marks is not None:
        arrays[TEXT_MARKS] = links.text_marks
    arrays |= _answer_arrays(links)
    arrays |= _region_arrays(links)
    return arrays, names


def _answer_arrays(links: Links) -> dict[str, np.ndarray]:
    if links.answers is None:
        return {}
    _as_many(links.answers, links.ids_of(Modality.TEXT))
    arrays = {_ends(ANSWERS): compact(links.answers.ends)}
    for name, strings in links.answers.strings():
        arrays |= _string_arrays(f"{ANSWERS}.{name}", strings)
    return arrays


def _region_arrays(links: Links) -> dict[str, np.ndarray]:
    if links.regions is None:
        return {}
    _check_items(links.regions, links)
    arrays = _string_arrays(f"{REGIONS}.class_names", links.regions.class_names)
    for name in ARRAYS:
        array = getattr(links.regions, name)
        arrays[f"{REGIONS}.{name}"] = array if name == "boxes" else compact(array)
    return arrays


def _class_numbers(classes: Classes, images: Sequence[str]) -> Int32[np.ndarray, " images"]:
    if len(images) < len(classes.of_image):
        raise ValueError("a class is of an image that is not there")
    return np.array([classes.of_image[name] for name in images], dtype=np.int32)


def from_arrays(arrays: Mapping[str, np.ndarray], names: Names) -> Links:
    """Return the links of `to_arrays`.

    Raises:
        ValueError: An array is missing, of another type or shape, or names what is not there.
    """
    named = [key.split(".") for key in arrays]
    modalities = [Modality(key[1]) for key in named if len(key) == 2 and key[0] == "ids"]
    ids = {modality: _strings(arrays, _ids(modality)) for modality in modalities}
    pairs: dict[Sides, Integer[np.ndarray, "pairs 2"]] = {}
    for key in named:
        if key[0] == "pairs" and len(key) == 3:
            sides = (Modality(key[1]), Modality(key[2]))
            counts = [len(ids.get(side, ())) for side in sides]
            pairs[sides] = _places(arrays, _pairs(sides), counts)
    labels: dict[str, Any] = {}
    texts, images = (ids.get(side, Strings.of(())) for side in (Modality.TEXT, Modality.IMAGE))
    if CLASSES in arrays:
        numbers = _numbers(arrays, CLASSES, np.integer, (len(images),))
        class_names = tuple(names.get("class_names", ()))
        _within(numbers, len(class_names), CLASSES)
        of_image = dict(zip(images, numbers.tolist(), strict=True))
        labels[CLASSES] = Classes(class_names, of_image)
    if GRADES in arrays:
        places = _places(arrays, _GRADED, [len(texts), len(texts)])
        values = _numbers(arrays, GRADES, np.floating, (len(places),))
        scale = names["scale"]
        text_ids = list(texts)
        graded = zip(*places.T.tolist(), values.tolist(), strict=True)
        triples = tuple(
            (text_ids[first], text_ids[second], grade) for first, second, grade in graded
        )
        labels[GRADES] = _finite(Grades(links=triples, **scale))
    if TEXT_MARKS in arrays:
        labels[TEXT_MARKS] = _numbers(arrays, TEXT_MARKS, np.int64, (len(texts),))
    if any(key[0] == ANSWERS for key in named):
        labels[ANSWERS] = _answers(arrays)
        _as_many(labels[ANSWERS], texts)
    return _with_regions(Links(ids, pairs, labels), arrays)


def _answers(arrays: Mapping[str, np.ndarray]) -> Answers:
    """Return the answers; what not every dataset has may lack."""
    ends = _numbers(arrays, _ends(ANSWERS), np.integer, (None,))
    strings: dict[str, Any] = {}
    for name in STRINGS:
        array = f"{ANSWERS}.{name}"
        if name in {"given", "chosen"} or {array, _ends(array)} & arrays.keys():
            strings[name] = _strings(arrays, array)
    return Answers(ends=ends.astype(np.int64), **strings)


def _with_regions(links: Links, arrays: Mapping[str, np.ndarray]) -> Links:
    if not any(name.startswith(f"{REGIONS}.") for name in arrays):
        return links
    regions = _regions(arrays)
    _check_items(regions, links)
    return replace(links, labels={**links.labels, REGIONS: regions})


def _regions(arrays: Mapping[str, np.ndarray]) -> Regions:
    """Return the regions, of whose numbers those that are no coordinates are written as small."""
    width_of = {"sizes": 2, "boxes": 4, "mentions": 3}
    numbers: dict[str, Any] = {}
    for name in ARRAYS:
        width = width_of.get(name)
        shape = (None,) if width is None else (None, width)
        kind = np.float32 if name == "boxes" else np.integer
        array = _numbers(arrays, f"{REGIONS}.{name}", kind, shape)
        numbers[name] = array if name == "boxes" else array.astype(np.int64)
    return Regions(class_names=_strings(arrays, f"{REGIONS}.class_names"), **numbers)


def _check_items(regions: Regions, links: Links) -> None:
    num_images, num_texts = (len(links.ids_of(side)) for side in IMAGE_TEXT)
    regions.check_items(num_images, num_texts, links.places(IMAGE_TEXT))


def _as_many(answers: Answers, texts: Sequence[str]) -> None:
    if len(answers) != len(texts):
        raise ValueError(f"there are {len(answers):,} questions with answers, not {len(texts):,}")


def from_table(table: LinksTable) -> Links:
    """Return the links in a table of an earlier version.

    Raises:
        ValueError: An id is there twice, or something is of an id that is not there.
    """
    ids = {Modality.IMAGE: table["image_ids"], Modality.TEXT: table["text_ids"]}
    labels: dict[str, Any] = {}
    if "classes" in table:
        labels[CLASSES] = _classes_of(table["classes"], table["image_ids"])
    if "grades" in table:
        grades = table["grades"]
        text_ids = set(table["text_ids"])
        for first, second, _ in grades["links"]:
            if first not in text_ids or second not in text_ids:
                raise absent((first, second))
        triples = tuple((first, second, float(grade)) for first, second, grade in grades["links"])
        lowest, highest = grades["lowest"], grades["highest"]
        labels[GRADES] = _finite(Grades(triples, lowest, highest, grades["binary"]))
    if "text_marks" in table:
        if len(table["text_marks"]) != len(table["text_ids"]):
            raise ValueError("there are not as many marks as texts")
        marks = [int(mark, 16) for mark in table["text_marks"]]
        if any(mark < 0 or mark >> _MARK_BITS for mark in marks):
            raise ValueError("a mark is none that a text can have")
        labels[TEXT_MARKS] = np.array(marks, dtype=np.int64)
    # datasets of classes or grades had an empty list of pairs
    pairs: dict[Sides, Any] = {IMAGE_TEXT: table["links"]} if table["links"] else {}
    return Links.of({modality: names for modality, names in ids.items() if names}, pairs, labels)


def _finite(grades: Grades) -> Grades:
    """Return grades, all of which are finite.

    Raises:
        ValueError: One is not.
    """
    numbers = [*(grade for _, _, grade in grades.links), grades.lowest, grades.highest]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("a grade is not a finite number")
    return grades


def _classes_of(table: _ClassesTable, image_ids: Sequence[str]) -> Classes:
    if table["of_image"].keys() != set(image_ids):
        raise ValueError("the images with a class are other ones than the images")
    every = range(len(table["names"]))
    outside = [image for image, number in table["of_image"].items() if number not in every]
    if outside:
        raise ValueError(f"image {outside[0]!r} is of a class that has no name")
    return Classes(tuple(table["names"]), table["of_image"])


def _ids(modality: Modality) -> str:
    return f"ids.{modality.value}"


def _ends(name: str) -> str:
    """Return the name of the array of where the entries of another end."""
    return f"{name}.ends"


def _pairs(sides: Sides) -> str:
    return f"pairs.{sides[0].value}.{sides[1].value}"


def _string_arrays(name: str, strings: Strings) -> dict[str, np.ndarray]:
    return {name: strings.content, _ends(name): compact(strings.ends)}


def _strings(arrays: Mapping[str, np.ndarray], name: str) -> Strings:
    content = _numbers(arrays, name, np.uint8, (None,))
    ends = _numbers(arrays, _ends(name), np.integer, (None,))
    starts = np.concatenate([np.zeros(1, ends.dtype), ends])
    if (np.diff(starts) < 0).any() or starts[-1] != len(content):
        raise ValueError(f"{name} and their ends contradict one another")
    content.tobytes().decode(errors="surrogatepass")
    # the second byte of a letter and those after it begin with the bits 10
    if ((content[starts[starts < len(content)]] & 0xC0) == 0x80).any():
        raise ValueError(f"{name} end within a letter")
    return Strings(content, ends)


def _places(
    arrays: Mapping[str, np.ndarray], name: str, counts: Sequence[int]
) -> Integer[np.ndarray, "pairs 2"]:
    places = _numbers(arrays, name, np.integer, (None, 2))
    for column, count in zip(places.T, counts, strict=True):
        _within(column, count, name)
    return places


def _within(numbers: Integer[np.ndarray, " n"], count: int, name: str) -> None:
    if numbers.size and not (numbers.min() >= 0 and numbers.max() < count):
        raise ValueError(f"{name}: a number is not one of {count:,}")


def _numbers(
    arrays: Mapping[str, np.ndarray],
    name: str,
    kind: type[np.generic],
    shape: tuple[int | None, ...],
) -> Shaped[np.ndarray, "..."]:
    """Return one of the arrays, of a kind of numbers and a shape, None where any length will do."""
    if name not in arrays:
        raise ValueError(f"there is no array {name!r}")
    array = arrays[name]
    fits = len(shape) == array.ndim and all(
        length in {None, stored} for length, stored in zip(shape, array.shape, strict=True)
    )
    if not fits or not np.issubdtype(array.dtype, kind):
        expected = [length if length is not None else "any" for length in shape]
        raise ValueError(
            f"{name} is {array.dtype}{list(array.shape)}, not {kind.__name__}{expected}"
        )
    return array
