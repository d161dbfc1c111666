"""A command that a message prints runs as printed, and names the home where it has to."""

import os
import shlex
import shutil
from pathlib import Path

import pytest

from lightalign.adapters.checkpoint import load_adapter
from lightalign.featcache.errors import (
    RunNotFoundError,
    StoreCorruptError,
    StoreIncompleteError,
    StoreNotFoundError,
)
from lightalign.featcache.home import VARIABLE, command_line, expanded, usual_home
from lightalign.featcache.known_datasets import version_of
from lightalign.featcache.store.catalog import list_stores, read_pairs
from lightalign.featcache.store.checked_shards import not_finite
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.store.manifest import COPY, MANIFEST, read_manifest, restore_manifest
from lightalign.featcache.store.remedies import extraction
from lightalign.featcache.types import Modality
from lightalign.pipelines.evaluation.retrieve import run as retrieve
from lightalign.pipelines.evaluation.retrieve_spec import RetrieveSpec
from lightalign.pipelines.extraction.extract_command import command_of
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.inputs.store_selection import (
    SideQuery,
    require_pair,
    require_there,
)
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train

from ..helpers import both_sides, lightalign
from ..pipelines.conftest import extract_toy
from ..pipelines.made_runs import made_run
from ..pipelines.runs.test_run_folder import stopped_run
from ..pipelines.training.test_train import QUICK, quick_train


def commands_in(message: str) -> list[list[str]]:
    """Return the words after `lightalign` of each command in backquotes."""
    quoted = message.split("`")[1::2]
    return [shlex.split(part)[1:] for part in quoted if part.startswith("lightalign ")]


def test_a_home_is_named_where_it_is_another_than_the_usual_one(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "usual"))
    assert command_line("runs", "list", home=tmp_path / "usual") == "lightalign runs list"
    other = tmp_path / "an other"
    assert command_line("runs", "list", home=other) == f"lightalign runs list --home '{other}'"


def test_a_link_to_the_usual_home_is_the_usual_home(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "usual")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "link"))
    assert command_line("runs", "list", home=tmp_path / "usual") == "lightalign runs list"


def test_a_relative_home_is_named_for_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command_line("runs", "list", home=Path("h")).endswith(f"--home {tmp_path / 'h'}")


def test_a_user_that_is_not_there_is_a_name(monkeypatch):
    assert expanded(Path("~nosuchuser/x")) == Path("~nosuchuser/x")
    monkeypatch.setenv(VARIABLE, "~nosuchuser")
    assert usual_home() == Path("~nosuchuser")


@pytest.mark.parametrize("name", ["~nosuchuser", "~nosuchuser/x"])
@pytest.mark.parametrize(
    "command",
    [
        ("retrieve",),
        ("runs", "show"),
        ("runs", "rm"),
        ("train-adapter", "--resume"),
        ("report",),
        ("train-adapter", "--data"),
        ("extract", "--encoder", "toy-image", "--data", "shapes", "--weights"),
    ],
)
def test_a_path_of_no_user_is_one_line(home, command, name):
    given = f"flickr8k={name}" if command[-1] == "--data" else name
    done = lightalign(*command, given, home=home)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_both_ways_out_of_a_stopped_run_run_as_printed_whatever_the_home(home, tmp_path):
    stopped_run(home)
    with pytest.raises(RunNotFoundError) as refused:
        retrieve(RetrieveSpec(home=home, run="mine", device="cpu"))
    resume, remove = commands_in(str(refused.value))
    other = tmp_path / "another home"
    assert lightalign(*resume, "--device", "cpu", home=other).returncode == 0
    assert lightalign(*remove, home=other).returncode == 0
    assert run_folder.run_folders(home) == []


def test_the_way_out_of_a_damaged_report_runs_as_printed(home, tmp_path):
    folder = made_run(home, "mine")
    report = folder / run_folder.REPORT
    report.write_text(report.read_text().replace("1", "2", 1))
    with pytest.raises(StoreCorruptError) as refused:
        run_folder.find_run(home, "mine")
    (remove,) = commands_in(str(refused.value))
    assert lightalign(*remove, home=tmp_path / "other").returncode == 0
    assert not folder.exists()


def test_a_copy_of_a_run_outside_a_home_is_removed_by_a_command_that_runs(home, tmp_path):
    folder = made_run(home, "mine")
    copy = folder.rename(tmp_path / "a copy")
    (copy / run_folder.SPEC).write_text("")
    with pytest.raises(StoreCorruptError, match="rm -r"):
        run_folder.find_run(home, str(copy))
    assert shlex.split(run_folder.removal(copy)) == ["rm", "-r", str(copy)]


def test_a_store_that_is_missing_is_asked_for_in_its_home(tmp_path):
    done = lightalign("train-adapter", "--home", str(tmp_path), home=tmp_path / "other")
    for command in commands_in(done.stderr):
        assert command[0] == "extract"
        assert command[-2:] == ["--home", str(tmp_path)]
    assert len(commands_in(done.stderr)) == 2


