"""A joint step: chunks and batches add up to the gradient of the weighted mean losses."""

import pytest
import torch

from lightalign.featcache.errors import SpecError
from lightalign.featcache.types import Modality
from lightalign.pipelines.training.joint.modules import build_joint_trainable

from ...joint_runs import BOTH, NO_DROPOUT, joint_trainer, opened

SOME = "train.batch_size=10"  # of 24 questions: three batches of 8


def gradient(trainer):
    parts = [parameter.grad for parameter in trainer.trainable.parameters]
    return torch.cat([part.flatten() for part in parts if part is not None]).double()


def rested(home, *overrides, **changes):
    """Return a trainer whose adapter is in evaluation mode."""
    trainer = joint_trainer(home, SOME, *overrides, **{**BOTH, **changes})
    trainer.adapter.eval()
    return trainer


def batches_of(trainer):
    return [trainer.batches.load(rows) for rows in trainer.batches.order(1)]


@pytest.mark.parametrize("chunk_size", [1, 4, 30])
def test_chunks_have_the_gradient_of_the_whole_batch(questions, chunk_size):
    """Of 24 pairs, those of a chunk may be right ones, wrong ones, or both."""
    whole, chunked = (rested(questions, f"train.chunk_size={size}") for size in (0, chunk_size))
    losses = [
        trainer.train_step.add_gradient(batches_of(trainer)[0]) for trainer in (whole, chunked)
    ]
    expected = gradient(whole)
    assert (gradient(chunked) - expected).norm() < 1e-6 * expected.norm()
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_the_loss_is_the_weighted_sum_of_means_over_the_pairs_that_each_objective_reads(questions):
    """`itm` over 8 right and 16 wrong pairs, `answers` over the 8 right ones, by autograd."""
    trainer = rested(questions)
    batch = batches_of(trainer)[0]
    (read,) = trainer.train_step.forward.chunks(batch, 0)
    assert {name: len(losses) for name, losses in read.losses.items()} == {"itm": 24, "answers": 8}
    loss = 1.0 * read.losses["itm"].mean() + 0.5 * read.losses["answers"].mean()
    parameters = trainer.trainable.parameters
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]).double()
    told = trainer.train_step.add_gradient(batch)
    assert told["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    assert told["itm"] == pytest.approx(float(read.losses["itm"].mean().detach()), rel=1e-6)
    assert (gradient(trainer) - expected).norm() < 1e-6 * expected.norm()


def test_accumulated_batches_have_the_mean_gradient(questions):
    trainers = [rested(questions, f"train.accumulate={count}") for count in (1, 2)]
    for trainer in trainers:
        for batch in batches_of(trainer)[:2]:
            trainer.train_step.add_gradient(batch)
    apart, together = map(gradient, trainers)
    torch.testing.assert_close(together, apart / 2)


def test_an_objective_alone_is_told_as_the_loss_and_nothing_else(questions):
    trainer = rested(questions, objective="answers")
    batch = batches_of(trainer)[0]
    assert len(batch.pairs) == batch.num_right == 8
    assert set(trainer.train_step.add_gradient(batch)) == {"loss"}


def test_a_pair_is_read_as_it_is_alone_whatever_its_batch_mates(questions):
    trainer = rested(questions)
    batch = batches_of(trainer)[0]
    (together,) = trainer.train_step.forward.chunks(batch, 0)
    alone = list(trainer.train_step.forward.chunks(batch, 1))
    logits = torch.cat([each.logits["itm"] for each in alone])
    torch.testing.assert_close(logits, together.logits["itm"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, {"towers": 1.0, "types": 1.0, "fuse": 1.0, "pool": 1.0, "heads": 1.0}),
        (
            {"joint": 3.0, "fuse": 5.0, "heads": 50.0},
            {"towers": 1.0, "types": 3.0, "fuse": 5.0, "pool": 3.0, "heads": 50.0},
        ),
        ({"towers": 0.5}, {"towers": 0.5, "types": 1.0, "fuse": 1.0, "pool": 1.0, "heads": 1.0}),
    ],
    ids=["none", "slots before joint", "towers"],
)
def test_each_part_has_its_rate_times_the_learning_rate(questions, rates, expected):
    trainer = joint_trainer(questions, NO_DROPOUT, "train.learning_rate=0.01")
    task = opened(trainer)
    trained = build_joint_trainable(
        {**task.plan.table, "rates": rates},
        task.options,
        widths=task.plan.stores.widths,
        listed={},
        objectives=trainer.objective,
        seed=0,
        device=task.device,
    )
    rate_of = {
        id(parameter): group["lr"]
        for group in trained.optimiser.param_groups
        for parameter in group["params"]
    }
    adapter = trained.adapter
    modules = {"towers": adapter.towers, **adapter.steps, "heads": adapter.heads}
    found = {
        name: {rate_of.pop(id(parameter)) for parameter in module.parameters()}
        for name, module in modules.items()
    }
    assert {name: sorted(each) for name, each in found.items()} == {
        name: [pytest.approx(0.01 * factor)] for name, factor in expected.items()
    }
    assert not rate_of  # no parameter is trained twice, and none is left out


def test_several_streams_of_a_side_are_refused_in_one_line(questions):
    task = opened(joint_trainer(questions))
    with pytest.raises(SpecError, match="a joint adapter reads one image stream, found 2: name"):
        build_joint_trainable(
            task.plan.table,
            task.options,
            widths={**task.plan.stores.widths, Modality.IMAGE: (16, 16)},
            listed={},
            objectives=task.trainable.objective,
            seed=0,
            device=task.device,
        )
