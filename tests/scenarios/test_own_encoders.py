"""Encoders of one's own: used by file or model once, found again by every verb that loads one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lightalign.featcache.documents import tomllib
from lightalign.featcache.store.catalog import list_stores
from lightalign.featcache.store.manifest import read_manifest
from lightalign.pipelines.runs import run_folder

from ..helpers import lightalign
from ..timm_encoder import CARD, write_timm_encoder
from .test_advice import commands_in

SMALL = ("--set", "source.train=24", "--set", "source.val=8", "--set", "source.test=8")
QUICK = ("--set", "train.epochs=1", "--set", "train.batch_size=8", "--device", "cpu")


def run(*words: str, home: Path) -> Any:
    done = lightalign(*words, "--json", home=home)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a home, a card `my vit.toml`, and a run on it; read only."""
    folder = tmp_path_factory.mktemp("own")
    write_timm_encoder(folder / "my vit.toml")
    home = folder / "home"
    for encoder in (f"{folder}/my vit.toml", "toy-text"):
        words = ("extract", "--encoder", encoder, "--data", "shapes", "--features", "mean", *SMALL)
        run(*words, "--device", "cpu", home=home)
    sides = ("--image-encoder", f"{folder}/my vit.toml", "--text-encoder", "toy-text")
    run("train-adapter", *sides, "--data", "shapes", "--name", "mine", *QUICK, home=home)
    run("index", "mine", "--device", "cpu", home=home)
    Image.new("RGB", (40, 30), "red").save(folder / "red.png")
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may change; its card and its run name the weights of `made`."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def search(folder: Path, *words: str) -> Any:
    return lightalign(
        "search", "mine", f"{folder}/red.png", "--k", "2", "--device", "cpu", *words,
        home=folder / "home",
    )  # fmt: skip


@pytest.mark.slow
def test_the_run_finds_its_encoder_without_being_told(made: Path, monkeypatch):
    monkeypatch.chdir("/")
    done = search(made)
    assert done.returncode == 0, done.stderr


def test_the_run_finds_its_encoder_without_the_card(own: Path):
    (own / "my vit.toml").unlink()
    shutil.rmtree(own / "home" / "encoders")
    assert search(own).returncode == 0


def test_a_store_finds_its_encoder_without_the_homes_cards(own: Path):
    """A training records the card, and the store alone knows it where folders were copied."""
    shutil.rmtree(own / "home" / "encoders")
    sides = ("--image-encoder", "my-vit", "--text-encoder", "toy-text", "--data", "shapes")
    run("train-adapter", *sides, "--name", "second", *QUICK, home=own / "home")
    table = run_folder.read_spec(own / "home" / "runs" / "second")
    assert table["encoders"]["image"]["card"]["model"] == "test_convnext"


def test_weights_that_moved_are_named_once(own: Path, made: Path):
    for path in (own / "home" / "runs" / "mine", own / "home" / "encoders"):
        assert path.is_dir()
    (made / "model").rename(made / "moved")
    try:
        done = search(own)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "--weights my-vit=PATH" in done.stderr
        assert search(own, "--weights", f"my-vit={made / 'moved'}").returncode == 0
    finally:
        (made / "moved").rename(made / "model")


def test_the_name_alone_extracts_more(own: Path):
    words = ("extract", "--encoder", "my-vit", "--data", "shapes", "--features", "grid:1x1")
    report = run(*words, *SMALL, "--device", "cpu", home=own / "home")
    assert {store["kind"] for store in report["stores"]} == {"grid:1x1"}


def test_a_damaged_store_of_an_own_encoder_is_repaired(own: Path):
    entry = next(
        one
        for one in list_stores(own / "home")
        if (one.description.encoder, one.description.split) == ("my-vit", "val")
    )
    for path in entry.folder.glob("shard-*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = lightalign("cache", "repair", str(entry.folder), "--device", "cpu", home=own / "home")
    assert done.returncode == 0, done.stderr


def test_the_advice_for_a_lost_store_runs_as_printed(own: Path):
    home = own / "home"
    for entry in list_stores(home):
        if entry.description.encoder == "my-vit" and entry.description.split == "test":
            shutil.rmtree(entry.folder)
    done = lightalign("retrieve", "mine", "--split", "test", "--device", "cpu", home=home)
    assert done.returncode == 2
    advised = [words for words in commands_in(done.stderr) if words[0] == "extract"]
    assert advised
    assert "my-vit" in advised[0]
    assert lightalign(*advised[0], home=home).returncode == 0


def test_the_manifest_holds_the_card(made: Path):
    entries = [one for one in list_stores(made / "home") if one.description.encoder == "my-vit"]
    settings = read_manifest(entries[0].folder)["settings"]
    assert settings["card"]["weights"]["path"] == str(made / "model")
    toys = [one for one in list_stores(made / "home") if one.description.encoder == "toy-text"]
    assert "card" not in read_manifest(toys[0].folder)["settings"]


def test_given_weights_are_remembered_with_a_derived_card(made: Path, tmp_path: Path):
    words = ("extract", "--encoder", "timm:test_convnext", "--weights", str(made / "model"))
    run(*words, "--data", "shapes", "--features", "mean", *SMALL, "--device", "cpu", home=tmp_path)
    kept = tomllib.loads((tmp_path / "encoders" / "timm-test_convnext.toml").read_text())
    assert kept["weights"]["path"] == str(made / "model")
    again = ("extract", "--encoder", "timm-test_convnext", "--data", "shapes", "--split", "val")
    run(*again, *SMALL, "--features", "mean", "--device", "cpu", home=tmp_path)


def test_a_card_and_the_model_itself_are_one_encoder_to_the_key(made: Path, tmp_path: Path):
    keys = set()
    for encoder in (f"{made}/my vit.toml", f"timm:{made}/model"):
        words = ("extract", "--encoder", encoder, "--data", "shapes", "--split", "val", *SMALL)
        (store,) = run(*words, "--features", "mean", "--device", "cpu", home=tmp_path)["stores"]
        keys.add(store["key"])
    assert len(keys) == 1


def test_two_cards_of_one_name_in_one_call_are_refused(made: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "my vit.toml").write_text(CARD)
    pair = [f"--encoder={place}/my vit.toml" for place in (made, tmp_path / "other")]
    done = lightalign("extract", *pair, "--data", "shapes", home=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "called 'my-vit'" in done.stderr


def test_the_derived_card_is_shown_as_toml(made: Path, tmp_path: Path):
    done = lightalign("encoders", "show", f"timm:{made}/model", home=tmp_path)
    table = tomllib.loads(done.stdout)
    assert (table["width"], table["layout"]["grid"]) == (64, [5, 5])
    (tmp_path / "shown.toml").write_text(done.stdout)
    again = run("encoders", "show", str(tmp_path / "shown.toml"), home=tmp_path)
    assert again["weights"] == table["weights"] | {"hub": None, "package": None, "revision": None}


@pytest.mark.parametrize("words", [("list", "encoders"), ("encoders", "list")])
def test_the_cards_of_the_home_are_listed(words: tuple[str, str], made: Path):
    names = [row["name"] for row in run(*words, home=made / "home")["encoders"]]
    assert {"my-vit", "vit-b16"} <= set(names)