def test_a_run_of_another_home_goes_on_by_its_folder(home, tmp_path):
    folder = stopped_run(home)
    moved = folder.rename(tmp_path / "elsewhere")
    command = shlex.split(run_folder.resumption(moved, home))
    assert command[:4] == ["lightalign", "train-adapter", "--resume", str(moved)]
    assert train.resume(home, str(moved), device="cpu").report["epochs"] == 2
    assert os.path.lexists(moved / run_folder.REPORT)


def test_what_is_left_out_of_a_retrieval_is_listed_by_a_command_that_runs(tmp_path, monkeypatch):
    """Image 3 of the test split cannot be read; the texts have all their rows."""
    from PIL import Image

    data, home = tmp_path / "data", tmp_path / "h"
    data.mkdir()
    lines = ["image,caption,split"]
    for number in range(12):
        Image.new("RGB", (4, 4), (number * 20, 0, 0)).save(data / f"{number}.png")
        lines.append(f"{number}.png,caption {number},{'test' if number < 6 else 'train'}")
    (data / "3.png").write_bytes(b"gone")
    (data / "t.csv").write_text("\n".join(lines))
    for encoder in ("toy-image", "toy-text"):
        table = f"image-text-table={data}"
        extract_toy(home, encoder, data=table, source={}, max_bad=0.5)
    quick_train(home, data="image-text-table", overrides=("train.validation=none", *QUICK))
    monkeypatch.chdir(tmp_path)  # a place that is named must not depend on the folder
    report = retrieve(RetrieveSpec(home=Path("h"), device="cpu")).report
    (warning,) = [line for line in report["warnings"] if "1 image-caption pairs" in line]
    monkeypatch.chdir("/")
    (command,) = commands_in(warning)
    listed = lightalign(*command, home=tmp_path / "another home")
    assert listed.returncode == 0
    assert "3.png" in listed.stdout


def run_all(message: str, other: Path) -> None:
    """Run every command of a message as printed, in another home; each has to succeed."""
    commands = commands_in(message)
    assert commands
    for command in commands:
        done = lightalign(*command, home=other)
        assert done.returncode == 0, (command, done.stderr)


def store_of(home: Path, encoder: str, split: str = "test") -> Path:
    """Return the folder of a store of `home`, whose features are its own and no link."""
    (entry,) = [
        entry
        for entry in list_stores(home, f"shapes/{split}")
        if entry.description.encoder == encoder
    ]
    return entry.folder


def test_a_drawn_dataset_is_found_by_the_options_that_its_store_was_extracted_with(tmp_path):
    """The index is told no options, and `search` has none: the store's manifest knows them."""
    home = tmp_path / "h"
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder)
    quick_train(home, name="mine", source=None, data=None)
    assert lightalign("index", "mine", "--split", "test", home=home).returncode == 0
    sheet = tmp_path / "sheet.html"
    done = lightalign("search", "mine", "a red circle", "--sheet", str(sheet), home=home)
    assert done.returncode == 0, done.stderr
    assert "not found" not in done.stdout + done.stderr
    assert "shapes=PATH" not in done.stdout + done.stderr


def test_both_manifests_damaged_are_removed_and_extracted_by_what_is_printed(tmp_path):
    home = tmp_path / "h"
    extract_toy(home, "toy-image")
    folder = store_of(home, "toy-image")
    for name in (MANIFEST, COPY):
        (folder / name).write_text("{")
    with pytest.raises(StoreCorruptError, match="both damaged") as refused:
        restore_manifest(folder)
    removal, extraction = commands_in(str(refused.value))
    assert lightalign(*removal, home=tmp_path / "other").returncode == 0
    assert not folder.exists()
    assert extraction[:7] == [
        *("extract", "--encoder", "toy-image", "--data", "shapes", "--split", "test")
    ]


def test_a_store_that_was_removed_meanwhile_is_extracted_by_what_is_printed(tmp_path):
    home = tmp_path / "h"
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder)
    query = both_sides(split="test", dataset="shapes")
    pair = require_pair(home, query)
    shutil.rmtree(pair.entries[Modality.TEXT].folder)
    with pytest.raises(StoreNotFoundError) as refused:
        require_there([pair])
    run_all(str(refused.value), tmp_path / "other")


@pytest.mark.parametrize("content", [b"", b"not tensors"])
def test_a_damaged_adapter_names_the_command_that_removes_its_run(home, tmp_path, content):
    folder = made_run(home, "mine")
    (folder / run_folder.WEIGHTS).write_bytes(content)
    with pytest.raises(StoreCorruptError) as refused:
        load_adapter(folder)
    run_all(str(refused.value), tmp_path / "other")
    assert not folder.exists()


