"""What an evaluation has in common with the training is found."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache.errors import LeakageError, SpecError
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.store import catalog
from lightalign.pipelines.classification import fine_tune, probe, zero_shot
from lightalign.pipelines.classification.fine_tune_spec import FineTuneSpec, options_of
from lightalign.pipelines.classification.sgd_options import SgdOptions
from lightalign.pipelines.classification.zero_shot_spec import ZeroShotSpec
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.inputs.image_text import join_stores
from lightalign.pipelines.inputs.pairs import BatchRows
from lightalign.pipelines.inputs.store_selection import StoreQuery, require_pair
from lightalign.pipelines.loaded_run import load
from lightalign.pipelines.runs import copied_items, leakage, run_folder
from lightalign.pipelines.runs.leakage import NEAR, EvaluatedItems, near_bound
from lightalign.pipelines.runs.trained_run import TrainedRun
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import changed_report, lightalign
from ..class_homes import write_split
from ..conftest import extract_toy

QUICK = ("train.epochs=1", "train.batch_size=8", "train.precision=float32")


def trained(home, *overrides, **fields):
    spec = TrainSpec(
        preset="linear", home=home, overrides=(*QUICK, *overrides), device="cpu", **fields
    )
    return train.run(spec)


def evaluate(home, **fields):
    return retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu", **fields)).report


def classify(home, **fields):
    return zero_shot.run(ZeroShotSpec(home=home, device="cpu", **fields)).report


def write_photos(folder, splits):
    """Write pictures of random cells and a table; a split's number is the seed of each picture."""
    folder.mkdir(parents=True)
    lines = ["image,caption,split"]
    for split, seeds in splits.items():
        for seed in seeds:
            cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            name = f"{split}-{seed}.png"
            Image.fromarray(cells).resize((32, 32), Image.Resampling.NEAREST).save(folder / name)
            lines.append(f"{name},words of {split} and {seed},{split}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return f"image-text-table={folder}"


def extracted(home, data):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, data=data, source={})


def test_a_split_that_chose_the_epoch_is_refused_or_marked(home):
    folder = trained(home).folder
    with pytest.raises(LeakageError, match=r"split 'val' of shapes chose the epoch of .*--allow-"):
        evaluate(home, split="val")
    assert not list(folder.glob("retrieval-*"))
    report = evaluate(home, split="val", allow_leakage=True)
    assert "chose the epoch" in report["warnings"][0]
    assert report["leakage"]["allowed"] is True
    assert len(report["leakage"]["choosing"]["image"]) == 8


def test_a_test_split_that_chose_the_epoch_is_refused_and_another_is_not(home):
    trained(home, "train.validation=test")
    with pytest.raises(LeakageError, match="split 'test' of shapes chose the epoch"):
        evaluate(home)
    assert evaluate(home, split="val")["leakage"]["errors"] == []


def test_a_split_that_chose_nothing_is_evaluated(home):
    trained(home, "train.validation=none")
    assert evaluate(home, split="val")["leakage"]["allowed"] is False


def test_the_split_that_was_trained_on_is_refused_or_marked(home):
    trained(home)
    with pytest.raises(LeakageError, match="24 evaluated images were trained on: shapes"):
        evaluate(home, split="train")
    report = evaluate(home, split="train", allow_leakage=True)
    assert len(report["leakage"]["shared"]["text"]) == 120
    assert all(one["interval"] for one in report["metrics"]["text_to_image"]["recall"].values())


def test_an_item_of_a_larger_test_split_that_was_trained_on_is_named(tmp_path):
    """The same photos, split anew: train-3 was trained on and is now in the test split."""
    first = write_photos(tmp_path / "a", {"train": range(12), "test": range(20, 26)})
    extracted(tmp_path, first)
    trained(tmp_path, "train.validation=none", data=first)
    table = (tmp_path / "a" / "table.csv").read_text()
    moved = table.replace("words of train and 3,train", "words of train and 3,test")
    assert moved != table
    (tmp_path / "a" / "table.csv").write_text(moved)
    extracted(tmp_path, first)
    with pytest.raises(LeakageError, match=r"1 evaluated images were trained on: train-3\.png"):
        evaluate(tmp_path, data=first)


