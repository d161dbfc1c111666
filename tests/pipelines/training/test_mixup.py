"""Mixed latents: both modalities alike, whole batches at once, the same whatever the chunks."""

import numpy as np
import pytest
import torch

from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.planning import plan
from lightalign.pipelines.planning.spec import PlanSpec
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.distributed import ProcessGroup
from lightalign.pipelines.training.mixup import MixupOptions, draw_mix
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

from ..conftest import extract_toy
from .test_resume import stop_in_epoch
from .test_train import CPU, QUICK

SMALL = (
    *("train.epochs=2", "train.batch_size=12", "train.validation=none"),
    *("towers.both.refine.blocks=1", "towers.both.refine.expansion=1", "towers.both.project.out=8"),
)


@pytest.fixture(scope="module")
def pooled_home(tmp_path_factory):
    """Return a home with averaged features of `train`; runs are added."""
    home = tmp_path_factory.mktemp("pooled-home")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, split="train", features=("mean",))
    return home


def spec_of(home, *overrides, preset="fusemix", **changes):
    return TrainSpec(
        home=home, preset=preset, overrides=(*SMALL, *overrides), device="cpu", **changes
    )


def trainer_of(home, *overrides, **changes):
    spec = spec_of(home, *overrides, **changes)
    return Trainer(resolve(spec, SILENT), home=home, seed=0, device=CPU)


def loaded(loads):
    return torch.cat([load().values[:, 0] for load in loads])


def test_halves_are_mixed_as_worked_out_by_hand():
    """Images 4, 7, 5, 9, 2: 4 with 5 and 7 with 9; 2 is left out.

    Image 4 has texts 40 and 41, image 5 only 50: 40 + 50, 41 + 50. Image 7 has text 70, image 9 has
    90, 91 and 92: 70 + 90, 70 + 91, 70 + 92.
    """
    texts = {4: (40, 41), 5: (50,), 7: (70,), 9: (90, 91, 92), 2: (20,)}
    images, own, mix = draw_mix(
        np.array([4, 7, 5, 9, 2]),
        texts.__getitem__,
        options=MixupOptions(alpha=1.0),
        random=np.random.default_rng(0),
    )
    assert (images.tolist(), mix.first.tolist()) == ([4, 7], [5, 9])
    assert list(zip(own.tolist(), mix.second.tolist(), mix.owner.tolist(), strict=True)) == [
        *((40, 50, 0), (41, 50, 0)),
        *((70, 90, 1), (70, 91, 1), (70, 92, 1)),
    ]


def test_shuffled_partners_are_a_permutation_and_its_texts_go_along():
    images = np.arange(20)
    mixed, own, mix = draw_mix(
        images,
        lambda image: (100 + image,),
        options=MixupOptions(alpha=1.0, partners="shuffled"),
        random=np.random.default_rng(1),
    )
    assert mixed.tolist() == images.tolist() == sorted(mix.first.tolist())
    assert mix.first.tolist() != images.tolist()
    assert (own.tolist(), mix.second.tolist()) == (
        (100 + mixed).tolist(),
        (100 + mix.first).tolist(),
    )


