"""Datasets of questions in each of their layouts: what all share, then each alone, then broken."""

import json
import math
import random
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightalign.featcache.errors import DatasetFormatError, DatasetNotFoundError, SpecError
from lightalign.featcache.sources.opening import SOURCES, define, open_defined
from lightalign.featcache.types import IMAGE_TEXT, Modality

from ..question_helpers import (
    ANSWER_SPACE,
    ASKED,
    EASY_ANSWERS,
    GIVEN,
    PHOTOS,
    QUESTION_LAYOUTS,
    TEST,
    TRAIN,
    VQA_IMAGES,
    annotations_of,
    easy_vqa_files,
    easy_vqa_package,
    index_of_daquar,
    json_lines_of_questions,
    kaggle_daquar,
    kaggle_tables_of_daquar,
    official_daquar,
    official_vqav2,
    questions_of,
    rows_with_lists,
    table_of_questions,
    tables_of_splits,
    vqav2_in_folders,
)
from ..sources_helpers import ids, opened, texts_of, write_csv, write_images, written

CASES = [
    pytest.param(name, write, id=f"{name}-{write.__name__}")
    for name, writers in QUESTION_LAYOUTS.items()
    for write in writers
]
OFFICIAL = QUESTION_LAYOUTS["daquar"]
QUESTIONS = "v2_OpenEnded_mscoco_train2014_questions.json"
ANNOTATIONS = "v2_mscoco_train2014_annotations.json"


def asked(source, split):
    """Return image, question, answers and label of every question of one split."""
    pairs = source.pairs(split)
    images = [image for image, _ in pairs.id_pairs(IMAGE_TEXT)]
    given = [pairs.answers.of_question(place) for place in range(len(pairs.answers))]
    return list(zip(images, texts_of(source, split), given, pairs.answers.chosen, strict=True))


@pytest.mark.parametrize(("name", "write"), CASES)
def test_every_question_is_of_one_image_and_answers_are_of_all_or_none(name, write, tmp_path):
    source = written(name, write, tmp_path)
    seen = []
    for split in source.splits():
        pairs = source.pairs(split)
        places = pairs.places(IMAGE_TEXT)
        assert places[:, 1].tolist() == list(range(len(pairs.ids_of(Modality.TEXT))))
        assert set(places[:, 0].tolist()) == set(range(len(pairs.ids_of(Modality.IMAGE))))
        assert pairs.answers is None or len(pairs.answers) == len(places)
        assert not [item for item in source.items(split, Modality.IMAGE) if item.missing()]
        seen += ids(source, split, Modality.TEXT)
    assert len(set(seen)) == len(seen)
    assert source.skipped_rows() == ()


@pytest.mark.parametrize("write", OFFICIAL, ids=lambda write: write.__name__)
def test_daquar_is_the_same_in_every_layout(write, tmp_path):
    source = written("daquar", write, tmp_path)
    assert source.splits() == ("train", "test")
    for split, images in (("train", TRAIN), ("test", TEST)):
        expected = [
            (image, question, answers.split(", "), answers.split(", ")[0])
            for image in images
            for question, answers in ASKED[image]
        ]
        assert asked(source, split) == expected
        assert ids(source, split, Modality.TEXT) == [f"{one}#{n}" for one in images for n in (0, 1)]
        assert list(source.pairs(split).answers.vocabulary) == list(ANSWER_SPACE)


def test_oneencoders_split_is_that_of_scikit_learn(tmp_path):
    """`train_test_split(range(14), test_size=0.2, random_state=42)` holds out 9, 11 and 0."""
    kaggle_daquar(tmp_path)
    source = opened("daquar", tmp_path, split="oneencoder")
    assert source.splits() == ("train", "val")
    everything = [f"{image}#{n}" for image in (*TRAIN, *TEST) for n in (0, 1)]
    assert ids(source, "val", Modality.TEXT) == [everything[place] for place in (0, 9, 11)]
    rest = [name for place, name in enumerate(everything) if place not in {0, 9, 11}]
    assert ids(source, "train", Modality.TEXT) == rest
    (note,) = source.notes()
    assert note == "OneEncoder's split: 3 of 14 questions are val, whatever their images"


