"""The teacher's features are those of the stores, in the order of the embeddings."""

import numpy as np
import pytest

from lightalign.pipelines.planning import plan
from lightalign.pipelines.planning.spec import PlanSpec
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train

from .test_resume import gradient, stop_in_epoch, trainer_of
from .test_train import QUICK, quick_train

DISTIL = ("objective.part=distil", "objective.teacher=both")
# a rise that is over before the training is, and a stop amid it
STRUCTURE = ("objective.structure.levels=2", "objective.structure.warmup=5")


def by_hand(reader, rows):
    features = reader.gather(rows)
    means = [features.row(i).astype(np.float64).mean(axis=0) for i in range(len(rows))]
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


@pytest.mark.parametrize("chunk_size", [0, 3])
def test_a_batch_has_the_averaged_tokens_of_its_items(home, chunk_size):
    trainer = trainer_of(home, *DISTIL, f"train.chunk_size={chunk_size}")
    batch = trainer.batches.load(next(trainer.batches.order(1)))
    stores, teacher = trainer.stores, batch.teacher
    for reader, rows, found in (
        (stores.first, batch.rows.first, teacher.first),
        (stores.second, batch.rows.second, teacher.second),
    ):
        np.testing.assert_allclose(found.numpy(), by_hand(reader, rows), rtol=0, atol=1e-5)
    for line, column in batch.positives.nonzero().tolist():
        assert batch.rows.second[column] in stores.texts_of[batch.rows.first[line]]


def test_the_validation_loss_has_a_teacher_in_the_order_of_its_embeddings(home):
    trainer = trainer_of(home, *DISTIL)
    found = trainer.validation.embed(trainer.adapter, trainer.device)
    stores = trainer.validation.stores
    for reader, ids, side in (
        (stores.first, found.first_ids, trainer.teacher.first),
        (stores.second, found.second_ids, trainer.teacher.second),
    ):
        rows = [reader.row_of[one] for one in ids]
        np.testing.assert_allclose(side.numpy(), by_hand(reader, rows), rtol=0, atol=1e-5)
    assert np.isfinite(trainer.validate()["loss"])


def test_no_teacher_is_loaded_for_an_objective_that_needs_none(home):
    trainer = trainer_of(home)
    assert trainer.teacher is None
    assert trainer.batches.load(next(trainer.batches.order(1))).teacher is None


@pytest.mark.parametrize("taught", [DISTIL, STRUCTURE])
def test_chunks_of_a_taught_batch_have_its_whole_gradient(home, taught):
    found = []
    for size in (0, 20):
        trainer = trainer_of(home, *taught, f"train.chunk_size={size}", "towers.both.drop.p=0.0")
        trainer.train_step.add_gradient(trainer.batches.load(next(trainer.batches.order(1))))
        found.append(gradient(trainer))
    assert (found[1] - found[0]).norm() < 1e-5 * found[0].norm()


@pytest.mark.slow
@pytest.mark.parametrize("taught", [DISTIL, STRUCTURE])
def test_a_stopped_training_with_a_teacher_goes_on_to_the_same_bytes(home, monkeypatch, taught):
    overrides = ("train.epochs=3", *QUICK[1:], *taught, "train.queue=9", "train.chunk_size=5")
    whole = quick_train(home, overrides=overrides, name="whole", seed=3)
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, overrides=overrides, name="cut", seed=3)
    resumed = train.resume(home, "cut", device="cpu")
    for name in (run_folder.WEIGHTS, run_folder.TABLE):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_the_weight_of_structure_rises_with_the_steps_of_a_training(home):
    """1/4 of the weight in the first step, 2/4 in the second, all of it from the fourth on."""
    trainer = trainer_of(home, "objective.structure.warmup=4", "train.epochs=3")
    losses = [losses for epoch in (1, 2) for losses in trainer.steps(trainer.loaded(epoch))]
    assert trainer.counts.step == len(losses) > 3
    for step, loss in enumerate(losses, start=1):
        contrast = (loss["image_to_text"] + loss["text_to_image"]) / 2
        share = min(1.0, step / 4)
        assert loss["loss"] == pytest.approx(contrast + share * 10 * loss["structure"], rel=1e-5)


@pytest.mark.slow
def test_a_plan_counts_the_teacher():
    """128 images of 384 floats and 640 texts of 768, at least."""
    peaks = [
        plan.run(
            PlanSpec(
                preset="linear",
                overrides=("train.batch_size=128", f"objective.part={part}"),
                image_tokens=1,
                text_tokens=1,
                device="cpu",
            )
        ).predicted.loss
        for part in ("clip", "distil")
    ]
    assert peaks[1] - peaks[0] >= 4 * (128 * 384 + 640 * 768)
