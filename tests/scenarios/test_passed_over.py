"""What is damaged is named: passed over where many are listed, refused where it was asked for."""

import errno
import json
import shlex
import shutil
from pathlib import Path

import pytest

from lightalign.featcache import notes
from lightalign.featcache.store.catalog import list_stores, read_catalog
from lightalign.featcache.store.manifest import COPY, MANIFEST

from ..helpers import lightalign, slow
from ..pipelines.conftest import MANY_SCENES, extract_graded, extract_toy

ONE_EPOCH = ["--preset", "linear", "--set", "train.epochs=1"]
KEPT = ["--image-features", "tokens", "--text-features", "tokens"]


@pytest.fixture(scope="module")
def whole_home(tmp_path_factory) -> Path:
    """Return a home with a run, two indexes, and image features of two kinds."""
    home = tmp_path_factory.mktemp("whole")
    extract_toy(home, "toy-image", source=MANY_SCENES, features=("mean",), rows_per_shard=100)
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, source=MANY_SCENES, rows_per_shard=100)
    extract_graded(home)
    for command in (
        ["train-adapter", *ONE_EPOCH, *KEPT, "--name", "first"],
        ["index", "first", "--split", "val"],
        ["index", "first", "--split", "test"],
    ):
        done = lightalign(*command, home=home)
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(whole_home, tmp_path) -> Path:
    return Path(shutil.copytree(whole_home, tmp_path / "home", symlinks=True))


def damage(home: Path, place: str, kind: str = "tokens") -> Path:
    """Make both manifests of a store unreadable and return its folder."""
    dataset, split, encoder = place.split("/")
    (folder,) = [
        entry.folder
        for entry in list_stores(home, f"{dataset}/{split}")
        if (entry.description.encoder, entry.description.kind) == (encoder, kind)
    ]
    for name in (MANIFEST, COPY):
        (folder / name).write_text("{")
    return folder


def one_line(done) -> str:
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    return line


def test_no_other_split_takes_the_place_of_a_damaged_one(home):
    folder = damage(home, "stsb/val/toy-text")
    line = one_line(lightalign("similarity", "first", "--data", "stsb", "--quiet", home=home))
    assert str(folder / MANIFEST) in line
    assert "name one by --split" in line
    named = lightalign("similarity", "first", "--data", "stsb", "--split", "test", home=home)
    assert named.returncode == 0, named.stderr


def test_a_damaged_store_that_was_asked_for_is_named(home):
    folder = damage(home, "shapes/test/toy-text")
    line = one_line(lightalign("retrieve", "first", "--quiet", home=home))
    assert str(folder / MANIFEST) in line


def test_a_damaged_store_of_the_training_is_named_by_what_needs_it(home):
    folder = damage(home, "shapes/train/toy-text")
    command = ["retrieve", "first", "--k", "3", "--scoring", "qb-norm", "--quiet"]
    assert str(folder / MANIFEST) in one_line(lightalign(*command, home=home))


def test_what_was_not_compared_with_a_damaged_store_of_the_training_is_said(home):
    def retrieved() -> dict:
        done = lightalign("retrieve", "first", "--json", "--quiet", home=home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def recalls(report: dict) -> dict:
        metrics = report["metrics"]
        return {side: metrics[side]["recall"] for side in ("image_to_text", "text_to_image")}

    before = retrieved()
    assert not any("store" in line for line in before["leakage"]["not_checked"])
    folder = damage(home, "shapes/train/toy-image")
    after = retrieved()
    assert recalls(after) == recalls(before)
    assert any(str(folder / MANIFEST) in line for line in after["leakage"]["not_checked"])


def test_a_ranking_without_a_damaged_store_says_so(home):
    folder = damage(home, "shapes/train/toy-image", kind="mean")
    command = ["rank-encoders", "--data", "shapes", "--neighbours", "3", "--json", "--quiet"]
    done = lightalign(*command, home=home)
    assert done.returncode == 0, done.stderr
    (warning,) = json.loads(done.stdout)["warnings"]
    assert str(folder / MANIFEST) in warning


def test_a_damaged_index_beside_another_is_named_once(home):
    (path,) = (home / "runs" / "first" / "index").glob("shapes-test-*/index.json")
    path.write_text("{")
    done = lightalign("search", "first", "a red square", home=home)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(str(path)) == 1
    path = next((home / "runs" / "first" / "index").glob("shapes-val-*/index.json"))
    path.write_text("{")
    one_line(lightalign("search", "first", "a red square", "--quiet", home=home))


def test_a_search_says_where_newer_features_may_be(home):
    folder = damage(home, "shapes/test/toy-image", kind="mean")
    command = ["search", "first", "a red square", "--split", "test", "--json", "--quiet"]
    done = lightalign(*command, home=home)
    assert done.returncode == 0, done.stderr
    assert any(str(folder / MANIFEST) in line for line in json.loads(done.stdout)["warnings"])


def test_pairs_that_are_written_again_are_named(home):
    (path,) = (home / "features" / "stsb" / "val").glob("pairs--*.json")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    command = ["extract", "--encoder", "toy-text", "--data", "stsb", "--split", "val"]
    done = lightalign(*command, "--precision", "float32", "--device", "cpu", home=home)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"the pairs in {path} are damaged") == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize("command", [["cache", "ls"], ["cache", "explain", "KEY"]])
