"""Which stores a verb takes, where several would do."""

import json
import os
import shlex
from pathlib import Path

import pytest
from PIL import Image

from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.errors import (
    StoreCorruptError,
    StoreNotFoundError,
    UnknownNameError,
)
from lightalign.featcache.store import catalog
from lightalign.featcache.store.feature_store import FeatureStore
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.inputs.image_text import PairedStores
from lightalign.pipelines.inputs.store_selection import (
    DatasetQuery,
    SideQuery,
    StoreQuery,
    choose_stores,
    newest_pair,
    require_stores,
)
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import both_sides
from ..conftest import SCENES, extract_toy

QUICK = ("train.epochs=1", "train.batch_size=8", "train.precision=float32")


class Notes(Progress):
    """Keep what a verb notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def write_table(folder: Path, first: int) -> Path:
    """Write four coloured pictures in each of two splits; `first` tells versions apart."""
    folder.mkdir(parents=True)
    lines = ["image,caption,split"]
    for index in range(8):
        Image.new("RGB", (8 + first, 8), (index * 30, first, 0)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,picture {index} of {first},{'train' if index < 4 else 'test'}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def extract_both(home: Path, **changes) -> None:
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, **changes)


def set_time(home: Path, path: str, seconds: int) -> None:
    (store,) = home.glob(f"features/{path}--*")
    os.utime(store / "manifest.json", (seconds, seconds))


def test_the_pair_with_the_youngest_store_is_taken_then_the_older_half_decides(tmp_path):
    """Two image stores share one text store, which is younger than both.

    By the younger half alone the two pairs would be equal.
    """
    extract_both(tmp_path, split="train")
    extract_toy(tmp_path, "toy-image", split="train", dtype="float32")
    stores = sorted(tmp_path.glob("features/shapes/train/toy-image--*"))
    for seconds, store in enumerate(stores):
        os.utime(store / "manifest.json", (1000 + seconds, 1000 + seconds))
    set_time(tmp_path, "shapes/train/toy-text", 2000)
    pair = newest_pair(tmp_path, both_sides(split="train"))
    assert pair.first.folder == stores[-1]
    os.utime(stores[0] / "manifest.json", (1500, 1500))
    assert newest_pair(tmp_path, both_sides(split="train")).first.folder == stores[0]


def test_a_path_takes_the_stores_of_the_dataset_that_lies_there(tmp_path):
    old, new = write_table(tmp_path / "old", 1), write_table(tmp_path / "new", 2)
    for place in (old, new):
        extract_both(tmp_path, data=f"image-text-table={place}", source={})
    by_path = {}
    for place in (old, new):
        wanted = DatasetQuery.of(f"image-text-table={place}", home=tmp_path, options={})
        query = both_sides(split="train", dataset=wanted.name, source=wanted.fingerprint("train"))
        by_path[place] = newest_pair(tmp_path, query)
    assert by_path[old].source != by_path[new].source
    spec = {"home": tmp_path, "overrides": QUICK, "device": "cpu"}
    trained = train.run(TrainSpec(**spec, data=f"image-text-table={old}"))
    stored = trained.report["spec"]["stores"]["train"]["source"]
    assert stored == by_path[old].source
    seen = retrieve.run(
        retrieve.RetrieveSpec(home=tmp_path, data=f"image-text-table={new}", device="cpu")
    )
    test_split = DatasetQuery.of(f"image-text-table={new}", home=tmp_path, options={})
    assert seen.report["source"] == test_split.fingerprint("test")


def test_several_versions_of_a_dataset_are_noted(tmp_path):
    for first in (1, 2):
        place = write_table(tmp_path / str(first), first)
        extract_both(tmp_path, data=f"image-text-table={place}", source={}, split="train")
    notes = Notes()
    query = both_sides(split="train", dataset="image-text-table")
    assert newest_pair(tmp_path, query, notes) is not None
    assert "several versions of image-text-table/train" in notes.lines[0]


@pytest.mark.parametrize("features", [("tokens", "mean"), ("mean", "tokens")])
def test_of_the_kinds_of_one_extraction_the_first_named_is_taken(tmp_path, features):
    """Its stores are finished within less than a step of the clock of files."""
    extract_both(tmp_path, split="train", features=features)
    pair = newest_pair(tmp_path, both_sides(split="train"))
    assert {entry.description.kind for entry in pair.entries.values()} == {features[0]}


def test_a_hit_in_the_cache_makes_a_store_the_newest(tmp_path):
    old, new = write_table(tmp_path / "old", 1), write_table(tmp_path / "new", 2)
    for seconds, place in ((1000, old), (2000, new)):
        extract_both(tmp_path, data=f"image-text-table={place}", source={}, split="train")
        for store in tmp_path.glob("features/image-text-table/train/toy-*"):
            if (store / "manifest.json").stat().st_mtime > 3000:
                os.utime(store / "manifest.json", (seconds, seconds))
    query = both_sides(split="train")
    before = newest_pair(tmp_path, query).source
    extract_both(tmp_path, data=f"image-text-table={old}", source={}, split="train")
    assert newest_pair(tmp_path, query).source != before


def test_a_store_of_another_format_version_is_passed_over(tmp_path):
    extract_both(tmp_path, split="train")
    for manifest in tmp_path.glob("features/shapes/train/toy-image--*/manifest*.json"):
        table = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**table, "format_version": 999}))
    assert newest_pair(tmp_path, both_sides(split="train")) is None


def test_no_other_takes_the_place_of_a_store_with_a_damaged_manifest(tmp_path):
    extract_both(tmp_path, split="train", features=("tokens", "mean"))
    query = both_sides(split="train")
    newest = newest_pair(tmp_path, query).first
    (newest.folder / "manifest.json").write_bytes(b"{")
    assert newest_pair(tmp_path, query).first.key == newest.key
    with pytest.raises(StoreCorruptError, match=r"cache repair .* restores it"):
        FeatureStore.open(newest.folder)


def test_the_manifest_of_another_store_is_damage(tmp_path):
    """Both are whole, with right checksums of their own."""
    extract_both(tmp_path, split="train")
    newest = newest_pair(tmp_path, both_sides(split="train"))
    first, second = (entry.folder / "manifest.json" for entry in newest.entries.values())
    first.write_bytes(second.read_bytes())
    there = newest_pair(tmp_path, both_sides(split="train"))
    assert there.first.key == newest.first.key
    with pytest.raises(StoreCorruptError, match="is that of another store"):
        FeatureStore.open(newest.first.folder)


def test_a_split_that_the_dataset_has_not_is_named(tmp_path):
    wanted = DatasetQuery.of("shapes", home=tmp_path, options=SCENES)
    with pytest.raises(UnknownNameError, match="no split named 'tset'; close: \\['test'\\]"):
        wanted.fingerprint("tset")


def test_pairs_with_a_changed_byte_are_refused(tmp_path):
    extract_both(tmp_path, split="train")
    (path,) = tmp_path.glob("features/shapes/train/pairs--*.json")
    path = catalog.arrays_path(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"shapes-train-0", b"shapes-train-1", 1))
    assert path.read_bytes() != content
    with pytest.raises(StoreCorruptError, match="checksum differs"):
        PairedStores(newest_pair(tmp_path, both_sides(split="train")), home=tmp_path)


def test_a_run_is_never_evaluated_on_another_kind_of_features(tmp_path):
    """The mean of the same encoder has the same width, so nothing else would notice."""
    extract_both(tmp_path, features=("tokens", "mean"))
    trained = train.run(
        TrainSpec(
            preset="lightalign/fusion",
            home=tmp_path,
            overrides=QUICK,
            device="cpu",
            image_features="tokens",
        )
    )
    kinds = {
        modality: found["kind"]
        for modality, found in trained.report["spec"]["stores"]["train"].items()
        if modality in {"image", "text"}
    }
    assert kinds == {"image": "tokens", "text": "tokens"}
    for store in tmp_path.glob("features/shapes/test/toy-image--*"):
        description = json.loads((store / "manifest.json").read_text())["description"]
        if description["kind"] == "tokens":
            keep = store
        else:
            os.utime(store / "manifest.json", (4e9, 4e9))  # the newest by far
    seen = retrieve.run(retrieve.RetrieveSpec(home=tmp_path, device="cpu"))
    assert seen.report["stores"]["image"][:12] == keep.name[-12:]


def test_features_can_be_named_for_training(tmp_path):
    extract_both(tmp_path, features=("tokens", "mean"))
    spec = {"home": tmp_path, "overrides": QUICK, "device": "cpu"}
    trained = train.run(TrainSpec(**spec, image_features="mean", text_features="mean"))
    stores = trained.report["spec"]["stores"]["train"]
    assert (stores["image"]["kind"], stores["text"]["kind"]) == ("mean", "mean")
    with pytest.raises(StoreNotFoundError, match="images by grid:2x2 any encoder"):
        train.run(TrainSpec(**spec, image_features="grid:2x2"))


def test_the_advised_extraction_names_an_encoder_that_is_there(tmp_path):
    query = SideQuery()
    for modality in IMAGE_TEXT:
        words = shlex.split(query.extraction(["--data", "x"], home=tmp_path, modality=modality))
        encoder = words[words.index("--encoder") + 1]
        assert read_card(encoder).modality is modality


def refused(home: Path, **changes) -> str:
    with pytest.raises(StoreNotFoundError) as error:
        train.run(TrainSpec(home=home, preset="linear", device="cpu", **changes))
    return str(error.value)


def test_a_text_encoder_without_a_store_is_told_the_close_one_that_has_one(home):
    message = refused(home, data="shapes", text_encoder="toy")
    assert message.startswith("no text store for split 'train' of shapes")
    assert message.endswith("; close: ['toy-text']; name one of these")


def test_only_the_missing_side_is_to_be_extracted_of_the_data_of_the_other(tmp_path):
    """The drawn family itself has its defaults each time, so its options are named again."""
    home = tmp_path / "h"
    extract_toy(home, "toy-image", split="train")
    message = refused(home, text_encoder="distilbert")
    assert message.startswith("no text store for split 'train' of any dataset")
    (command,) = message.split("`")[1::2]
    assert command.startswith("lightalign extract --encoder distilbert --data shapes ")
    assert "--set source.train=24 " in command


def test_options_that_the_home_remembers_are_not_named_again(tmp_path):
    folder, home = write_table(tmp_path / "table", 0), tmp_path / "home"
    source = {"image_column": "image"}
    extract_toy(home, "toy-image", data=f"mine={folder}", source=source)
    place = f"mine={folder}"
    cases = [({"data": place, "source": source}, place), ({"data": "mine"}, "mine"), ({}, "mine")]
    for changes, data in cases:
        message = refused(home, text_encoder="distilbert", **changes)
        command = f"lightalign extract --encoder distilbert --data {data} --home {home}"
        assert message.endswith(f"run `{command}`")


def test_one_side_alone_takes_its_newest_store_and_refuses_in_the_same_words(tmp_path):
    older = extract_toy(tmp_path, "toy-image", split="train").stores[0].folder
    newer = extract_toy(tmp_path, "toy-image", split="train", features=("mean",)).stores[0].folder
    os.utime(older / "manifest.json", (1e9, 1e9))
    query = StoreQuery(split="train", by_side={Modality.IMAGE: SideQuery()}, dataset="shapes")
    assert [entry.folder for entry in choose_stores(tmp_path, query).values()] == [newer]
    texts = StoreQuery(split="train", by_side={Modality.TEXT: SideQuery()}, dataset="shapes")
    assert choose_stores(tmp_path, texts) is None
    with pytest.raises(StoreNotFoundError, match="no text store for split 'train' of shapes"):
        require_stores(tmp_path, texts)


def test_three_sides_are_chosen_of_the_same_items_and_of_one_kind(tmp_path):
    """Two sides may read the same modality, as those between two text encoders do."""
    extract_both(tmp_path, split="train", features=("tokens", "mean"))
    sides = (Modality.IMAGE, TEXT_TEXT[0], TEXT_TEXT[1])
    query = StoreQuery(split="train", by_side=dict.fromkeys(sides, SideQuery()))
    chosen = choose_stores(tmp_path, query)
    assert tuple(chosen) == sides
    assert len({entry.description.source for entry in chosen.values()}) == 1
    assert len({entry.description.kind for entry in chosen.values()}) == 1
    mean = StoreQuery(split="train", by_side={**query.by_side, sides[2]: SideQuery(kind="mean")})
    kinds = {entry.description.kind for entry in choose_stores(tmp_path, mean).values()}
    assert kinds == {"mean"}
