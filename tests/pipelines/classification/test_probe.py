"""Probes from the stores to the report."""

import functools
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from lightalign.adapters.checkpoint import load_adapter
from lightalign.featcache.errors import (
    LeakageError,
    SpecError,
    StoreNotFoundError,
    UnknownNameError,
)
from lightalign.pipelines.classification import probe_protocols
from lightalign.pipelines.classification.classifiers import LogisticClassifier
from lightalign.pipelines.classification.probe import run
from lightalign.pipelines.classification.probe_spec import ProbeOptions, ProbeSpec
from lightalign.pipelines.classification.sgd_options import SgdOptions
from lightalign.pipelines.inputs.labelled_images import LabelledImages
from lightalign.pipelines.metrics.number import numbers_of, split_hash
from lightalign.pipelines.runs import run_folder

from ...helpers import changed_report, lightalign
from ..class_homes import NAMES, blobs, write_run, write_split

QUICK = ProbeOptions(
    regularisations=(0.01, 1.0),
    neighbours=(1, 5),
    sgd=SgdOptions(epochs=4, every=2, learning_rate=0.05, hidden=4, batch_size=16),
)
PARTS = {"top_1", "top_2", "mean_per_class"}  # of three classes


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("class-home")
    entry = write_split(home, "train", *blobs(45, seed=0, spread=3.5))
    write_split(home, "test", *blobs(30, seed=1, spread=3.5))
    write_run(home, entry)
    return home


def probe(home, **changes):
    return run(ProbeSpec(**{"home": home, "data": "trees", "options": QUICK, **changes}))


@pytest.mark.parametrize(
    ("protocol", "settings"),
    [
        ("lbfgs", ["all_images"]),
        ("knn", ["all_images"]),
        ("sgd", ["epoch_2", "epoch_4"]),
    ],
)
def test_a_report_has_every_number_with_interval_and_count(home, protocol, settings):
    report = probe(home, protocol=protocol).report
    assert list(report["metrics"]) == ["embedding", "encoder", "embedding_minus_encoder"]
    for features in ("embedding", "encoder"):
        assert list(report["metrics"][features]) == settings
        explained = {re.sub(r"\d+", "n", name) for name in (features, *settings)}
        assert explained <= set(report["definitions"])
    for path, number in numbers_of(report["metrics"]):
        assert path[-1] in PARTS
        low, high = number["interval"]
        assert low <= number["value"] <= high
        assert number["num"] == 30
        assert ("chance" in number) == (path[0] != "embedding_minus_encoder")
    assert report["kind"] == f"probe-{protocol}"
    assert report["split_hash"] == split_hash([f"test/{row:04d}" for row in range(30)])
    assert report["options"]["options"]["sgd"]["epochs"] == 4
    top = report["metrics"]["encoder"][settings[-1]]["top_1"]
    assert top["value"] > 60  # chance is 33
    assert top["chance"] == pytest.approx(100 / 3)


def test_the_raw_encoder_is_the_mean_over_its_tokens(home):
    entry = write_split(home, "ragged", *blobs(12, seed=3, tokens=4), dataset="means")
    rows = LabelledImages(entry, home=home)
    features, labels = blobs(12, seed=3, tokens=4)
    expected = features.astype(np.float64).mean(axis=1)
    assert rows.pooled(np.array([3, 11])) == pytest.approx(expected[[3, 11]], abs=1e-6)
    assert rows.labels.tolist() == labels.tolist()


def test_the_worst_images_are_listed_with_what_came_first(home):
    failures = probe(home, features=("encoder",)).report["failures"]
    ranks = [failure["rank"] for failure in failures]
    assert ranks == sorted(ranks, reverse=True)
    assert min(ranks) > 1
    for failure in failures:
        own = NAMES[int(failure["query"].removeprefix("test/")) % 3]
        (right,), (first,) = failure["right"], failure["first"]
        assert right["name"] == own != first["name"]


@pytest.mark.parametrize("protocol", ["lbfgs", "knn"])
def test_few_shots_give_a_mean_over_the_draws_that_grows_with_the_shots(home, protocol):
    report = probe(home, protocol=protocol, shots=(1, 8), seeds=3).report
    assert report["kind"] == f"few-shot-{protocol}"
    for features in ("embedding", "encoder"):
        found = report["metrics"][features]
        one, eight = found["shots_1"], found["shots_8"]
        assert one["top_1"]["value"] < eight["top_1"]["value"]
        assert one["deviation_of_top_1"]["num"] == 3
        low, high = eight["top_1"]["interval"]
        assert low <= eight["top_1"]["value"] <= high
        assert len(eight["chosen_C" if protocol == "lbfgs" else "chosen_neighbours"]) == 3


