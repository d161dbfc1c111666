"""The contract of joint objectives, over all in the folder, and their losses by hand."""

import inspect
import math

import numpy as np
import pytest
import torch

from lightalign.adapters.joint_batch import JointBatch
from lightalign.adapters.joint_objective import (
    JOINT_OBJECTIVES,
    JointObjective,
    build_joint_objectives,
)
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.tokens import StreamTokens, Tokens
from lightalign.featcache.types import Modality

IMAGE, TEXT = Modality.IMAGE, Modality.TEXT
NUM_PAIRS, NUM_ANSWERS = 6, 4
CASES = [(name, {}) for name in JOINT_OBJECTIVES.names()] + [("answers", {"loss": "single"})]


def build(name, **options):
    return JOINT_OBJECTIVES.load(name)(**options)


def logits_of(objective, seed=0):
    count = 2 if objective.head == "itm" else NUM_ANSWERS
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NUM_PAIRS, count, generator=generator, dtype=torch.float64)


def labels():
    generator = torch.Generator().manual_seed(4)
    return {
        "matches": torch.tensor([True, False, True, True, False, True]),
        "answers": torch.rand(NUM_PAIRS, NUM_ANSWERS, generator=generator),
        "answer": torch.tensor([0, 1, -1, 3, 2, 1]),
    }


@pytest.mark.parametrize("name", JOINT_OBJECTIVES.names())
def test_joint_objective_takes_keyword_options_and_names_its_head_and_labels(name):
    part = JOINT_OBJECTIVES.load(name)
    parameters = inspect.signature(part).parameters.values()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    assert isinstance(part.head, str)
    assert set(part().labels) <= set(labels())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_loss_is_one_of_each_pair_alone(name, options):
    objective = build(name, **options)
    logits = logits_of(objective)
    whole = objective(logits, labels())
    assert whole.shape == (NUM_PAIRS,)
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        of_part = {label: entries[part] for label, entries in labels().items()}
        torch.testing.assert_close(objective(logits[part], of_part), whole[part])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_needed_labels_are_enough(name, options):
    objective = build(name, **options)
    needed = {label: labels()[label] for label in objective.labels}
    assert torch.isfinite(objective(logits_of(objective), needed)).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradients_are_those_of_finite_differences(name, options):
    objective = build(name, **options)
    logits = logits_of(objective).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: objective(values, labels()), (logits,))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_half_precision_logits_give_a_float32_loss(name, options):
    objective = build(name, **options)
    logits = logits_of(objective).bfloat16()
    loss = objective(logits, labels())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, objective(logits.float(), labels()))


