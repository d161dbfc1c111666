"""Texts against people's judgement: what is read, what is compared, what is refused."""

import json
import shutil

import numpy as np
import pytest

from lightalign.featcache.errors import SpecError, StoreNotFoundError, UnknownNameError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.sources.opening import open_source
from lightalign.featcache.types import TEXT_TEXT, Modality
from lightalign.pipelines.inputs.store_selection import SideQuery
from lightalign.pipelines.metrics.number import numbers_of
from lightalign.pipelines.rendering.evaluations import similarity_parts
from lightalign.pipelines.similarity import similarity
from lightalign.pipelines.similarity.similarity_spec import SimilaritySpec
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...featcache.sources.graded_helpers import glue_qqp, published_stsb
from ...featcache.sources.sources_helpers import write_csv
from ...helpers import lightalign
from ..conftest import SCENES, extract_toy

QUICK = ("train.epochs=1", "train.batch_size=8", "towers.both.project.out=16")
IMAGES = {"fusion": "add", "text_features": "tokens"}
TEXTS = {
    "preset": "lightalign/fusion",
    "text_encoder": "toy-text",
    "text_features": "tokens",
    "second_text_encoder": "toy-text",
    "second_text_features": "mean",
}


@pytest.fixture(scope="module")
def graded_home(toy_home, tmp_path_factory):
    """Return a home with texts of stsb and qqp as tokens and means, and two runs; read only."""
    home = tmp_path_factory.mktemp("graded-home")
    shutil.copytree(toy_home / "features" / "shapes", home / "features" / "shapes")
    for name, write in (("stsb", published_stsb), ("qqp", glue_qqp)):
        root = home / "datasets" / name
        root.mkdir(parents=True)
        write(root)
        extract_toy(home, "toy-text", data=name, source={}, features=("mean", "tokens"))
    extract_toy(home, "toy-text", features=("mean",), split="train")
    overrides = (*QUICK, "train.validation=none")
    for run, changes in (("images", IMAGES), ("texts", TEXTS)):
        fields = {"data": "shapes", "device": "cpu", "overrides": overrides, **changes}
        train.run(TrainSpec(home=home, name=run, **fields))
    return home


def measured(home, **changes):
    fields = {"home": home, "data": "qqp", "device": "cpu", **changes}
    return similarity.run(SimilaritySpec(**fields)).report


def cosines_by_hand(home, data, split, kind=np.mean):
    """Return the cosine and grade of each pair from the tokens of the store, in float64."""
    source = open_source(data, home=home)
    (folder,) = [
        path.parent
        for path in (home / "features" / data / split).glob("*/manifest.json")
        if json.loads(path.read_text())["description"]["kind"] == "tokens"
    ]
    reader = FeatureReader(folder)
    vectors = {}
    for item in source.items(split, Modality.TEXT):
        tokens = reader.gather([reader.row_of[item.id]]).values.astype(np.float64)
        vectors[item.id] = kind(tokens, axis=0)
    cosines, grades = [], []
    for first, second, grade in source.pairs(split).grades.links:
        one, other = vectors[first], vectors[second]
        cosines.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
        grades.append(grade)
    return np.array(cosines), np.array(grades)


def test_the_mean_of_the_tokens_is_compared_as_by_hand(graded_home):
    from scipy import stats

    cosines, grades = cosines_by_hand(graded_home, "stsb", "val")
    report = measured(graded_home, data="stsb", encoders=("toy-text",))
    (found,) = report["metrics"].values()
    assert list(report["metrics"]) == ["raw toy-text mean"]
    assert found["spearman"]["value"] == pytest.approx(
        100 * stats.spearmanr(cosines, grades).statistic, abs=1e-6
    )
    assert found["pearson"]["value"] == pytest.approx(
        100 * stats.pearsonr(cosines, grades).statistic, abs=1e-4
    )
    within = {name: number["num"] for name, number in found["within"].items()}
    assert sum(within.values()) == 12 == found["spearman"]["num"]


def test_labels_are_called_at_the_fixed_threshold_and_at_one_fitted_on_the_training_part(
    graded_home,
):
    from sklearn import metrics

    cosines, labels = cosines_by_hand(graded_home, "qqp", "val")
    report = measured(graded_home, encoders=("toy-text",), threshold=0.5)
    found = report["metrics"]["raw toy-text mean"]
    assert found["fixed"]["threshold"] == 0.5
    assert found["fixed"]["accuracy"]["value"] == pytest.approx(
        100 * metrics.accuracy_score(labels, cosines >= 0.5)
    )
    assert found["auroc"]["value"] == pytest.approx(100 * metrics.roc_auc_score(labels, cosines))
    training, known = cosines_by_hand(graded_home, "qqp", "train")
    fitted = found["fitted"]["threshold"]
    every = [-1, *(np.sort(training) + 1e-9), 1]
    assert np.mean((training >= fitted) == known) == max(
        np.mean((training >= one) == known) for one in every
    )
    assert found["fitted"]["f1_1"]["value"] == pytest.approx(
        100 * metrics.f1_score(labels, cosines >= fitted, zero_division=0)
    )


