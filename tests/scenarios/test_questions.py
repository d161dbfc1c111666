"""Questions are named, shown and extracted as captions are, and their answers go with them."""

import json

import pytest
from PIL import Image

from lightalign.featcache.store.catalog import read_pairs
from lightalign.featcache.types import IMAGE_TEXT, Modality

from ..featcache.sources.question_helpers import ASKED, TRAIN, kaggle_daquar
from ..helpers import lightalign


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a home with `rooms`, seven squares in the layout of DAQUAR, and its features."""
    place = tmp_path_factory.mktemp("questions")
    kaggle_daquar(root := place / "rooms")
    for number, path in enumerate(sorted((root / "images").iterdir())):
        Image.new("RGB", (32, 32), (30 * number, 255 - 30 * number, 9)).save(path)
    (root / "images" / "image30.png").unlink()
    with (root / "all_qa_pairs.txt").open("a") as file:
        file.write("in the image9 ?\nno question\n")
    done("data", "add", "rooms", root, home=place / "home")
    encoders = ("--encoder", "toy-image", "--encoder", "toy-text")
    done("extract", *encoders, "--data", "rooms", "--on-error", "skip", home=place / "home")
    return place / "home"


def done(*arguments, home):
    ended = lightalign(*map(str, arguments), home=home)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_stores_of_questions_have_the_answers_in_their_order(home):
    (path,) = (home / "features" / "rooms" / "train").glob("pairs--*.json")
    links = read_pairs(path)
    assert list(links.ids_of(Modality.TEXT)) == [f"{name}#{n}" for name in TRAIN for n in (0, 1)]
    assert [image for image, _ in links.id_pairs(IMAGE_TEXT)] == [
        name for name in TRAIN for _ in (0, 1)
    ]
    given = [answers.split(", ") for name in TRAIN for _, answers in ASKED[name]]
    assert [links.answers.of_question(place) for place in range(8)] == given
    assert len(links.text_marks) == 8


def test_a_name_is_shown_with_its_questions_and_the_most_frequent_answer(home):
    counts = json.loads(done("data", "show", "rooms", "--json", home=home))["answers"]
    assert counts == [
        {
            "split": "train",
            "questions": 8,
            "different": 3,  # cup, 6 and 7
            "most_frequent": "cup",
            "share": 0.5,
            "listed": 4,
        },
        {
            "split": "test",
            "questions": 6,
            "different": 3,
            "most_frequent": "cup",
            "share": 0.5,
            "listed": 4,
        },
    ]
    shown = done("data", "show", "rooms", home=home)
    line = "train: 8 questions, 3 different answers, 'cup' (50.0 %) most often; the dataset lists 4"
    assert line in shown


def test_a_preview_has_a_question_a_row_and_what_will_be_skipped(home):
    seen = json.loads(done("data", "preview", "rooms", "--json", home=home))
    assert len(seen["rows"]) == 8
    row = {name: cell for name, cell in seen["rows"][1].items() if name != "file"}
    assert row == {"image": "image3", "question": "how many chairs are there", "answers": "6"}
    assert seen["answers"][0]["most_frequent"] == "cup"
    place = "all_qa_pairs.txt, line 29"
    assert seen["skipped_rows"] == [{"place": place, "reason": "the question is empty"}]
    (missing,) = seen["unreadable"]
    assert missing.startswith("test: image30: no file that can be read at ")


def test_a_name_whose_files_are_gone_is_shown_without_its_answers(home):
    root = home.parent / "rooms"
    root.rename(away := home.parent / "away")
    try:
        shown = done("data", "show", "rooms", home=home)
        assert "answers are not counted: dataset 'rooms' is not at" in shown
        assert "answers" not in json.loads(done("data", "show", "rooms", "--json", home=home))
    finally:
        away.rename(root)