def test_an_incomplete_store_is_completed_by_what_is_printed(tmp_path):
    home = tmp_path / "h"
    extract_toy(home, "toy-image")
    folder = store_of(home, "toy-image", "train")
    FeatureStore(folder, read_manifest(folder)).drop_shards([1])
    with pytest.raises((StoreIncompleteError, StoreCorruptError)) as refused:
        FeatureStore.open(folder)
    run_all(str(refused.value), tmp_path / "other")
    assert FeatureStore.open(folder).missing_shards() == []


def test_damaged_pairs_are_restored_by_what_is_printed(tmp_path):
    home = tmp_path / "h"
    extract_toy(home, "toy-image")
    (path,) = (home / "features" / "shapes" / "test").glob("pairs--*.json")
    path.write_text("{")
    with pytest.raises(StoreCorruptError) as refused:
        read_pairs(path)
    run_all(str(refused.value), tmp_path / "other")
    assert len(read_pairs(path).ids_of(Modality.IMAGE))


def test_a_store_with_features_that_are_not_finite_is_made_anew_by_what_is_printed(tmp_path):
    home = tmp_path / "h"
    extract_toy(home, "toy-image", dtype="float32", layers=(-1,))
    folder = store_of(home, "toy-image")
    store = FeatureStore.open(folder)
    key = store.description.key
    run_all(str(not_finite(store, "an item")), tmp_path / "other")
    assert FeatureStore.open(store_of(home, "toy-image")).description.key == key


TINY = {"train": 8, "val": 2, "test": 2, "size": 32}
UNUSUAL = {"precision": "bfloat16", "dtype": "float32", "features": ("mean",)}
WORDS = ["--features", "mean", "--dtype", "float32", "--precision", "bfloat16"]


@pytest.fixture(scope="module")
def unusual_home(tmp_path_factory):
    """Return a home whose run reads features that are extracted otherwise than is usual."""
    home = tmp_path_factory.mktemp("unusual")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, source=TINY, split="train", **UNUSUAL)
    quick_train(home, name="mine", preset="linear", overrides=(*QUICK, "train.validation=none"))
    return home


def test_every_message_prints_the_same_command_for_the_same_extraction(unusual_home):
    """As a store was extracted, as a side is asked for, and as a spec says it."""
    (entry,) = (one for one in list_stores(unusual_home) if one.description.modality == "image")
    settings = read_manifest(entry.folder)["settings"]
    version = version_of(unusual_home, "shapes", "train", entry.description.source)
    spec = ExtractSpec(
        encoders=("toy-image",), data="shapes", home=unusual_home, split="train",
        source=TINY, **UNUSUAL,
    )  # fmt: skip
    sets = [word for name, value in TINY.items() for word in ("--set", f"source.{name}={value}")]
    place = ["--home", str(unusual_home)]
    words = [
        "--encoder",
        "toy-image",
        "--data",
        "shapes",
        *sets,
        "--split",
        "train",
        *WORDS,
        *place,
    ]
    asked = SideQuery.like(entry).extraction(version.words(), home=unusual_home, split="train")
    for command in (
        command_of(spec), asked, extraction(entry.description, settings, home=unusual_home)
    ):  # fmt: skip
        assert shlex.split(command) == ["lightalign", "extract", *words]


def test_what_is_usual_is_not_named(monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    command = command_of(ExtractSpec(encoders=("toy-image",), data="shapes", home=tmp_path))
    assert command == "lightalign extract --encoder toy-image --data shapes"


def refusal(home, *words):
    ended = lightalign(*words, "--device", "cpu", home=home)
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    return commands_in(ended.stderr)


def test_what_is_extracted_by_what_is_printed_is_what_the_run_reads(unusual_home, tmp_path):
    home = Path(shutil.copytree(unusual_home, tmp_path / "h"))
    (command,) = refusal(home, "index", "mine")
    assert command[-len(WORDS) :] == WORDS
    assert lightalign(*command, home=home).returncode == 0
    assert lightalign("index", "mine", "--device", "cpu", home=home).returncode == 0


@pytest.mark.parametrize(
    "verb",
    [
        ("zero-shot", "mine", "--data", "cifar10"),
        ("probe", "mine", "--data", "cifar10"),
        ("fine-tune", "mine", "--data", "cifar10"),
        ("similarity", "mine", "--data", "stsb"),
        ("retrieve", "mine", "--data", "flickr8k"),
        ("retrieve", "mine", "--data", "shapes"),
    ],
)
def test_data_that_were_never_extracted_are_asked_for_as_the_run_reads_them(verb, unusual_home):
    commands = refusal(unusual_home, *verb)
    assert commands
    for command in commands:
        assert command[-len(WORDS) :] == WORDS
        assert command[3:5] == list(verb[2:])


def test_an_encoder_of_a_file_is_asked_for_by_its_file(tmp_path):
    (command, _) = refusal(tmp_path, "train-adapter", "--image-encoder", "./my-vit.toml")
    assert command[:3] == ["extract", "--encoder", str(Path("my-vit.toml").absolute())]
