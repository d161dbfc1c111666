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
    count = {"itm": 2, "pbc": 2, "choice": 1}.get(objective.head, NUM_ANSWERS)
    rows = NUM_PAIRS * objective.rows_per_unit
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, count, generator=generator, dtype=torch.float64)


def rows_of(objective, units):
    """Return the rows of the logits of some units."""
    return slice(units.start * objective.rows_per_unit, units.stop * objective.rows_per_unit)


def labels():
    generator = torch.Generator().manual_seed(4)
    return {
        "matches": torch.tensor([True, False, True, True, False, True]),
        "answers": torch.rand(NUM_PAIRS, NUM_ANSWERS, generator=generator),
        "answer": torch.tensor([0, 1, -1, 3, 2, 1]),
        "token": torch.tensor([3, -1, 0, 0, 2, 1]),
        "named": torch.tensor([False, False, True, False, True, True]),
        "class": torch.tensor([1, 1, -1, 0, 3, 2]),
        "choice": torch.tensor([3, 1, 0, 0, 2, 1]),
    }


@pytest.mark.parametrize("name", JOINT_OBJECTIVES.names())
def test_joint_objective_takes_keyword_options_and_names_its_head_and_labels(name):
    part = JOINT_OBJECTIVES.load(name)
    parameters = inspect.signature(part).parameters.values()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    assert isinstance(part.head, str)
    assert set(part().labels) <= set(labels())


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_loss_is_one_of_each_unit_alone(name, options):
    objective = build(name, **options)
    logits = logits_of(objective)
    whole = objective(logits, labels())
    assert whole.shape == (NUM_PAIRS,)
    for part in (slice(0, 1), slice(1, 4), slice(4, 6)):
        of_part = {label: entries[part] for label, entries in labels().items()}
        alone = objective(logits[rows_of(objective, part)], of_part)
        torch.testing.assert_close(alone, whole[part])
        told = objective.told(logits[rows_of(objective, part)], of_part)
        assert torch.equal(told, objective.told(logits, labels())[part])


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


def test_patches_by_hand_and_where_the_published_call_raises():
    """As `itm`; the classes of VLE's [batch, patches, 2] logits stand where patches ought to."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    loss = build("pbc")(logits, {"named": torch.tensor([True, False])})
    torch.testing.assert_close(loss, torch.tensor([math.log(4 / 3), math.log(4)]))
    published = torch.nn.functional.cross_entropy
    with pytest.raises(RuntimeError, match="Expected target size"):
        published(torch.zeros(2, 196, 2), torch.zeros(2, 196, dtype=torch.int64))


@pytest.mark.parametrize(("name", "label"), [("mlm", "token"), ("mpc", "class")])
def test_entries_of_a_list_by_hand_and_none_costs_nothing(name, label):
    """Logits 0, 0 and log 2 give the third 1/2; what is in no list has no loss and is not told."""
    logits = torch.tensor([[0.0, 0.0, math.log(2)]] * 3)
    labels = {label: torch.tensor([2, 0, -1])}
    expected = torch.tensor([math.log(2), math.log(4), 0.0])
    torch.testing.assert_close(build(name)(logits, labels), expected)
    assert build(name).told(logits, labels).tolist() == [1, 0, 0]


def test_choices_by_hand():
    """Four equal logits: log 4; logits 0, 0, 0 and log 3 give the last 1/2 of its question."""
    logits = torch.tensor([0.0, 0, 0, 0, 0, 0, 0, math.log(3)])[:, None]
    labels = {"choice": torch.tensor([1, 3])}
    expected = torch.tensor([math.log(4), math.log(2)])
    torch.testing.assert_close(build("choice")(logits, labels), expected)
    assert build("choice").told(logits, labels).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "label", "rows"),
    [("mlm", "token", 1), ("pbc", "named", 1), ("mpc", "class", 1), ("choice", "choice", 4)],
)
def test_losses_equal_float64_numpy(name, label, rows):
    objective = build(name)
    logits, right = logits_of(objective), labels()[label].long().numpy()
    z = logits.numpy().reshape(NUM_PAIRS, -1)
    expected = np.log(np.exp(z).sum(axis=1)) - z[np.arange(NUM_PAIRS), right]
    expected[right < 0] = 0
    assert objective.rows_per_unit == rows
    loss = objective(logits, {label: labels()[label]}).numpy()
    np.testing.assert_allclose(loss, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("choices", [0, 1])
def test_a_question_has_two_texts_to_choose_from_at_least(choices):
    with pytest.raises(SpecError, match=f"choice.choices must be at least 2, found {choices}"):
        build_joint_objectives({"choice": {"choices": choices}})


def test_answers_are_told_by_the_score_of_the_highest():
    scores = {"answers": torch.tensor([[0.3, 1.0], [0.6, 0.0]])}
    assert build("answers").told(torch.tensor([[2.0, 1], [2, 1]]), scores).tolist() == (
        torch.tensor([0.3, 0.6]).tolist()
    )


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
