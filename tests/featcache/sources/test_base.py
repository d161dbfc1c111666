"""Every dataset in each of its layouts, whatever it holds: the contract of a source."""

import shutil
from dataclasses import replace

import pytest

from lightalign.featcache.answers import Answers
from lightalign.featcache.errors import DatasetNotFoundError, UnknownNameError
from lightalign.featcache.links import Links
from lightalign.featcache.regions import Regions
from lightalign.featcache.sources.base import Source, Split
from lightalign.featcache.sources.opening import SOURCES
from lightalign.featcache.types import IMAGE_TEXT, Item, Modality

from .class_helpers import CLASS_LAYOUTS
from .graded_helpers import GRADED_LAYOUTS
from .question_helpers import QUESTION_LAYOUTS
from .region_helpers import REGION_LAYOUTS
from .sources_helpers import FOLDER_LAYOUTS, LAYOUTS, OTHER_TABLES, ids, opened, written

TONE = Modality("tone")
# fingerprint of `_Linked` split as it was before there were answers
WITHOUT = "f80193dadc4bc0af687e2c244ff9a39f025ccb01a6e35fc8a5d9fcf089b3561b"
TABLES = "image-text-table"
EVERY_LAYOUT = {**LAYOUTS, **FOLDER_LAYOUTS, **CLASS_LAYOUTS, **GRADED_LAYOUTS, **QUESTION_LAYOUTS}
EVERY_LAYOUT |= REGION_LAYOUTS
EVERY_LAYOUT[TABLES] = [*LAYOUTS[TABLES], *OTHER_TABLES]
CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in EVERY_LAYOUT.items()
    for write in writers
]


def test_every_registered_dataset_is_under_the_contract():
    assert sorted(EVERY_LAYOUT) == SOURCES.names()


@pytest.mark.parametrize(("name", "write"), CASES)
def test_items_are_a_sequence_like_any_list_of_them(name, write, tmp_path):
    source = written(name, write, tmp_path)
    split = source.splits()[0]
    kept = [one for one in IMAGE_TEXT if len(source.items(split, one))]
    assert kept
    for modality in kept:
        items = source.items(split, modality)
        whole = list(items)
        assert len(whole) == len(items) > 2
        assert [item.id for item in whole] == list(source.ids(split, modality))
        assert (items[0], items[-1], list(items[1:3])) == (whole[0], whole[-1], whole[1:3])
        with pytest.raises(IndexError):
            items[len(items)]


@pytest.mark.parametrize(("name", "write"), CASES)
def test_ids_are_unique_in_a_modality_and_pairs_name_all_of_them(name, write, tmp_path):
    source = written(name, write, tmp_path)
    assert set(source.splits()) <= {"train", "val", "test"}
    for split in source.splits():
        images, texts = (ids(source, split, one) for one in (Modality.IMAGE, Modality.TEXT))
        pairs = source.pairs(split)
        assert [list(pairs.ids_of(side)) for side in IMAGE_TEXT] == [images, texts]
        for some in (images, texts):
            assert len(set(some)) == len(some)


@pytest.mark.parametrize(("name", "write"), CASES)
def test_an_unknown_split_is_refused_with_the_known_ones(name, write, tmp_path):
    source = written(name, write, tmp_path)
    message = r"no split named 'trian'(; close: \['train'\]|; known: \['test'\])"
    for ask in (source.pairs, source.fingerprint, lambda one: source.items(one, Modality.TEXT)):
        with pytest.raises(UnknownNameError, match=message):
            ask("trian")


@pytest.mark.parametrize(("name", "write"), CASES)
def test_the_fingerprint_survives_a_move_and_differs_between_splits(name, write, tmp_path):
    here = written(name, write, tmp_path / "here")
    prints = [here.fingerprint(split) for split in here.splits()]
    assert len(set(prints)) == len(here.splits())
    assert prints == [opened(name, tmp_path / "here").fingerprint(one) for one in here.splits()]
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = opened(name, tmp_path / "there")
    assert prints == [moved.fingerprint(split) for split in moved.splits()]


@pytest.mark.parametrize("name", [name for name in EVERY_LAYOUT if name != "shapes"])
def test_a_missing_folder_is_reported_with_what_was_looked_for_and_what_to_do(name, tmp_path):
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(DatasetNotFoundError) as caught:
            opened(name, root)
        for part in (str(root), "looked for", f"--data {name}=PATH"):
            assert part in str(caught.value)


