"""Negatives of earlier batches: what they add, who is none, and that a stop forgets none."""

import numpy as np
import pytest
import torch

from lightalign.adapters.objective import PairBatch
from lightalign.featcache.errors import SpecError
from lightalign.featcache.types import Modality
from lightalign.pipelines.planning import plan
from lightalign.pipelines.planning.spec import PlanSpec
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.batches import BatchRows
from lightalign.pipelines.training.negative_queue import NegativeQueue

from .test_resume import gradient, stop_in_epoch, trainer_of
from .test_train import CPU, QUICK, quick_train


def rows_of(images, texts):
    return BatchRows(np.array(images), np.array(texts))


def pairs_of(images, texts, first):
    """Return embeddings of two features that say when they came: first, first + 1, ..."""
    numbers = torch.arange(first, first + images + texts, dtype=torch.float32)
    whole = torch.stack([numbers, -numbers], dim=1)
    return PairBatch(whole[:images], whole[images:], torch.ones(images, texts, dtype=torch.bool))


def test_the_queue_keeps_the_last_and_knows_who_belongs_to_whom():
    """Image 0 has texts 0 and 1, image 1 text 2, image 2 texts 2 and 3, image 3 text 4.

    After batches of images (0, 1) and (2,) a queue of three images has them all, of the five texts
    those of the second batch, and one of the first.
    """
    texts_of = {0: (0, 1), 1: (2,), 2: (2, 3), 3: (4,)}
    queue = NegativeQueue(3, texts_of, width=2, device=CPU)
    assert queue.recall(rows_of([3], [4])) is None
    queue.add(rows_of([0, 1], [0, 1, 2]), pairs_of(2, 3, first=0))
    queue.add(rows_of([2], [3, 2]), pairs_of(1, 2, first=10))
    found = queue.recall(rows_of([1, 3, 0], [4, 2, 1]))
    assert found.first[:, 0].tolist() == [0, 1, 10]
    row_of = {2: 0, 3: 1, 4: 2, 11: 3, 12: 2}  # of each text by what its embedding says
    kept = found.second[:, 0].int().tolist()
    assert kept[0] in {2, 3, 4}
    assert set(kept[1:]) == {11, 12}
    rows = [row_of[number] for number in kept]
    expected = [[row != 2 for row in rows], [row != 4 for row in rows]]  # images 1 and 3
    assert found.first_to_second.tolist() == [*expected, [row not in (0, 1) for row in rows]]
    assert found.second_to_first.tolist() == [
        [True, True, True],  # text 4 and old images 0, 1, 2
        [True, False, False],  # text 2
        [False, True, True],  # text 1
    ]


def test_what_is_forgotten_depends_neither_on_the_order_of_a_batch_nor_on_the_number_of_a_row():
    """Of each 8 of 40 rows two are remembered: whichever come first, and not the same each time."""
    texts_of = {number: (number,) for number in range(40)}
    random, remembered = np.random.default_rng(0), []
    for _ in range(60):
        rows = random.permutation(40)[:8]
        found = []
        for order in (rows, np.flip(rows).copy()):
            queue = NegativeQueue(2, texts_of, width=1, device=CPU)
            values = torch.from_numpy(order).float()[:, None]
            queue.add(BatchRows(order, order), PairBatch(values, values, torch.eye(8) > 0))
            found.append(queue.state()["image_rows"].tolist())
        assert found[0] == found[1]
        remembered += found[0]
    assert len(set(remembered)) > 35
    assert 15 < np.mean(remembered) < 24


def test_what_is_remembered_has_no_graph():
    queue = NegativeQueue(3, {0: (0,)}, width=2, device=CPU)
    batch = pairs_of(1, 1, first=0)
    batch.first.requires_grad_()
    queue.add(rows_of([0], [0]), PairBatch(batch.first * 2, batch.second, batch.positives))
    assert not queue.recall(rows_of([0], [0])).first.requires_grad


def test_each_batch_is_contrasted_with_those_before_it(home):
    """The parts of the second batch's loss, from embeddings of both batches, in float64."""
    trainer = trainer_of(home, "train.queue=1000", "towers.both.drop.p=0.0")
    batches = [trainer.batches.load(rows) for rows in list(trainer.batches.order(1))[:2]]
    sides = []
    with torch.no_grad():
        for batch in batches:
            groups = ((batch.first, Modality.IMAGE), (batch.second, Modality.TEXT))
            sides.append(
                [torch.cat(trainer.train_step.embed_all(*one)).double().numpy() for one in groups]
            )
    trainer.train_step.add_gradient(batches[0])
    parts = trainer.train_step.add_gradient(batches[1])
    (old_image, old_text), (image, text) = sides
    scale, own = parts["scale"], batches[1].positives[:].numpy()

    def contrast(logits, older, positives):
        every = np.exp(logits).sum(axis=1) + np.exp(older).sum(axis=1)
        log = logits - np.log(every)[:, None]
        return -np.mean([row[mine].mean() for row, mine in zip(log, positives, strict=True)])

    to_text = contrast(scale * image @ text.T, scale * image @ old_text.T, own)
    to_image = contrast(scale * text @ image.T, scale * text @ old_image.T, own.T)
    assert parts["image_to_text"] == pytest.approx(to_text, rel=1e-5)
    assert parts["text_to_image"] == pytest.approx(to_image, rel=1e-5)


def test_chunks_of_a_batch_with_a_queue_have_its_whole_gradient(home):
    found = []
    for size in (0, 20):
        trainer = trainer_of(
            home, f"train.chunk_size={size}", "train.queue=20", "towers.both.drop.p=0.0"
        )
        for rows in list(trainer.batches.order(1))[:2]:
            trainer.train_step.add_gradient(trainer.batches.load(rows))
        found.append(gradient(trainer))
    assert (found[1] - found[0]).norm() < 1e-5 * found[0].norm()


def test_a_stopped_training_goes_on_with_the_same_queue_to_the_same_bytes(home, monkeypatch):
    overrides = ("train.epochs=2", *QUICK[1:], "train.queue=11")
    whole = quick_train(home, overrides=overrides, name="whole", seed=3)
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, overrides=overrides, name="cut", seed=3)
    resumed = train.resume(home, "cut", device="cpu")
    assert (resumed.folder / run_folder.WEIGHTS).read_bytes() == (
        whole.folder / run_folder.WEIGHTS
    ).read_bytes()


def test_a_queue_of_mixtures_and_a_negative_size_are_refused(home):
    with pytest.raises(SpecError, match="queue and mixup do not go together"):
        trainer_of(home, "train.queue=8", "train.mixup.alpha=1.0")
    with pytest.raises(SpecError, match="queue must be at least 0, found -1"):
        trainer_of(home, "train.queue=-1")


@pytest.mark.slow
def test_a_plan_counts_the_queue_and_its_similarities():
    """A full queue of 4096 has 2 x 4096 x 256 floats; similarities of (64 + 320) x 4096 beside."""
    peaks = [
        plan.run(
            PlanSpec(
                preset="linear",
                overrides=("train.batch_size=64", f"train.queue={size}"),
                image_tokens=1,
                text_tokens=1,
                device="cpu",
            )
        ).predicted.loss
        for size in (0, 4096)
    ]
    assert peaks[1] - peaks[0] > 4 * (2 * 4096 * 256 + 384 * 4096)
