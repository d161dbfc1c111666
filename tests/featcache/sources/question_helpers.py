"""Small datasets of questions in every layout that the sources read."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from .sources_helpers import write_csv, write_images

TRAIN = [f"image{number}" for number in (3, 12, 1, 9)]
TEST = [f"image{number}" for number in (2, 30, 4)]
# by image, as a file of DAQUAR has them: question, answers
ASKED = {
    image: [
        (f"what is left of the lamp on the {image} box", "cup, photo_stand"),
        ("how many chairs are there", str(len(image))),
    ]
    for image in (*TRAIN, *TEST)
}
ANSWER_SPACE = ("6", "7", "cup", "photo_stand")


def write_pairs(file, images):
    endings = ("in the {} ?", "in this {} ?", "on the {} ?", "{} ?")
    lines = []
    for number, image in enumerate(images):
        ending = endings[number % len(endings)].format(image)
        for question, answer in ASKED[image]:
            lines += [f"{question} {ending}", answer]
    file.write_text("\n".join(lines) + "\n")


def write_answer_space(root):
    (root / "answer_space.txt").write_text("".join(f"{answer}\n" for answer in ANSWER_SPACE))


def official_daquar(root):
    write_images(root / "nyu_depth_images", [f"{image}.png" for image in (*TRAIN, *TEST)])
    write_pairs(root / "qa.894.raw.train.txt", TRAIN)
    write_pairs(root / "qa.894.raw.test.txt", TEST)
    write_answer_space(root)


def official_daquar_of_37_objects(root):
    official_daquar(root)
    for split in ("train", "test"):
        (root / f"qa.894.raw.{split}.txt").rename(root / f"qa.37.raw.{split}.txt")


def kaggle_daquar(root):
    write_images(root / "images", [f"{image}.png" for image in (*TRAIN, *TEST)])
    write_pairs(root / "all_qa_pairs.txt", [*TRAIN, *TEST])
    (root / "train_images_list.txt").write_text("\n".join(sorted(TRAIN)))
    (root / "test_images_list.txt").write_text("\n".join(TEST))
    write_answer_space(root)


def rows_of(images, *more):
    return [
        (question, answer, image, *more) for image in images for question, answer in ASKED[image]
    ]


def kaggle_tables_of_daquar(root):
    write_images(root / "images", [f"{image}.png" for image in (*TRAIN, *TEST)])
    for file, images in (("data_train.csv", TRAIN), ("data_eval.csv", TEST)):
        write_csv(root / file, ["question", "answer", "image_id"], rows_of(images))
    write_answer_space(root)


def index_of_daquar(root):
    write_images(root / "images", [f"{image}.jpg" for image in (*TRAIN, *TEST)])
    rows = [
        (split, question, answer, f"images/{image}.jpg")
        for split, images in (("train", TRAIN), ("test", TEST))
        for question, answer, image in rows_of(images)
    ]
    write_csv(root / "qa.csv", ["split", "question", "answer", "image"], rows)
    write_answer_space(root)


GIVEN = ["net", "net", "racket", "net", "net", "string", "net", "racket", "net", "net"]


def questions_of(split, numbers):
    return {
        "info": {"version": "2.0", "list": [{"a": [1, {"b": "]}"}]}, []]},
        "data_subtype": split,
        "questions": [
            {
                "image_id": number,
                "question": f"What is this photo {number} taken {way}?",
                "question_id": number * 1000 + n,
            }
            for number in numbers
            for n, way in enumerate(("looking through", "for", "by"))
        ],
        "license": {},
    }


def annotations_of(questions):
    return {
        "annotations": [
            {
                "question_type": "what is this",
                "multiple_choice_answer": "net",
                "answers": [
                    {"answer": answer, "answer_confidence": "maybe", "answer_id": place}
                    for place, answer in enumerate(GIVEN, start=1)
                ],
                "image_id": question["image_id"],
                "answer_type": "other" if place % 2 else "yes/no",
                "question_id": question["question_id"],
            }
            for place, question in reversed(list(enumerate(questions["questions"])))
        ],
        "data_type": "mscoco",
    }


VQA_IMAGES = {"train": (9, 25, 458752), "val": (42, 262148)}


def write_vqav2(questions, annotations, images):
    for folder in (questions, annotations, images):
        folder.mkdir(parents=True, exist_ok=True)
    for split, numbers in VQA_IMAGES.items():
        asked = questions_of(f"{split}2014", numbers)
        name = f"v2_OpenEnded_mscoco_{split}2014_questions.json"
        (questions / name).write_text(json.dumps(asked))
        name = f"v2_mscoco_{split}2014_annotations.json"
        (annotations / name).write_text(json.dumps(annotations_of(asked)))
        names = [f"COCO_{split}2014_{number:012}.jpg" for number in numbers]
        write_images(images / f"{split}2014", names)


def official_vqav2(root):
    write_vqav2(root, root, root)
    asked = questions_of("test2015", (1, 14))
    (root / "v2_OpenEnded_mscoco_test2015_questions.json").write_text(json.dumps(asked))
    write_images(root / "test2015", [f"COCO_test2015_{number:012}.jpg" for number in (1, 14)])


def vqav2_in_folders(root):
    write_vqav2(root / "questions", root / "annotations", root / "images")


EASY = {
    "train": [
        ["what is the blue shape?", "rectangle", 0],
        ["is there a triangle in the image?", "no", 0],
        ["what color is the shape?", "red", 7],
        ["is there a red shape?", "yes", 7],
        *(["does the image contain a circle?", "yes", number] for number in range(8, 24)),
    ],
    "test": [
        ["what shape is in the image?", "circle", 0],
        ["is there not a black shape?", "yes", 1],
        ["is there a black shape?", "no", 1],
    ],
}
EASY_ANSWERS = ("circle", "rectangle", "red", "yes", "no")


def easy_vqa_files(root):
    for split, questions in EASY.items():
        (root / split).mkdir(parents=True)
        (root / split / "questions.json").write_text(json.dumps(questions))
        numbers = sorted({number for *_, number in questions})
        write_images(root / split / "images", [f"{number}.png" for number in numbers])
    (root / "answers.txt").write_text("\n".join(EASY_ANSWERS))


def easy_vqa_package(root):
    easy_vqa_files(root / "data")
    (root / "__init__.py").write_text("raise AssertionError('nothing of it is to be run')")


PHOTOS = [f"{number:02}.jpg" for number in range(12)]


def table_of_questions(root):
    write_images(root / "photos", PHOTOS)
    rows = [
        (f"photos/{name}", f"what is in {name}, left", answer, number)
        for number, name in enumerate(PHOTOS)
        for answer in ("a cup", "2")
    ]
    write_csv(root / "table.csv", ["image", "question", "answer", "number"], rows)


def rows_with_lists(names):
    return [
        {
            "image": name,
            "question": f"is {name} {word}?",
            "answers": ["no", "yes", "yes"],
            "question_type": "is",
            "answer_type": "yes/no",
            "split": ("train", "validation", "test")[number % 3],
        }
        for number, name in enumerate(names)
        for word in ("red", "blue")
    ]


def json_lines_of_questions(root):
    write_images(root, PHOTOS)
    (root / "table.jsonl").write_text("\n".join(map(json.dumps, rows_with_lists(PHOTOS))))


def parquet_of_questions_with_pictures(root):
    rows = rows_with_lists(PHOTOS)
    for row in rows:
        row["image"] = {"bytes": row["image"].encode(), "path": row["image"]}
    pq.write_table(pa.Table.from_pylist(rows), root / "table.parquet")


def tables_of_splits(root):
    write_images(root / "images", PHOTOS)
    for number, split in enumerate(("train", "val", "test")):
        rows = [(name, f"why {name}?", "so") for name in PHOTOS[number::3]]
        write_csv(root / f"{split}.csv", ["Image", "Question", "Answer"], rows)


QUESTION_LAYOUTS = {
    "daquar": [
        official_daquar,
        official_daquar_of_37_objects,
        kaggle_daquar,
        kaggle_tables_of_daquar,
        index_of_daquar,
    ],
    "vqav2": [official_vqav2, vqav2_in_folders],
    "easy-vqa": [easy_vqa_files, easy_vqa_package],
    "vqa-table": [
        table_of_questions,
        json_lines_of_questions,
        parquet_of_questions_with_pictures,
        tables_of_splits,
    ],
}
