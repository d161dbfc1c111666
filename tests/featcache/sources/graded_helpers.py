"""Small datasets of graded text pairs in every layout that is read: 12 pairs a split."""

import csv
import json
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq


class Graded(NamedTuple):
    first: str
    second: str
    grade: float


SPLITS = ("train", "val", "test")
NUM = 12
GLUE_STSB = ["index", "genre", "filename", "year", "old_index", "source1", "source2"]
GLUE_STSB += ["sentence1", "sentence2"]
GLUE = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}


def graded(split, *, binary, lowest=0):
    """Return pairs with quotes and commas.

    Three pairs hang together: the second text of the first is the first of the second, and so on.
    """
    firsts = [number + number // 3 for number in range(NUM)]
    grades = [number % 2 if binary else lowest + number % 5 + 0.25 for number in range(NUM)]
    return [
        Graded(f'{split}, the "{one}. text', f'{split}, the "{one + 1}. text', grade)
        for one, grade in zip(firsts, grades, strict=True)
    ]


def write_tabbed(file, header, rows):
    lines = ["\t".join(map(str, row)) for row in [*([header] if header else []), *rows]]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def glue_qqp(root):
    header = ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"]
    for split in SPLITS[:2]:
        rows = [(n, 2 * n, 2 * n + 1, *row) for n, row in enumerate(graded(split, binary=True))]
        write_tabbed(root / GLUE[split], header, rows)
    write_tabbed(root / "test.tsv", ["id", "question1", "question2"], [(0, "a", "b")])


def part_of_qqp(root):
    rows = [(grade, first, second) for first, second, grade in graded("train", binary=True)]
    write_tabbed(root / "qqp_5k.tsv", ["label", "question1", "question2"], rows)


def published_mrpc(root):
    header = ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    for split in ("train", "test"):
        rows = [(grade, 1, 2, first, second) for first, second, grade in graded(split, binary=True)]
        write_tabbed(root / f"msr_paraphrase_{split}.txt", header, rows)


def glue_mrpc(root):
    header = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    for split in SPLITS[:2]:
        rows = [(grade, 1, 2, first, second) for first, second, grade in graded(split, binary=True)]
        write_tabbed(root / GLUE[split], header, rows)
    write_tabbed(root / "test.tsv", ["index", *header[1:]], [(0, 1, 2, "a", "b")])


def training_part_of_mrpc(root):
    rows = [(grade, first, second) for first, second, grade in graded("train", binary=True)]
    write_tabbed(root / "mrpc_train.tsv", ["label", "sentence1", "sentence2"], rows)


def published_stsb(root):
    """Write it without a header, some lines with the sources of their texts behind."""
    for split, name in zip(SPLITS, ("train", "dev", "test"), strict=True):
        rows = [
            ("captions", "MSRvid", 2012, f"{n:04}", grade, first, second, *["source"] * (n % 3))
            for n, (first, second, grade) in enumerate(graded(split, binary=False))
        ]
        write_tabbed(root / f"sts-{name}.csv", None, rows)


def glue_stsb(root):
    header = [
        "index",
        "genre",
        "filename",
        "year",
        "old_index",
        "source1",
        "source2",
        "sentence1",
        "sentence2",
        "score",
    ]
    for split in SPLITS[:2]:
        rows = [
            (n, "c", "f", 1, n, "-", "-", *row) for n, row in enumerate(graded(split, binary=False))
        ]
        write_tabbed(root / GLUE[split], header, rows)
    write_tabbed(root / "test.tsv", GLUE_STSB, [(0, "c", "f", 1, 0, "-", "-", "a", "b")])


def short_stsb(root):
    for split, name in (("train", "train"), ("val", "dev")):
        rows = [("c", "f", grade, one, other) for one, other, grade in graded(split, binary=False)]
        write_tabbed(
            root / f"stsb_{name}.tsv", ["genre", "file", "score", "sentence1", "sentence2"], rows
        )


def semeval_sick(root):
    header = ["pair_ID", "sentence_A", "sentence_B", "relatedness_score", "entailment_judgment"]
    for split, name in zip(SPLITS, ("train", "trial", "test_annotated"), strict=True):
        rows = [(n, *row, "NEUTRAL") for n, row in enumerate(graded(split, binary=False, lowest=1))]
        rows = [(*row[:3], min(row[3], 5), row[4]) for row in rows]
        write_tabbed(root / f"SICK_{name}.txt", header, rows)


def whole_sick(root):
    header = [
        "pair_ID",
        "sentence_A",
        "sentence_B",
        "entailment_label",
        "relatedness_score",
        "SemEval_set",
    ]
    names = {"train": "TRAIN", "val": "TRIAL", "test": "TEST"}
    rows = [
        (n, first, second, "NEUTRAL", min(grade, 5), names[split])
        for split in SPLITS
        for n, (first, second, grade) in enumerate(graded(split, binary=False, lowest=1))
    ]
    write_tabbed(root / "SICK.txt", header, rows)


def table_rows():
    return [
        {"text1": first, "text2": second, "score": float(grade), "split": split}
        for split in SPLITS
        for first, second, grade in graded(split, binary=False)
    ]


def csv_pairs(root):
    with (root / "pairs.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["text1", "text2", "score", "split"])
        writer.writeheader()
        writer.writerows(table_rows())


def json_lines_pairs(root):
    (root / "pairs.jsonl").write_text("\n".join(map(json.dumps, table_rows())))


def parquet_pairs(root):
    pq.write_table(pa.Table.from_pylist(table_rows()), root / "pairs.parquet")


GRADED_LAYOUTS = {
    "qqp": [glue_qqp, part_of_qqp],
    "mrpc": [published_mrpc, glue_mrpc, training_part_of_mrpc],
    "stsb": [published_stsb, glue_stsb, short_stsb],
    "sick": [semeval_sick, whole_sick],
    "text-pair-table": [csv_pairs, json_lines_pairs, parquet_pairs],
}