def test_another_threshold_lies_beside_where_it_changes_numbers(graded_home):
    usual, other = (measured(graded_home, run="images", threshold=one) for one in (0.9, 0.5))
    assert (usual["variant"], other["variant"]) == ("", "threshold-0.5")
    assert "at least the threshold that was asked for" in other["definitions"]["fixed"]
    graded = measured(graded_home, run="images", data="stsb", threshold=0.5)
    assert graded["variant"] == ""


def test_every_number_has_its_interval_and_its_count_and_is_explained(graded_home):
    report = measured(graded_home, run="texts")
    numbers = list(numbers_of(report["metrics"]))
    assert len(numbers) == 4 * (2 + 2 * 7)
    for path, number in numbers:
        if "interval" not in number:
            assert (path[-1], number["value"]) in {("precision_0", 0.0), ("precision_1", 0.0)}
            continue
        assert number["interval"][0] <= number["value"] <= number["interval"][1], path
        assert number["num"] == 12
        assert any(path[-1] in name.split(", ") for name in report["definitions"])


def test_a_run_on_images_is_compared_by_its_text_tower_and_one_on_texts_across_too(graded_home):
    texts = list(measured(graded_home, run="texts")["metrics"])
    assert texts == ["first_text", "second_text", "across", "raw toy-text mean"]
    report = measured(graded_home, run="images", data="stsb")
    assert list(report["metrics"]) == ["text", "raw toy-text mean"]
    assert report["run"] == "images"
    assert (graded_home / "runs" / "images" / "similarity-stsb-val.json").is_file()


def test_across_takes_the_first_text_through_the_first_side(graded_home):
    from lightalign.pipelines.common.progress import SILENT
    from lightalign.pipelines.inputs.store_selection import DatasetQuery
    from lightalign.pipelines.runs.trained_run import TrainedRun
    from lightalign.pipelines.similarity.graded_split import GradedSplit
    from lightalign.pipelines.similarity.scorers import make_scorers
    from lightalign.pipelines.similarity.text_stores import TextStores

    run = TrainedRun(graded_home, "texts", device="cpu")
    stores = TextStores(graded_home, DatasetQuery("stsb", None), "val", SILENT)
    queries = {side: run.query(side) for side in TEXT_TEXT}
    split = GradedSplit(graded_home, {query: stores.find(query) for query in queries.values()})
    scorers, warnings = make_scorers(queries, [], split, run)
    across = next(one for one in scorers if one.label == "across")
    ids = split.ids[3]
    vectors = [
        leg.embed(split.reader(leg.query), np.array([split.reader(leg.query).row_of[name]]))[0]
        for leg, name in zip((across.first, across.second), ids, strict=True)
    ]
    assert split.cosines(across)[3] == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    one, other = (split.cosines(scorer)[3] for scorer in scorers[:2])
    assert len({round(value, 4) for value in (one, other, split.cosines(across)[3])}) == 3
    assert warnings == []


def test_the_tower_of_a_run_embeds_texts_as_the_run_itself_does(graded_home):
    import lightalign

    run = lightalign.load(graded_home / "runs" / "texts")
    source = open_source("stsb", home=graded_home)
    texts = {item.id: item.text for item in source.items("val", Modality.TEXT)}
    pair = source.pairs("val").grades.links[0]
    one, other = run.embed_texts([texts[name] for name in pair[:2]], side="first_text")
    report = measured(graded_home, run="texts", data=f"stsb={graded_home / 'datasets' / 'stsb'}")
    from scipy import stats

    cosines = []
    for first, second, _ in source.pairs("val").grades.links:
        vectors = run.embed_texts([texts[first], texts[second]], side="first_text")
        cosines.append(float(vectors[0] @ vectors[1]))
    assert cosines[0] == pytest.approx(float(one @ other), abs=1e-5)
    grades = [grade for *_, grade in source.pairs("val").grades.links]
    expected = 100 * stats.pearsonr(cosines, grades).statistic
    assert report["metrics"]["first_text"]["pearson"]["value"] == pytest.approx(expected, abs=0.1)
    assert {tuple(pair["texts"]) for pair in report["failures"]} <= {
        (texts[first], texts[second]) for first, second, _ in source.pairs("val").grades.links
    }


