"""Sides are compared by `is`, wherever they come from."""

import copy
import json
import pickle

import pytest

from lightalign.featcache.errors import SpecError
from lightalign.featcache.modalities import MODALITIES, known_sides, reader_of
from lightalign.featcache.types import (
    IMAGE_TEXT,
    TEXT_TEXT,
    Modality,
    side_called,
    sides_of,
    twins,
)

TONE_TEXT = (Modality("tone"), Modality.TEXT)


@pytest.mark.parametrize("side", [*IMAGE_TEXT, *TEXT_TEXT, *twins(TONE_TEXT[0])], ids=str)
def test_a_name_is_one_object(side):
    again = (side_called(side.value), copy.deepcopy(side), pickle.loads(pickle.dumps(side)))
    assert all(other is side for other in again)
    assert json.dumps({side: side}) == json.dumps({side.value: side.value})
    assert type(side.value) is str


def test_a_side_knows_its_modality():
    assert TEXT_TEXT[1].modality is Modality.TEXT
    assert Modality("tone").modality is Modality("tone")
    assert twins(Modality("tone")) == ("first_tone", "second_tone")
    assert side_called("second_tone").modality is Modality("tone")


@pytest.mark.parametrize(
    ("names", "sides"),
    [
        (["text", "image"], IMAGE_TEXT),
        (["text", "tone"], TONE_TEXT),
        (["image", "audio"], ("audio", "image")),
        (["video", "text"], ("video", "text")),
        (["second_text", "first_text"], TEXT_TEXT),
        (["second_tone", "first_tone"], ("first_tone", "second_tone")),
    ],
)
def test_two_sides_have_one_order_that_ends_with_texts(names, sides):
    for given in (names, names[::-1], dict.fromkeys(names)):
        assert sides_of(given) == sides
        assert all(a is b for a, b in zip(sides_of(given), map(side_called, sides), strict=True))


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["text"],
        ["text", "text"],
        ["text", "first_text"],
        ["first_text", "second_image"],
        ["image", "text", "tone"],
        ["second_text", "image"],
        ["Image", "text"],
        ["im.age", "text"],
    ],
)
def test_what_is_not_two_sides_is_refused(names):
    with pytest.raises(SpecError, match="an adapter aligns two sides"):
        sides_of(names)


def test_a_side_of_no_modality_is_refused():
    assert known_sides(["text", "image"]) == IMAGE_TEXT
    with pytest.raises(SpecError, match=r"no side 'tone' of an adapter.*'image', 'text'"):
        known_sides(["text", "tone"])


def test_every_modality_says_what_it_needs():
    assert MODALITIES.names() == ["image", "text"]
    for name in MODALITIES.names():
        reader = reader_of(Modality(name))
        (item,) = reader.probe_items(1)
        content = reader.read(item)
        assert reader.fingerprinted(item)[0] == item.id
        assert type(reader.read(reader.largest_item())) is type(content)
        assert (reader.singular, reader.plural) == (name, f"{name}s")
