"""Layers are ranked by the neighbours that their items share, on tiny stores."""

import json

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import catalog
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality
from lightalign.pipelines.evaluation import rank_encoders
from lightalign.pipelines.evaluation.rank_encoders_spec import RankSpec
from lightalign.pipelines.inputs import layer_ranking
from lightalign.pipelines.inputs.layer_ranking import label_of, rank_layers, rice_neighbours
from lightalign.pipelines.metrics.number import split_hash
from lightalign.pipelines.rendering.evaluations import ranking_parts

from ...helpers import lightalign
from .layered_homes import IMAGES, make_layered_home


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    """Return a home with two layers of images, means of texts and their tokens; read only."""
    folder = tmp_path_factory.mktemp("layered")
    return make_layered_home(folder, layers=(-1, -2), features=("mean", "tokens"))


def ranked(home, **changes):
    return rank_encoders.run(RankSpec(home=home, data="shapes", layers="all", **changes)).report


def stores_of(home):
    stores = {}
    for entry in catalog.list_stores(home, "shapes/train"):
        stores[label_of(entry)] = entry
    return stores


def item_means(entry):
    """Return the mean of all tokens of each item by its id, in float64."""
    reader = FeatureReader(entry.folder, residency="disk")
    tokens = [reader.gather(np.array([row])).values for row in range(len(reader.ids))]
    return {
        name: each.astype(np.float64).mean(axis=0)
        for name, each in zip(reader.ids, tokens, strict=True)
    }


def nearest(vectors, k):
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    # equal items must have equal cosines, of which the first counts
    cosines = np.round(units @ units.T, 9)
    np.fill_diagonal(cosines, -np.inf)
    return [set(np.argsort(-row, kind="stable")[:k].tolist()) for row in cosines]


def test_shared_neighbours_of_each_pair_are_counted_by_hand(layered):
    """Of 24 items each has 2 * 24^(1/3) = 5.8, so 6 neighbours, and 6 / 23 are shared by chance."""
    report = ranked(layered)
    stores = stores_of(layered)
    some = next(iter(stores.values())).description
    links = catalog.read_pairs(
        catalog.pairs_path(layered, "shapes", "train", some.source)
    ).id_pairs(IMAGE_TEXT)
    first = {}
    for image, text in links:
        first.setdefault(image, text)
    order = np.random.default_rng(0).permutation(len(first))
    drawn = [list(first.items())[place] for place in order]
    ids = {"image": [image for image, _ in drawn], "text": [text for _, text in drawn]}
    sets = {}
    for label, entry in stores.items():
        means = item_means(entry)
        vectors = np.stack([means[name] for name in ids[entry.description.modality]])
        sets[label] = nearest(vectors, 6)
    expected = {}
    for image in (label for label in stores if label.startswith(IMAGES)):
        for text in (label for label in stores if label.startswith("toy-text")):
            both = [len(a & b) for a, b in zip(sets[image], sets[text], strict=True)]
            expected[f"{image} | {text}"] = 100 * np.mean(both) / 6
    found = {name: numbers["mutual_knn"]["value"] for name, numbers in report["metrics"].items()}
    assert found == pytest.approx(expected)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert len(found) == 8  # two layers of images in two kinds, and two kinds of texts
    number = next(iter(report["metrics"].values()))["mutual_knn"]
    assert number["num"] == 24
    assert number["chance"] == pytest.approx(100 * 6 / 23)
    assert report["options"] == {
        "data": "shapes",
        "layers": "all",
        "items": 2000,
        "neighbours": 6,
        "seed": 0,
    }
    assert report["split_hash"] == split_hash([*ids["image"], *ids["text"]])
    assert report["stores"] == {label: entry.key for label, entry in stores.items()}
    assert report["layers"][f"{IMAGES} layer -2 mean"] == {
        "encoder": IMAGES,
        "layer": -2,
        "kind": "mean",
    }