def test_the_share_has_the_moments_of_its_beta_distribution():
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)): 1/5.6 for a = 0.2."""
    random = np.random.default_rng(2)
    options = MixupOptions(alpha=0.2)
    shares = [
        draw_mix(np.arange(4), lambda _: (0,), options=options, random=random)[2].share
        for _ in range(1000)
    ]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)  # three standard errors
    assert np.var(shares) == pytest.approx(1 / 5.6, rel=0.1)


@pytest.mark.parametrize(("captions", "chunk_size"), [("all", 4), ("one", 0)])
def test_both_modalities_are_mixed_as_float64_does(pooled_home, captions, chunk_size):
    trainer = trainer_of(
        pooled_home, f"train.captions={captions}", f"train.chunk_size={chunk_size}"
    )
    stores = trainer.stores
    for rows in trainer.batches.order(1):
        batch = trainer.batches.load(rows)
        mix = rows.mix
        for reader, own, partners, loads in (
            (stores.first, rows.first, mix.first, batch.first),
            (stores.second, rows.second, mix.second, batch.second),
        ):
            first, second = (
                reader.gather(some).values.astype(np.float64) for some in (own, partners)
            )
            expected = mix.share * first + (1 - mix.share) * second
            np.testing.assert_allclose(loaded(loads).numpy(), expected, rtol=0, atol=1e-6)
        assert len(rows.first) == 6
        assert batch.positives[:].sum(dim=1).tolist() == [5 if captions == "all" else 1] * 6
        for line, column in batch.positives[:].nonzero().tolist():
            assert rows.second[column] in stores.texts_of[rows.first[line]]
            assert mix.second[column] in stores.texts_of[mix.first[line]]


def test_chunks_of_mixtures_have_the_gradient_of_the_whole_batch(pooled_home):
    found = []
    for size in (0, 3):
        trainer = trainer_of(
            pooled_home, f"train.chunk_size={size}", "towers.both.refine.dropout=0.0"
        )
        trainer.train_step.add_gradient(trainer.batches.load(next(trainer.batches.order(1))))
        found.append(torch.cat([p.grad.flatten() for p in trainer.trainable.parameters]))
    assert (found[1] - found[0]).norm() < 1e-5 * found[0].norm()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fusemix", "fusemix-corrected"])
def test_a_stopped_training_on_mixtures_goes_on_to_the_same_bytes(pooled_home, monkeypatch, preset):
    spec = spec_of(pooled_home, "train.chunk_size=5", preset=preset, name=f"{preset}-whole")
    whole = train.run(spec)
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train.run(spec_of(pooled_home, "train.chunk_size=5", preset=preset, name=f"{preset}-cut"))
    resumed = train.resume(pooled_home, f"{preset}-cut", device="cpu")
    for name in (run_folder.WEIGHTS, run_folder.TABLE):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_items_of_several_tokens_are_not_mixed(toy_home):
    spec = TrainSpec(
        preset="lightalign/fusion",
        home=toy_home,
        overrides=(*QUICK, "train.mixup.alpha=1.0"),
        device="cpu",
    )
    with pytest.raises(
        SpecError, match=r"one token each, found images of up to \d+ tokens.*--feat"
    ):
        Trainer(resolve(spec, SILENT), home=toy_home, seed=0, device=CPU)


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("train.mixup.alpha=-1", SpecError, "alpha must be at least 0, found -1"),
        ("train.mixup.partners=all", UnknownNameError, "halves.*shuffled"),
        ("train.mixup.beta=1", SpecError, "unknown key 'beta'"),
        ("train.batch_size=3", SpecError, "fewer than two mixtures.*raise train.batch_size"),
    ],
)
def test_wrong_options_of_mixing_are_refused(pooled_home, override, error, message):
    with pytest.raises(error, match=message):
        trainer_of(pooled_home, override)


@pytest.mark.slow
def test_a_plan_of_mixtures_counts_them_and_their_one_token():
    """512 images are read and 256 mixed; five texts each; four bytes a feature, three batches."""
    overrides = ("train.batch_size=512", *SMALL[3:], "train.captions=all")
    planned = plan.run(PlanSpec(preset="fusemix", overrides=overrides, device="cpu"))
    assert planned.predicted.features == 3 * 4 * 256 * (384 + 5 * 768)


@pytest.mark.parametrize("chunk_size", [0, 2])
def test_several_processes_share_the_mixtures_of_one(pooled_home, chunk_size):
    trainer = trainer_of(pooled_home, f"train.chunk_size={chunk_size}")
    rows = next(trainer.batches.order(1))
    whole = trainer.batches.load(rows)
    shares = []
    for rank in range(3):
        trainer.batches.processes = ProcessGroup(rank, 3)
        shares.append(trainer.batches.load(rows))
    for side in ("first", "second"):
        together = [load for share in shares for load in getattr(share, side)]
        assert torch.equal(loaded(together), loaded(getattr(whole, side)))
    assert all(torch.equal(share.positives[:], whole.positives[:]) for share in shares)
