"""A small home folder, extracted with the toy encoders."""

import shutil
from pathlib import Path

import pytest

from lightalign.featcache.encoders import probe
from lightalign.pipelines.extraction import extract
from lightalign.pipelines.extraction.reports import ExtractReport
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.ranking import index_tuning

from .question_tables import write_questions

SCENES = {"train": 24, "val": 8, "test": 8, "size": 64}
SMALL_JOINT = (
    "joint.fuse.layers=1",
    "joint.fuse.feedforward=32",
    "joint.fuse.dropout=0.0",
    "joint.fuse.spread=0.3",
    "towers.both.project.out=32",
    "towers.both.project.spread=0.5",
    "heads.itm.spread=0.5",
    "train.epochs=2",
    "train.batch_size=16",
    "train.learning_rate=3e-3",
)
# enough training images to rank encoders by
MANY_SCENES = {"train": 96, "val": 8, "test": 8, "size": 32}
GRADED = "captions\tMSRvid\t2012\t{n:04}\t{grade}\ta {n} dog runs\tthe man number {n}"


def extract_toy(home: Path, encoder: str, **changes) -> ExtractReport:
    fields = {
        "encoders": (encoder,),
        "data": "shapes",
        "home": home,
        "source": SCENES,
        "device": "cpu",
        "rows_per_shard": 10,
        "precision": "float32",  # else the kind of the processor decides on keys and on numbers
    }
    return extract.run(ExtractSpec(**{**fields, **changes}))


def extract_graded(home: Path) -> None:
    """Extract the texts of a small `stsb`: twelve graded pairs a split."""
    folder = home / "datasets" / "stsb"
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        rows = [GRADED.format(n=n, grade=n % 5 + 0.25) for n in range(12)]
        (folder / f"sts-{split}.csv").write_text("\n".join(rows) + "\n")
    extract_toy(home, "toy-text", data="stsb", source={})


@pytest.fixture(scope="session", autouse=True)
def short_measurements():
    """Measure once how fast an index is; no test looks at how fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_tuning, "LEAST_SECONDS", 0.0)
        yield


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with stores of all splits of a small `shapes`; read only."""
    home = tmp_path_factory.mktemp("toy-home")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder)
    return home


@pytest.fixture
def home(toy_home, tmp_path):
    """Return a home with the toy stores and no run yet."""
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "features").symlink_to(toy_home / "features")
    return tmp_path / "h"


def extract_questions(place: Path, **changes) -> Path:
    """Return a home with the features of `write_questions`."""
    table = write_questions(place / "pictures", **changes)
    for encoder in ("toy-image", "toy-text"):
        extract_toy(place / "home", encoder, data=f"vqa-table={table}", source={})
    return place / "home"


@pytest.fixture(scope="session")
def toy_questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with stores of questions about pictures of one colour; read only."""
    return extract_questions(tmp_path_factory.mktemp("toy-questions"))


@pytest.fixture
def questions(toy_questions, tmp_path):
    """Return a home with the stores of questions and no run yet."""
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "features").symlink_to(toy_questions / "features")
    return tmp_path / "q"


@pytest.fixture
def untried(monkeypatch):
    """Have encoders not be tried on anything when they are loaded, where a test counts calls."""
    monkeypatch.setattr(probe, "require_repeatable", lambda encoder: None)


@pytest.fixture(scope="session")
def matching_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a dual run `dual` and a joint run `joint` on other features; read only.

    The joint run reads a grid of four tokens of each image, the dual one the mean of all.
    """
    home = tmp_path_factory.mktemp("matching-home")
    extract_toy(home, "toy-image", features=("mean", "grid:2x2"))
    extract_toy(home, "toy-text", features=("mean", "tokens"))
    train_matching(home)
    return home


def train_matching(home: Path) -> None:
    """Train both runs of `matching_home`; the joint one begins with scores that differ."""
    from lightalign.pipelines.training import train
    from lightalign.pipelines.training.joint_spec import TrainJointSpec
    from lightalign.pipelines.training.spec import TrainSpec

    train.run(
        TrainSpec(
            home=home,
            preset="linear",
            data="shapes",
            image_features=("mean",),
            text_features=("mean",),
            overrides=("train.epochs=1", "train.batch_size=8"),
            device="cpu",
            name="dual",
        )
    )
    train.run_joint(
        TrainJointSpec(
            home=home,
            preset="vle/small",
            data="shapes",
            image_features="grid:2x2",
            negatives_from="dual",
            overrides=SMALL_JOINT,
            device="cpu",
            name="joint",
        )
    )


@pytest.fixture
def matching(matching_home: Path, tmp_path: Path) -> Path:
    """Return a copy of `matching_home` whose runs a test may change."""
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "features").symlink_to(matching_home / "features")
    shutil.copytree(matching_home / "runs", tmp_path / "h" / "runs")
    return tmp_path / "h"