def test_fitting_on_the_measured_pairs_is_warned_of(graded_home):
    report = measured(graded_home, encoders=("toy-text",), split="train")
    assert any("fitted on the very pairs" in line for line in report["warnings"])


def test_pairs_with_a_text_that_the_adapter_was_trained_on_are_counted(
    graded_home, tmp_path, monkeypatch
):
    """Two of eight pairs hold a caption of the training, in the first or the second place."""
    shapes = open_source("shapes", home=graded_home, options=SCENES)
    captions = [item.text for item in shapes.items("train", Modality.TEXT)][:2]
    rows = [(f"words of {n}", f"and of {n}", n % 2) for n in range(6)]
    rows += [(captions[0], "nothing alike", 0), ("nothing like it", captions[1], 1)]
    table = tmp_path / "pairs.csv"
    write_csv(table, ["first", "second", "label", "split"], [(*row, "val") for row in rows])
    data = f"text-pair-table={table}"
    home = tmp_path / "home"
    home.mkdir()
    for part in ("features", "runs"):
        shutil.copytree(graded_home / part, home / part)
    extract_toy(home, "toy-text", data=data, source={}, features=("tokens",), split="val")
    report = measured(home, run="images", data=data, split="val")
    line = "2 of 8 measured pairs hold a text that the adapter was trained on, without its grade"
    assert line in report["warnings"]
    assert report["leakage"]["num_pairs_with_trained_texts"] == 2
    assert not any("was trained on" in line for line in measured(home, run="images")["warnings"])
    with monkeypatch.context() as patched:  # as of an earlier version, which kept no marks
        patched.setattr("lightalign.pipelines.similarity.text_overlap.marks_of", lambda *_: None)
        assert line in measured(home, run="images", data=data, split="val")["warnings"]
        patched.setattr("lightalign.pipelines.similarity.text_overlap._MOST_COSINES", 1)
        many = "leakage not checked: the texts that images was trained on are too many to compare"
        assert many in measured(home, run="images", data=data, split="val")["warnings"]
    shutil.rmtree(home / "features" / "shapes")
    gone = "leakage not checked: the texts that images was trained on had a store that is not in"
    assert f"{gone} {home}" in measured(home, run="images", data=data, split="val")["warnings"]


def test_shares_without_a_miss_have_a_width_and_those_of_nothing_no_interval(graded_home):
    """Below a threshold of -1 all 12 pairs are called alike, of which 6 are."""
    report = measured(graded_home, encoders=("toy-text",), threshold=-1.0)
    fixed = report["metrics"]["raw toy-text mean"]["fixed"]
    assert fixed["recall_1"]["value"] == 100.0
    assert fixed["recall_1"]["interval"][0] < 90.0
    assert "interval" not in fixed["precision_0"]
    assert any("rest on 4 groups" in line for line in report["warnings"])


def test_pairs_that_have_a_text_in_common_are_of_one_group(graded_home):
    """Three pairs in a row share texts; without the middle one the outer ones do not."""
    from lightalign.pipelines.inputs.store_selection import DatasetQuery
    from lightalign.pipelines.similarity.graded_split import GradedSplit
    from lightalign.pipelines.similarity.text_stores import TextStores

    stores = TextStores(graded_home, DatasetQuery("stsb", None), "val")
    query = SideQuery(encoder="toy-text")
    split = GradedSplit(graded_home, {query: stores.find(query)})
    assert split.groups.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    del split.groups, split.ids[1], split.ids[2:]
    assert split.groups.tolist() == [0, 1]


def test_pairs_that_are_both_fitted_on_and_measured_are_found_and_named(tmp_path):
    root = tmp_path / "datasets" / "qqp"
    root.mkdir(parents=True)
    glue_qqp(root)
    training = (root / "train.tsv").read_text().splitlines()
    swapped = training[1].split("\t")
    swapped[3:5] = [f"  {swapped[4].upper()}!", swapped[3]]
    dev = root / "dev.tsv"
    dev.write_text(dev.read_text() + "\t".join(swapped) + "\n")
    extract_toy(tmp_path, "toy-text", data="qqp", source={})
    report = measured(tmp_path, encoders=("toy-text",))
    assert report["leakage"] == {
        "num_shared_pairs": 1,
        "shared_pairs": [
            {"measured": ["val-13#1", "val-13#2"], "fitted": ["train-1#1", "train-1#2"]}
        ],
    }
    (line,) = (line for line in report["warnings"] if "rest on" not in line)
    assert line.startswith("leakage: 1 of 13 measured pairs")
    assert line.endswith("are fitted on: val-13#1 with val-13#2")