def test_oneencoders_split_of_another_file_is_noted(tmp_path):
    official_daquar(tmp_path)
    (note,) = opened("daquar", tmp_path, split="oneencoder").notes()
    published = "published over all_qa_pairs.txt, here over the questions of qa.894.raw.train.txt"
    assert note.endswith(published)


def test_oneencoders_split_needs_no_lists(tmp_path):
    kaggle_daquar(tmp_path)
    for split in ("train", "test"):
        (tmp_path / f"{split}_images_list.txt").unlink()
    message = r"all_qa_pairs.txt: says nothing of splits; .*--set source.split=oneencoder"
    with pytest.raises(DatasetFormatError, match=message):
        opened("daquar", tmp_path)
    assert opened("daquar", tmp_path, split="oneencoder").splits() == ("train", "val")


def test_daquar_has_a_validation_of_training_images_where_that_is_asked_for(tmp_path):
    official_daquar(tmp_path)
    source = opened("daquar", tmp_path, val_share=0.25)
    assert source.splits() == ("train", "val", "test")
    assert len(ids(source, "train", Modality.IMAGE)) == 3
    (held_out,) = ids(source, "val", Modality.IMAGE)
    assert held_out in TRAIN
    assert ids(source, "val", Modality.TEXT) == [f"{held_out}#0", f"{held_out}#1"]
    assert source.notes() == ("val is 1 training image chosen by the SHA-256 of their names",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "random"}, "source.split must be official or oneencoder, found 'random'"),
        ({"val_share": 0.6}, "source.val_share must be from 0 to 0.5, found 0.6"),
        ({"val_share": math.nan}, "val_share must be a finite number"),
        ({"root": "images"}, "source.root must be the absolute path of a folder"),
        ({"splits": "official"}, "did you mean split"),
    ],
)
def test_options_of_daquar_that_are_none_are_refused(options, message, tmp_path):
    official_daquar(tmp_path)
    with pytest.raises(SpecError, match=message):
        opened("daquar", tmp_path, **options)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["what is it in the image3 ?"], "line 1: is a question without an answer below it"),
        (["what is it ?", "cup"], "line 1: expected a question that ends in 'in the image1 [?]'"),
        (
            ["what is it in the image3 ?", "", "how many in the image3 ?", "2"],
            "line 3: expected the answer to line 1, found 'how many in the image3 [?]'",
        ),
        (
            ["what is it in the image3 ?", "cup", "stand", "how many in the image3 ?", "2"],
            "line 3: expected a question that ends in 'in the image1 [?]', found 'stand'",
        ),
    ],
)
def test_a_line_of_daquar_out_of_turn_is_refused_with_its_number(lines, message, tmp_path):
    official_daquar(tmp_path)
    (tmp_path / "qa.894.raw.train.txt").write_text("\n".join(lines))
    with pytest.raises(DatasetFormatError, match=rf"qa.894.raw.train.txt, {message}"):
        opened("daquar", tmp_path)


def test_questions_of_daquar_that_say_nothing_are_left_out_with_their_lines(tmp_path):
    official_daquar(tmp_path)
    with (tmp_path / "qa.894.raw.train.txt").open("a") as file:
        file.write("in the image9 ?\ncup\nwhat is this in the image9 ?\n , \n")
    source = opened("daquar", tmp_path)
    assert ids(source, "train", Modality.TEXT)[-1] == "image9#1"
    assert [vars(row) for row in source.skipped_rows()] == [
        {"place": "qa.894.raw.train.txt, line 17", "reason": "the question is empty"},
        {"place": "qa.894.raw.train.txt, line 19", "reason": "the question has no answer"},
    ]
    assert source.notes() == (
        "1 question left out, the question is empty: qa.894.raw.train.txt, line 17",
        "1 question left out, the question has no answer: qa.894.raw.train.txt, line 19",
    )


def test_images_of_lists_without_a_question_and_questions_without_a_list_are_noted(tmp_path):
    kaggle_daquar(tmp_path)
    (tmp_path / "train_images_list.txt").write_text("\n".join([*TRAIN[1:], "image77", "image78"]))
    source = opened("daquar", tmp_path)
    assert source.notes() == (
        "2 questions of all_qa_pairs.txt left out: no list has the image, such as image3 of line 1",
        "2 images without a question left out, such as image77 (train_images_list.txt, line 4)",
    )
    assert ids(source, "train", Modality.IMAGE) == TRAIN[1:]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("photo", r"test_images_list.txt, line 4: expected an image such as image1, found 'photo'"),
        ("image3", r"test_images_list.txt, line 4: image3 is in train_images_list.txt, too"),
    ],
)
def test_a_broken_list_of_images_is_refused(line, message, tmp_path):
    kaggle_daquar(tmp_path)
    with (tmp_path / "test_images_list.txt").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(DatasetFormatError, match=message):
        opened("daquar", tmp_path)