def test_what_a_solver_says_is_counted_over_few_shots_and_named_with_its_values_else(
    home, monkeypatch
):
    """Two draws, in each of which two values of C are tried and the better one is fitted again."""
    hasty = functools.partial(LogisticClassifier, most_steps=1)
    monkeypatch.setattr(
        "lightalign.pipelines.classification.probe_protocols.LogisticClassifier", hasty
    )
    told = "the solver stopped after 1 steps, short of its tolerance"
    few = probe(home, features=("encoder",), shots=(8,), seeds=2).report
    own = [line for line in few["warnings"] if "leakage not checked" not in line]
    assert own == [f"encoder, 8 shots, in 6 of 6 fits: {told}"]
    whole = probe(home, features=("encoder",)).report
    assert f"encoder, C = 0.01, 1: {told}" in whole["warnings"]


def test_classes_without_training_images_are_warned_of(tmp_path):
    features, labels = blobs(30, seed=0)
    kept = labels != 2
    entry = write_split(tmp_path, "train", features[kept], labels[kept])
    write_split(tmp_path, "test", *blobs(30, seed=1))
    write_run(tmp_path, entry)
    report = probe(tmp_path, features=("encoder",)).report
    assert any("1 classes have no training image, such as 'cedar'" in w for w in report["warnings"])
    assert report["metrics"]["encoder"]["all_images"]["mean_per_class"]["value"] <= 200 / 3 + 1e-9


def test_the_same_ids_in_both_splits_are_refused(tmp_path):
    entry = write_split(tmp_path, "train", *blobs(30, seed=0), prefix="all")
    write_split(tmp_path, "test", *blobs(15, seed=1), prefix="all")
    write_run(tmp_path, entry)
    with pytest.raises(LeakageError, match=r"15 images are in trees/train.*'all/0000'"):
        probe(tmp_path)


def test_a_photo_planted_in_both_splits_under_two_names_is_named(tmp_path):
    """Sixty features, as in few of them any two photos may be alike."""
    sides = [blobs(count, seed=seed, width=60, spread=2.0) for seed, count in enumerate((30, 15))]
    sides[1][0][4] = 1.01 * sides[0][0][7]
    entry = write_split(tmp_path, "train", *sides[0])
    write_split(tmp_path, "test", *sides[1])
    write_run(tmp_path, entry)
    report = probe(tmp_path, features=("encoder",)).report
    (warning,) = [line for line in report["warnings"] if "near duplicates" in line]
    assert "1 pairs" in warning
    assert "test/0004 and train/0007" in warning


def test_a_split_that_is_not_named_is_test_or_else_val(tmp_path):
    entry = write_split(tmp_path, "train", *blobs(30, seed=0))
    write_split(tmp_path, "val", *blobs(15, seed=1))
    write_run(tmp_path, entry)
    assert probe(tmp_path, features=("encoder",)).report["split"] == "val"
    write_split(tmp_path, "test", *blobs(15, seed=2))
    assert probe(tmp_path, features=("encoder",)).report["split"] == "test"


def test_a_probe_of_other_features_or_another_seed_lies_beside(home):
    usual = probe(home).path
    others = [probe(home, **way).path for way in ({"features": ("encoder",)}, {"seed": 1})]
    assert len({usual, *others}) == 3
    report = json.loads(usual.read_text())
    assert report["source"] == "source-of-trees-test"  # by it a page finds the pictures


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("train", "15 evaluated images were trained on: test/0000"),
        ("validation", "split 'test' of trees chose the epoch of start"),
    ],
)
def test_an_adapter_that_was_trained_on_or_chosen_by_the_evaluated_split_is_refused(
    tmp_path, part, said
):
    entry = write_split(tmp_path, "train", *blobs(30, seed=0))
    test = write_split(tmp_path, "test", *blobs(15, seed=1))
    folder = write_run(tmp_path, entry)
    with changed_report(folder) as report:
        stores = report["spec"]["stores"]
        stores[part] = {**stores["train"], "source": test.description.source}
    with pytest.raises(LeakageError, match=said):
        probe(tmp_path)