def test_a_photo_planted_in_both_splits_is_found_and_named(tmp_path):
    """Another name, size and bytes: planted.png shows what train-5.png does."""
    data = write_photos(tmp_path / "a", {"train": range(40), "test": range(100, 120)})
    with Image.open(tmp_path / "a" / "train-5.png") as photo:
        larger = photo.resize((64, 64), Image.Resampling.NEAREST)
    larger.save(tmp_path / "a" / "planted.png")
    table = (tmp_path / "a" / "table.csv").read_text()
    (tmp_path / "a" / "table.csv").write_text(f"{table}planted.png,planted words,test\n")
    extracted(tmp_path, data)
    trained(tmp_path, "train.validation=none")
    report = evaluate(tmp_path)
    nearest = report["leakage"]["near_duplicates"][0]
    assert (nearest["evaluated"], nearest["trained"]) == ("planted.png", "train-5.png")
    assert nearest["cosine"] > 0.99
    (warning,) = [line for line in report["warnings"] if "near duplicates" in line]
    assert "planted.png and train-5.png" in warning
    assert report["leakage"]["errors"] == []


def test_images_of_two_image_encoders_are_compared_as_those_of_one_are(tmp_path):
    """copy.png has the bytes of train-5.png, and its features by either encoder."""
    data = write_photos(tmp_path / "a", {"train": range(40), "test": range(100, 120)})
    shutil.copy(tmp_path / "a" / "train-5.png", tmp_path / "a" / "copy.png")
    table = (tmp_path / "a" / "table.csv").read_text()
    (tmp_path / "a" / "table.csv").write_text(f"{table}copy.png,other words,test\n")
    extracted(tmp_path, data)
    twins = ("first_image=toy-image", "second_image=toy-image")
    folder = trained(tmp_path, "train.validation=none", encoder=twins).folder
    run = TrainedRun(tmp_path, folder.name, device="cpu")
    query = StoreQuery.of(run.dataset_query(None, None), "test", run.queries)
    stores = join_stores(require_pair(tmp_path, query), home=tmp_path)
    rows = np.arange(len(stores.first))
    found = leakage.find_leakage(run, EvaluatedItems.of(stores, BatchRows(rows, rows)))
    assert found.copies == {"copy.png": "train-5.png"}
    assert found.near[0][:2] == ("copy.png", "train-5.png")
    # a pair counts once, although two encoders see it
    assert len({pair[:2] for pair in found.near}) == len(found.near) == found.num_near
    # a rule for texts would do nothing here
    with pytest.raises(SpecError, match="--same-text is of texts: this run aligns two image enc"):
        evaluate(tmp_path, run=folder.name, same_text="positive")


def test_copies_under_other_ids_are_found_whatever_the_features_are(tmp_path, monkeypatch):
    """copy.png has the bytes of train-5.png; large.png has its size, and other bytes."""
    data = write_photos(tmp_path / "a", {"train": range(60), "test": range(100, 106)})
    content = (tmp_path / "a" / "train-5.png").read_bytes()
    (tmp_path / "a" / "copy.png").write_bytes(content)
    (tmp_path / "a" / "large.png").write_bytes(content + b"\0")
    table = (tmp_path / "a" / "table.csv").read_text()
    more = "copy.png,Words of  TRAIN and 5,test\nlarge.png,others,test\n"
    (tmp_path / "a" / "table.csv").write_text(table + more)
    extracted(tmp_path, data)
    monkeypatch.setattr(leakage, "near_bound", lambda _: None)  # they tell nothing
    trained(tmp_path, "train.validation=none")
    report = evaluate(tmp_path)
    found = report["leakage"]
    assert (found["num_near_duplicates"], found["num_copied_images"]) == (0, 1)
    assert found["copied_images"] == [{"evaluated": "copy.png", "trained": "train-5.png"}]
    assert found["num_same_texts"] == 1
    lines = [line for line in report["warnings"] if "copy.png" in line]
    assert any("1 evaluated images are copies, byte by byte, of trained ones" in x for x in lines)
    assert any("1 evaluated texts say the same as a trained one" in x for x in lines)


def test_a_copy_of_a_trained_item_that_cannot_be_looked_for_is_said(tmp_path):
    data = write_photos(tmp_path / "a", {"train": range(12), "test": range(20, 26)})
    extracted(tmp_path, data)
    trained(tmp_path, "train.validation=none")
    (tmp_path / "a").rename(tmp_path / "b")
    (line,) = evaluate(tmp_path)["leakage"]["not_checked"]
    assert line.startswith("which evaluated images are copies of trained ones, by the files of")
    assert "lightalign data move image-text-table PATH" in line