def test_where_the_texts_are_gone_it_is_said_that_shared_pairs_were_not_looked_for(tmp_path):
    root = tmp_path / "datasets" / "qqp"
    root.mkdir(parents=True)
    glue_qqp(root)
    extract_toy(tmp_path, "toy-text", data="qqp", source={})
    assert measured(tmp_path, encoders=("toy-text",))["leakage"]["num_shared_pairs"] == 0
    shutil.rmtree(root)
    report = measured(tmp_path, encoders=("toy-text",))
    assert "lightalign data move qqp PATH" in report["leakage"]["not_checked"][0]
    assert [line.split(":")[0] for line in report["warnings"] if "rest on" not in line] == [
        "leakage not checked",
        "worst pairs without their texts",
    ]
    assert not any("texts" in pair for pair in report["failures"])


def test_without_a_training_part_no_threshold_is_fitted_and_the_command_is_named(tmp_path):
    root = tmp_path / "datasets" / "qqp"
    root.mkdir(parents=True)
    glue_qqp(root)
    extract_toy(tmp_path, "toy-text", data="qqp", source={}, split="val")
    report = measured(tmp_path, encoders=("toy-text",))
    assert "fitted" not in report["metrics"]["raw toy-text mean"]
    with pytest.raises(
        StoreNotFoundError, match=rf"minilm --data 'qqp={root}'|minilm --data qqp={root}"
    ):
        measured(tmp_path, data=f"qqp={root}", encoders=("minilm",))
    line = report["warnings"][0]
    words = "--encoder toy-text --data qqp --precision float32"  # of the stores that are measured
    assert f"`lightalign extract {words} --home {tmp_path}`" in line
    assert "fixed F1 of alike, %" in map(str, similarity_parts(report)[0].columns[0].cells)


def test_texts_that_were_not_extracted_are_named_with_the_command(graded_home):
    words = "extract --encoder toy-text --data sick"
    for changes, exactly in (
        ({"run": "images"}, " --precision float32"),
        ({"encoders": ("toy-text",)}, ""),
    ):
        with pytest.raises(StoreNotFoundError, match=f"{words}{exactly} --home {graded_home}`"):
            measured(graded_home, data="sick", **changes)
    command = f"run `lightalign extract --encoder minilm --data qqp --home {graded_home}`"
    with pytest.raises(StoreNotFoundError, match=command):
        measured(graded_home, encoders=("minilm",))
    with pytest.raises(StoreNotFoundError, match=r"have: \['qqp/train/toy-text \(text\)', 'qqp/tr"):
        measured(graded_home, encoders=("minilm",))
    with pytest.raises(UnknownNameError, match=r"no split named 'test'; .*'train', 'val'"):
        measured(graded_home, encoders=("toy-text",), split="test")


def test_a_dataset_without_grades_and_a_threshold_that_is_no_cosine_are_refused(graded_home):
    with pytest.raises(SpecError, match="'shapes' has no graded pairs"):
        measured(graded_home, data="shapes", encoders=("toy-text",))
    with pytest.raises(SpecError, match="threshold must be from -1 to 1, found 2"):
        measured(graded_home, threshold=2.0)


def test_nothing_is_trained_on_graded_pairs_and_no_images_come_from_them(graded_home):
    graded = "'qqp' holds graded pairs of texts, to measure by"
    for changes in ({"preset": "linear"}, TEXTS):
        fields = {"home": graded_home, "data": "qqp", "device": "cpu", **changes}
        with pytest.raises(SpecError, match=graded):
            train.run(TrainSpec(**fields))
    with pytest.raises(SpecError, match="of qqp holds image items"):
        extract_toy(graded_home, "toy-image", data="qqp", source={})


def test_the_verb_prints_tables_or_one_json_object(graded_home):
    command = ["similarity", "--data", "qqp", "--encoder", "toy-text", "--device", "cpu"]
    shown = lightalign(*command, home=graded_home)
    assert shown.returncode == 0, shown.stderr
    assert "raw toy-text mean" in shown.stdout
    assert "fitted threshold" in shown.stdout
    printed = json.loads(lightalign(*command, "--json", home=graded_home).stdout)
    assert printed["kind"] == "similarity"


def test_the_stores_of_a_raw_encoder_are_found_by_what_they_keep(graded_home):
    from lightalign.pipelines.inputs.store_selection import DatasetQuery
    from lightalign.pipelines.similarity.text_stores import TextStores

    stores = TextStores(graded_home, DatasetQuery("stsb", None), "val")
    assert stores.find(SideQuery(encoder="minilm")) is None
    raw = stores.raw_encoder(stores.find(SideQuery(encoder="toy-text")))
    assert (raw.label, sorted(raw.by_kind)) == ("toy-text", ["mean", "tokens"])
