"""Boxes, and the words that name them: what is refused, and what belongs to what."""

import numpy as np
import pytest

from lightalign.featcache.regions import Regions

SIZES = [(100, 80), (64, 64), (30, 40)]
BOXES = [[(10, 20, 50, 70), (60, 0, 99, 80)], [], [(0, 0, 30, 40)]]
MENTIONS = [[(0, 0, 5), (1, -1, -1)], [], [(2, 3, 9)]]


def made(**changed):
    options = {
        "sizes": SIZES,
        "boxes": BOXES,
        "mentions": MENTIONS,
        "class_of": [[1, -1], [], [0]],
        "class_names": ["tree", "dog"],
    }
    return Regions.of(**{**options, **changed})


def test_boxes_are_of_images_and_mentions_of_texts_in_item_order():
    regions = made()
    assert regions.ends.tolist() == [2, 2, 3]
    assert regions.image_of_box.tolist() == [0, 0, 2]
    assert [regions.of_image(place) for place in range(3)] == [
        slice(0, 2),
        slice(2, 2),
        slice(2, 3),
    ]
    assert regions.mention_ends.tolist() == [2, 2, 3]
    assert regions.text_of_mention.tolist() == [0, 0, 2]
    assert [regions.of_text(place).tolist() for place in range(3)] == [
        [[0, 0, 5], [1, -1, -1]],
        [],
        [[2, 3, 9]],
    ]


def test_images_without_boxes_and_texts_without_mentions_are_regions_of_nothing():
    regions = Regions.of([(1, 1)], [[]], [[], []])
    assert regions.boxes.shape == (0, 4)
    assert regions.mentions.shape == (0, 3)
    regions.check_items(1, 2, np.array([[0, 0], [0, 1]]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sizes": SIZES[:2]}, "there are 2 sizes of 3 images"),
        ({"sizes": [(100, 80), (64, 0), (30, 40)]}, "a picture has no size"),
        ({"boxes": [[(50, 20, 10, 70), (60, 0, 99, 80)], [], BOXES[2]]}, "a box has no area"),
        ({"boxes": [[(10, 20, 50, 20), (60, 0, 99, 80)], [], BOXES[2]]}, "a box has no area"),
        ({"boxes": [[(float("nan"), 0, 1, 1), BOXES[0][1]], [], BOXES[2]]}, "is not finite"),
        ({"boxes": [[(0, 0, float("inf"), 1), BOXES[0][1]], [], BOXES[2]]}, "is not finite"),
        ({"class_of": [[1], [], [0]]}, "there are 2 classes of 3 boxes"),
        ({"class_of": [[1, 2], [], [0]]}, "a box is of a class that is not one of 2"),
        ({"class_of": [[1, -2], [], [0]]}, "a box is of a class that is not one of 2"),
        ({"mentions": [[(3, 0, 5)]]}, "a mention is of a box that is not one of 3"),
        ({"mentions": [[(-1, 0, 5)]]}, "a mention is of a box that is not one of 3"),
        ({"mentions": [[(0, 5, 5)]]}, "end before they begin"),
        ({"mentions": [[(0, -1, 5)]]}, "end before they begin"),
        ({"mentions": [[(0, -2, -2)]]}, "end before they begin"),
    ],
)
def test_regions_that_contradict_one_another_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        made(**changed)


def test_ends_that_run_back_are_refused():
    regions = made()
    fields = {**vars(regions), "ends": np.array([2, 1, 3])}
    with pytest.raises(ValueError, match="the boxes and their ends contradict one another"):
        Regions(**fields)
    fields = {**vars(regions), "mention_ends": np.array([2, 2, 4])}
    with pytest.raises(ValueError, match="the mentions and their ends contradict one another"):
        Regions(**fields)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ((2, 3, [[0, 0], [2, 2]]), "there are 3 images with regions, not 2"),
        ((3, 4, [[0, 0], [2, 2]]), "there are 3 texts with regions, not 4"),
        ((3, 3, [[0, 0], [1, 2]]), "a text names a box of an image that it does not belong to"),
        ((3, 3, np.empty((0, 2), np.int32)), "a text names a box of an image that it does not"),
    ],
)
def test_regions_of_other_items_are_refused(items, message):
    *counts, pairs = items
    regions = made()
    regions.check_items(3, 3, np.array([[2, 2], [1, 1], [0, 0]], dtype=np.int32))
    with pytest.raises(ValueError, match=message):
        regions.check_items(*counts, np.array(pairs))


@pytest.mark.parametrize(
    "changed",
    [
        {"sizes": [(100, 81), *SIZES[1:]]},
        {"boxes": [[], BOXES[0], BOXES[2]]},
        {"boxes": [[(10, 20, 50, 71), BOXES[0][1]], [], BOXES[2]]},
        {"class_of": [[0, -1], [], [0]]},
        {"class_names": ["tree", "cat"]},
        {"mentions": [[], MENTIONS[0], MENTIONS[2]]},
        {"mentions": [[(0, 0, 6), (1, -1, -1)], [], MENTIONS[2]]},
    ],
)
def test_regions_are_equal_only_if_all_of_them_is(changed):
    assert made() == made()
    assert made(**changed) != made()