def test_more_pictures_of_equal_sizes_than_are_read_are_said(tmp_path, monkeypatch):
    data = write_photos(tmp_path / "a", {"train": range(12), "test": range(20, 26)})
    shutil.copy(tmp_path / "a" / "train-3.png", tmp_path / "a" / "test-20.png")
    extracted(tmp_path, data)
    trained(tmp_path, "train.validation=none")
    monkeypatch.setattr(copied_items, "_MOST_READ", 1)  # and two have one size
    (line,) = evaluate(tmp_path)["leakage"]["not_checked"]
    assert line.endswith("more than 1 images have equal sizes and are not read")


def test_photos_that_were_trained_on_are_found_among_classes_too(tmp_path):
    """Of six photos in folders of classes two are those of the training, under other names."""
    data = write_photos(tmp_path / "a", {"train": range(40), "test": range(100, 106)})
    classes = tmp_path / "classes"
    for name, photos in {
        "left": ("train-5", "test-100", "test-101"),
        "right": ("train-6", "test-102", "test-103"),
    }.items():
        (classes / "test" / name).mkdir(parents=True)
        for photo in photos:
            shutil.copy(tmp_path / "a" / f"{photo}.png", classes / "test" / name / f"{photo}x.png")
    extracted(tmp_path, data)
    trained(tmp_path, "train.validation=none")
    extract_toy(tmp_path, "toy-image", data=f"image-folder={classes}", source={})
    found = classify(tmp_path, data="image-folder", split="test")["leakage"]
    nearest = found["near_duplicates"][:2]
    assert {(one["evaluated"], one["trained"]) for one in nearest} == {
        ("test/left/train-5x.png", "train-5.png"),
        ("test/right/train-6x.png", "train-6.png"),
    }
    assert {(one["evaluated"], one["trained"]) for one in found["copied_images"]} == {
        ("test/left/train-5x.png", "train-5.png"),
        ("test/right/train-6x.png", "train-6.png"),
    }
    shutil.rmtree(next((tmp_path / "features" / "image-text-table" / "train").glob("toy-image*")))
    report = classify(tmp_path, data="image-folder", split="test")
    assert report["leakage"]["not_checked"]
    assert any("leakage not checked" in line for line in report["warnings"])


def test_copies_of_what_a_classifier_is_trained_on_are_found(tmp_path):
    """test-8x.png has the bytes of train-8.png; all other pictures are drawn apart."""
    data = write_photos(tmp_path / "a", {"train": range(12), "test": range(100, 112)})
    classes = tmp_path / "classes"
    for split, first in (("train", 0), ("test", 100)):
        for number in range(12):
            folder = classes / split / ("left" if number % 2 else "right")
            folder.mkdir(parents=True, exist_ok=True)
            seed = np.random.default_rng(first + 1000 + number)
            cells = seed.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(cells).save(folder / f"{split}-{number}.png")
    shutil.copy(classes / "train/right/train-8.png", classes / "test/right/test-8x.png")
    extracted(tmp_path, data)
    trained(tmp_path, "train.validation=none")
    extract_toy(tmp_path, "toy-image", data=f"image-folder={classes}", source={})
    expected = [{"evaluated": "test/right/test-8x.png", "trained": "train/right/train-8.png"}]
    asked = {"home": tmp_path, "device": "cpu", "data": "image-folder"}
    probed = probe.run(probe.ProbeSpec(protocol="knn", **asked)).report
    assert probed["leakage"]["copied_images"] == expected
    assert any("1 evaluated images are copies" in line for line in probed["warnings"])
    options = options_of("full", {"epochs": 1})
    tuned = fine_tune.run(FineTuneSpec(protocol="full", **asked, **options)).report
    assert tuned["leakage"]["copied_images"] == expected


def test_one_evaluated_photo_is_no_near_duplicate_of_others(tmp_path):
    """The middle of a single photo would be the photo itself."""
    data = write_photos(tmp_path / "a", {"train": range(12), "test": [100]})
    extracted(tmp_path, data)
    trained(tmp_path, "train.validation=none")
    assert evaluate(tmp_path)["leakage"]["num_near_duplicates"] == 0


