"""Links as they are written, as earlier versions wrote them, and as nobody should."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightalign.featcache import atomic_files
from lightalign.featcache.answers import Answers
from lightalign.featcache.errors import StoreCorruptError
from lightalign.featcache.links import Links, compact
from lightalign.featcache.regions import Regions
from lightalign.featcache.store.catalog import arrays_path, read_pairs, write_pairs
from lightalign.featcache.store.stored_links import from_arrays, to_arrays
from lightalign.featcache.types import IMAGE_TEXT, Classes, Grades, Modality

OLD = Path(__file__).parent / "old_links"
IDS = {Modality.IMAGE: ("b.jpg", "é.jpg"), Modality.TEXT: ("b.jpg#0", "é.jpg#0", "é.jpg#1")}
LINKED = (("é.jpg", "é.jpg#0"), ("b.jpg", "b.jpg#0"), ("é.jpg", "é.jpg#1"))
MARKS = np.array([0x0A0B0C0D0E0F, 2**48 - 1, 0x0A0B0C0D0E0F])
PLAIN = Links.of(IDS, {IMAGE_TEXT: LINKED})
FORMS = {
    "captions": replace(PLAIN, labels={"text_marks": MARKS}),
    "classes": Links.of(
        {Modality.IMAGE: ("z.jpg", "a.jpg")},
        labels={"classes": Classes(("cat", "dog", "owl"), {"z.jpg": 1, "a.jpg": 0})},
    ),
    "grades": Links.of(
        {Modality.TEXT: ("p#1", "p#2", "q#1")},
        labels={
            "grades": Grades((("p#1", "p#2", 2.5), ("q#1", "p#1", 0.0)), 0.0, 5.0, binary=False),
            "text_marks": np.array([1, 2, 3]),
        },
    ),
    "without_marks": PLAIN,
    "without_name": PLAIN,
}


ANSWERS = Answers.of(
    [["rot", "dunkelrot"], ["2"], ["grün"]],
    question_types=["what", "how many", "what"],
    vocabulary=["2", "grün"],
)
ANSWERED = replace(PLAIN, labels={"answers": ANSWERS})
REGIONS = Regions.of(
    [(100, 80), (30, 40)],
    [[(10, 20, 50, 70)], [(0.5, 0, 30, 40), (1, 2, 3, 4)]],
    [[(0, 2, 6)], [(2, 0, 1), (1, -1, -1)], []],
    class_of=[[-1], [1, 0]],
    class_names=["b\u00e4r", "cat"],
)
BOXED = replace(PLAIN, labels={"regions": REGIONS})


@pytest.mark.parametrize("form", FORMS)
def test_what_earlier_versions_wrote_is_read(form):
    assert read_pairs(OLD / f"{form}.json") == FORMS[form]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_again_in_arrays(form, tmp_path):
    path = tmp_path / "pairs--0.json"
    write_pairs(path, FORMS[form])
    assert read_pairs(path) == FORMS[form]
    before = arrays_path(path).read_bytes()
    write_pairs(path, read_pairs(OLD / f"{form}.json"))
    assert arrays_path(path).read_bytes() == before


def test_pairs_are_two_places_each_in_the_order_of_the_dataset():
    arrays, _ = to_arrays(PLAIN)
    assert arrays["pairs.image.text"].tolist() == [[1, 1], [0, 0], [1, 2]]
    assert arrays["pairs.image.text"].dtype == np.int32
    assert arrays["ids.image"].tobytes().decode() == "b.jpgé.jpg"
    assert arrays["ids.image.ends"].tolist() == [5, 11]
    assert tuple(PLAIN.id_pairs(IMAGE_TEXT)) == LINKED
    assert compact(np.array([2**31])).dtype == np.int64


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("pairs.image.text", np.array([[0, 3]]), "a number is not one of 3"),
        ("pairs.image.text", np.array([[-1, 0]]), "a number is not one of 2"),
        ("pairs.image.text", np.array([0, 1]), r"is int64\[2\], not integer\['any', 2\]"),
        ("pairs.image.text", np.array([[0.0, 1.0]]), "is float64"),
        ("pairs.image.audio", np.array([[0, 1]]), "a number is not one of 0"),
        ("ids.text", np.zeros(3, dtype=np.uint8), "contradict one another"),
        ("ids.image.ends", np.array([7, 5]), "contradict one another"),
        ("ids.image.ends", np.array([6, 11]), "end within a letter"),
        ("ids.image", np.full(11, 0xFF, dtype=np.uint8), "can't decode"),
        ("text_marks", np.array([1, 2]), r"is int64\[2\], not int64\[3\]"),
        ("classes", np.array([0, 3]), "a number is not one of 0"),
    ],
)
def test_arrays_of_another_type_or_shape_or_beyond_the_items_are_refused(name, array, message):
    arrays, names = to_arrays(FORMS["captions"])
    arrays[name] = array
    with pytest.raises(ValueError, match=message):
        from_arrays(arrays, names)


def test_answers_are_strings_one_after_the_other_and_where_those_of_each_question_end():
    arrays, _ = to_arrays(ANSWERED)
    assert arrays["answers.ends"].tolist() == [2, 3, 4]
    assert arrays["answers.given"].tobytes().decode() == "rotdunkelrot2grün"
    assert arrays["answers.given.ends"].tolist() == [3, 12, 13, 18]
    assert arrays["answers.chosen"].tobytes().decode() == "rot2grün"
    assert arrays["answers.vocabulary.ends"].tolist() == [1, 6]
    assert "answers.answer_types" not in arrays
    assert ANSWERS.of_question(0) == ["rot", "dunkelrot"]
    assert ANSWERS.of_question(2) == ["grün"]


def test_answers_are_written_and_read_again(tmp_path):
    write_pairs(path := tmp_path / "pairs--0.json", ANSWERED)
    assert read_pairs(path) == ANSWERED
    assert read_pairs(path) != PLAIN


@given(data=st.data())
def test_any_answers_come_back_from_their_arrays(data):
    texts = st.text(max_size=4)
    given_answers = data.draw(st.lists(st.lists(texts, min_size=1, max_size=4), max_size=5))
    count = len(given_answers)
    of_each = st.none() | st.lists(texts, min_size=count, max_size=count)
    answers = Answers.of(
        given_answers,
        data.draw(of_each),
        question_types=data.draw(of_each),
        answer_types=data.draw(of_each),
        vocabulary=data.draw(st.none() | st.lists(texts, max_size=3)),
    )
    ids = [f"q{number}" for number in range(count)]
    links = Links.of({Modality.TEXT: ids}, labels={"answers": answers})
    back = from_arrays(*to_arrays(links))
    assert back == links
    assert [back.answers.of_question(place) for place in range(count)] == given_answers


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("answers.ends", np.array([2, 2, 4]), "a question has no answer"),
        ("answers.ends", np.array([2, 1, 4]), "a question has no answer"),
        ("answers.ends", np.array([-1, 1, 4]), "a question has no answer"),
        ("answers.ends", np.array([2, 3, 5]), "the answers and their ends contradict"),
        ("answers.ends", np.array([2, 4]), "there are 3 chosen of 2 questions"),
        ("answers.ends", np.array([2.0, 3.0, 4.0]), "is float64"),
        ("answers.given.ends", np.array([3, 12, 13, 19]), "contradict one another"),
        ("answers.given.ends", np.array([3, 12, 16, 18]), "answers.given end within a letter"),
        ("answers.given", np.full(18, 0xFF, dtype=np.uint8), "can't decode"),
        ("answers.chosen.ends", np.array([3, 9]), "there are 2 chosen of 3 questions"),
        ("answers.question_types.ends", np.array([4, 16]), "2 question_types of 3 questions"),
        ("answers.answer_types", np.zeros(1, np.uint8), "no array 'answers.answer_types.ends'"),
        ("answers.vocabulary.ends", np.array([[1, 6]]), r"is int64\[1, 2\]"),
    ],
)
def test_answers_that_contradict_one_another_are_refused(name, array, message):
    arrays, names = to_arrays(ANSWERED)
    with pytest.raises(ValueError, match=message):
        from_arrays({**arrays, name: array}, names)


@pytest.mark.parametrize("name", ["answers.ends", "answers.given", "answers.chosen.ends"])
def test_a_missing_array_of_answers_is_named(name):
    arrays, names = to_arrays(ANSWERED)
    del arrays[name]
    with pytest.raises(ValueError, match=f"there is no array '{name}'"):
        from_arrays(arrays, names)


def test_answers_to_other_questions_than_the_texts_are_refused():
    fewer = Links.of({Modality.TEXT: ("a", "b")}, labels={"answers": ANSWERS})
    with pytest.raises(ValueError, match="there are 3 questions with answers, not 2"):
        to_arrays(fewer)
    arrays, names = to_arrays(ANSWERED)
    arrays |= to_arrays(Links.of({Modality.TEXT: ("a", "b")}))[0]
    del arrays["pairs.image.text"]
    with pytest.raises(ValueError, match="there are 3 questions with answers, not 2"):
        from_arrays(arrays, names)


def test_a_question_without_an_answer_is_no_question_of_answers():
    with pytest.raises(ValueError, match="a question has no answer"):
        Answers.of([["2"], []])


@pytest.mark.parametrize(
    "other",
    [
        Answers.of([["rot"], ["dunkelrot", "2"], ["grün"]], ["rot", "2", "grün"]),
        replace(ANSWERS, chosen=ANSWERS.question_types),
        replace(ANSWERS, answer_types=ANSWERS.question_types),
        replace(ANSWERS, vocabulary=None),
    ],
)
def test_links_are_equal_only_if_all_of_their_answers_are(other):
    assert replace(PLAIN, labels={"answers": other}) != ANSWERED
    assert replace(ANSWERED) == ANSWERED


def test_regions_are_written_and_read_again(tmp_path):
    write_pairs(path := tmp_path / "pairs--0.json", BOXED)
    assert read_pairs(path) == BOXED
    assert read_pairs(path) != PLAIN
    arrays, _ = to_arrays(BOXED)
    assert arrays["regions.boxes"].dtype == np.float32
    assert arrays["regions.ends"].tolist() == [1, 3]
    assert arrays["regions.class_of"].tolist() == [-1, 1, 0]
    assert arrays["regions.mentions"].dtype == np.int32
    assert arrays["regions.class_names"].tobytes().decode() == "b\u00e4rcat"


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("regions.boxes", np.zeros((3, 4), np.float64), "is float64"),
        ("regions.boxes", np.zeros((3, 4), np.float32), "a box has no area"),
        ("regions.boxes", np.full((3, 4), np.nan, np.float32), "a box is not finite"),
        ("regions.boxes", np.ones((3, 5), np.float32), r"is float32\[3, 5\], not float32"),
        ("regions.ends", np.array([1, 4]), "the boxes and their ends contradict"),
        ("regions.sizes", np.array([[100, 80]]), "there are 1 sizes of 2 images"),
        ("regions.class_of", np.array([-1, 1, 2]), "a class that is not one of 2"),
        ("regions.class_names.ends", np.array([4, 9]), "contradict one another"),
        ("regions.mention_ends", np.array([1, 3]), "there are 2 texts with regions, not 3"),
        ("regions.mentions", np.array([[1, 2, 6], [2, 0, 1], [1, -1, -1]]), "does not belong to"),
        ("regions.mentions", np.array([[0, 2, 1], [2, 0, 1], [1, -1, -1]]), "end before they"),
        ("pairs.image.text", np.array([[0, 1]]), "that it does not belong to"),
    ],
)
def test_regions_that_contradict_one_another_or_the_items_are_refused(name, array, message):
    arrays, names = to_arrays(BOXED)
    with pytest.raises(ValueError, match=message):
        from_arrays({**arrays, name: array}, names)


@pytest.mark.parametrize("name", ["regions.boxes", "regions.class_names", "regions.mentions"])
def test_a_missing_array_of_regions_is_named(name):
    arrays, names = to_arrays(BOXED)
    del arrays[name]
    with pytest.raises(ValueError, match=f"there is no array '{name}'"):
        from_arrays(arrays, names)


def test_regions_of_other_items_are_not_written():
    other = Links.of({Modality.IMAGE: ("a", "b")}, labels={"regions": REGIONS})
    with pytest.raises(ValueError, match="there are 3 texts with regions, not 0"):
        to_arrays(other)


def test_a_missing_array_is_named():
    arrays, names = to_arrays(PLAIN)
    del arrays["ids.image.ends"]
    with pytest.raises(ValueError, match=r"there is no array 'ids\.image\.ends'"):
        from_arrays(arrays, names)


def test_a_grade_that_is_no_number_is_refused():
    arrays, names = to_arrays(FORMS["grades"])
    with pytest.raises(ValueError, match="a grade is not a finite number"):
        from_arrays({**arrays, "grades": np.array([1.0, np.nan])}, names)


def test_links_of_absent_or_repeated_ids_are_not_made():
    with pytest.raises(ValueError, match=r"the pair \('b.jpg', 'x'\) is of an id that is not"):
        Links.of(IDS, {IMAGE_TEXT: [("b.jpg", "x")]})
    with pytest.raises(ValueError, match="an id is that of more than one text"):
        Links.of({Modality.TEXT: ("a", "a")})


@pytest.mark.parametrize("harm", ["cut", "flip", "remove", "other", "swap"])
def test_damaged_arrays_are_refused_in_one_line_that_names_the_remedy(harm, tmp_path):
    home = tmp_path / "home"
    path = home / "features" / "d" / "train" / "pairs--0.json"
    write_pairs(path, PLAIN)
    arrays = arrays_path(path)
    content = arrays.read_bytes()
    if harm == "remove":
        arrays.unlink()
    elif harm == "other":  # whole files of another source under the name of these
        write_pairs(other := path.with_name("pairs--1.json"), FORMS["captions"])
        path.write_bytes(other.read_bytes())
    elif harm == "swap":  # as somebody would seal them who changed the arrays
        arrays.write_bytes(b"{}")
        promise = {"bytes": 2, "sha256": atomic_files.sha256_file(arrays)}
        atomic_files.write_sealed(path, {"arrays": promise, "file": path.name})
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        arrays.write_bytes(flipped if harm == "flip" else content[:-1])
    with pytest.raises(StoreCorruptError, match=r"cannot read the pairs in .*cache repair") as told:
        read_pairs(path)
    assert "\n" not in str(told.value)


def test_classes_of_what_is_no_image_are_refused():
    tones = Modality("tone")
    links = Links.of({tones: ("a", "b")}, labels={"classes": Classes(("low",), {"a": 0, "b": 0})})
    with pytest.raises(ValueError, match="a class is of an image that is not there"):
        to_arrays(links)
