"""Every dataset family in each of its layouts: one contract, then what is special to each."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightalign.featcache.datasets import SOURCES, list_datasets, open_source, parse_data
from lightalign.featcache.errors import (
    DatasetFormatError,
    DatasetNotFoundError,
    SpecError,
    UnknownNameError,
    UnreadableItemError,
)
from lightalign.featcache.sources._caption_files import read_kaggle_csv
from lightalign.featcache.types import Modality

NAMES = [f"{number:02}.jpg" for number in range(30)]
CAPTIONS = {name: [f'{name}, a "dog" | {n} .' for n in range(5)] for name in NAMES}
SPLITS = {name: ("train", "val", "test")[number % 3] for number, name in enumerate(NAMES)}
OFFICIAL_LISTS = {"train": "trainImages", "val": "devImages", "test": "testImages"}


def write_images(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * (number + 1))


def write_token(file):
    lines = [f"{name}#{n}\t{text}" for name in NAMES for n, text in enumerate(CAPTIONS[name])]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_csv(file, header, rows, delimiter=","):
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([header, *rows])


def write_lists(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for split, stem in OFFICIAL_LISTS.items():
        names = [name for name in NAMES if SPLITS[name] == split]
        (folder / f"Flickr_8k.{stem}.txt").write_text("\n".join(names) + "\n")


def write_karpathy(file, split_of=SPLITS):
    images = [
        {"filename": name, "split": split, "sentences": [{"raw": raw} for raw in CAPTIONS[name]]}
        for name, split in split_of.items()
    ]
    file.write_text(json.dumps({"dataset": "x", "images": images}))


def write_bars(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{name}| {n}| {text}" for name in NAMES for n, text in enumerate(CAPTIONS[name])]
    file.write_text("\n".join(["image_name| comment_number| comment", *rows]) + "\n")


def flat(prefix=""):
    return [(prefix + name, text) for name in NAMES for text in CAPTIONS[name]]


def kaggle_8k(root):
    write_images(root / "Images")
    write_csv(root / "captions.txt", ["image", "caption"], flat())


def kaggle_8k_with_lists(root):
    kaggle_8k(root)
    write_lists(root)


def official_8k(root):
    write_images(root / "Flicker8k_Dataset")
    write_token(root / "Flickr8k.token.txt")
    write_lists(root)


def official_8k_in_folders(root):
    write_images(root / "Flickr8k_Dataset")
    write_token(root / "Flickr8k_text" / "Flickr8k.token.txt")
    write_lists(root / "Flickr8k_text")


def json_lines_8k(root):
    write_images(root / "images")
    rows = [
        {"split": SPLITS[name], "image": f"images/{name}", "captions": CAPTIONS[name]}
        for name in NAMES
    ]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))


def karpathy_8k(root):
    write_images(root / "Images")
    write_karpathy(root / "dataset_flickr8k.json")


def kaggle_30k(root):
    write_images(root / "flickr30k_images" / "flickr30k_images")
    write_bars(root / "flickr30k_images" / "results.csv")


def kaggle_30k_with_karpathy(root):
    write_images(root / "flickr30k_images")
    write_bars(root / "results.csv")
    write_karpathy(root / "dataset_flickr30k.json")


def official_30k(root):
    write_images(root / "flickr30k-images")
    write_token(root / "results_20130124.token")


def karpathy_30k(root):
    write_images(root / "images")
    write_karpathy(root / "dataset_flickr30k.json")


def csv_table(root):
    write_images(root / "photos")
    write_csv(root / "table.csv", ["image", "caption"], flat("photos/"))


def tsv_table(root):
    write_images(root)
    rows = [(name, SPLITS[name], *CAPTIONS[name]) for name in NAMES]
    header = ["path", "split", *(f"caption_{n}" for n in range(5))]
    write_csv(root / "table.tsv", header, rows, delimiter="\t")


def table_columns():
    return {
        "id": [f"id-{name}" for name in NAMES],
        "filename": list(NAMES),
        "captions": [CAPTIONS[name] for name in NAMES],
        "split": [SPLITS[name] for name in NAMES],
    }


def json_lines_table(root):
    write_images(root)
    rows = [
        dict(zip(table_columns(), cells, strict=True)) for cells in zip(*table_columns().values())
    ]
    (root / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))


def parquet_table(root):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_images(root)
    pq.write_table(pa.table(table_columns()), root / "table.parquet")


LAYOUTS = {
    "shapes": [lambda root: None],
    "flickr8k": [
        kaggle_8k,
        kaggle_8k_with_lists,
        official_8k,
        official_8k_in_folders,
        json_lines_8k,
        karpathy_8k,
    ],
    "flickr30k": [kaggle_30k, kaggle_30k_with_karpathy, official_30k, karpathy_30k],
    "image-text-table": [csv_table, tsv_table, json_lines_table, parquet_table],
}
SHAPES = {"train": 4, "val": 3, "test": 2, "size": 32}
CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in LAYOUTS.items()
    for write in writers
]
FILE_CASES = [case for case in CASES if case.values[0] != "shapes"]
OFFICIAL_SPLITS = [
    case
    for case in FILE_CASES
    if case.values[1] not in (kaggle_8k, kaggle_30k, official_30k, csv_table)
]


def opened(name, root, **options):
    options = {**SHAPES, **options} if name == "shapes" else options
    return open_source(f"{name}={root}", home=Path("unused"), options=options)


def written(name, write, root):
    root.mkdir(exist_ok=True)
    write(root)
    return opened(name, root)


def ids(source, split, modality):
    return [item.id for item in source.items(split, modality)]


def test_every_registered_dataset_is_under_the_contract():
    assert sorted(LAYOUTS) == SOURCES.names()


@pytest.mark.parametrize(("name", "write"), CASES)
def test_ids_are_unique_and_pairs_link_every_text_to_an_image_of_the_split(name, write, tmp_path):
    source = written(name, write, tmp_path)
    assert source.splits() == ("train", "val", "test")
    for split in source.splits():
        images, texts = (ids(source, split, modality) for modality in Modality)
        pairs = source.pairs(split)
        assert images
        assert len(set(images)) == len(images)
        assert len(set(texts)) == len(texts)
        assert (list(pairs.image_ids), list(pairs.text_ids)) == (images, texts)
        assert {image for image, _ in pairs.links} == set(images)
        assert [text for _, text in pairs.links] == texts
        assert len(pairs.links) == 5 * len(images)


@pytest.mark.parametrize(("name", "write"), CASES)
def test_splits_are_disjoint_and_items_hold_what_their_modality_needs(name, write, tmp_path):
    source = written(name, write, tmp_path)
    everything = [one for split in source.splits() for one in ids(source, split, Modality.IMAGE)]
    assert len(set(everything)) == len(everything)
    assert all(item.text for item in source.items("train", Modality.TEXT))
    assert all(item.read_bytes() for item in source.items("train", Modality.IMAGE))


@pytest.mark.parametrize(("name", "write"), CASES)
def test_an_unknown_split_is_refused_with_the_known_ones(name, write, tmp_path):
    source = written(name, write, tmp_path)
    for ask in (source.pairs, source.fingerprint, lambda one: source.items(one, Modality.TEXT)):
        with pytest.raises(UnknownNameError, match=r"no split named 'trian'; close: \['train'\]"):
            ask("trian")


@pytest.mark.parametrize(("name", "write"), CASES)
def test_the_fingerprint_survives_a_move_and_differs_between_splits(name, write, tmp_path):
    here = written(name, write, tmp_path / "here")
    prints = [here.fingerprint(split) for split in here.splits()]
    assert len(set(prints)) == 3
    assert prints == [opened(name, tmp_path / "here").fingerprint(one) for one in here.splits()]
    shutil.move(tmp_path / "here", tmp_path / "there")
    moved = opened(name, tmp_path / "there")
    assert prints == [moved.fingerprint(split) for split in moved.splits()]


@pytest.mark.parametrize(("name", "write"), FILE_CASES)
def test_one_changed_caption_changes_the_fingerprint_of_its_split_alone(
    name, write, tmp_path, monkeypatch
):
    before = written(name, write, tmp_path / "before")
    changed = {**CAPTIONS, "00.jpg": ["changed", *CAPTIONS["00.jpg"][1:]]}
    monkeypatch.setitem(globals(), "CAPTIONS", changed)
    after = written(name, write, tmp_path / "after")
    assert [
        split for split in before.splits() if before.fingerprint(split) != after.fingerprint(split)
    ] == [split for split in after.splits() if "changed" in texts_of(after, split)]


@pytest.mark.parametrize(("name", "write"), FILE_CASES)
def test_one_image_of_another_size_changes_the_fingerprint(name, write, tmp_path):
    source = written(name, write, tmp_path)
    before = source.fingerprint("test")
    source.items("test", Modality.IMAGE)[0].path.write_bytes(b"another picture")
    assert opened(name, tmp_path).fingerprint("test") != before


def texts_of(source, split):
    return [item.text for item in source.items(split, Modality.TEXT)]


@pytest.mark.parametrize(("name", "write"), OFFICIAL_SPLITS)
def test_published_splits_and_captions_are_read_in_file_order(name, write, tmp_path):
    source = written(name, write, tmp_path)
    for split in source.splits():
        names = [name for name in NAMES if SPLITS[name] == split]
        images = source.items(split, Modality.IMAGE)
        assert [item.path.name for item in images] == names
        assert texts_of(source, split) == [text for name in names for text in CAPTIONS[name]]
    assert not any("SHA-256" in note for note in source.notes())


@pytest.mark.parametrize("write", [kaggle_8k, official_8k, json_lines_8k, karpathy_8k])
def test_ids_do_not_depend_on_the_layout(write, tmp_path):
    source = written("flickr8k", write, tmp_path)
    assert "00.jpg#4" in [
        one for split in source.splits() for one in ids(source, split, Modality.TEXT)
    ]


@pytest.mark.parametrize(
    ("name", "write", "file"),
    [
        ("flickr8k", kaggle_8k, "Flickr_8k.trainImages.txt"),
        ("flickr8k", kaggle_8k, "dataset_flickr8k.json"),
        ("flickr30k", kaggle_30k, "dataset_flickr30k.json"),
        ("image-text-table", csv_table, "add a column 'split'"),
    ],
)
def test_without_published_splits_a_note_says_what_was_done_instead(name, write, file, tmp_path):
    (note,) = [note for note in written(name, write, tmp_path).notes() if "SHA-256" in note]
    assert file in note
    assert "3 test and 3 val images" in note
    assert "\n" not in note


def test_hashed_splits_are_the_first_tenths_by_sha_256_of_the_name(tmp_path):
    """The order is that of `printf %s NAME | sha256sum`, sorted, for 00.jpg to 29.jpg."""
    source = written("flickr8k", kaggle_8k, tmp_path)
    assert {split: ids(source, split, Modality.IMAGE) for split in ("test", "val")} == HASHED
    assert len(ids(source, "train", Modality.IMAGE)) == 24


def test_dev_and_restval_go_by_our_names(tmp_path):
    write_images(tmp_path / "images")
    names = ["restval", "validation", "testing", "train"]
    write_karpathy(tmp_path / "dataset_flickr30k.json", dict(zip(NAMES, names, strict=False)))
    source = opened("flickr30k", tmp_path)
    found = {split: ids(source, split, Modality.IMAGE) for split in source.splits()}
    assert found == {"train": ["00.jpg", "03.jpg"], "val": ["01.jpg"], "test": ["02.jpg"]}


def test_images_in_no_published_split_are_left_out_with_a_note(tmp_path):
    official_8k(tmp_path)
    lists = tmp_path / "Flickr_8k.trainImages.txt"
    lists.write_text(lists.read_text().replace("00.jpg\n", ""))
    source = opened("flickr8k", tmp_path)
    assert "00.jpg" not in ids(source, "train", Modality.IMAGE)
    assert source.notes() == (
        "1 image of Flickr8k.token.txt left out: no split in the official split lists",
    )


def test_a_split_list_may_name_an_image_without_captions(tmp_path):
    official_8k(tmp_path)
    with (tmp_path / "Flickr_8k.testImages.txt").open("a") as stream:
        stream.write("bare.jpg\n")
    source = opened("flickr8k", tmp_path)
    assert source.pairs("test").image_ids[-1] == "bare.jpg"
    assert "bare.jpg" not in {image for image, _ in source.pairs("test").links}
    assert source.notes() == ("1 image without any caption kept, in no pair",)


def test_the_captioned_jpg_1_that_is_no_file_is_left_out(tmp_path):
    official_8k(tmp_path)
    for split_list in tmp_path.glob("Flickr_8k.*"):
        split_list.unlink()
    with (tmp_path / "Flickr8k.token.txt").open("a") as stream:
        stream.write("2258277193_586949ec62.jpg.1#0\tpeople waiting .\n")
    source = opened("flickr8k", tmp_path)
    assert not any(
        "586949" in one for name in source.splits() for one in source.pairs(name).image_ids
    )
    assert any(note.startswith("1 image named like name.jpg.1 left out") for note in source.notes())


def test_the_published_row_without_its_second_bar_is_read(tmp_path):
    write_images(tmp_path / "images", ["2199200615.jpg"])
    (tmp_path / "results.csv").write_text(
        "image_name| comment_number| comment\n"
        "2199200615.jpg| 3| A dog | runs .\n"
        "2199200615.jpg| 4   A dog runs across the grass .\n"
    )
    texts = texts_of(opened("flickr30k", tmp_path), "train")
    assert texts == ["A dog | runs .", "A dog runs across the grass ."]


def test_a_missing_image_stays_an_item_that_cannot_be_read(tmp_path):
    kaggle_8k(tmp_path)
    (tmp_path / "Images" / "00.jpg").unlink()
    source = opened("flickr8k", tmp_path)
    (item,) = [
        item
        for split in source.splits()
        for item in source.items(split, Modality.IMAGE)
        if item.id == "00.jpg"
    ]
    with pytest.raises(UnreadableItemError, match=r"00\.jpg: cannot read .*No such file"):
        item.read_bytes()


@pytest.mark.parametrize(("name", "write"), FILE_CASES)
def test_a_dataset_without_any_of_its_images_is_not_found(name, write, tmp_path):
    written(name, write, tmp_path)
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"30 images.*such as .*00\.jpg"):
        opened(name, tmp_path)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "shapes"])
def test_a_missing_folder_is_reported_with_what_was_looked_for_and_what_to_do(name, tmp_path):
    with pytest.raises(DatasetNotFoundError) as caught:
        opened(name, tmp_path / "nowhere")
    for part in (str(tmp_path / "nowhere"), "looked for", f"--data {name}=PATH"):
        assert part in str(caught.value)


def test_two_images_of_one_name_are_refused(tmp_path):
    write_images(tmp_path, ["a/1.jpg", "b/1.jpg"])
    rows = [{"split": "train", "image": f"{one}/1.jpg", "captions": ["c"]} for one in "ab"]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DatasetFormatError, match=r"captions\.jsonl, line 2: a second image is"):
        opened("flickr8k", tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("captions.txt", b"", "captions.txt: is empty, expected a header"),
        ("captions.txt", b"image,caption\n", "captions.txt: holds no captions"),
        ("captions.txt", b"file;text\na;b\n", r"captions.txt, line 1: expected the header image"),
        ("captions.txt", b"image,caption\na,b\na,b,c\n", "line 3: 3 cells where the header has 2"),
        ("captions.txt", b'image,caption\na,"open\nb,c\n', r"captions.txt, line \d: broken quot"),
        ("captions.txt", b"image,caption\na,\xff\n", "captions.txt, line 2: is not UTF-8"),
        ("captions.txt", b"image,caption\n,alone\n", "captions.txt, line 2: names no image"),
        ("Flickr8k.token.txt", b"a.jpg#0 no tab\n", "token.txt, line 1: expected name.jpg#number"),
        ("Flickr8k.token.txt", b"a.jpg\tno number\n", "token.txt, line 1: expected name.jpg#numb"),
        ("Flickr8k.token.txt", b"\n\n", "Flickr8k.token.txt: holds no captions"),
        ("captions.jsonl", b"\n{broken\n", "captions.jsonl, line 2: is not JSON"),
        ("captions.jsonl", b"[1]\n", "captions.jsonl, line 1: is not a JSON object"),
        ("captions.jsonl", b'{"image": "a"}\n', "line 1: expected the keys split, image"),
        ("captions.jsonl", b'{"image": "a", "split": "x", "captions": [1]}', "must be text or a l"),
        ("captions.jsonl", b'{"image": "a", "split": " ", "captions": []}', "gives no split for"),
        ("dataset_flickr8k.json", b"{", "dataset_flickr8k.json, line 1: is not JSON"),
        ("dataset_flickr8k.json", b"[]", "dataset_flickr8k.json: expected {.images."),
        ("dataset_flickr8k.json", b'{"images": [{}]}', "image 0: expected {.images."),
    ],
)
def test_broken_files_are_refused_with_their_place(file, content, problem, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DatasetFormatError, match=problem) as caught:
        opened("flickr8k", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "results.csv: expected the header image_name"),
        ("image,caption\na,b\n", "results.csv, line 1: expected the header image_name"),
        ("image_name| comment_number| comment\na.jpg| 1| fine\na.jpg| one\n", "line 3: expected"),
    ],
)
def test_broken_flickr30k_tables_are_refused_with_their_place(content, problem, tmp_path):
    (tmp_path / "results.csv").write_text(content)
    with pytest.raises(DatasetFormatError, match=problem):
        opened("flickr30k", tmp_path)


def test_an_image_in_two_split_lists_is_refused(tmp_path):
    official_8k(tmp_path)
    with (tmp_path / "Flickr_8k.testImages.txt").open("a") as stream:
        stream.write("00.jpg\n")
    with pytest.raises(DatasetFormatError, match=r"testImages.txt, line 11: '00.jpg' is in split"):
        opened("flickr8k", tmp_path)


def test_split_lists_of_another_dataset_are_refused(tmp_path):
    kaggle_8k(tmp_path)
    (tmp_path / "Flickr_8k.trainImages.txt").write_text("elsewhere.jpg\n")
    with pytest.raises(DatasetFormatError, match="has no image in common with the official split"):
        opened("flickr8k", tmp_path)


caption = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1
).filter(str.strip)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a.jpg", "b, c.jpg", 'd".jpg']), caption), min_size=1))
def test_any_caption_survives_a_csv_file(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("csv") / "captions.txt"
    write_csv(file, ["image", "caption"], rows)
    assert [(row.image, *row.captions) for row in read_kaggle_csv(file)] == rows


def test_names_titles_and_needs_are_listed():
    listed = list_datasets()
    assert [name for name, _, _ in listed] == sorted(LAYOUTS)
    assert [name for name, _, needs_files in listed if not needs_files] == ["shapes"]
    assert all(title and "\n" not in title for _, title, _ in listed)


def test_listing_and_opening_import_neither_torch_nor_pyarrow():
    code = (
        "import sys; from pathlib import Path; from lightalign.featcache import datasets as d;"
        "d.list_datasets(); d.open_source('shapes', home=Path('.'));"
        "sys.exit(bool({'torch', 'pyarrow'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("flickr8k", ("flickr8k", None)),
        ("flickr8k=/data/f8k", ("flickr8k", Path("/data/f8k"))),
        ("image_text_table=a=b.csv", ("image-text-table", Path("a=b.csv"))),
        ("flickr8k=~/x", ("flickr8k", Path("~/x").expanduser())),
    ],
)
def test_name_and_path_are_told_apart(data, expected):
    assert parse_data(data) == expected


@pytest.mark.parametrize("data", ["", "=path", "flickr8k=", " "])
def test_data_without_name_or_path_is_refused(data):
    with pytest.raises(SpecError, match="is not of the form NAME or NAME=PATH"):
        parse_data(data)


def test_the_default_place_is_under_home(tmp_path):
    (tmp_path / "datasets").mkdir()
    written("flickr8k", kaggle_8k, tmp_path / "datasets" / "flickr8k")
    assert open_source("flickr8k", home=tmp_path).root == tmp_path / "datasets" / "flickr8k"


def test_unknown_datasets_and_options_list_the_known_ones(tmp_path):
    with pytest.raises(UnknownNameError, match=r"no dataset named 'flickr9k'; close: \['flickr8k'"):
        open_source("flickr9k", home=tmp_path)
    with pytest.raises(SpecError, match=r"'shapes': unknown key 'tarin'; known: \['seed', 'size'"):
        open_source("shapes", home=tmp_path, options={"tarin": 3})


@pytest.mark.skipif(
    not Path(os.environ.get("LIGHTALIGN_TEST_DATA", "nowhere"), "flickr8k").is_dir(),
    reason="set LIGHTALIGN_TEST_DATA to a folder that holds flickr8k",
)
def test_real_flickr8k_is_read_whole():
    source = opened("flickr8k", Path(os.environ["LIGHTALIGN_TEST_DATA"], "flickr8k"))
    counts = {
        split: tuple(len(source.items(split, modality)) for modality in Modality)
        for split in source.splits()
    }
    assert counts == {"train": (3000, 15000), "val": (1000, 5000)}
    assert all(item.path.is_file() for item in source.items("val", Modality.IMAGE))
    assert source.items("train", Modality.TEXT)[0].id == "1001773457_577c3a7d70.jpg#0"
