"""Small datasets in every layout that the sources read: 30 images, five captions each."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightalign.featcache.sources.opening import SOURCES, open_source
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
    rows = pa.table(table_columns()).to_pylist()
    (root / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))


def parquet_table(root):
    write_images(root)
    pq.write_table(pa.table(table_columns()), root / "table.parquet")


def excel_table(root):
    write_images(root / "photos")
    write_csv(root / "table.csv", ["image", "description"], flat("photos/"), delimiter=";")
    content = (root / "table.csv").read_text(encoding="utf-8")
    (root / "table.csv").write_bytes(content.encode("utf-16"))


def json_table(root):
    write_images(root)
    rows = pa.table(table_columns()).to_pylist()
    (root / "table.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))


def parquet_shards_with_pictures(root):
    for split in ("train", "val", "test"):
        rows = [
            {"image": {"bytes": b"x" * number, "path": name}, "caption": CAPTIONS[name]}
            for number, name in enumerate(NAMES, start=1)
            if SPLITS[name] == split
        ]
        for shard in range(2):
            name = f"{split}-{shard:05}-of-00002.parquet"
            pq.write_table(pa.Table.from_pylist(rows[shard::2]), root / name)


def coco_folders(root):
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        names = [name for name in NAMES if SPLITS[name] == split]
        write_images(root / f"{split}2017", names)
        value = {
            "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
            "annotations": [
                {"image_id": number, "caption": caption}
                for number, name in enumerate(names)
                for caption in CAPTIONS[name]
            ],
        }
        (root / "annotations" / f"captions_{split}2017.json").write_text(json.dumps(value))


def images_alone(root):
    write_images(root)


def texts_beside(root):
    for folder in ("train", "val", "test"):
        (root / folder).mkdir()
    write_images(root)
    for name in NAMES:
        place = root / SPLITS[name]
        (root / name).rename(place / name)
        (place / name).with_suffix(".txt").write_text("\n".join(CAPTIONS[name]))


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
    "image-text-table": [
        csv_table,
        tsv_table,
        json_lines_table,
        parquet_table,
        json_table,
    ],
}
# without a file for each image, splits or names that all others have
OTHER_TABLES = [excel_table, parquet_shards_with_pictures, coco_folders]
FOLDER_LAYOUTS = {"image-text-files": [texts_beside], "images": [images_alone]}
SHAPES = {"train": 4, "val": 3, "test": 2, "size": 32}


def opened(name, root, /, **options):
    options = {**SHAPES, **options} if name == "shapes" else options
    data = f"{name}={root}" if SOURCES.load(name).needs_files else name
    return open_source(data, home=Path("unused"), options=options)


def written(name, write, root):
    root.mkdir(exist_ok=True)
    write(root)
    return opened(name, root)


def ids(source, split, modality):
    return [item.id for item in source.items(split, modality)]


def texts_of(source, split):
    return [item.text for item in source.items(split, Modality.TEXT)]