def test_lists_of_other_images_are_refused(tmp_path):
    kaggle_daquar(tmp_path)
    (tmp_path / "train_images_list.txt").write_text("image77")
    (tmp_path / "test_images_list.txt").write_text("image78")
    with pytest.raises(DatasetFormatError, match=r"has no image in common with train_images_list"):
        opened("daquar", tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("question,answer\nwhat,cup\n", r"line 1: lacks the columns \['image_id'\]"),
        ("question,answer,image_id\nwhat,cup,photo\n", "line 2: expected an image such as image1"),
        ("question,answer,image_id\nwhat,image3\n", "line 2: "),
        ("", "is empty"),
    ],
)
def test_a_broken_table_of_daquar_is_refused(content, message, tmp_path):
    kaggle_tables_of_daquar(tmp_path)
    (tmp_path / "data_train.csv").write_text(content)
    with pytest.raises(DatasetFormatError, match=f"data_train.csv(: |, ){message}"):
        opened("daquar", tmp_path)


def test_one_image_of_daquar_in_two_places_is_refused(tmp_path):
    index_of_daquar(tmp_path)
    with (tmp_path / "qa.csv").open("a") as file:
        file.write("train,why,so,others/image3.jpg\n")
    message = r"qa.csv, line 16: image3 is 'images/image3.jpg', and 'others/image3.jpg'"
    with pytest.raises(DatasetFormatError, match=message):
        opened("daquar", tmp_path)


def test_an_image_outside_of_the_folder_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    index_of_daquar(tmp_path / "data")
    write_images(tmp_path, ["image50.jpg"])
    with (tmp_path / "data" / "qa.csv").open("a") as file:
        file.write("train,why,so,../image50.jpg\n")
    with pytest.raises(DatasetFormatError, match=r"'../image50.jpg' lies outside of"):
        opened("daquar", tmp_path / "data")
    source = opened("daquar", tmp_path / "data", root=str(tmp_path))
    assert "image50" in ids(source, "train", Modality.IMAGE)


@pytest.mark.parametrize(
    ("content", "message"),
    [("cup\nred\ncup\n", "line 3: 'cup' is in line 1, too"), ("\n", "holds no answers")],
)
def test_a_broken_list_of_answers_is_refused(content, message, tmp_path):
    official_daquar(tmp_path)
    (tmp_path / "answer_space.txt").write_text(content)
    with pytest.raises(DatasetFormatError, match=f"answer_space.txt(, |: ){message}"):
        opened("daquar", tmp_path)


def test_without_a_list_of_answers_there_is_no_vocabulary(tmp_path):
    official_daquar(tmp_path)
    (tmp_path / "answer_space.txt").unlink()
    assert opened("daquar", tmp_path).pairs("train").answers.vocabulary is None


@pytest.mark.parametrize(("name", "write"), CASES)
def test_an_image_that_is_gone_is_missing_and_all_gone_are_refused(name, write, tmp_path):
    source = written(name, write, tmp_path)
    split = source.splits()[0]
    paths = [item.path for item in source.items(split, Modality.IMAGE)]
    if None in paths:
        return  # they stand in the table
    before = source.fingerprint(split)
    paths[0].unlink()
    again = opened(name, tmp_path)
    missing = [item.id for item in again.items(split, Modality.IMAGE) if item.missing()]
    assert missing == [source.ids(split, Modality.IMAGE)[0]]
    assert again.fingerprint(split) != before
    for path in [*tmp_path.rglob("*.png"), *tmp_path.rglob("*.jpg")]:
        path.unlink()
    with pytest.raises(DatasetNotFoundError, match=r"put the image files beside the questions"):
        opened(name, tmp_path)


