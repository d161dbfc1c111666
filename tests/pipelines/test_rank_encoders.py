"""Which image and text stores fit one another, from the stores alone."""

import json

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError, StoreNotFoundError
from lightalign.pipelines import rank_encoders
from lightalign.pipelines.encoder_pairs import Seen, compared
from lightalign.pipelines.rank_encoders import RankSpec
from lightalign.pipelines.resemblance import neighbours

from ..helpers import lightalign

PAIR = "toy-image tokens | toy-text tokens"


def ranked(home, **changes):
    return rank_encoders.run(RankSpec(home=home, neighbours=3, **changes)).report


def test_numbers_of_a_pair_of_stores_have_their_chance_and_count(home):
    report = ranked(home)
    assert list(report["metrics"]) == [PAIR]
    found = report["metrics"][PAIR]
    assert {name: number["num"] for name, number in found.items()} == {
        "ridge": 4,
        "image_to_text": 4,
        "text_to_image": 4,
        "mutual_knn": 24,
        "cka": 24,
    }
    assert found["mutual_knn"]["chance"] == pytest.approx(100 * 3 / 23)
    assert found["ridge"]["chance"] == 100  # R@10 of four
    assert 0 < found["cka"]["chance"] < 100
    assert [name for name, number in found.items() if "interval" not in number] == ["cka"]
    assert set(report["stores"]) == set(PAIR.split(" | "))


def test_fewer_items_are_drawn_where_that_is_asked_and_too_few_are_refused(home):
    assert ranked(home, items=21)["metrics"][PAIR]["cka"]["num"] == 21
    assert ranked(home, items=21) | {"seconds": 0} == ranked(home, items=21) | {"seconds": 0}
    with pytest.raises(SpecError, match="8 items of split 'val' have rows in all stores"):
        ranked(home, split="val")
    with pytest.raises(SpecError, match="items must be at least 20"):
        ranked(home, items=5)
    with pytest.raises(StoreNotFoundError, match="no image store and text store"):
        ranked(home, data="flickr8k")


def test_texts_that_are_a_turn_of_the_images_are_found_and_drawn_ones_are_not():
    """Of 20 held-out items the own is always first by a turn, and by chance half are in R@10."""
    random = np.random.default_rng(0)
    images = random.normal(size=(100, 8)).astype(np.float32)
    turn, _ = np.linalg.qr(random.normal(size=(8, 8)))
    sides = {"turned": images @ turn.astype(np.float32), "drawn": random.normal(size=(100, 8))}
    seen = {
        name: Seen(side.astype(np.float32), neighbours(side, 5)) for name, side in sides.items()
    }
    found = compared(Seen(images, neighbours(images, 5)), seen, 5)
    turned = {name: number.value for name, number in found["turned"].items()}
    assert turned == pytest.approx(dict.fromkeys(turned, 100.0), abs=1e-3)
    drawn = found["drawn"]
    assert drawn["ridge"].value == pytest.approx(50, abs=25)
    assert drawn["mutual_knn"].value == pytest.approx(drawn["mutual_knn"].chance, abs=4)
    assert drawn["cka"].value == pytest.approx(drawn["cka"].chance, abs=4)
    both = [drawn[name].value for name in ("image_to_text", "text_to_image")]
    assert drawn["ridge"].value == pytest.approx(sum(both) / 2)


def test_the_verb_prints_a_table_or_one_json_object(home):
    command = ["rank-encoders", "--data", "shapes", "--neighbours", "3"]
    shown = lightalign(*command, home=home)
    assert shown.returncode == 0, shown.stderr
    assert "toy-image tokens  toy-text tokens" in shown.stdout
    assert "24 items, 4 of them held out" in shown.stdout
    printed = json.loads(lightalign(*command, "--json", home=home).stdout)
    assert printed["kind"] == "rank-encoders"
