"""Targets of questions by the rows of their store, and the lists of answers that they are of."""

import numpy as np
import pytest

from lightalign.featcache.answers import Answers
from lightalign.featcache.errors import DatasetFormatError, SpecError
from lightalign.featcache.links import Links
from lightalign.pipelines.metrics.answer_vocabulary import AnswerVocabulary
from lightalign.pipelines.training.joint.answers import AnswerLabels, choose_vocabulary
from lightalign.pipelines.training.joint.options import AnswerList

from .made_up import made_up_pairs

QUESTIONS = ("q0", "q1", "q2", "q3", "q4")
# q2 and q4 have no row, and the rows are in another order than the questions
STORED = ("q3", "q1", "q0")
LABELS = ("red", "Two", "cup", "2", "table")


def pairs_of(home, *, vocabulary=None, annotators=1):
    given = [[label] * annotators for label in LABELS]
    return made_up_pairs(
        home,
        images={"a": [0.0], "b": [1.0], "c": [2.0]},
        texts={name: [0.0] for name in STORED},
        links=[("a", "q0"), ("a", "q2"), ("b", "q1"), ("b", "q3"), ("c", "q4")],
        text_ids=QUESTIONS,
        answers=Answers.of(given, vocabulary=vocabulary),
    )


def test_labels_are_those_of_the_question_of_each_row_where_the_store_lacks_some(tmp_path):
    stores = pairs_of(tmp_path)
    labels = AnswerLabels.of(stores, AnswerVocabulary(("red", "2", "cup")))
    assert labels.questions.tolist() == [3, 1, 0]
    assert labels.single(np.array([0, 1, 2])).tolist() == [1, 1, 0]
    assert labels.soft(np.array([2, 0])).tolist() == [[1, 0, 0], [0, 1, 0]]
    # of all questions of the split, whether stored or not: that of `table` has none
    assert (len(labels), labels.num_unlisted) == (5, 1)


def test_answers_of_ten_people_have_soft_scores(tmp_path):
    """Seven say `cup` and three `mug`: 1 and 0.9."""
    given = ["cup"] * 7 + ["mug"] * 3
    stores = made_up_pairs(
        tmp_path,
        images={"a": [0.0]},
        texts={"q": [0.0]},
        links=[("a", "q")],
        answers=Answers.of([given]),
    )
    labels = AnswerLabels.of(stores, AnswerVocabulary(("mug", "jar", "cup")))
    assert labels.soft(np.array([0])) == pytest.approx(np.array([[0.9, 0.0, 1.0]]))
    assert labels.single(np.array([0])).tolist() == [2]


def listed(stores, *trained, validation=None, **options):
    """Return the answers that a training on some of the images a, b, c tells apart."""
    numbers = np.array(["abc".index(name) for name in trained])
    return choose_vocabulary(stores, numbers, validation, AnswerList(**options)).answers


def test_the_list_of_train_is_of_the_images_that_are_trained_on(tmp_path):
    """In the order of the questions; `Two` and `2` are one answer in its first spelling."""
    stores = pairs_of(tmp_path)
    assert listed(stores, "a", "b", way="train") == ("red", "Two")
    assert listed(stores, "b", way="train") == ("Two",)
    assert listed(stores, "b", way="train", normalise=False) == ("Two", "2")


def test_the_official_list_is_the_datasets_in_its_order(tmp_path):
    stores = pairs_of(tmp_path, vocabulary=["table", "red", "2"])
    assert listed(stores, "a", way="official") == ("table", "red", "2")


def test_a_dataset_without_an_official_list_says_what_to_set(tmp_path):
    with pytest.raises(SpecError, match=r"made-up has no official list.*task.vocabulary=train"):
        listed(pairs_of(tmp_path), "a", way="official")


def test_frequent_answers_are_counted_over_training_and_validation(tmp_path):
    """Twice each: `2` as `Two` and `2`, `lamp` in the validation, `red` in both."""
    stores = pairs_of(tmp_path)
    validation = Links.of({}, labels={"answers": Answers.of([["lamp"], ["red"], ["lamp"]])})
    options = {"way": "frequent", "least_count": 2}
    assert listed(stores, "a", validation=validation, **options) == ("red", "2", "lamp")
    assert listed(stores, "a", **options) == ("2",)
    with pytest.raises(
        DatasetFormatError, match=r"3 or more of 5 questions.*--set task.vocabulary=train"
    ):
        listed(stores, "a", way="frequent", least_count=3)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"vocabulary": ["cup", "red"], "annotators": 10}, ("cup", "red")),  # official
        ({"annotators": 10}, ("red", "2", "cup", "table")),  # frequent, of all questions
        ({"annotators": 3}, ("red", "Two")),  # of train
    ],
    ids=["official", "frequent", "train"],
)
def test_auto_is_the_official_list_or_by_how_many_people_answered(tmp_path, changes, expected):
    stores = pairs_of(tmp_path, **changes)
    assert listed(stores, "a", "b", way="auto", least_count=1) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"way": "all"}, "vocabulary must be one of auto, official, frequent, train, found 'all'"),
        ({"least_count": 0}, "least_count must be at least 1, found 0"),
    ],
)
def test_what_is_no_list_of_answers_is_refused(options, message):
    with pytest.raises(SpecError, match=message):
        AnswerList(**options)


def test_captions_have_no_answers(tmp_path):
    stores = made_up_pairs(tmp_path, images={"a": [0.0]}, texts={"t": [0.0]}, links=[("a", "t")])
    with pytest.raises(SpecError, match=r"split 'train' of made-up has no answers: take a dataset"):
        AnswerLabels.of(stores, AnswerVocabulary(("red",)))