def test_where_many_are_listed_the_damaged_one_is_named(command, home):
    (entry,) = list_stores(home, "stsb/val")
    folder = damage(home, "shapes/train/toy-image")
    command = [entry.key if part == "KEY" else part for part in command]
    done = lightalign(*command, home=home)
    assert done.returncode == 0, done.stderr
    assert "".join(f"{done.stdout}{done.stderr}".split()).count(str(folder / MANIFEST)) == 1


def test_a_folder_that_may_be_listed_and_not_entered_is_passed_over(home, monkeypatch):
    closed = home / "features" / "shapes" / "train"
    is_dir = Path.is_dir

    def denied(self: Path, **options) -> bool:
        if self.parent == closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return is_dir(self, **options)

    monkeypatch.setattr(Path, "is_dir", denied)
    catalog = read_catalog(home)
    assert {entry.description.dataset for entry in catalog.entries} == {"shapes", "stsb"}
    assert list(map(str, catalog.unread)) == [f"{closed} cannot be read: Permission denied"]


@pytest.mark.parametrize("state", ["damaged", "incomplete", "gone"])
def test_it_is_said_why_the_store_of_a_key_is_missing(state, home):
    (entry,) = list_stores(home, "stsb/val")
    if state == "damaged":
        damage(home, "stsb/val/toy-text")
    elif state == "incomplete":
        from lightalign.featcache.store.feature_store import FeatureStore

        FeatureStore.open(entry.folder).drop_shards({0})
    else:
        shutil.rmtree(entry.folder)
    stored = read_catalog(home)
    assert stored.get(entry.key) is None
    expected = {
        "damaged": f"cannot be read: {entry.folder / MANIFEST}",
        "incomplete": f"is not complete in {home}",
        "gone": f"is not in {home}",
    }
    assert stored.why_missing(entry.key).startswith(expected[state])


def test_a_line_is_told_once_to_each_listener(monkeypatch):
    monkeypatch.setattr(notes, "_listeners", [])
    for _ in range(2):
        lines: list[str] = []
        notes.tell(lines.append)
        notes.note("a store is passed over")
        notes.note("a store is passed over")
        assert lines == ["a store is passed over"]


def test_a_store_goes_though_what_is_remembered_of_it_cannot(home):
    """A folder in place of the memory, as the user of the tests may be allowed everything."""
    (entry,) = list_stores(home, "stsb/val")
    memory = home / "verified" / f"stsb--val--{entry.folder.name}.json"
    memory.unlink(missing_ok=True)
    memory.mkdir(parents=True)
    done = lightalign("cache", "rm", str(entry.folder), "--quiet", home=home)
    assert (done.returncode, done.stderr) == (0, "")
    assert not entry.folder.exists()


@pytest.mark.parametrize("content", ["{", "[]", *slow("{}", '{"schema": 1}', "\xff")])
def test_a_bad_evaluation_damages_no_run_and_is_named_with_what_removes_it(home, content):
    done = lightalign("retrieve", "first", "--quiet", home=home)
    assert done.returncode == 0, done.stderr
    run = home / "runs" / "first"
    whole = json.loads(lightalign("runs", "show", "first", "--json", home=home).stdout)
    bad = run / "retrieval-shapes-zz.json"  # the newest, of which the numbers would be
    bad.write_bytes(content.encode("latin-1"))
    shown = json.loads(lightalign("runs", "show", "first", "--json", home=home).stdout)
    assert shown["state"] == "finished"
    assert shown["numbers"] == whole["numbers"]
    (line,) = shown["unread"]
    assert line.startswith(f"{bad.name} is passed over: ")
    assert shlex.split(line.split("`")[-2]) == ["rm", "-r", str(bad)]
    listed = lightalign("runs", "list", home=home)
    assert listed.returncode == 0
    assert "damaged" not in listed.stdout
    assert f"run first: {bad.name} is passed over" in listed.stderr
    reported = lightalign("report", "first", home=home)
    assert reported.returncode == 0, reported.stderr
    assert bad.name in reported.stderr + reported.stdout