def test_vqav2_has_ten_answers_their_label_and_the_types(tmp_path):
    source = written("vqav2", official_vqav2, tmp_path)
    assert source.splits() == ("train", "val", "test")
    assert source.notes() == ("test has no answers: secret",)
    assert source.pairs("test").answers is None
    images = [f"COCO_train2014_{number:012}.jpg" for number in VQA_IMAGES["train"]]
    assert [image for image, *_ in asked(source, "train")] == [
        image for image in images for _ in range(3)
    ]
    assert ids(source, "train", Modality.TEXT)[:4] == ["9000", "9001", "9002", "25000"]
    answers = source.pairs("train").answers
    assert answers.of_question(4) == GIVEN
    assert list(answers.chosen) == ["net"] * 9
    assert list(answers.question_types) == ["what is this"] * 9
    assert list(answers.answer_types)[:3] == ["yes/no", "other", "yes/no"]
    assert answers.vocabulary is None


def test_vqav2_finds_its_images_elsewhere_and_reads_test_dev(tmp_path):
    place = tmp_path / "vqa"
    vqav2_in_folders(place)
    (place / "images").rename(tmp_path / "coco")
    with pytest.raises(DatasetNotFoundError, match="put the image files beside the questions"):
        opened("vqav2", place)
    asked_of = questions_of("test-dev2015", (1, 14))
    folder = place / "v2_Questions_Test_mscoco"
    folder.mkdir()
    (folder / "v2_OpenEnded_mscoco_test-dev2015_questions.json").write_text(json.dumps(asked_of))
    source = opened("vqav2", place, root=str(tmp_path / "coco"))
    assert source.splits() == ("train", "val", "test-dev")
    first = source.items("train", Modality.IMAGE)[0]
    assert first.path == tmp_path / "coco" / "train2014" / "COCO_train2014_000000000009.jpg"
    assert first.missing() is None
    assert source.items("test-dev", Modality.IMAGE)[1].missing() is not None


def test_annotations_may_come_in_another_order_lack_questions_and_have_more(tmp_path):
    official_vqav2(tmp_path)
    value = json.loads((tmp_path / ANNOTATIONS).read_text())
    random.Random(0).shuffle(value["annotations"])
    gone = value["annotations"].pop()["question_id"]
    value["annotations"][0]["multiple_choice_answer"] = "racket"
    changed = value["annotations"][0]["question_id"]
    value["annotations"].append({**value["annotations"][0], "question_id": 7})
    (tmp_path / ANNOTATIONS).write_text(json.dumps(value))
    source = opened("vqav2", tmp_path)
    names = ids(source, "train", Modality.TEXT)
    assert str(gone) not in names
    assert len(names) == 8
    labels = dict(zip(names, source.pairs("train").answers.chosen, strict=True))
    assert {name for name, label in labels.items() if label == "racket"} == {str(changed)}
    (row,) = source.skipped_rows()
    assert row.reason == "the question has no answer"
    assert row.place.startswith(f"{QUESTIONS}, question ")
    assert f"1 annotation of train left out: {QUESTIONS} has no such question" in source.notes()


def test_questions_without_their_annotations_have_no_answers_and_a_note_says_so(tmp_path):
    official_vqav2(tmp_path)
    (tmp_path / ANNOTATIONS).unlink()
    source = opened("vqav2", tmp_path)
    assert source.pairs("train").answers is None
    assert source.notes()[0] == f"train has no answers: {ANNOTATIONS} is not there"
    assert source.pairs("val").answers is not None


def test_an_empty_question_of_vqav2_is_left_out(tmp_path):
    official_vqav2(tmp_path)
    value = json.loads((tmp_path / QUESTIONS).read_text())
    value["questions"][4]["question"] = " \n"
    (tmp_path / QUESTIONS).write_text(json.dumps(value))
    source = opened("vqav2", tmp_path)
    assert "25001" not in ids(source, "train", Modality.TEXT)
    assert [row.place for row in source.skipped_rows()] == [f"{QUESTIONS}, question 5"]