def test_what_cannot_be_probed_is_said(home, tmp_path):
    with pytest.raises(UnknownNameError, match=r"no dataset named 'birds'.*--data birds=PATH"):
        probe(home, data="birds")
    with pytest.raises(StoreNotFoundError, match="split 'val'"):
        probe(home, split="val")
    entry = write_split(tmp_path, "train", blobs(9, seed=0)[0], None)
    write_run(tmp_path, entry)
    with pytest.raises(SpecError, match="'trees' has no classes"):
        probe(tmp_path, split="train")
    with pytest.raises(SpecError, match="16 shots"):
        probe(home, shots=(16,))
    for wrong in ({"shots": (4, 2)}, {"seeds": 0}, {"protocol": "sgd", "shots": (1,)}):
        with pytest.raises(SpecError):
            ProbeSpec(home=home, data="trees", **wrong)
    for wrong in ({"protocol": "svm"}, {"features": ("pixels",)}):
        with pytest.raises(UnknownNameError):
            ProbeSpec(home=home, data="trees", **wrong)
    for wrong in ({"neighbours": (5, 1)}, {"regularisations": ()}, {"validation": 1.0}):
        with pytest.raises(SpecError):
            ProbeOptions(**wrong)


def test_the_command_prints_a_table_and_the_same_as_json(home):
    command = ["probe", "start", "--data", "trees", "--set", "regularisations=[0.01,1.0]"]
    done = lightalign(*command, home=home)
    assert done.returncode == 0, done.stderr
    assert "probe-lbfgs on trees/test" in done.stdout
    report = json.loads(lightalign(*command, "--json", home=home).stdout)
    top = report["metrics"]["embedding"]["all_images"]["top_1"]
    low, high = top["interval"]
    assert f"{top['value']:.1f} [{low:.1f}, {high:.1f}] (33.3)" in done.stdout
    assert "embedding minus encoder" in done.stdout
    few = lightalign(*command[:4], "--protocol", "knn", "--shots", "1,2", "--seeds", "2", home=home)
    assert "shots 2" in few.stdout
    wrong = lightalign(*command[:4], "--shots", "one", home=home)
    assert (wrong.returncode, "--shots 'one'" in wrong.stderr) == (2, True)


def test_a_split_that_is_not_whole_is_not_the_usual_one(home, tmp_path):
    """The extraction of `test` was stopped: `val` is taken."""
    from lightalign.featcache.store.manifest import read_manifest, write_manifest
    from lightalign.pipelines.inputs.store_selection import DatasetQuery, SideQuery, usual_split

    entry = write_split(tmp_path, "test", *blobs(9, seed=0))
    write_split(tmp_path, "val", *blobs(9, seed=1))
    wanted = DatasetQuery("trees", None)
    assert usual_split(tmp_path, wanted, SideQuery()) == "test"
    table = read_manifest(entry.folder)
    del table["shards"]
    write_manifest(entry.folder, {**table, "complete": False})
    assert usual_split(tmp_path, wanted, SideQuery()) == "val"


@pytest.mark.parametrize(
    ("protocol", "unit", "length_one"),
    [("sgd", False, False), ("sgd", True, True), ("lbfgs", False, True), ("knn", False, True)],
)
def test_lightcrls_head_is_trained_on_embeddings_of_any_length(
    home, monkeypatch, protocol, unit, length_one
):
    """The adapter is one matrix before a mean; its bias and rows are those of the run."""
    read = []
    whole = probe_protocols.Examples

    def examples(features, labels, num_classes):
        read.append(features)
        return whole(features, labels, num_classes)

    monkeypatch.setattr(probe_protocols, "Examples", examples)
    sgd = replace(QUICK.sgd, unit=unit)
    probe(home, protocol=protocol, features=("embedding",), options=replace(QUICK, sgd=sgd))
    adapter = load_adapter(run_folder.runs_folder(home) / "start")[0]
    linear = adapter.steps["image/project"].linear
    tokens, _ = blobs(45, seed=0, spread=3.5)
    weight, bias = (one.detach().numpy().astype(np.float64) for one in linear.parameters())
    expected = tokens.astype(np.float64).mean(axis=1) @ weight.T + bias
    if length_one:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert read[0] == pytest.approx(expected, abs=1e-5)


def test_lightcrls_head_is_measured_after_every_fifth_epoch_by_default(home):
    options = ProbeOptions(sgd=SgdOptions(epochs=12))
    found = probe(home, protocol="sgd", features=("encoder",), options=options).report
    assert list(found["metrics"]["encoder"]) == ["epoch_5", "epoch_10", "epoch_12"]
    assert SgdOptions().epochs == 100