class _Linked(Split):
    """Two texts, each of a tone, or of the other's."""

    modalities = (Modality.TEXT,)

    def __init__(self, sides, linked):
        self.links = Links.of({TONE: ("low", "high"), Modality.TEXT: ("a", "b")}, {sides: linked})

    def ids(self, modality):
        return ("a", "b")

    def item(self, modality, position):
        return Item(id="ab"[position], text="a sound")

    def pairs(self):
        return self.links


def test_links_of_any_two_modalities_count_in_the_fingerprint(tmp_path):
    sides = TONE, Modality.TEXT
    own, crossed = [("low", "a"), ("high", "b")], [("low", "b"), ("high", "a")]
    source = Source(
        tmp_path,
        {
            "own": _Linked(sides, own),
            "crossed": _Linked(sides, crossed),
            "fewer": _Linked(sides, own[:1]),
            "none": _Linked(sides, []),
            "again": _Linked(sides, own),
        },
    )
    prints = {split: source.fingerprint(split) for split in source.splits()}
    assert prints["again"] == prints["own"]
    assert len(set(prints.values())) == len(prints) - 1


def test_every_answer_counts_in_the_fingerprint_and_none_where_there_are_none(tmp_path):
    linked = [("low", "a"), ("high", "b")]
    answers = {
        "red": Answers.of([["red", "blue"], ["2"]]),
        "red again": Answers.of([["red", "blue"], ["2"]]),
        "blue": Answers.of([["red", "blue"], ["2"]], ["blue", "2"]),
        "cut otherwise": Answers.of([["red"], ["blue", "2"]], ["red", "2"]),
        "typed": Answers.of([["red", "blue"], ["2"]], question_types=["which", "how many"]),
        "answers typed": Answers.of([["red", "blue"], ["2"]], answer_types=["which", "how many"]),
        "listed": Answers.of([["red", "blue"], ["2"]], vocabulary=["2", "blue", "red"]),
    }
    splits = {name: _Linked((TONE, Modality.TEXT), linked) for name in ("without", *answers)}
    for name, of_split in answers.items():
        splits[name].links = replace(splits[name].links, labels={"answers": of_split})
    source = Source(tmp_path, splits)
    prints = {split: source.fingerprint(split) for split in source.splits()}
    assert prints["red"] == prints["red again"]
    assert len(set(prints.values())) == len(prints) - 1
    assert prints["without"] == WITHOUT


def test_every_box_and_mention_counts_in_the_fingerprint_and_none_where_there_are_none(tmp_path):
    made = {
        "sizes": [(9, 9)],
        "boxes": [[(0, 0, 4, 4), (1, 1, 5, 5)]],
        "mentions": [[(0, 0, 5)], [(1, -1, -1)]],
        "class_of": [[0, 1]],
        "class_names": ["cat", "dog"],
    }
    changes = {
        "regions": {},
        "regions again": {},
        "wider": {"sizes": [(10, 9)]},
        "moved": {"boxes": [[(0, 0, 4, 4), (1, 1, 5, 6)]]},
        "cut otherwise": {"sizes": [(9, 9)] * 2, "boxes": [[(0, 0, 4, 4)], [(1, 1, 5, 5)]]},
        "of another class": {"class_of": [[1, 1]]},
        "renamed": {"class_names": ["cat", "owl"]},
        "mentioned otherwise": {"mentions": [[(0, 0, 5)], [(0, -1, -1)]]},
        "mentioned elsewhere": {"mentions": [[(0, 0, 5), (1, -1, -1)], []]},
        "words cut otherwise": {"mentions": [[(0, 0, 4)], [(1, -1, -1)]]},
    }
    linked = [("low", "a"), ("high", "b")]
    splits = {name: _Linked((TONE, Modality.TEXT), linked) for name in ("without", *changes)}
    for name, changed in changes.items():
        regions = Regions.of(**{**made, **changed})
        splits[name].links = replace(splits[name].links, labels={"regions": regions})
    source = Source(tmp_path, splits)
    prints = {split: source.fingerprint(split) for split in source.splits()}
    assert prints["regions"] == prints["regions again"]
    assert len(set(prints.values())) == len(prints) - 1
    assert prints["without"] == WITHOUT