QUESTION = {"image_id": 9, "question": "why?", "question_id": 1}
ANNOTATION = annotations_of(questions_of("train2014", (9,)))["annotations"][0]


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        (QUESTIONS, [QUESTION], r'expected {"questions": \[...\]}'),
        (QUESTIONS, {"annotations": [QUESTION]}, r'expected {"questions": \[...\]}'),
        (QUESTIONS, {"questions": [QUESTION, 3]}, "question 2: expected an object"),
        (
            QUESTIONS,
            {"questions": [{**QUESTION, "image_id": "9"}]},
            "question 1: expected the keys",
        ),
        (
            QUESTIONS,
            {"questions": [{**QUESTION, "image_id": True}]},
            "question 1: expected the key",
        ),
        (QUESTIONS, {"questions": [{**QUESTION, "image_id": -9}]}, "question 1: expected the keys"),
        (QUESTIONS, {"questions": [{**QUESTION, "question_id": 10**12}]}, "question 1: expected"),
        (
            QUESTIONS,
            {"questions": [{**QUESTION, "question": None}]},
            "question 1: expected the key",
        ),
        (QUESTIONS, {"questions": [{"image_id": 9}]}, "question 1: expected the keys image_id"),
        (ANNOTATIONS, {"annotations": [{**ANNOTATION, "answers": []}]}, "annotation 1: expected"),
        (ANNOTATIONS, {"annotations": [{**ANNOTATION, "answers": ["net"]}]}, "annotation 1: expec"),
        (ANNOTATIONS, {"annotations": [{**ANNOTATION, "answers": [{}]}]}, "annotation 1: expected"),
        (
            ANNOTATIONS,
            {"annotations": [{**ANNOTATION, "answer_type": 1}]},
            "annotation 1: expected",
        ),
        (ANNOTATIONS, {"annotations": [ANNOTATION] * 2}, "annotation 2: question 9002 is answered"),
    ],
)
def test_a_broken_file_of_vqav2_is_refused_in_one_line_with_the_place(
    file, value, message, tmp_path
):
    official_vqav2(tmp_path)
    (tmp_path / file).write_text(json.dumps(value))
    with pytest.raises(DatasetFormatError, match=rf"{file}(, |: ){message}") as refused:
        opened("vqav2", tmp_path)
    assert "\n" not in str(refused.value)


def test_two_questions_of_one_number_are_refused(tmp_path):
    official_vqav2(tmp_path)
    value = json.loads((tmp_path / QUESTIONS).read_text())
    value["questions"].append(value["questions"][0])
    (tmp_path / QUESTIONS).write_text(json.dumps(value))
    with pytest.raises(DatasetFormatError, match=r"two questions have the id '9000'"):
        opened("vqav2", tmp_path)


def test_questions_take_little_memory(tmp_path):
    """5,000 questions with ten answers each: as Python's own objects they took 12 MB and more."""
    numbers = range(1, 1251)
    asked_of = questions_of("train2014", numbers)
    asked_of["questions"] += [
        {**one, "question_id": one["question_id"] + 500} for one in asked_of["questions"][::3]
    ]
    write_images(tmp_path / "train2014", ["COCO_train2014_000000000001.jpg"])
    (tmp_path / QUESTIONS).write_text(json.dumps(asked_of))
    (tmp_path / ANNOTATIONS).write_text(json.dumps(annotations_of(asked_of)))
    tracemalloc.start()
    source = opened("vqav2", tmp_path)
    links = source.pairs("train")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(links.answers) == 5000
    assert held < 4e6


def test_easy_vqa_has_a_tenth_of_its_training_images_as_validation(tmp_path):
    easy_vqa_files(tmp_path)
    source = opened("easy-vqa", tmp_path)
    assert source.splits() == ("train", "val", "test")
    counts = {split: len(ids(source, split, Modality.IMAGE)) for split in source.splits()}
    assert counts == {"train": 16, "val": 2, "test": 2}
    assert list(source.pairs("val").answers.vocabulary) == list(EASY_ANSWERS)
    assert asked(source, "test")[1] == ("test-1", "is there not a black shape?", ["yes"], "yes")
    whole = opened("easy-vqa", tmp_path, val_share=0.0)
    assert whole.splits() == ("train", "test")
    assert len(ids(whole, "train", Modality.TEXT)) == 20
    assert asked(whole, "train")[0] == (
        "train-0",
        "what is the blue shape?",
        ["rectangle"],
        "rectangle",
    )


