"""Texts of a few images by hand: which is paired with which, what is never wrong."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache.errors import SpecError
from lightalign.featcache.links import Links
from lightalign.featcache.store import catalog
from lightalign.featcache.types import IMAGE_TEXT
from lightalign.pipelines.inputs.text_text import PairedTexts

from ...scenarios.test_text_text import TOKENS, joined
from ..conftest import extract_toy


def few_texts(home, links, texts):
    """Join the texts of three images by given links."""
    data = home / "data"
    data.mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(data / f"{number}.png")
    lines = [f"{image},{text},train" for image, text in texts]
    (data / "t.csv").write_text("\n".join(["image,caption,split", *lines]))
    extract_toy(home, "toy-text", data=f"image-text-table={data}", source={}, split="train")
    stores = joined(home, first=TOKENS, second=TOKENS)
    found = catalog.read_pairs(stores.path)
    catalog.write_pairs(stores.path, Links.of(found.ids, {IMAGE_TEXT: links}))
    return joined(home, first=TOKENS, second=TOKENS)


TEXTS = [("0.png", "a"), ("0.png", "b"), ("0.png", "c"), ("1.png", "d"), ("2.png", "e")]
A, B, C, D, E = range(5)
LINKS = (
    ("0.png", "0.png#0"),
    ("0.png", "0.png#1"),
    ("0.png", "0.png#2"),
    ("1.png", "1.png#0"),
    ("2.png", "2.png#0"),
    ("2.png", "0.png#2"),  # of two images
)


def test_the_only_text_of_an_image_is_paired_with_itself_and_a_note_says_so(tmp_path):
    """Image 0 has the texts a, b, c, image 1 has d alone, image 2 has e and c."""
    stores = few_texts(tmp_path, LINKS, TEXTS)
    assert stores.notes == ["1 of 5 texts have no other of their image: each is its own partner"]
    assert stores.all_firsts(stores.images).tolist() == [A, B, C, D, E]
    assert stores.seconds_of == {A: (B, C), B: (A, C), C: (A, B, E), D: (D,), E: (C,)}


def test_a_text_of_two_images_is_never_wrong_for_itself(tmp_path):
    """c shares image 0 with a and b, image 2 with e; where it meets itself it is no negative."""
    stores = few_texts(tmp_path, LINKS, TEXTS)
    mask = stores.positives(np.array([C, D]), np.array([A, B, C, D, E]))[:]
    assert mask.tolist() == [[True, True, True, False, True], [False, False, False, True, False]]
    drawn = [stores.firsts(stores.images, np.random.default_rng(seed)) for seed in range(20)]
    assert {len(set(rows)) for rows in drawn} == {2, 3}  # c is drawn by both images at times
    assert all(len(set(rows)) == len(rows) for rows in drawn)


def test_only_texts_with_another_are_asked_for(tmp_path):
    stores = few_texts(tmp_path, LINKS, TEXTS)
    found = stores.relations(stores.images)
    right = [found.seconds_of_first.take(np.array([row])).rows.tolist() for row in range(5)]
    assert right == [[B, C], [A, C], [A, B, E], [], [C]]
    assert found.anchors.tolist() == [A, C]  # of image 2 the first text is c


def test_images_of_one_text_each_have_nothing_to_find(tmp_path):
    stores = few_texts(tmp_path, LINKS[3:5], TEXTS)
    with pytest.raises(SpecError, match="no image of split 'train' to evaluate has two texts"):
        stores.relations(stores.images)


def test_a_text_without_a_row_in_one_store_takes_no_part(tmp_path, monkeypatch):
    stores = few_texts(tmp_path, LINKS, TEXTS)
    lost = stores.first.ids.index("0.png#1")
    rows_of = type(stores.first).rows_of

    def without_it(reader, ids):
        rows = rows_of(reader, ids)
        return np.where(rows == lost, -1, rows)

    monkeypatch.setattr(type(stores.first), "rows_of", without_it)
    again = PairedTexts(stores.pair, home=tmp_path)
    assert again.texts_of == {0: (A, C), 1: (D,), 2: (C, E)}
    assert again.num_links_lost == 1


def test_same_texts_belong_to_all_that_belongs_to_one_of_them_in_both_ways(tmp_path):
    """b of image 0 says what d of image 1 does: each is right for what is right for the other."""
    stores = few_texts(tmp_path, LINKS, TEXTS)
    found = catalog.read_pairs(stores.path)
    marks = np.array([1, 2, 3, 2, 5])
    catalog.write_pairs(stores.path, replace(found, labels={"text_marks": marks}))
    united = PairedTexts(stores.pair, home=tmp_path, same_text="positive")
    assert united.belonging == {
        A: (A, B, C, D),
        B: (A, B, C, D),
        C: (A, B, C, D, E),
        D: (A, B, C, D),
        E: (C, E),
    }
    assert united.seconds_of == stores.seconds_of
    dropped = PairedTexts(stores.pair, home=tmp_path, same_text="drop")
    assert dropped.texts_of == {0: (A, B, C), 2: (C, E)}