@pytest.mark.slow
def test_what_chose_the_run_that_was_fine_tuned_is_still_refused(home, tmp_path):
    """The published protocol leaves the adapter as it was, and so all that it has seen."""
    (home / "features").unlink()
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder)
    photos = tmp_path / "photos"
    for split, seeds in (("train", range(6)), ("test", range(6, 12))):
        for seed in seeds:
            cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            folder = photos / split / ("even" if seed % 2 == 0 else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(cells).resize((32, 32)).save(folder / f"{seed}.png")
    extract_toy(home, "toy-image", data=f"image-folder={photos}", source={})
    trained(home, name="mine")
    sgd = SgdOptions(epochs=1, every=1)
    spec = FineTuneSpec(home=home, data="image-folder", run="mine", protocol="lightcrl", sgd=sgd)
    tuned = fine_tune.run(replace(spec, name="tuned", device="cpu")).folder
    assert run_folder.find_run(home, None).name == "mine"  # the newest that was trained on pairs
    with pytest.raises(LeakageError, match=r"split 'val' of shapes chose the epoch of mine"):
        evaluate(home, run="tuned", data="shapes", split="val")
    with pytest.raises(LeakageError, match=r"24 evaluated images were trained on"):
        evaluate(home, run="tuned", data="shapes", split="train")
    report = evaluate(home, run=str(tuned), data="shapes", split="test")
    assert report["leakage"]["errors"] == []
    with pytest.raises(
        LeakageError, match=r"6 evaluated images were trained on: .*: evaluate on other items$"
    ):
        classify(home, run="tuned", data="image-folder", split="train")


def test_texts_that_say_what_a_trained_one_does_are_counted_and_named(tmp_path):
    """One of six test captions is a training caption in other letters, under another id."""
    data = write_photos(tmp_path / "a", {"train": range(12), "test": range(20, 26)})
    table = (tmp_path / "a" / "table.csv").read_text()
    copied = table.replace("words of test and 22,", "Words of  TRAIN and 3,")
    assert copied != table
    (tmp_path / "a" / "table.csv").write_text(copied)
    extracted(tmp_path, data)
    trained(tmp_path, "train.validation=none", data=data)
    report = evaluate(tmp_path, data=data)
    (pair,) = report["leakage"]["same_texts"]
    assert (pair["evaluated"].split("#")[0], pair["trained"].split("#")[0]) == (
        "test-22.png",
        "train-3.png",
    )
    (warning,) = [line for line in report["warnings"] if "say the same as a trained" in line]
    assert warning.startswith("1 evaluated texts")
    (path,) = (tmp_path / "features" / "image-text-table" / "train").glob("pairs--*.json")
    old = catalog.read_pairs(path)
    catalog.write_pairs(path, replace(old, labels={}))
    (line,) = [one for one in evaluate(tmp_path)["warnings"] if "which evaluated texts say" in one]
    command = line.split("`")[1].split()
    assert lightalign(*command[1:], home=tmp_path).returncode == 0
    assert catalog.read_pairs(path) == old


def bound_of(home, rows):
    """Return the bound of near duplicates by a store of these rows, one token each."""
    features, labels = rows.astype(np.float32)[:, None], np.zeros(len(rows), dtype=int)
    return near_bound(FeatureReader(write_split(home, "train", features, labels).folder))


def directions(count, spread, width=16):
    """Return rows about one direction; the middle is taken off before they are compared."""
    random = np.random.default_rng(0)
    return 1.0 + spread * random.standard_normal((count, width))


def test_different_images_that_are_far_apart_leave_the_bound_as_it_is(tmp_path):
    assert bound_of(tmp_path, directions(500, 1.0)) == NEAR


def test_images_that_lie_along_one_line_make_a_stricter_bound_or_none(tmp_path):
    """On an arc of 500 rows a row's nearest is about 2 pi / 500 away: a cosine of 1 - 8e-5.

    Of 120 rows it is 1 - 0.0014, nearer than `NEAR`, but not within rounding.
    """
    for count, told in ((500, False), (120, True)):
        angles = 2 * np.pi * np.arange(count) / count
        rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        found = bound_of(tmp_path / str(count), rows)
        if told:
            assert found == pytest.approx(1 - (1 - np.cos(2 * np.pi / count)), abs=1e-4)
        else:
            assert found is None


def test_duplicates_within_the_training_do_not_hide_those_outside(tmp_path):
    """A third of the rows are there twice; the bound is that of the others."""
    rows = directions(600, 1.0)
    rows[500:] = rows[:100]
    assert bound_of(tmp_path, rows) == NEAR


@pytest.mark.slow
def test_weak_features_warn_of_nothing_they_cannot_tell(tmp_path):
    """All pictures are one grey tone each: by mean colour every one has near ones."""
    (tmp_path / "a").mkdir()
    lines = ["image,caption,split"]
    for number in range(260):
        name, split = f"{number}.png", "train" if number < 200 else "test"
        Image.new("RGB", (16, 16), (number % 256,) * 3).save(tmp_path / "a" / name)
        lines.append(f"{name},words {number},{split}")
    (tmp_path / "a" / "table.csv").write_text("\n".join(lines) + "\n")
    extracted(tmp_path, f"image-text-table={tmp_path / 'a'}")
    trained(tmp_path, "train.validation=none")
    report = evaluate(tmp_path)
    assert report["leakage"]["num_near_duplicates"] == 0
    assert any("cannot tell which are nearly the same" in line for line in report["warnings"])


def test_ids_that_only_count_are_no_overlap(tmp_path):
    """Two tables whose pictures are called 0.png, 1.png ... but show other things."""
    for folder, start in (("a", 0), ("b", 500)):
        (tmp_path / folder).mkdir()
        lines = ["image,caption,split"]
        for number in range(12):
            cells = np.random.default_rng(start + number).integers(0, 256, (4, 4, 3))
            Image.fromarray(cells.astype(np.uint8)).save(tmp_path / folder / f"{number}.png")
            split = "train" if (number < 8) == (folder == "a") else "test"
            lines.append(f"{number}.png,words {start + number},{split}")
        (tmp_path / folder / "table.csv").write_text("\n".join(lines) + "\n")
    first, second = (f"image-text-table={tmp_path / folder}" for folder in "ab")
    extracted(tmp_path, first)
    trained(tmp_path, "train.validation=none", data=first)
    extracted(tmp_path, second)
    report = evaluate(tmp_path, data=second)
    assert report["leakage"]["errors"] == []
    assert any("taken for mere numbers" in warning for warning in report["warnings"])


def test_what_cannot_be_compared_is_said(home):
    """Without the stores that were trained on there is nothing to compare with."""
    folder = trained(home, "train.validation=none").folder
    with changed_report(folder) as report:
        for side in ("image", "text"):
            report["spec"]["stores"]["train"][side]["key"] = "0" * 64
    warnings = evaluate(home)["warnings"]
    assert sum("leakage not checked: the train store of" in line for line in warnings) == 2


def test_another_scoring_stands_beside_the_cosine(home):
    trained(home, "train.validation=none")
    plain, normed, dual = (
        evaluate(home, scoring=name) for name in ("cosine", "qb-norm", "dual-softmax")
    )
    for name, report in (("qb_norm", normed), ("dual_softmax", dual)):
        assert report["metrics"]["recall_sum"] == plain["metrics"]["recall_sum"]
        assert 0 <= report["metrics"][name]["recall_sum"]["value"] <= 600
        assert name in report["definitions"]
    assert any("transductive" in line for line in dual["warnings"])
    assert not any("transductive" in line for line in normed["warnings"])


def test_a_bank_never_holds_an_evaluated_item(home):
    trained(home, "train.validation=none")
    with pytest.raises(SpecError, match="no bank: every training item is evaluated"):
        evaluate(home, split="train", scoring="qb-norm", allow_leakage=True)


def test_a_loaded_run_gives_the_numbers_of_the_command(home):
    folder = trained(home, "train.validation=none").folder
    loaded = load(folder, home=home, device="cpu")
    found = loaded.retrieve(split="val", k=5)
    written = json.loads((folder / "retrieval-shapes-val.json").read_text())
    expected = evaluate(home, split="val", k=5)
    for report in (found, written):
        assert report["metrics"]["recall_sum"] == expected["metrics"]["recall_sum"]
        assert report["split_hash"] == expected["split_hash"]
    with pytest.raises(SpecError, match="retrieve has no option 'ks'; known"):
        loaded.retrieve(ks=5)