def test_easy_vqa_is_found_in_its_package_without_running_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "easy_vqa"
    package.mkdir(parents=True)
    easy_vqa_package(package)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    home = tmp_path / "home"
    version, source = open_defined("easy-vqa", home=home)
    assert version.place == package / "data"
    assert len(ids(source, "test", Modality.IMAGE)) == 2
    # files in the usual place come first
    (home / "datasets" / "easy-vqa").mkdir(parents=True)
    assert define("easy-vqa", home=home).place == home / "datasets" / "easy-vqa"
    # and a place that is named is never left for the package
    with pytest.raises(DatasetNotFoundError, match=r"looked for train/questions\.json"):
        open_defined(f"easy-vqa={tmp_path / 'nowhere'}", home=home)


def test_without_its_package_easy_vqa_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert SOURCES.load("easy-vqa").installed_at() is None
    with pytest.raises(DatasetNotFoundError, match="pip install easy-vqa"):
        open_defined("easy-vqa", home=tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{}", r"expected a list of \[question, answer, image number\]"),
        ('[["why?", "so"]]', r"question 1: expected \[question, answer, image number\]"),
        ('[["why?", "so", 0], ["why?", "so", "0"]]', "question 2: expected"),
        ('[["why?", "so", true]]', "question 1: expected"),
        ('[["why?", "so", -1]]', "question 1: expected"),
        ('[["why?", 3, 0]]', "question 1: expected"),
        ("[[", "is not JSON"),
    ],
)
def test_a_broken_file_of_easy_vqa_is_refused(value, message, tmp_path):
    easy_vqa_files(tmp_path)
    (tmp_path / "train" / "questions.json").write_text(value)
    with pytest.raises(
        DatasetFormatError, match=rf"train/questions.json(, line 1|,|:)? ?.*{message}"
    ):
        opened("easy-vqa", tmp_path)


def test_what_easy_vqa_does_not_ask_or_answer_is_noted(tmp_path):
    easy_vqa_files(tmp_path)
    write_images(tmp_path / "test" / "images", ["5.png", "6.png"])
    value = json.loads((tmp_path / "test" / "questions.json").read_text())
    value += [["", "no", 0], ["is there a shape?", " ", 1]]
    (tmp_path / "test" / "questions.json").write_text(json.dumps(value))
    source = opened("easy-vqa", tmp_path)
    assert "2 images without a question left out, such as test/images/5.png" in source.notes()
    assert [vars(row) for row in source.skipped_rows()] == [
        {"place": "test/questions.json, question 4", "reason": "the question is empty"},
        {"place": "test/questions.json, question 5", "reason": "the question has no answer"},
    ]


def test_a_table_of_lists_has_the_most_frequent_answer_as_label(tmp_path):
    source = written("vqa-table", json_lines_of_questions, tmp_path)
    assert source.splits() == ("train", "val", "test")
    assert asked(source, "val")[0] == (PHOTOS[1], "is 01.jpg red?", ["no", "yes", "yes"], "yes")
    answers = source.pairs("val").answers
    assert set(answers.question_types) == {"is"}
    assert set(answers.answer_types) == {"yes/no"}
    assert answers.vocabulary is None


