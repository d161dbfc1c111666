"""In what two stores differ, and which store is the nearest."""

import json

from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.pipelines.cache.explain import Difference, explain, explain_stores

from ...featcache.store.test_feature_store import describe
from .store_helpers import put


def test_each_value_that_differs_is_named_with_both_sides(tmp_path):
    identity = {"weights": "1", "transform": {"size": 224, "mean": [0.5, 0.5]}}
    folder = put(tmp_path, identity=identity)
    wanted = {"weights": "1", "transform": {"size": 224, "mean": [0.5, 0.4], "crop": True}}
    explained = explain(tmp_path, describe(identity=wanted, dtype="float32"))
    assert explained.second == folder
    assert explained.complete
    assert set(explained.differences) == {
        Difference(field="identity.transform.mean.1", first="0.4", second="0.5"),
        Difference(field="identity.transform.crop", first="true", second="absent"),
        Difference(field="dtype", first='"float32"', second='"float16"'),
    }


def test_a_store_of_the_same_encoder_and_dataset_is_nearer_than_a_more_equal_one(tmp_path):
    put(tmp_path, encoder="other")  # equal in all but the name
    put(tmp_path, dataset="e")
    folder = put(tmp_path, identity={"weights": "9"}, container="hdf5", split="test")
    explained = explain(tmp_path, describe(identity={"weights": "1"}))
    assert explained.second == folder
    assert {difference.field for difference in explained.differences} == {
        "identity.weights",
        "container",
        "split",
    }


def test_of_stores_of_one_encoder_and_dataset_the_most_equal_is_nearest(tmp_path):
    put(tmp_path, identity={"weights": "9"}, container="hdf5")
    folder = put(tmp_path, identity={"weights": "9"})
    put(tmp_path, identity={"weights": "9"}, split="test")
    assert explain(tmp_path, describe()).second == folder


def test_a_store_of_another_format_version_takes_part(tmp_path):
    folder = put(tmp_path)
    for name in ("manifest.json", "manifest.copy.json"):
        manifest = json.loads((folder / name).read_text())
        manifest["keyed"]["format_version"] = manifest["format_version"] = 1
        (folder / name).write_text(json.dumps(manifest))
    (difference,) = explain(tmp_path, describe()).differences
    assert difference.field == "format_version"
    assert difference.second == "1"


def test_an_unfinished_store_of_the_same_key_is_said_to_be_unfinished(tmp_path):
    folder = describe().folder(tmp_path)
    FeatureStore.create(folder, describe(), versions={})
    explained = explain(tmp_path, describe())
    assert explained.differences == ()
    assert not explained.complete


def test_a_home_without_stores_explains_nothing(tmp_path):
    explained = explain(tmp_path, describe())
    assert explained.second is None
    assert explained.first == describe().key


def test_two_stores_are_compared_by_name_or_with_the_nearest(tmp_path):
    first, second = put(tmp_path), put(tmp_path, dtype="float32")
    put(tmp_path, encoder="other", modality="text")
    for explained in (
        explain_stores(tmp_path, str(first), str(second)),
        explain_stores(tmp_path, describe().key[:9]),
    ):
        assert explained.second == second
        (difference,) = explained.differences
        assert difference.field == "dtype"
