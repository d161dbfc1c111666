"""Boxes, phrases and questions of drawn scenes, held against the pixels and the captions."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError
from lightalign.featcache.sources.base import fingerprint_items
from lightalign.featcache.types import IMAGE_TEXT, Modality

from ..sources_helpers import opened
from .test_shapes import (
    COLOURS,
    PHRASE,
    SMALL,
    has_distinct_colours,
    seen,
    source,
    texts_by_picture,
)

COUNT = 150
SIDES = {"left": ("x", -1), "right": ("x", 1), "above": ("y", -1), "below": ("y", 1)}
# where the one of a place is among its scene: first by axis and direction
PLACES = {
    "left": "left",
    "right": "right",
    "upper": "above",
    "lower": "below",
    "top": "above",
    "bottom": "below",
}


@pytest.fixture(scope="module")
def captioned():
    return source(train=COUNT, size=160, boxes=True)


@pytest.fixture(scope="module")
def asked():
    return source(train=COUNT, size=160, texts="questions")


@pytest.fixture(scope="module")
def shown(captioned):
    """Return by picture the shapes that the first caption names, each with its box in pixels.

    A picture in which a colour comes twice is left out: pixels do not tell the two apart.
    """
    pictures = {}
    images = captioned.items("train", Modality.IMAGE)
    for place, texts in enumerate(texts_by_picture(captioned, "train")):
        if not has_distinct_colours(texts):
            continue
        boxes = seen(images[place])
        shapes = []
        for size, colour, kind in PHRASE.findall(texts[0]):
            left, top, right, bottom, _ = boxes[COLOURS[colour]]
            shape = ("small" if size in SMALL else "large", colour, kind)
            shapes.append((shape, (left, top, right + 1, bottom + 1)))
        pictures[place] = shapes
    assert len(pictures) > COUNT / 2
    return pictures


@pytest.mark.parametrize("size", [32, 160, 225])
def test_boxes_are_those_of_the_pixels_that_show_the_shapes(size):
    shapes = source(train=60, size=size, boxes=True)
    regions = shapes.pairs("train").regions
    assert regions.sizes.tolist() == [[size, size]] * 60
    images = shapes.items("train", Modality.IMAGE)
    num_compared = 0
    for place, texts in enumerate(texts_by_picture(shapes, "train")):
        boxes = regions.boxes[regions.of_image(place)].tolist()
        if has_distinct_colours(texts):
            by_colour = seen(images[place])
            expected = {
                (left, top, right + 1, bottom + 1)
                for _, colour, _ in PHRASE.findall(texts[0])
                for left, top, right, bottom, _ in [by_colour[COLOURS[colour]]]
            }
            assert {tuple(map(int, box)) for box in boxes} == expected
            num_compared += 1
    assert num_compared > 30


def test_classes_are_the_kinds_of_the_shapes(captioned, shown):
    regions = captioned.pairs("train").regions
    for place, shapes in shown.items():
        of_image = regions.of_image(place)
        kinds = [regions.class_names[label] for label in regions.class_of[of_image].tolist()]
        boxes = [tuple(map(int, box)) for box in regions.boxes[of_image]]
        assert dict(zip(boxes, kinds, strict=True)) == {box: kind for (_, _, kind), box in shapes}


def test_each_caption_mentions_every_shape_by_the_words_that_name_it(captioned, shown):
    regions = captioned.pairs("train").regions
    texts = [item.text for item in captioned.items("train", Modality.TEXT)]
    for place, shapes in shown.items():
        for number in range(5 * place, 5 * place + 5):
            named = {}
            for box, first, last in regions.of_text(number).tolist():
                words = texts[number][first:last]
                assert PHRASE.fullmatch(words)
                _, colour, kind = PHRASE.findall(words)[0]
                named[colour, kind] = tuple(map(int, regions.boxes[box]))
            assert named == {(colour, kind): box for (_, colour, kind), box in shapes}


def test_captions_are_the_same_with_boxes_and_without(captioned):
    plain = source(train=COUNT, size=160)
    assert plain.pairs("train").regions is None
    for modality in IMAGE_TEXT:
        items = (shapes.items("train", modality) for shapes in (plain, captioned))
        assert [item.id for item in next(items)] == [item.id for item in next(items)]
    assert texts_by_picture(plain, "train") == texts_by_picture(captioned, "train")


def test_a_phrase_is_one_shape_and_names_no_other(captioned):
    shapes = source(train=COUNT, size=160, texts="phrases")
    links = shapes.pairs("train")
    regions = links.regions
    texts = [item.text for item in shapes.items("train", Modality.TEXT)]
    assert len(texts) == len(regions.boxes) == len(regions.mentions)
    assert regions.mentions[:, 0].tolist() == list(range(len(texts)))
    assert regions == shapes.pairs("train").regions
    captions = texts_by_picture(captioned, "train")
    named = defaultdict(list)
    for image, text in links.places(IMAGE_TEXT).tolist():
        ((box, first, last),) = regions.of_text(text).tolist()
        assert regions.image_of_box[box] == image
        assert (first, last) == (0, len(texts[text]))
        named[image].append(texts[text])
    for place, phrases in named.items():
        in_caption = {
            f"a {'small' if size in SMALL else 'large'} {colour} {kind}"
            for size, colour, kind in PHRASE.findall(captions[place][0])
        }
        assert len(set(phrases)) == len(phrases)
        assert set(phrases) == in_caption
    ids = [item.id for item in shapes.items("train", Modality.TEXT)]
    assert ids == list(links.ids_of(Modality.TEXT))
    assert ids[:2] == ["shapes-train-000000#0", "shapes-train-000000#1"]


def matching(words, shapes):
    """Return which shapes of a picture some words after `the` fit, as the pixels show them."""
    *features, noun = words.split()[1:]
    place = " ".join(features)
    if place in {"inner", "front"}:
        return [0]
    if place in {"outer", "back"}:
        return [1]
    if place == "middle":
        x, y = ([middle(box)[axis] for _, box in shapes] for axis in (0, 1))
        spread = x if max(x) - min(x) > max(y) - min(y) else y
        return [spread.index(sorted(spread)[1])]
    if features and all(feature in PLACES for feature in features):
        places = range(len(shapes))
        for feature in features:
            axis, sign = SIDES[PLACES[feature]]
            at = [sign * middle(shapes[n][1])["xy".index(axis)] for n in places]
            places = [n for n, value in zip(places, at, strict=True) if value > max(at) - 40]
        return places
    told = set(features) | ({noun} - {"one", "shape"})
    return [n for n, (shape, _) in enumerate(shapes) if told <= set(shape)]


def middle(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def seen_from(first, second):
    """Return where the first of two boxes is as seen from the second, or nothing if they touch.

    Side by side, shapes of 160 pixels are shifted by at most 10 against one another; where a shape
    is above and to the side of another, it is so by at least 24.
    """
    if all(first[at] < second[at + 2] and second[at] < first[at + 2] for at in (0, 1)):
        return ""
    across, down = (a - b for a, b in zip(middle(first), middle(second), strict=True))
    words = [("above" if down < 0 else "below")] if abs(down) > 16 else []
    words += [("left" if across < 0 else "right")] if abs(across) > 16 else []
    return " ".join(words)


def right_answer(question, shapes):
    """Return the answer that follows from the shapes of a picture and their boxes."""
    features = {"colour": 1, "shape": 2, "size": 0}
    if asked_for := re.fullmatch(r"What (colour|shape|size) is (.*)\?", question):
        (target,) = matching(asked_for[2], shapes)
        return shapes[target][0][features[asked_for[1]]]
    if counted := re.fullmatch(r"How many (.*) are there\?", question):
        *words, noun = counted[1].split()
        told = {*words, noun[:-2] if noun == "crosses" else noun[:-1]} - {"shape"}
        return str(sum(told <= set(shape) for shape, _ in shapes))
    if there := re.fullmatch(r"Is there an? (.*)\?", question):
        told = set(there[1].split())
        return "yes" if any(told <= set(shape) for shape, _ in shapes) else "no"
    first, second = re.fullmatch(r"Where is (.*), seen from (.*)\?", question).groups()
    (first,), (second,) = matching(first, shapes), matching(second, shapes)
    way = seen_from(shapes[first][1], shapes[second][1])
    return way or f"touching {first} {second}"


def test_every_question_has_the_answer_that_the_picture_shows(asked, shown):
    links = asked.pairs("train")
    texts = [item.text for item in asked.items("train", Modality.TEXT)]
    chosen = list(links.answers.chosen)
    touching = {"touching 0 1": {"inside", "in front"}, "touching 1 0": {"around", "behind"}}
    for place, shapes in shown.items():
        for number in range(6 * place, 6 * place + 6):
            right = right_answer(texts[number], shapes)
            message = (texts[number], shapes, chosen[number], right)
            assert chosen[number] in touching.get(right, {right}), message


def test_a_question_mentions_the_shapes_that_it_names_with_the(asked, shown):
    links = asked.pairs("train")
    texts = [item.text for item in asked.items("train", Modality.TEXT)]
    for place, shapes in shown.items():
        for number in range(6 * place, 6 * place + 6):
            mentions = links.regions.of_text(number).tolist()
            assert len(mentions) == len(re.findall(r"\bthe\b", texts[number]))
            for box, first, last in mentions:
                (target,) = matching(texts[number][first:last], shapes)
                corners = tuple(map(int, links.regions.boxes[box]))
                assert corners == shapes[target][1]


def test_answers_have_types_and_are_in_the_list_of_all_answers(asked):
    answers = asked.pairs("train").answers
    assert len(answers) == 6 * COUNT
    words = ["what colour", "what shape", "what size", "how many", "is there", "where is"]
    assert list(answers.question_types)[:6] == words
    assert list(answers.answer_types)[:6] == [
        "other",
        "other",
        "other",
        "number",
        "yes/no",
        "other",
    ]
    assert set(answers.chosen) <= set(answers.vocabulary)
    assert len(set(answers.vocabulary)) == len(answers.vocabulary) == 36
    texts = [item.text for item in asked.items("train", Modality.TEXT)]
    types = list(answers.question_types)
    assert all(text.lower().startswith(one) for text, one in zip(texts, types, strict=True))


def test_the_most_frequent_answer_to_the_same_words_is_seldom_right():
    """Answers of train, taken for the questions of test by their words, are right of few."""
    shapes = source(train=600, test=300, texts="questions")
    learned, of_type = defaultdict(Counter), defaultdict(Counter)
    for split in ("train", "test"):
        texts = [item.text for item in shapes.items(split, Modality.TEXT)]
        answers = shapes.pairs(split).answers
        rows = list(zip(texts, answers.question_types, answers.chosen, strict=True))
        if split == "train":
            for text, kind, answer in rows:
                learned[text][answer] += 1
                of_type[kind][answer] += 1
    right = Counter()
    for text, kind, answer in rows:
        ((guess, _),) = (learned[text] or of_type[kind]).most_common(1)
        right[kind] += guess == answer
    shares = {kind: count / 300 for kind, count in right.items()}
    assert np.mean(list(shares.values())) < 0.4
    assert max(shares.values()) < 0.65  # yes or no, small or large
    assert shares["where is"] < 0.3
    assert shares["what colour"] < 0.25


def test_fewer_pictures_have_the_first_questions_and_phrases_of_more():
    for texts in ("phrases", "questions"):
        few, more = (source(train=count, texts=texts) for count in (5, 9))
        first = [item.text for item in few.items("train", Modality.TEXT)]
        assert [item.text for item in more.items("train", Modality.TEXT)][: len(first)] == first


def test_texts_and_boxes_are_in_the_fingerprint_and_captions_keep_theirs():
    plain = source(train=5, size=64)
    pinned = "967c6e42f9dcb20b1d03f36c6f0ccc0fb02655c773be9540f5ef02c0264f637e"
    assert plain.fingerprint("train") == pinned
    assert source(train=5, size=64, texts="captions", boxes=False).fingerprint("train") == pinned
    others = [
        source(train=5, size=64, **options).fingerprint("train")
        for options in ({"boxes": True}, {"texts": "phrases"}, {"texts": "questions"})
    ]
    assert len({pinned, *others}) == 4
    with_boxes = source(train=5, size=64, texts="phrases", boxes=True)
    assert with_boxes.fingerprint("train") == others[1]


def test_regions_change_the_hash_of_items():
    plain, boxed = source(train=5, size=64), source(train=5, size=64, boxes=True)
    assert fingerprint_items(plain, "train") != fingerprint_items(boxed, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": "words"}, "texts must be captions, phrases or questions, found 'words'"),
        ({"texts": 3}, "texts must be a text, found 3"),
        ({"boxes": 1}, "boxes must be True or False, found 1"),
    ],
)
def test_texts_and_boxes_of_another_kind_are_refused(options, message):
    with pytest.raises(SpecError, match=message):
        opened("shapes", None, **options)