def test_several_answers_in_one_cell_are_parted_where_a_separator_is_named(tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = [(name, "what is it?", "cup; stand;cup", "train") for name in PHOTOS]
    write_csv(tmp_path / "t.csv", ["image", "question", "answer", "split"], rows)
    assert asked(opened("vqa-table", tmp_path), "train")[0][2:] == (
        ["cup; stand;cup"],
        "cup; stand;cup",
    )
    parted = asked(opened("vqa-table", tmp_path, separator=";"), "train")[0]
    assert parted[2:] == (["cup", "stand", "cup"], "cup")
    with pytest.raises(SpecError, match=r"source\.separator must be a text such as ';'"):
        opened("vqa-table", tmp_path, separator=" ")


def test_answers_may_be_numbers_and_lists_in_any_writing(tmp_path):
    write_images(tmp_path, PHOTOS[:6])
    cells = [2, 2.0, 3.5, ["2", 3], '["a", "b"]', "['a' 'b']"]
    rows = [
        {"image": name, "question": "q", "answer": cell, "split": "train"}
        for name, cell in zip(PHOTOS[:6], cells, strict=True)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = [answers for _, _, answers, _ in asked(opened("vqa-table", tmp_path), "train")]
    assert given == [["2"], ["2"], ["3.5"], ["2", "3"], ["a", "b"], ["a", "b"]]


def test_rows_of_a_table_that_ask_or_answer_nothing_are_left_out_with_their_lines(tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = [(name, "what is it?", "cup", "train") for name in PHOTOS]
    rows[1] = (PHOTOS[1], " ", "cup", "train")
    rows[2] = (PHOTOS[2], "what?", "", "train")
    rows[3] = ("", "what?", "cup", "train")
    rows[4] = (PHOTOS[4], "what?", "cup", "")
    rows[5] = ("../x.jpg", "what?", "cup", "train")
    write_csv(tmp_path / "t.csv", ["image", "question", "answer", "split"], rows)
    source = opened("vqa-table", tmp_path)
    assert [(row.place, row.reason.partition(";")[0]) for row in source.skipped_rows()] == [
        ("line 3", "the question is empty"),
        ("line 4", "the question has no answer"),
        ("line 5", "column 'image' must hold the path of an image, found ''"),
        ("line 6", "gives no split: column 'split' holds ''"),
        ("line 7", f"image '../x.jpg' lies outside of {tmp_path}"),
    ]


def test_a_split_without_any_answer_is_one_of_questions_alone(tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = [(name, "why?", "so", "train") for name in PHOTOS[:6]]
    rows += [(name, "why?", "", "test") for name in PHOTOS[6:]]
    write_csv(tmp_path / "t.csv", ["image", "question", "answer", "split"], rows)
    source = opened("vqa-table", tmp_path)
    assert source.pairs("test").answers is None
    assert len(source.pairs("train").answers) == len(ids(source, "test", Modality.TEXT)) == 6
    assert source.skipped_rows() == ()


def test_an_image_in_two_splits_is_left_out(tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = [(name, "why?", "so", "train") for name in PHOTOS]
    rows.append((PHOTOS[0], "what?", "cup", "test"))
    write_csv(tmp_path / "t.csv", ["image", "question", "answer", "split"], rows)
    source = opened("vqa-table", tmp_path)
    assert source.splits() == ("train",)
    assert [row.place for row in source.skipped_rows()] == ["line 2", "line 14"]


def test_a_table_without_splits_is_drawn_by_image(tmp_path):
    source = written("vqa-table", table_of_questions, tmp_path)
    assert source.splits() == ("train", "val", "test")
    images = {split: set(ids(source, split, Modality.IMAGE)) for split in source.splits()}
    assert [len(images[split]) for split in source.splits()] == [10, 1, 1]
    assert "no file gives the splits: 1 test and 1 val image" in " ".join(source.notes())
    read = "columns read: images from image, questions from question, answers from answer"
    assert source.notes()[0] == f"{read}; ids are the image paths"


def test_columns_of_other_names_are_read_where_they_are_named(tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = [(name, "warum?", "darum", "w", "train") for name in PHOTOS]
    write_csv(tmp_path / "t.csv", ["Bild", "Frage", "Antwort", "Art", "split"], rows)
    message = r"no column of image paths among .*source.image_column=Bild"
    with pytest.raises(DatasetFormatError, match=message):
        opened("vqa-table", tmp_path)
    message = r"no column of questions among .*source.question_column=Frage"
    with pytest.raises(DatasetFormatError, match=message):
        opened("vqa-table", tmp_path, image_column="Bild")
    columns = {"image_column": "Bild", "question_column": "Frage", "answer_column": "Antwort"}
    source = opened("vqa-table", tmp_path, **columns, question_type_column="Art")
    assert asked(source, "train")[0] == (PHOTOS[0], "warum?", ["darum"], "darum")
    assert set(source.pairs("train").answers.question_types) == {"w"}
    with pytest.raises(DatasetFormatError, match=r"has no column 'art' \(answer_type_column\)"):
        opened("vqa-table", tmp_path, **columns, answer_type_column="art")
    without = opened("vqa-table", tmp_path, **{**columns, "answer_column": None})
    assert without.pairs("train").answers is None
    assert "no answers" in without.notes()[0]


@pytest.mark.parametrize("cell", [True, {"a": 1}, [["a"]]])
def test_an_answer_that_is_neither_text_nor_number_is_left_out(cell, tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = rows_with_lists(PHOTOS)
    rows[0]["answers"] = cell
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (row,) = opened("vqa-table", tmp_path).skipped_rows()
    assert row.place == "line 1"
    assert row.reason.startswith("an answer must be text or a number, found")


def test_a_question_that_is_no_text_is_left_out(tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = rows_with_lists(PHOTOS)
    rows[3]["question"] = 7
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (row,) = opened("vqa-table", tmp_path).skipped_rows()
    assert (row.place, row.reason) == ("line 4", "column 'question' must hold a question, found 7")


def test_classes_of_a_parquet_file_are_answers_by_name(tmp_path):
    write_images(tmp_path, PHOTOS)
    rows = {"image": PHOTOS, "question": ["is it?"] * 12, "answer": [0, 1, 1] * 4}
    features = {"answer": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(pa.table(rows).replace_schema_metadata(metadata), tmp_path / "t.parquet")
    source = opened("vqa-table", tmp_path)
    answers = {
        image: label for split in source.splits() for image, _, _, label in asked(source, split)
    }
    assert [answers[name] for name in PHOTOS[:3]] == ["no", "yes", "yes"]


def test_files_of_splits_are_one_table(tmp_path):
    source = written("vqa-table", tables_of_splits, tmp_path)
    assert {split: ids(source, split, Modality.IMAGE) for split in source.splits()} == {
        split: PHOTOS[number::3] for number, split in enumerate(("train", "val", "test"))
    }


def test_a_table_of_questions_is_known_and_one_of_captions_stays_one(tmp_path):
    write_images(tmp_path, PHOTOS)
    header, rows = ["image", "question", "answer"], [(name, "why?", "so") for name in PHOTOS]
    table = tmp_path / "t.csv"
    write_csv(table, header, rows)
    for place in (tmp_path, table):
        assert define(f"mine={place}", home=tmp_path / "home").kind == "vqa-table"
    write_csv(table, [*header, "caption"], [(*row, "a long caption") for row in rows])
    for place in (tmp_path, table):
        assert define(f"mine={place}", home=tmp_path / "home").kind == "image-text-table"


def test_why_a_table_of_questions_cannot_be_read_is_said_as_such(tmp_path):
    write_csv(tmp_path / "t.csv", ["image", "question", "answer"], [("", "why?", "so")])
    message = r"must hold the path of an image, found '' \(read as vqa-table; else name a --kind\)"
    with pytest.raises(DatasetFormatError, match=message):
        define(f"mine={tmp_path / 't.csv'}", home=tmp_path / "home")


def test_a_qa_table_of_other_images_is_a_users_own(tmp_path):
    write_images(tmp_path / "images", PHOTOS)
    rows = [("train", "why?", "so", f"images/{name}") for name in PHOTOS]
    write_csv(tmp_path / "qa.csv", ["split", "question", "answer", "image"], rows)
    assert define(f"mine={tmp_path}", home=tmp_path / "home").kind == "vqa-table"


def test_daquar_itself(test_data):
    """The official training side has 6,795 questions about 794 images, the list 582 answers."""
    place = test_data / "daquar"
    if not place.is_dir():
        pytest.skip("the real data has no daquar")
    source = opened("daquar", place)
    counts = {split: len(source.ids(split, Modality.TEXT)) for split in source.splits()}
    assert counts == {"train": 5488, "val": 1307}
    images = {split: set(source.ids(split, Modality.IMAGE)) for split in source.splits()}
    assert len(images["train"] | images["val"]) == len(images["train"]) + len(images["val"]) == 794
    assert all(not item.missing() for item in source.items("val", Modality.IMAGE))
    answers = source.pairs("train").answers
    assert len(answers.vocabulary) == 582
    assert set(answers.given) <= set(answers.vocabulary)
    assert source.notes() == source.skipped_rows() == ()
    drawn = opened("daquar", place, split="oneencoder")
    counts = {split: len(drawn.ids(split, Modality.TEXT)) for split in drawn.splits()}
    assert counts == {"train": 5436, "val": 1359}


def test_easy_vqa_itself():
    place = SOURCES.load("easy-vqa").installed_at()
    if place is None:
        pytest.skip("the package easy-vqa is not installed")
    source = opened("easy-vqa", place, val_share=0.0)
    counts = {split: len(source.ids(split, Modality.TEXT)) for split in source.splits()}
    assert counts == {"train": 38575, "test": 9673}
    assert len(source.pairs("test").answers.vocabulary) == 13