def test_matching_by_hand():
    """Logits 0 and log 3 give a match 3/4: log(4/3) where it is one, log 4 where it is none."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    loss = build("itm")(logits, {"matches": torch.tensor([True, False])})
    torch.testing.assert_close(loss, torch.tensor([math.log(4 / 3), math.log(4)]))


def test_soft_answers_equal_the_sum_in_numpy():
    logits, targets = logits_of(build("answers")), labels()["answers"]
    loss = build("answers")(logits, {"answers": targets})
    chance = 1 / (1 + np.exp(-logits.numpy()))
    y = targets.double().numpy()
    expected = -(y * np.log(chance) + (1 - y) * np.log(1 - chance)).sum(axis=1)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=0, atol=1e-6)


def test_soft_answers_by_hand_and_as_vle_has_them():
    """At logits of zero each of two answers costs log 2; VLE takes the mean times their number."""
    targets = torch.tensor([[1.0, 0.3], [0.0, 0.0]])
    loss = build("answers")(torch.zeros(2, 2), {"answers": targets})
    torch.testing.assert_close(loss, torch.full((2,), 2 * math.log(2)))
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    published = 2 * torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(build("answers")(logits, {"answers": targets}).mean(), published)


def test_a_single_answer_by_hand_and_none_costs_nothing():
    """Two equal logits: log 2 for the one label; a question without a listed answer has no loss."""
    loss = build("answers", loss="single")(torch.zeros(2, 2), {"answer": torch.tensor([1, -1])})
    torch.testing.assert_close(loss, torch.tensor([math.log(2), 0.0]))


@pytest.mark.parametrize("loss", ["soft", "single"])
def test_a_pair_that_does_not_match_has_no_answer(loss):
    objective = build("answers", loss=loss)
    losses = objective(logits_of(objective), labels())
    without = {name: entries for name, entries in labels().items() if name != "matches"}
    all_losses = objective(logits_of(objective), without)
    matches = labels()["matches"]
    assert torch.equal(losses[matches], all_losses[matches])
    assert (losses[~matches] == 0).all()


def test_several_objectives_each_give_their_own_losses():
    table = {"itm": {"weight": 1.0}, "answers": {"weight": 0.5, "loss": "single"}}
    objectives = build_joint_objectives(table)
    assert objectives.weights == {"itm": 1.0, "answers": 0.5}
    assert objectives.heads == ("itm", "answers")
    assert objectives.labels == ("matches", "answer")
    logits = {name: logits_of(part) for name, part in objectives.objectives.items()}
    losses = objectives(logits, labels())
    assert set(losses) == {"itm", "answers"}
    for name, part in objectives.named.items():
        assert torch.equal(losses[name], part(logits[name], labels()))


def test_a_weight_is_one_unless_it_is_given():
    assert build_joint_objectives({"itm": {}}).weights == {"itm": 1.0}


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({}, SpecError, r"\[objective\] must name joint objectives, such as itm"),
        ({"itm": 1.0}, SpecError, r"\[objective\].itm must be a table such as"),
        ({"itm": {"weight": 0}}, SpecError, r"\[objective\].itm.weight must be above 0, found 0"),
        ({"itm": {"weight": True}}, SpecError, "must be above 0, found True"),
        ({"itm": {"weight": math.nan}}, SpecError, "must be above 0, found nan"),
        ({"itm": {"weight": math.inf}}, SpecError, "must be above 0, found inf"),
        ({"itm": {"weights": 1}}, SpecError, r"\[objective\].itm: unknown key 'weights'"),
        ({"answers": {"loss": "sofd"}}, SpecError, r"must be one of .*, found 'sofd'"),
        ({"answer": {}}, UnknownNameError, "no joint objective named 'answer'; close"),
    ],
)
def test_wrong_tables_are_refused(table, error, message):
    with pytest.raises(error, match=message):
        build_joint_objectives(table)


def test_every_entry_is_a_joint_objective():
    for name in JOINT_OBJECTIVES.names():
        assert issubclass(JOINT_OBJECTIVES.load(name), JointObjective)


# Batches


def batch():
    """Two images and three texts, and pairs of them, one a row twice."""
    image = torch.arange(8.0).reshape(2, 2, 2)
    text = torch.arange(100.0, 112.0).reshape(3, 2, 2)
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    tokens = {IMAGE: Tokens(image, torch.ones(2, 2).bool()), TEXT: Tokens(text, mask)}
    pairs = torch.tensor([[0, 2], [1, 0], [0, 1]])
    return JointBatch(tokens, pairs, {"matches": torch.tensor([True, False, True])})


def test_pairs_are_rows_of_both_sides():
    paired = batch().paired()
    assert paired[IMAGE].values[:, 0, 0].tolist() == [0, 4, 0]
    assert paired[TEXT].values[:, 0, 0].tolist() == [108, 100, 104]
    assert paired[TEXT].mask.tolist() == [[True, True], [True, True], [True, False]]


def test_rows_of_several_streams_are_taken_from_each():
    one = batch().tokens[TEXT]
    streams = StreamTokens.of([one, one.with_values(one.values + 50)])
    taken = streams.take(torch.tensor([2, 2]))
    assert [each.values[:, 0, 0].tolist() for each in taken.streams] == [[108, 108], [158, 158]]


def test_labels_of_another_length_are_refused():
    whole = batch()
    with pytest.raises(SpecError, match="label 'matches' has 2 entries for 3 pairs"):
        JointBatch(whole.tokens, whole.pairs, {"matches": torch.tensor([True, True])})
