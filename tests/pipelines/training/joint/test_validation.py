"""Numbers of a validation, worked out by hand with an adapter that says what a test wants."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lightalign.adapters.joint_adapter import JointAdapter
from lightalign.adapters.joint_objective import build_joint_objectives
from lightalign.adapters.joint_tokens import Joint
from lightalign.featcache.answers import Answers
from lightalign.featcache.types import IMAGE_TEXT
from lightalign.pipelines.metrics.answer_vocabulary import AnswerVocabulary
from lightalign.pipelines.training.joint import validation
from lightalign.pipelines.training.joint.answers import AnswerLabels
from lightalign.pipelines.training.joint.batches import JointRows
from lightalign.pipelines.training.joint.step import JointForward
from lightalign.pipelines.training.joint.validation import JointValidation

from ..test_train import CPU
from .made_up import made_up_pairs

NO_WRONG = np.empty((0, 2), dtype=np.int64)


class Comparing(JointAdapter):
    """Say that a pair belongs together where its numbers are equal, and answer with the text's."""

    def __init__(self, *heads: str) -> None:
        nn.Module.__init__(self)
        self.names = heads

    def forward(self, tokens, types=None, boxes=None) -> Joint:
        numbers = [tokens[side].values[:, 0] for side in IMAGE_TEXT]
        return Joint(tokens, torch.cat(numbers, dim=1).float())

    def logits(self, joint, names=None, places=None):
        image, text = joint.pooled.T
        says_yes = (image == text).float()
        every = {
            "itm": torch.stack([1 - says_yes, says_yes], dim=1),
            "answers": nn.functional.one_hot(text.long(), 3).float(),
        }
        return {name: every[name] for name in self.names if name in names}


def forward_of(table):
    adapter = Comparing(*table)
    return JointForward(
        adapter,
        build_joint_objectives(table),
        sides=IMAGE_TEXT,
        dtype=torch.float32,
        device=CPU,
    )


@pytest.fixture
def stores(tmp_path):
    """Return four questions about three images; the last one's numbers differ from its image's."""
    return made_up_pairs(
        tmp_path,
        images={"a": [0.0], "b": [1.0], "c": [2.0]},
        texts={"p": [0.0, 5.0], "q": [1.0], "r": [2.0], "s": [0.0]},
        links=[("a", "p"), ("b", "q"), ("c", "r"), ("c", "s")],
        answers=Answers.of([["red"], ["red"], ["blue"], ["green"]]),
    )


ROWS = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 3])


def test_the_accuracy_of_matching_is_balanced(stores):
    """Three of four right pairs and one of two wrong ones are told: (75 + 50) / 2.

    A pair that is told has the loss log(1 + 1 / e), another log(1 + e): four and two of six.
    """
    # a with s says yes, as both are 0; b with r says no
    rows = JointRows(*ROWS, np.array([[0, 3], [1, 2]]))
    found = JointValidation(stores, rows, None, "by hand").measure(
        forward_of({"itm": {"weight": 2.0}})
    )
    assert found["itm_accuracy"] == 62.5
    told, missed = math.log(1 + math.exp(-1)), math.log(1 + math.e)
    assert found["loss"] == pytest.approx(2.0 * (4 * told + 2 * missed) / 6)
    assert set(found) == {"itm_accuracy", "loss"}


def test_the_accuracy_of_answers_is_over_all_questions_listed_or_not(stores):
    """Of red, green, blue the answers given are 0, 1, 2, 0, the labels red, red, blue, none.

    The first and the third are right: 50 %. With `green` in no list the last has no target.
    """
    vocabulary = AnswerVocabulary(("red", "white", "blue"))
    labels = AnswerLabels.of(stores, vocabulary)
    found = JointValidation(stores, JointRows(*ROWS, NO_WRONG), labels, "by hand").measure(
        forward_of({"answers": {"loss": "soft"}})
    )
    assert found["accuracy"] == 50.0
    # three answers a question: a logit of 1 for what is said, 0 for the others
    yes, no = math.log(1 + math.exp(-1)), math.log(1 + math.e)
    right, wrong, none = yes + 2 * math.log(2), no + 2 * math.log(2), no + 2 * math.log(2)
    assert found["loss"] == pytest.approx((2 * right + wrong + none) / 4)


