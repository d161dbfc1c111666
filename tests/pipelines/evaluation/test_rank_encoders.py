"""Which image and text stores fit one another, from the stores alone."""

import json

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from lightalign.featcache.errors import SpecError, StoreNotFoundError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import catalog
from lightalign.featcache.types import IMAGE_TEXT
from lightalign.pipelines.evaluation import rank_encoders, rank_encoders_spec
from lightalign.pipelines.evaluation.encoder_comparison import EncoderNeighbours, compared
from lightalign.pipelines.evaluation.rank_encoders_spec import RankSpec
from lightalign.pipelines.metrics.representation import neighbours

from ...helpers import lightalign
from ..conftest import SCENES, extract_toy

PAIR = "toy-image tokens | toy-text tokens"


def ranked(home, **changes):
    return rank_encoders.run(RankSpec(home=home, neighbours=3, **changes)).report


@pytest.fixture(scope="module")
def large_home(tmp_path_factory):
    """Return a home with stores of 80 scenes, of which 16 are held out: more than ten."""
    home = tmp_path_factory.mktemp("large-home")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, split="train", source={**SCENES, "train": 80})
    return home


def test_numbers_of_a_pair_of_stores_have_their_chance_and_count(large_home):
    report = ranked(large_home)
    assert list(report["metrics"]) == [PAIR]
    found = report["metrics"][PAIR]
    assert {name: number["num"] for name, number in found.items()} == {
        "ridge": 16,
        "image_to_text": 16,
        "text_to_image": 16,
        "mutual_knn": 80,
        "cka": 80,
    }
    assert found["mutual_knn"]["chance"] == pytest.approx(100 * 3 / 79)
    assert found["ridge"]["chance"] == 62.5  # R@10 of 16
    assert 0 < found["cka"]["chance"] < 100
    assert [name for name, number in found.items() if "interval" not in number] == ["cka"]
    assert set(report["stores"]) == set(PAIR.split(" | "))


def drawn_vectors(home):
    """Return the mean tokens of the images and of their first captions, in the order of the draw.

    The order is that of the images in the pairs, permuted by NumPy with seed 0.
    """
    sides = {}
    for entry in catalog.list_stores(home):
        described = entry.description
        reader = FeatureReader(entry.folder, residency="disk")
        tokens = [reader.gather(np.array([row])).values for row in range(len(reader.ids))]
        means = [token.astype(np.float64).mean(axis=0) for token in tokens]
        sides[described.modality] = dict(zip(reader.ids, means, strict=True))
        pairs = catalog.pairs_path(home, described.dataset, "train", described.source)
    first = dict(reversed([*catalog.read_pairs(pairs).id_pairs(IMAGE_TEXT)]))
    links = [
        (image, first[image]) for image in dict(catalog.read_pairs(pairs).id_pairs(IMAGE_TEXT))
    ]
    order = np.random.default_rng(0).permutation(len(links))
    return (
        np.stack([sides["image"][links[place][0]] for place in order]),
        np.stack([sides["text"][links[place][1]] for place in order]),
    )


def test_the_recalls_are_those_of_a_ridge_map_written_out(large_home):
    """64 items choose the penalty by t |Y - HY|^2 / (t - 1 - tr H)^2, 16 are looked for."""
    images, texts = drawn_vectors(large_home)
    train, held = images[:64], images[64:]
    centred, goals = train - train.mean(axis=0), texts[:64] - texts[:64].mean(axis=0)
    gram = centred.T @ centred
    outcomes = []
    for penalty in np.logspace(-4, 2, 13) * np.trace(gram) / 64:
        map_ = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred.T)
        left = goals - centred @ map_ @ goals
        outcomes.append((np.square(left).sum() / (63 - np.trace(centred @ map_)) ** 2, penalty))
    model = Ridge(alpha=min(outcomes)[1]).fit(train, texts[:64])
    predicted = model.predict(held) - texts[:64].mean(axis=0)
    cosines = cosine_similarity(predicted, texts[64:] - texts[:64].mean(axis=0))
    ranks = {
        "image_to_text": (cosines >= np.diag(cosines)[:, None]).sum(axis=1),
        "text_to_image": (cosines >= np.diag(cosines)).sum(axis=0),
    }
    found = ranked(large_home)["metrics"][PAIR]
    for name, own in ranks.items():
        assert found[name]["value"] == 100 * (own <= 10).mean() < 100
    both = np.concatenate(list(ranks.values()))
    assert found["ridge"]["value"] == pytest.approx(100 * (both <= 10).mean())


def test_fewer_items_are_drawn_where_that_is_asked(home, monkeypatch):
    for module in (rank_encoders, rank_encoders_spec):
        monkeypatch.setattr(module, "FEWEST", 20)
    assert ranked(home, items=21)["metrics"][PAIR]["cka"]["num"] == 21
    assert ranked(home, items=21) | {"seconds": 0} == ranked(home, items=21) | {"seconds": 0}


def test_items_of_which_nearly_all_are_found_by_chance_are_refused(home):
    """Of 50 items ten are held out: R@10 is 100 % whatever the encoders are."""
    with pytest.raises(SpecError, match=r"24 items of split 'train' .* at least 80 are needed"):
        ranked(home)
    with pytest.raises(SpecError, match="items must be at least 80, found 79: a fifth is held out"):
        ranked(home, items=79)
    with pytest.raises(StoreNotFoundError, match="no image store and text store"):
        ranked(home, data="flickr8k")


def test_texts_that_are_a_turn_of_the_images_are_found_and_drawn_ones_are_not():
    """Of 20 held-out items the own is always first by a turn, and by chance half are in R@10."""
    random = np.random.default_rng(0)
    images = random.normal(size=(100, 8)).astype(np.float32)
    turn, _ = np.linalg.qr(random.normal(size=(8, 8)))
    sides = {"turned": images @ turn.astype(np.float32), "drawn": random.normal(size=(100, 8))}
    seen = {
        name: EncoderNeighbours(side.astype(np.float32), neighbours(side, 5))
        for name, side in sides.items()
    }
    found = compared(EncoderNeighbours(images, neighbours(images, 5)), seen, 5)
    turned = {name: number.value for name, number in found["turned"].items()}
    assert turned == pytest.approx(dict.fromkeys(turned, 100.0), abs=1e-3)
    drawn = found["drawn"]
    assert drawn["ridge"].value == pytest.approx(50, abs=25)
    assert drawn["mutual_knn"].value == pytest.approx(drawn["mutual_knn"].chance, abs=4)
    assert drawn["cka"].value == pytest.approx(drawn["cka"].chance, abs=4)
    both = [drawn[name].value for name in ("image_to_text", "text_to_image")]
    assert drawn["ridge"].value == pytest.approx(sum(both) / 2)


def test_the_verb_prints_a_table_or_one_json_object(large_home):
    command = ["rank-encoders", "--data", "shapes", "--neighbours", "3"]
    shown = lightalign(*command, home=large_home)
    assert shown.returncode == 0, shown.stderr
    assert f"{PAIR} " in shown.stdout
    assert "80 items, 16 of them held out" in shown.stdout
    printed = json.loads(lightalign(*command, "--json", home=large_home).stdout)
    assert printed["kind"] == "rank-encoders"
