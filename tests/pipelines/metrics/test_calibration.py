"""Temperatures and calibration errors by hand, and against plain NumPy in double precision."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightalign.featcache.errors import DatasetFormatError
from lightalign.pipelines.metrics import calibration as module
from lightalign.pipelines.metrics.answer_scores import AnswerTargets
from lightalign.pipelines.metrics.answer_vocabulary import AnswerVocabulary
from lightalign.pipelines.metrics.calibration import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    calibration_number,
    reliability,
    sigmoid_loss,
    sigmoid_temperature,
    softmax_loss,
    softmax_temperature,
)

ANSWERS = ("yes", "no", "red", "two")
LIST = AnswerVocabulary(ANSWERS)


def soft_targets(counts, vocabulary=LIST):
    """Return targets of questions by how many of ten annotators gave each answer of the list."""
    annotated = [
        answer
        for row in counts
        for answer in [*np.repeat(vocabulary.answers, row).tolist(), *["blue"] * (10 - sum(row))]
    ]
    ends = 10 * np.arange(1, len(counts) + 1)
    return AnswerTargets.of(vocabulary, annotated, ends, annotated[::10])


def plain_sigmoid_loss(logits, table, temperature):
    scaled = logits / temperature
    probabilities = 1 / (1 + np.exp(-scaled))
    losses = -table * np.log(probabilities) - (1 - table) * np.log(1 - probabilities)
    return losses.sum(axis=1).mean()


def plain_softmax_loss(logits, labels, temperature):
    exponentials = np.exp(logits / temperature)
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


logits_strategy = arrays(np.float64, (5, 4), elements=st.floats(-8, 8))
counts_strategy = st.lists(
    st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=5, max_size=5
)


def test_a_soft_score_is_the_probability_at_the_temperature():
    """Two of ten gave the only answer: sigmoid(2 / T) = .6, 2 / T = log 1.5."""
    targets = soft_targets([[2]], AnswerVocabulary(("yes",)))
    temperature = sigmoid_temperature(np.array([[2.0]]), targets)
    assert temperature == pytest.approx(2 / math.log(1.5), rel=1e-9)


def test_the_share_of_right_answers_is_the_probability_at_the_temperature():
    """Three of four are right at a logit 5 above the other: sigmoid(5 / T) = .75, 5 / T = log 3."""
    logits = np.tile([5.0, 0.0], (4, 1))
    temperature = softmax_temperature(logits, np.array([0, 0, 0, 1]))
    assert temperature == pytest.approx(5 / math.log(3), rel=1e-9)


def test_a_known_temperature_comes_back():
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (20_000, 6))
    noise = random.gumbel(size=logits.shape)  # the largest sum is drawn from the softmax
    labels = (logits / 2.5 + noise).argmax(axis=1)
    assert softmax_temperature(logits.astype(np.float32), labels) == pytest.approx(2.5, abs=0.06)


@settings(max_examples=40)
@given(logits_strategy, counts_strategy)
def test_losses_of_soft_targets_are_those_of_plain_numpy_and_no_temperature_is_better(
    logits, counts
):
    targets = soft_targets(counts)
    table = targets.dense(np.arange(5)).astype(float)
    for temperature in (1.0, 2.5):
        expected = plain_sigmoid_loss(logits, table, temperature)
        assert sigmoid_loss(logits, targets, temperature) == pytest.approx(expected, abs=1e-6)
    best = sigmoid_temperature(logits, targets)
    assert LEAST_TEMPERATURE <= best <= MOST_TEMPERATURE
    lowest = sigmoid_loss(logits, targets, best)
    for other in np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 60):
        assert lowest <= sigmoid_loss(logits, targets, other) + 1e-9


@settings(max_examples=40)
@given(logits_strategy, arrays(np.int64, 5, elements=st.integers(0, 3)))
def test_losses_of_labels_are_those_of_plain_numpy_and_no_temperature_is_better(logits, labels):
    expected = plain_softmax_loss(logits, labels, 2.0)
    assert softmax_loss(logits, labels, 2.0) == pytest.approx(expected, abs=1e-9)
    best = softmax_temperature(logits, labels)
    assert LEAST_TEMPERATURE <= best <= MOST_TEMPERATURE
    lowest = softmax_loss(logits, labels, best)
    for other in np.geomspace(LEAST_TEMPERATURE, MOST_TEMPERATURE, 60):
        assert lowest <= softmax_loss(logits, labels, other) + 1e-9


def test_answers_that_are_all_right_have_the_least_temperature():
    logits = np.array([[3.0, 1.0], [0.0, 5.0]])
    assert softmax_temperature(logits, np.array([0, 1])) == LEAST_TEMPERATURE
    certain = soft_targets([[10]], AnswerVocabulary(("yes",)))
    assert sigmoid_temperature(np.array([[3.0]]), certain) == LEAST_TEMPERATURE


def test_answers_that_are_worse_than_chance_have_the_highest_temperature():
    logits = np.array([[3.0, 1.0], [0.0, 5.0]])
    assert softmax_temperature(logits, np.array([1, 0])) == MOST_TEMPERATURE
    never = soft_targets([[0]], AnswerVocabulary(("yes",)))
    assert sigmoid_temperature(np.array([[3.0]]), never) == MOST_TEMPERATURE


def test_logits_that_are_all_alike_keep_their_temperature():
    assert softmax_temperature(np.full((3, 4), 3.7), np.array([0, 1, 3])) == 1
    assert sigmoid_temperature(np.zeros((2, 4)), soft_targets([[1, 2, 3, 4]] * 2)) == 1


def test_questions_whose_label_is_in_no_list_are_left_out_of_a_softmax_alone():
    logits = np.tile([5.0, 0.0], (6, 1))
    labels = np.array([0, -1, 0, 0, -1, 1])
    assert softmax_temperature(logits, labels) == pytest.approx(5 / math.log(3), rel=1e-9)
    assert softmax_loss(logits, labels) == softmax_loss(logits[:4], np.array([0, 0, 0, 1]))
    for function in (softmax_temperature, softmax_loss):
        with pytest.raises(DatasetFormatError, match="the answer to none of 6 questions"):
            function(logits, np.full(6, -1))


def test_many_logits_are_read_a_block_at_a_time_with_the_same_result(monkeypatch):
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(50, 4)), random.integers(0, 4, 50)
    targets = soft_targets(random.integers(0, 3, (50, 4)).tolist())
    whole = softmax_temperature(logits, labels), sigmoid_temperature(logits, targets)
    monkeypatch.setattr(module, "_BLOCK", 12)
    parts = softmax_temperature(logits, labels), sigmoid_temperature(logits, targets)
    assert parts == pytest.approx(whole, rel=1e-9)


def test_a_temperature_is_the_same_every_time():
    random = np.random.default_rng(2)
    logits, labels = random.normal(size=(50, 4)), random.integers(0, 4, 50)
    assert len({softmax_temperature(logits, labels) for _ in range(3)}) == 1


def test_a_calibration_error_is_worked_out_by_hand():
    """Bins: .95 and 1 (.9 right, .075 too high), .55 (.3 right, .25 too high), 0 (right: 1)."""
    confidences = np.array([0.95, 1.0, 0.55, 0.0])
    scores = np.array([0.9, 0.9, 0.3, 1.0])
    bins = reliability(confidences, scores)
    assert bins.count.tolist() == [1, 1, 2]
    assert bins.confidence.tolist() == pytest.approx([0, 0.55, 0.975])
    assert bins.score.tolist() == pytest.approx([1, 0.3, 0.9])
    number = calibration_number(confidences, scores)
    assert number.value == pytest.approx(100 * (2 * 0.075 + 0.25 + 1) / 4)
    assert (number.num, number.interval) == (4, None)


@given(arrays(np.float32, 30, elements=st.floats(0, 1, width=32)))
def test_an_answer_that_is_as_right_as_it_is_confident_is_calibrated(confidences):
    assert reliability(confidences, confidences.astype(float)).error == pytest.approx(0, abs=1e-7)


def test_a_bin_has_its_upper_end():
    bins = reliability(np.arange(1, 16) / 15, np.zeros(15))
    assert bins.count.tolist() == [1] * 15


def test_a_confidence_is_a_probability():
    with pytest.raises(AssertionError, match="a confidence is a probability"):
        reliability(np.array([1.2]), np.array([1.0]))