def test_each_store_is_read_once(layered, monkeypatch):
    read = []
    vectors_of = layer_ranking.item_vectors
    monkeypatch.setattr(
        layer_ranking,
        "item_vectors",
        lambda label, *arguments: read.append(label) or vectors_of(label, *arguments),
    )
    ranked(layered)
    assert sorted(read) == sorted(stores_of(layered))


def test_texts_of_one_store_share_all_their_neighbours(layered):
    """By two sides of text that are one store the same texts are compared: 100 %, one an image."""
    entry = stores_of(layered)["toy-text layer -1 mean"]
    sides = {TEXT_TEXT[0]: [entry], TEXT_TEXT[1]: [entry]}
    ranking = rank_layers(layered, sides)
    (pair,) = ranking.pairs
    assert pair.shared.value == 100.0
    assert ranking.num_items == len(ranking.ids) == 24
    assert {name: ranking.table()[name] for name in ("value", "pairs", "neighbours")} == {
        "value": 100.0,
        "pairs": 1,
        "neighbours": 6,
    }


def test_of_equal_pairs_that_of_the_later_layer_comes_first(layered):
    """A side compared with itself shares all: of two such pairs -1 comes before -2."""
    stores = stores_of(layered)
    early, late = (stores[f"{IMAGES} layer {layer} mean"] for layer in (-2, -1))
    sides = {Modality.IMAGE: [early, late], Modality.TEXT: [stores["toy-text layer -1 mean"]]}
    values = {
        pair.first.description.layer: pair.shared.value
        for pair in rank_layers(layered, sides, num_neighbours=22).pairs
    }
    # 22 of 23 others are neighbours, so that at least 21 are shared
    assert all(value >= 100 * 21 / 22 for value in values.values())
    same = layer_ranking.LayerPair(
        first=early, second=early, shared=rank_layers(layered, sides).pairs[0].shared
    )
    other = layer_ranking.LayerPair(first=late, second=early, shared=same.shared)
    assert sorted([same, other], key=layer_ranking._best_first) == [other, same]


def test_rice_is_rounded_up_and_whole_roots_stay():
    assert [rice_neighbours(num) for num in (8, 24, 27, 1000, 5000)] == [4, 6, 6, 20, 35]


def test_too_few_items_are_refused(layered):
    with pytest.raises(SpecError, match=r"24 items of split 'train' .* at least 25 are needed"):
        ranked(layered, neighbours=23)
    with pytest.raises(SpecError, match=r"8 items of split 'val' .* at least 16 are needed"):
        ranked(layered, split="val")
    with pytest.raises(SpecError, match="items must be at least 16 for layers, found 15"):
        ranked(layered, items=15)


def test_the_table_fits_a_terminal_and_the_report_lies_beside_that_of_encoders(layered):
    shown = lightalign("rank-encoders", "--data", "shapes", "--layers", "all", home=layered)
    assert shown.returncode == 0, shown.stderr
    assert max(map(len, shown.stdout.split("report:")[0].splitlines())) <= 80
    assert f"{IMAGES}" in shown.stdout
    assert "rank-encoders-shapes-train-layers.json" in "".join(shown.stdout.split())
    command = ("rank-encoders", "--data", "shapes", "--layers", "all", "--json")
    printed = json.loads(lightalign(*command, home=layered).stdout)
    assert printed["variant"] == "layers"
    refused = lightalign("rank-encoders", "--layers", "best", home=layered)
    assert refused.returncode == 2
    assert "known: ['all']" in refused.stderr


def test_only_the_best_twenty_pairs_are_shown(layered):
    report = ranked(layered)
    name, number = next(iter(report["metrics"].items()))
    labels = name.split(" | ")
    many = {f"{labels[0]}{place} | {labels[1]}": number for place in range(25)}
    layers = {f"{labels[0]}{place}": report["layers"][labels[0]] for place in range(25)}
    table, note = ranking_parts(
        {**report, "metrics": many, "layers": {**report["layers"], **layers}}
    )
    assert table.row_count == 20
    assert note == "5 pairs below these are in the report"
