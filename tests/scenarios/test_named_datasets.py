"""A run measures the data it was made for, whatever else has its name, and wherever it lies."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lightalign.featcache.errors import SpecError
from lightalign.featcache.known_datasets import (
    DatasetVersion,
    known_names,
    newest,
    read_versions,
    remember,
)
from lightalign.pipelines.runs.run_folder import check_name

from ..helpers import changed_report, lightalign, slow

BOTH = ("extract", "--encoder", "toy-image", "--encoder", "toy-text", "--precision", "float32")
OWN_COLUMN = ("--set", "source.image_column=Pfad")
SPLITS = ["train"] * 10 + ["val"] * 4


def write_table(folder: Path, *, num_test: int) -> Path:
    """Write a table of squares with captions, in columns that nobody can guess."""
    rows = ["Pfad,caption,split"]
    for number, split in enumerate([*SPLITS, *["test"] * num_test]):
        place = folder / "Bilder mit Ä" / f"{number} {num_test}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (8 * number, 255 - 8 * number, num_test)).save(place)
        rows.append(f"{place.relative_to(folder)},Quadrat Nr. {number} von {num_test},{split}")
    table = folder / "Tabelle.csv"
    table.write_text("\n".join(rows), encoding="utf-8")
    return table


def done(*arguments, home):
    ended = lightalign(*map(str, arguments), home=home)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def trained(home: Path, place: Path, name: str, run: str) -> None:
    done(*BOTH, "--data", f"{name}={place}", *OWN_COLUMN, home=home)
    done("train-adapter", "--preset", "linear", "--set", "train.epochs=1", "--name", run, home=home)


@pytest.fixture(scope="module")
def two_tables(tmp_path_factory):
    """Return a home in which `first` is trained on the older of two tables, of one name and of two.

    Both runs would measure three images if they took the newest of their name.
    """
    place = tmp_path_factory.mktemp("two tables")
    home = place / "home"
    older = write_table(place / "older", num_test=7)
    newer = write_table(place / "newer", num_test=3)
    trained(home, older, "image-text-table", "same-name")
    trained(home, older, "mine", "own-name")
    for name in ("image-text-table", "his"):
        done(*BOTH, "--data", f"{name}={newer}", *OWN_COLUMN, home=home)
    return place


@pytest.fixture
def home(two_tables, tmp_path):
    """Return a copy of the home; its datasets lie where they are."""
    return Path(shutil.copytree(two_tables / "home", tmp_path / "home"))


@pytest.fixture
def own_home(tmp_path):
    """Return a home whose dataset lies beside it, in `data`."""
    trained(tmp_path / "home", write_table(tmp_path / "data", num_test=3), "mine", "own-name")
    return tmp_path / "home"


@pytest.mark.parametrize("run", ["same-name", *slow("own-name")])
def test_a_run_is_evaluated_on_the_data_it_was_trained_on(run, two_tables):
    report = json.loads(done("retrieve", run, "--json", "--quiet", home=two_tables / "home"))
    assert report["metrics"]["text_to_image"]["num_gallery"] == 7
    assert report["stores"]


@pytest.mark.parametrize("run", ["same-name", *slow("own-name")])
def test_paths_and_pictures_are_found_without_naming_a_place_or_an_option_again(run, home):
    done("index", run, "--side", "both", home=home)
    ended = lightalign(
        *("search", run, "Quadrat", "--json", "--quiet", "--k", "7"),
        *("--sheet", str(home / "sheet.html")),
        home=home,
    )
    found = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert len(found["hits"]) == 7
    assert all(Path(hit["path"]).is_file() for hit in found["hits"])
    assert found["warnings"] == []
    done("retrieve", run, home=home)
    done("report", run, "--out", home / "page.html", home=home)
    page = (home / "page.html").read_text()
    assert "data:image/jpeg" in page
    assert "Quadrat Nr." in page


def test_what_has_moved_is_found_again_by_every_command(own_home):
    home = own_home
    place = home.parent
    (place / "data").rename(place / "woanders")
    moved = place / "woanders" / "Tabelle.csv"
    ended = lightalign(*BOTH, "--data", "mine", home=home)
    assert ended.returncode == 2
    assert "lightalign data move mine PATH" in ended.stderr
    assert str(moved) in done("data", "move", "mine", moved, home=home)
    assert "0 items to do (cached)" in done(*BOTH, "--data", "mine", home=home)
    done("index", "own-name", home=home)
    found = json.loads(done("search", "own-name", "Quadrat", "--json", "--quiet", home=home))
    assert all("woanders" in hit["path"] for hit in found["hits"])


def test_other_data_are_no_move(two_tables, home):
    newer = two_tables / "newer" / "Tabelle.csv"
    ended = lightalign("data", "move", "mine", str(newer), home=home)
    assert ended.returncode == 2
    assert "other data than 'mine'" in ended.stderr


@pytest.mark.parametrize("place", ["empty", "nowhere"])
def test_a_move_to_where_nothing_lies_names_the_dataset_and_the_command(place, home, tmp_path):
    (tmp_path / "empty").mkdir()
    ended = lightalign("data", "move", "mine", str(tmp_path / place), home=home)
    assert ended.returncode == 2
    assert f"dataset 'mine' is not at {tmp_path / place}: " in ended.stderr
    assert "say where it is by `lightalign data move mine PATH`" in ended.stderr
    assert "image-text-table" not in ended.stderr


def test_a_store_is_repaired_from_where_its_own_data_lie(home):
    stores = sorted((home / "features/image-text-table/test").glob("toy-image--*"))
    assert len(stores) == 2
    for store in stores:
        chunk = next(path for path in store.glob("shard-00000/values/c/**/*") if path.is_file())
        chunk.write_bytes(b"")
    assert "0 damaged" not in lightalign("cache", "verify", home=home).stdout
    done("cache", "repair", home=home)
    assert "0 damaged" in done("cache", "verify", home=home)


def test_the_newest_of_a_name_is_trained_on_and_validated_by_its_own(home):
    done(
        *("train-adapter", "--data", "image-text-table", "--preset", "linear"),
        *("--set", "train.epochs=1", "--name", "newest"),
        home=home,
    )
    report = json.loads(done("retrieve", "newest", "--json", "--quiet", home=home))
    assert report["metrics"]["text_to_image"]["num_gallery"] == 3


def test_names_are_listed_shown_previewed_and_forgotten(two_tables, home):
    listed = json.loads(done("data", "list", "--json", home=home))
    kinds = {row["name"]: row["kind"] for row in listed["datasets"]}
    assert kinds == dict.fromkeys(["his", "image-text-table", "mine"], "image-text-table")
    shown = json.loads(done("data", "show", "image-text-table", "--json", home=home))
    assert "newer" in shown["place"]
    assert ["older" in one["place"] for one in shown["earlier"]] == [True]
    seen = json.loads(
        done("data", "preview", f"his={two_tables}/newer/Tabelle.csv", "--json", home=home)
    )
    counts = {one["split"]: (one["images"], one["texts"]) for one in seen["counts"]}
    assert counts == {"train": (10, 10), "val": (4, 4), "test": (3, 3)}
    assert seen["rows"][1]["texts"] == "Quadrat Nr. 1 von 3"
    done("data", "rm", "his", home=home)
    assert "his" not in done("data", "list", home=home)


def test_a_preview_names_what_will_be_skipped(own_home):
    next((own_home.parent / "data" / "Bilder mit Ä").glob("0 *.png")).unlink()
    seen = json.loads(done("data", "preview", "mine", "--json", home=own_home))
    assert [one["unreadable"] for one in seen["counts"]] == [1, 0, 0]
    assert "no file that can be read" in seen["unreadable"][0]


def test_kinds_of_features_are_not_mixed_unless_asked(tmp_path):
    home = tmp_path / "home"
    table = write_table(tmp_path / "data", num_test=2)
    done(*BOTH, "--data", f"mine={table}", *OWN_COLUMN, "--features", "tokens,mean", home=home)
    train = ("train-adapter", "--preset", "linear", "--set", "train.epochs=1", "--name")
    ended = lightalign(*train, "a", home=home)
    (line,) = [one for one in ended.stderr.splitlines() if one.startswith("training on")]
    kinds = [part.rpartition("(")[2].partition("@")[0] for part in line.split(",")]
    assert len(set(kinds)) == 1
    ended = lightalign(
        *train, "b", "--image-features", "mean", "--text-features", "tokens", home=home
    )
    assert "mean@-1 float16" in ended.stderr
    assert "tokens@-1 float16" in ended.stderr


def test_folders_of_images_are_read_under_a_name(two_tables, home):
    pictures = two_tables / "newer" / "Bilder mit Ä"
    assert "images" in done("data", "add", "fotos", pictures, home=home)
    extract = ("extract", "--encoder", "toy-image", "--precision", "float32")
    done(*extract, "--data", "fotos", home=home)
    done("index", "own-name", "--data", "fotos", home=home)
    found = json.loads(
        done("search", "own-name", "Quadrat", "--data", "fotos", "--json", "--quiet", home=home)
    )
    assert Path(found["hits"][0]["path"]).parent == pictures


def test_a_run_keeps_its_data_when_the_home_has_forgotten_the_name(home):
    done("data", "rm", "image-text-table", home=home)
    report = json.loads(done("retrieve", "same-name", "--json", "--quiet", home=home))
    assert report["metrics"]["text_to_image"]["num_gallery"] == 7


def test_a_test_split_that_is_another_now_is_not_measured_in_place_of_its_own(own_home):
    home, table = own_home, own_home.parent / "data" / "Tabelle.csv"
    before = done("retrieve", "own-name", "--json", "--quiet", home=home)
    table.write_text(table.read_text().replace("Nr. 15 von", "Nr. hundert von"))
    done(*BOTH, "--data", "mine", home=home)
    after = done("retrieve", "own-name", "--json", "--quiet", home=home)
    assert json.loads(after)["stores"] == json.loads(before)["stores"]


def test_no_extraction_is_advised_that_cannot_bring_what_is_missing(own_home):
    home, table = own_home, own_home.parent / "data" / "Tabelle.csv"
    shutil.rmtree(home / "features" / "mine" / "test")
    ended = lightalign("retrieve", "own-name", home=home)
    program, *command = shlex.split(ended.stderr.split("`")[1])
    assert (ended.returncode, program) == (2, "lightalign")
    assert command[:3] == ["extract", "--encoder", "toy-image"]
    table.write_text(table.read_text().replace("Quadrat", "Rechteck"))
    for verb in ("retrieve", "index"):
        ended = lightalign(verb, "own-name", home=home)
        assert ended.returncode == 2
        assert "holds other data by now" in ended.stderr
        assert "lightalign extract" not in ended.stderr


def test_a_name_that_is_given_anew_keeps_no_option_that_was_not_said_again(own_home):
    table = own_home.parent / "data" / "Tabelle.csv"
    table.write_text(table.read_text().replace("Pfad", "image", 1))
    done("data", "add", "mine", table, home=own_home)
    shown = json.loads(done("data", "show", "mine", "--json", home=own_home))
    assert shown["options"] == {}


def test_paths_keep_their_spaces_in_messages(tmp_path):
    folder = tmp_path / "two  spaces"
    folder.mkdir()
    ended = lightalign("data", "add", "mine", str(folder / "x.csv"), home=tmp_path / "home")
    assert str(folder) in ended.stderr


@pytest.mark.parametrize("name", ["a=b", "mine=elsewhere", "a b", ""])
@pytest.mark.parametrize("verb", ["add", "move", "rm", "show"])
def test_a_name_is_not_taken_apart_at_an_equals_sign(verb, name, tmp_path):
    remember(tmp_path, DatasetVersion(name="mine", kind="images", place=tmp_path))
    place = [str(tmp_path)] if verb in {"add", "move"} else []
    ended = lightalign("data", verb, name, *place, home=tmp_path)
    assert ended.returncode == 2
    assert f"{name!r} cannot name a dataset: it may hold letters, digits" in ended.stderr
    assert newest(tmp_path, "mine") is not None


@pytest.mark.parametrize("name", ["a=b", "ä", ".x", "", "a/b"])
def test_a_run_that_cannot_be_called_so_says_what_it_may_be_called(name, tmp_path):
    with pytest.raises(SpecError, match=r"cannot name a run: it may .* begins with a letter or"):
        check_name(tmp_path, name)


@pytest.mark.parametrize(
    "verb", [("index",), ("retrieve",), ("probe",), ("zero-shot",), ("similarity",)]
)
def test_what_lies_at_a_named_place_is_asked_for_whatever_was_trained_on(verb, two_tables, home):
    """`his` lies in `newer`; the table in `third` has the name, and was never extracted."""
    third = write_table(two_tables / "third", num_test=2)
    ended = lightalign(*verb, "own-name", "--data", f"mine={third}", home=home)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "holds other data by now" not in ended.stderr
    (command, *_) = ended.stderr.split("`")[1::2]
    words = shlex.split(command)
    assert words[1:6] == ["extract", "--encoder", words[3], "--data", f"mine={third}"]
    assert words[words.index("--precision") :][:2] == ["--precision", "float32"]


@pytest.fixture
def renamed(two_tables, home):
    """Return a home in which `mine`, of which `own-name` is a run, stands for the newer table."""
    done("index", "own-name", home=home)
    place = two_tables / "newer" / "Tabelle.csv"
    told = done("data", "add", "mine", place, *OWN_COLUMN, home=home)
    assert "'mine' stood for other data before" in told
    assert str(two_tables / "older") in told
    return home


@pytest.mark.parametrize(
    ("verb", "extracts"),
    [
        (("train-adapter", "--preset", "linear"), 2),
        (("rank-encoders",), 2),
        (("retrieve", "own-name"), 2),
        (("index", "own-name"), 1),
        (("zero-shot", "own-name"), 1),
        (("probe", "own-name"), 1),
        (("fine-tune", "own-name"), 1),
        (("similarity", "own-name"), 1),
    ],
)
def test_a_name_that_was_given_to_other_data_asks_for_their_features(verb, extracts, renamed):
    ended = lightalign(*verb, "--data", "mine", home=renamed)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "of other data" in ended.stderr
    commands = [shlex.split(one)[1:] for one in ended.stderr.split("`")[1::2]]
    words = ["extract", "--encoder", commands[0][2], "--data", "mine"]
    assert ([one[0] for one in commands], commands[0][:5]) == (["extract"] * extracts, words)


def test_what_is_printed_makes_a_name_measure_the_data_that_it_stands_for(renamed):
    """The older table has 7 test images, the newer 3; the run and its own index keep to the 7."""
    for verb in (("retrieve", "own-name"), ("search", "own-name", "Quadrat")):
        refused = lightalign(*verb, "--data", "mine", home=renamed)
        assert refused.returncode == 2
        for command in refused.stderr.split("`")[1::2]:
            done(*shlex.split(command)[1:], home=renamed)
    counts = {}
    for data in ((), ("--data", "mine")):
        asked = ("--json", "--quiet", *data)
        measured = json.loads(done("retrieve", "own-name", *asked, home=renamed))
        found = json.loads(done("search", "own-name", "Quadrat", *asked, home=renamed))
        counts[data] = (measured["metrics"]["text_to_image"]["num_gallery"], len(found["hits"]))
    assert counts == {(): (7, 7), ("--data", "mine"): (3, 3)}


def test_a_name_that_was_forgotten_and_given_anew_means_the_new_data(two_tables, home):
    done("data", "rm", "mine", home=home)
    done("data", "add", "mine", two_tables / "newer" / "Tabelle.csv", *OWN_COLUMN, home=home)
    ended = lightalign("retrieve", "own-name", "--data", "mine", home=home)
    assert (ended.returncode, "of other data" in ended.stderr) == (2, True)
    report = json.loads(done("retrieve", "own-name", "--json", "--quiet", home=home))
    assert report["metrics"]["text_to_image"]["num_gallery"] == 7


def test_an_extraction_says_what_its_name_stood_for_before(two_tables, home):
    newer = two_tables / "newer" / "Tabelle.csv"
    extract = ("extract", "--encoder", "toy-image", "--split", "test", "--precision", "float32")
    report = json.loads(done(*extract, "--data", f"mine={newer}", *OWN_COLUMN, "--json", home=home))
    assert str(two_tables / "older") in report["stood_for"]
    assert json.loads(done(*extract, "--data", "mine", "--json", home=home))["stood_for"] is None


@pytest.mark.parametrize("verb", [("train-adapter",), ("retrieve", "own-name"), ("index",)])
def test_a_name_that_stands_for_nothing_lists_those_that_are_known(verb, two_tables):
    ended = lightalign(*verb, "--data", "mien", home=two_tables / "home")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no dataset named 'mien'; close: ['mine']" in ended.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ("extract", "--encoder", "toy-image", "--data", "mine"),
        ("data", "preview", "mine"),
        ("retrieve", "own-name"),
        ("retrieve", "own-name", "--data", "mine"),
        ("index", "own-name"),
        ("train-adapter", "--data", "mine"),
        ("rank-encoders", "--data", "mine"),
        ("cache", "explain", "--encoder", "toy-image", "--data", "mine"),
    ],
)
@pytest.mark.parametrize("is_folder_left", [False, True])
def test_what_is_gone_is_said_with_the_command_that_moves_it(verb, is_folder_left, gone):
    home = gone
    if is_folder_left:
        (home.parent / "data").mkdir(exist_ok=True)
    ended = lightalign(*verb, home=home)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"lightalign data move mine PATH --home {home}`" not in ended.stderr
    assert ended.stderr.endswith("say where it is by `lightalign data move mine PATH`\n")


@pytest.fixture(scope="module")
def gone(tmp_path_factory):
    """Return a home without stores of `mine`, whose folder is not there any more."""
    place = tmp_path_factory.mktemp("gone")
    trained(place / "home", write_table(place / "data", num_test=3), "mine", "own-name")
    (place / "data").rename(place / "elsewhere")
    shutil.rmtree(place / "home" / "features" / "mine")
    return place / "home"


def test_one_place_written_in_many_ways_is_one_dataset(tmp_path, monkeypatch):
    home, table = tmp_path / "home", write_table(tmp_path / "data", num_test=2)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    done("data", "add", "mine", table, *OWN_COLUMN, home=home)
    written = ("data/Tabelle.csv", "./deep/../data/Tabelle.csv", "~/data", "link/", "data/")
    for name, place in zip(("mine", " mine", "mine ", "mine", "mine"), written, strict=True):
        shown = json.loads(done("data", "preview", f"{name}={place}", "--json", home=home))
        assert (shown["kind"], shown["options"]) == ("image-text-table", {"image_column": "Pfad"})
        done("data", "add", "mine", place, *OWN_COLUMN, home=home)
        assert len(read_versions(home, "mine")) == 1
    assert known_names(home) == ["mine"]
    assert str(newest(home, "mine").place) == str(table)


def test_a_name_is_one_however_its_letters_are_composed(tmp_path):
    table = write_table(tmp_path / "data", num_test=2)
    done("data", "add", "cafe\u0301_x", table, *OWN_COLUMN, home=tmp_path / "home")
    assert known_names(tmp_path / "home") == ["caf\u00e9-x"]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("owner/name", "Hugging Face hub download the files, and name their place: NAME=PATH"),
        ("hf://owner/name", "Hugging Face hub download the files"),
        ("new=hf://owner/name", "names an address: download the files first"),
        ("./name", "cannot name a dataset"),
        ("name/", "cannot name a dataset"),
    ],
)
def test_what_is_no_name_and_no_place_is_one_line(data, told, tmp_path):
    ended = lightalign("extract", "--encoder", "toy-image", "--data", data, home=tmp_path)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert told in ended.stderr


def test_a_run_of_a_home_that_knew_no_names_is_not_measured_on_what_has_its_name_now(
    two_tables, home
):
    """Early runs recorded no other splits; the newest stores of the name are of the newer table."""
    with changed_report(home / "runs" / "same-name") as report:
        del report["spec"]["splits"]
    shutil.rmtree(home / "known-datasets")
    newer = two_tables / "newer" / "Tabelle.csv"
    done(*BOTH, "--data", f"image-text-table={newer}", *OWN_COLUMN, home=home)
    report = json.loads(done("retrieve", "same-name", "--json", "--quiet", home=home))
    assert report["metrics"]["text_to_image"]["num_gallery"] == 7
