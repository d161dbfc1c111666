"""Pictures that a table names lie below its dataset, or where a user says so."""

import json
import re
import shlex
import shutil
from collections import Counter

import pytest

from lightalign.featcache.errors import DatasetFormatError, SpecError
from lightalign.featcache.sources.tables import picture_places
from lightalign.featcache.store.manifest import read_manifest, write_manifest
from lightalign.featcache.types import Modality
from lightalign.pipelines.cache.repair import repair
from lightalign.pipelines.extraction.extract import run
from lightalign.pipelines.extraction.spec import ExtractSpec

from ....helpers import lightalign
from ....scenarios.test_broken_pictures import RED
from ..sources_helpers import opened


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
    source = opened(name, dataset)
    (row,) = source.skipped_rows()
    assert row.place == "line 12"
    assert row.reason.startswith("image '../elsewhere/out.jpg' lies outside of ")
    assert row.reason.endswith(f"add --set source.root={dataset.parent / 'elsewhere'}")
    assert num_images(source) == 10
    assert num_images(opened(name, dataset, root="/")) == 11


def num_images(source):
    return sum(len(source.ids(split, Modality.IMAGE)) for split in source.splits())


def test_few_pictures_outside_are_left_out_by_line_and_half_of_them_are_refused(dataset):
    for name in ("a.jpg", "b.jpg"):
        (dataset / name).write_bytes(RED)
    write_table(dataset, "in.jpg", "../elsewhere/out.jpg", "a.jpg")
    source = opened("image-text-table", dataset)
    assert [row.place for row in source.skipped_rows()] == ["line 3"]
    assert source.ids("train", Modality.IMAGE) == ["in.jpg", "a.jpg"]
    write_table(dataset, "in.jpg", "../elsewhere/out.jpg", "a.jpg", "../elsewhere/other.jpg")
    with pytest.raises(DatasetFormatError, match=r"line 3: image .* \(and 1 more\) lies outside"):
        images(dataset)


@pytest.mark.parametrize("kind", ["image-text-table", "image-folder"])
def test_bare_names_are_found_in_a_folder_of_images_or_below_the_option(kind, dataset):
    """The ids are the names as they are written; what lies beside the table goes first."""
    elsewhere = dataset.parent / "elsewhere"
    (dataset / "Images").mkdir()
    for place in (dataset / "Images" / "a.jpg", dataset / "Images" / "in.jpg", elsewhere / "b.jpg"):
        place.write_bytes(b"other")
    (dataset / "table.csv").write_text(
        "image,caption,class,split\nin.jpg,x,p,train\na.jpg,y,q,train\nb.jpg,z,q,test\n"
    )
    source = opened(kind, dataset / "table.csv", root=str(elsewhere))
    found = {
        item.id: item.path
        for split in source.splits()
        for item in source.items(split, Modality.IMAGE)
    }
    assert found == {
        "in.jpg": dataset / "in.jpg",
        "a.jpg": dataset / "Images" / "a.jpg",
        "b.jpg": elsewhere / "b.jpg",
    }


def test_a_picture_with_its_folder_and_without_is_one(dataset):
    (dataset / "images").mkdir()
    (dataset / "images" / "a.jpg").write_bytes(RED)
    write_table(dataset, "in.jpg", "a.jpg", "images/a.jpg")
    assert [item.id for item in images(dataset)] == ["in.jpg", "images/a.jpg"]


@pytest.mark.parametrize("kind", ["image-text-table", "image-folder"])
def test_the_place_of_a_picture_is_looked_up_once(kind, dataset, monkeypatch):
    """Beside a folder `images` nobody knows where a picture lies; on a network a look is a wait."""
    looks = Counter()
    look = picture_places._exists

    def exists(path):
        looks[path] += 1
        return look(path)

    monkeypatch.setattr(picture_places, "_exists", exists)
    names = [f"images/{number}.jpg" for number in range(200)]
    (dataset / "images").mkdir()
    for name in names:
        (dataset / name).write_bytes(RED)
    column = "caption" if kind == "image-text-table" else "class"
    rows = [f"{name},a {number % 2}" for number, name in enumerate(names)]
    (dataset / "t.csv").write_text("\n".join([f"image,{column}", *rows]), encoding="utf-8")
    opened(kind, dataset / "t.csv")
    assert [looks[str(dataset / name)] for name in names] == [1] * len(names)


def test_a_folder_of_images_that_leads_out_of_the_dataset_is_none(dataset):
    (dataset / "images").symlink_to(dataset.parent / "elsewhere")
    write_table(dataset, "in.jpg", "out.jpg")
    assert images(dataset)[1].path == dataset / "out.jpg"


@pytest.mark.parametrize("kind", ["image-text-table", "image-folder"])
@pytest.mark.parametrize("above", ["", "images/"])
def test_names_that_repeat_in_folders_of_splits_are_pictures_of_each(kind, above, dataset):
    for split, folder in (("train", "training"), ("test", "test")):
        (dataset / above / folder).mkdir(parents=True)
        rows = ["image,caption,class"]
        for number in range(2):
            (dataset / above / folder / f"{number}.jpg").write_bytes(folder.encode())
            rows.append(f"{number}.jpg,a {split},{'pq'[number]}")
        (dataset / f"{split}.csv").write_text("\n".join(rows))
    source = opened(kind, dataset)
    assert [item.id for item in source.items("train", Modality.IMAGE)] == [
        f"{above}training/0.jpg",
        f"{above}training/1.jpg",
    ]
    assert [item.read_bytes() for item in source.items("test", Modality.IMAGE)] == [b"test"] * 2


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


@pytest.mark.parametrize("kind", ["image-text-table", "image-folder"])
@pytest.mark.parametrize("folder", [".", "images"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_path_through_a_folder_that_is_not_there_is_that_without_it(order, folder, kind, dataset):
    """Whichever of the two names of a picture comes first."""
    (dataset / folder).mkdir(exist_ok=True)
    for name in ("3.png", "4.png"):
        (dataset / folder / name).write_bytes(RED)
    names = ["3.png", "nowhere/../3.png"][::order]
    rows = [f"{name},cat,a cat,train" for name in names] + ["no/../4.png,dog,a dog,train"]
    (dataset / "index.csv").write_text("\n".join(["image,class,caption,split", *rows]))
    source = opened(kind, dataset / "index.csv")
    items = [item for split in source.splits() for item in source.items(split, Modality.IMAGE)]
    assert [item.read_bytes() for item in items] == [RED, RED]


def test_a_path_that_climbs_out_of_a_link_is_not_shortened(dataset):
    """`disk` leads out of the dataset, so what is above it is not the dataset's `in.jpg`."""
    (dataset / "disk").symlink_to(dataset.parent / "elsewhere")
    write_table(dataset, "disk/../in.jpg", "in.jpg", "./in.jpg")
    source = opened("image-text-table", dataset)
    assert [row.place for row in source.skipped_rows()] == ["line 2"]
