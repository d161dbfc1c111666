"""Pictures that a table names lie below its dataset, or where a user says so."""

import json
import re
import shlex
import shutil

import pytest

from lightalign.featcache.errors import DatasetFormatError, SpecError
from lightalign.featcache.manifest import read_manifest, write_manifest
from lightalign.featcache.types import Modality
from lightalign.pipelines.extract import run
from lightalign.pipelines.extract_spec import ExtractSpec
from lightalign.pipelines.redo import repair

from ..helpers import lightalign
from ..pipelines.test_broken_pictures import RED
from .sources_helpers import opened


@pytest.fixture
def dataset(tmp_path):
    """Return a dataset's folder with one picture, beside a folder with another."""
    for folder in ("data", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data" / "in.jpg").write_bytes(RED)
    (tmp_path / "elsewhere" / "out.jpg").write_bytes(RED)
    return tmp_path / "data"


def write_table(folder, *names):
    rows = [f"{name},caption {number},train" for number, name in enumerate(names)]
    (folder / "table.csv").write_text("\n".join(["image,caption,split", *rows]))


def images(folder, **options):
    source = opened("image-text-table", folder, **options)
    return source.items("train", Modality.IMAGE)


def ways_out(dataset):
    """Make links out of the dataset; return paths of the picture beside it by each way."""
    (dataset / "link.jpg").symlink_to(dataset.parent / "elsewhere" / "out.jpg")
    (dataset / "disk").symlink_to(dataset.parent / "elsewhere")
    return [
        "../elsewhere/out.jpg",
        str(dataset.parent / "elsewhere" / "out.jpg"),
        "link.jpg",
        "disk/out.jpg",
        "disk/../elsewhere/out.jpg",
        "../data/../elsewhere/out.jpg",
    ]


@pytest.mark.parametrize("way", range(6))
def test_a_picture_outside_is_refused_and_read_where_the_option_allows_it(dataset, way):
    name = ways_out(dataset)[way]
    write_table(dataset, "in.jpg", name)
    with pytest.raises(DatasetFormatError) as refused:
        images(dataset)
    assert f"table.csv, line 3: image {name!r} lies outside of {dataset}" in str(refused.value)
    option = f"--set source.root={dataset.parent / 'elsewhere'}"
    assert str(refused.value).endswith(f"where that is meant, add {option}")
    for root in ("/", str(dataset.parent / "elsewhere")):
        assert [item.read_bytes() for item in images(dataset, root=root)] == [RED, RED]
    (dataset / "below").mkdir()
    with pytest.raises(DatasetFormatError, match="lies outside"):
        images(dataset, root=str(dataset / "below"))


def test_paths_that_come_back_and_links_within_are_inside(dataset):
    """The first and the last are one picture, whose id is its path below the folder."""
    (dataset / "deep").mkdir()
    (dataset / "link.jpg").symlink_to("in.jpg")
    write_table(dataset, "deep/../in.jpg", "link.jpg", str(dataset / "in.jpg"))
    assert [item.id for item in images(dataset)] == ["in.jpg", "link.jpg"]
    assert [item.read_bytes() for item in images(dataset)] == [RED, RED]


def test_a_dataset_that_is_a_link_is_no_way_out(dataset):
    write_table(dataset, "in.jpg", "absent/x.jpg")
    link = dataset.parent / "link"
    link.symlink_to(dataset)
    assert len(images(link)) == len(images(dataset)) == 2


def test_a_link_that_leads_nowhere_is_a_missing_picture(dataset):
    (dataset / "dangling.jpg").symlink_to("/nowhere/at/all.jpg")
    (dataset / "gone").symlink_to("/nowhere")
    (dataset / "loop.jpg").symlink_to("loop.jpg")
    write_table(dataset, "in.jpg", "dangling.jpg", "gone/x.jpg", "loop.jpg")
    assert len(images(dataset)) == 4


def test_names_that_no_file_can_have_are_missing_pictures(dataset):
    rows = ["in.jpg", "a\0b.jpg", "c\0d/e.jpg", "half\ud83d.jpg", "x" * 5000, "y" * 300 + "/z.jpg"]
    lines = [json.dumps({"image": name, "caption": "x", "split": "train"}) for name in rows]
    (dataset / "table.jsonl").write_text("\n".join(lines))
    assert len(images(dataset)) == 6


@pytest.mark.parametrize("root", ["", "data", "/nowhere/at/all", "/etc/hostname\0", "../.."])
def test_the_option_is_the_absolute_path_of_a_folder(dataset, root):
    write_table(dataset, "in.jpg")
    with pytest.raises(SpecError, match=r"source\.root must be the absolute path of a folder"):
        images(dataset, root=root)


def test_the_option_itself_changes_no_fingerprint(dataset):
    """The value is that of the release before there was the option."""
    write_table(dataset, "in.jpg")
    (dataset / "in.jpg").write_bytes(b"x" * 100)
    fingerprints = {
        opened("image-text-table", dataset, **options).fingerprint("train")
        for options in ({}, {"root": "/"}, {"root": str(dataset)})
    }
    assert fingerprints == {"18c2a715cd82788223e5fa73e6f9c5e6e71dcf9d7e654894aba07f27846af9c8"}


@pytest.mark.parametrize("name", ["image-folder", "cifar10"])
def test_an_index_of_classes_is_held_to_it_too(dataset, name):
    lines = ["image,class", "in.jpg,c0"]
    lines += [f"c{number}.jpg,c{number}" for number in range(1, 10)]
    lines += ["../elsewhere/out.jpg,c9"]
    (dataset / "index.csv").write_text("\n".join(lines))
    with pytest.raises(DatasetFormatError, match=r"index.csv, line 12: image '../elsewhere/out.jp"):
        opened(name, dataset)
    assert opened(name, dataset, root="/").splits()


@pytest.mark.parametrize("image", ["../elsewhere/out.jpg", "link.jpg"])
def test_a_file_of_captions_is_held_to_it_too(dataset, image):
    ways_out(dataset)
    (dataset / "Images").mkdir()
    (dataset / "Images" / "in.jpg").write_bytes(RED)
    (dataset / "Images" / "link.jpg").symlink_to(dataset.parent / "elsewhere" / "out.jpg")
    rows = [{"image": one, "captions": ["x"], "split": "train"} for one in ("in.jpg", image)]
    (dataset / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DatasetFormatError, match=f"image {re.escape(repr(image))} lies outside"):
        opened("flickr8k", dataset)
    assert len(opened("flickr8k", dataset, root="/").items("train", Modality.IMAGE)) == 2


def test_the_advice_runs_as_printed_and_the_manifest_says_it(dataset, tmp_path):
    (tmp_path / "else where").mkdir()
    (tmp_path / "else where" / "out.jpg").write_bytes(RED)
    write_table(dataset, "in.jpg", "../else where/out.jpg")
    command = ["extract", "--encoder", "toy-image", "--data", f"image-text-table={dataset}"]
    refused = lightalign(*command, home=tmp_path / "home")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    advice = shlex.split(refused.stderr.rpartition("where that is meant, add ")[2])
    done = lightalign(*command, *advice, "--json", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    key = json.loads(done.stdout)["stores"][0]["key"]
    manifest = json.loads(lightalign("cache", "info", key[:12], home=tmp_path / "home").stdout)
    assert manifest["settings"]["source"] == {"root": str(tmp_path / "else where")}


def test_a_store_of_pictures_elsewhere_is_repaired_with_the_options_it_was_extracted_with(
    dataset, monkeypatch, capsys
):
    """Whoever extracted it has named columns and a folder; the manifest says which."""
    rows = [{"bild": str(dataset.parent / "elsewhere" / "out.jpg"), "wort": "red", "split": "test"}]
    (dataset / "table.jsonl").write_text(json.dumps(rows[0]) + "\n")
    home = dataset.parent / "home"
    data = f"image-text-table={dataset}"
    options = {
        "image_column": "bild",
        "caption_columns": ["wort"],
        "root": str(dataset.parent / "elsewhere"),
    }
    spec = ExtractSpec(encoders=("toy-image",), data=data, home=home, source=options)
    (store,) = (one.folder for one in run(spec).stores)
    values = next(path for path in (store / "shard-00000/values/c").rglob("*") if path.is_file())
    whole = values.read_bytes()

    values.unlink()
    assert repair(home, str(store), data=data, device="cpu").left == ()
    assert values.read_bytes() == whole

    # as earlier versions wrote it, which read pictures from anywhere
    manifest = read_manifest(store)
    del manifest["settings"]["source"]["root"]
    write_manifest(store, manifest)
    shutil.rmtree(home / "known-datasets")
    values.unlink()
    with pytest.raises(DatasetFormatError) as refused:
        repair(home, str(store), data=data, device="cpu")
    option = str(refused.value).rpartition(", add ")[2]
    done = lightalign("cache", "repair", "--data", data, *shlex.split(option), home=home)
    assert done.returncode == 0, done.stderr
    assert values.read_bytes() == whole
