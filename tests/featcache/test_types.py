"""Sides are compared by `is`, wherever they come from."""

import copy
import json
import pickle

import pytest

from lightalign.featcache.modalities import MODALITIES, reader_of
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality, TextSide


@pytest.mark.parametrize("side", [*IMAGE_TEXT, *TEXT_TEXT], ids=str)
def test_a_name_is_one_object(side):
    again = (type(side)(side.value), copy.deepcopy(side), pickle.loads(pickle.dumps(side)))
    assert all(other is side for other in again)
    assert json.dumps({side: side}) == json.dumps({side.value: side.value})
    assert type(side.value) is str


def test_sides_know_their_modality_and_order():
    assert [side.is_first for side in (*IMAGE_TEXT, *TEXT_TEXT)] == [True, False, True, False]
    assert TextSide.SECOND.modality is Modality.TEXT
    assert Modality("tone").modality == "tone"


def test_every_modality_says_what_it_needs():
    assert MODALITIES.names() == ["image", "text"]
    for name in MODALITIES.names():
        reader = reader_of(Modality(name))
        (item,) = reader.probe_items(1)
        content = reader.read(item)
        assert reader.fingerprinted(item)[0] == item.id
        assert type(reader.read(reader.largest_item())) is type(content)
        assert (reader.singular, reader.plural) == (name, f"{name}s")