def test_two_objectives_are_weighted_and_wrong_pairs_have_no_answer(stores):
    labels = AnswerLabels.of(stores, AnswerVocabulary(("red", "green", "blue")))
    rows = JointRows(*ROWS, np.array([[0, 1], [1, 0], [2, 0]]))
    table = {"itm": {"weight": 1.0}, "answers": {"weight": 0.5}}
    both = JointValidation(stores, rows, labels, "by hand").measure(forward_of(table))
    alone = {
        name: JointValidation(stores, rows, labels, "by hand").measure(forward_of({name: {}}))
        for name in table
    }
    # `answers` alone is over the right pairs, whatever wrong ones there are
    without = JointValidation(stores, JointRows(*ROWS, NO_WRONG), labels, "by hand")
    assert alone["answers"]["loss"] == pytest.approx(
        without.measure(forward_of({"answers": {}}))["loss"]
    )
    assert both["loss"] == pytest.approx(alone["itm"]["loss"] + 0.5 * alone["answers"]["loss"])
    assert both["accuracy"] == alone["answers"]["accuracy"] == 50.0
    assert both["itm_accuracy"] == alone["itm"]["itm_accuracy"] == pytest.approx((75 + 100) / 2)


def test_what_is_measured_does_not_depend_on_how_many_pairs_are_read_at_once(stores, monkeypatch):
    labels = AnswerLabels.of(stores, AnswerVocabulary(("red", "green", "blue")))
    rows = JointRows(*ROWS, np.array([[0, 3], [1, 2], [2, 0]]))
    measured = []
    for at_once in (256, 1, 3):
        monkeypatch.setattr(validation, "_PAIRS_AT_ONCE", at_once)
        forward = forward_of({"itm": {}, "answers": {}})
        measured.append(JointValidation(stores, rows, labels, "by hand").measure(forward))
    assert measured[1] == pytest.approx(measured[0])
    assert measured[2] == pytest.approx(measured[0])


def test_an_adapter_rests_meanwhile_and_is_trained_on_afterwards(stores):
    forward, seen = forward_of({"itm": {}}), []
    forward.adapter.register_forward_pre_hook(lambda adapter, _: seen.append(adapter.training))
    forward.adapter.train()
    JointValidation(stores, JointRows(*ROWS, NO_WRONG), None, "by hand").measure(forward)
    assert (set(seen), forward.adapter.training) == ({False}, True)


def test_pairs_of_held_out_images_validate_and_of_many_some_that_are_spread(stores):
    chosen = JointValidation.choose(
        None, stores, np.array([2, 0]), negatives=None, labels=None, most=0
    )
    assert [chosen.rows.first.tolist(), chosen.rows.second.tolist()] == [[0, 2, 2], [0, 2, 3]]
    assert chosen.name == "2 held-out images of split 'train'"
    few = JointValidation.choose(None, stores, np.arange(3), negatives=None, labels=None, most=2)
    assert few.rows.second.tolist() == [0, 3]
    assert few.name == "2 pairs of 3 held-out images of split 'train'"
    of_split = JointValidation.choose(
        stores, stores, np.arange(0), negatives=None, labels=None, most=0
    )
    assert (len(of_split.rows), of_split.name) == (4, "split 'train'")
    none = JointValidation.choose(None, stores, np.arange(0), negatives=None, labels=None, most=0)
    assert none is None


def test_a_sample_has_right_pairs_alone_that_are_spread(stores):
    whole = JointValidation(stores, JointRows(*ROWS, np.array([[0, 3]])), None, "by hand")
    sample = whole.sample(2)
    assert (whole.num_read, sample.num_read) == (5, 2)
    assert sample.rows.second.tolist() == [0, 3]
    assert whole.sample(100).num_read == 4
