"""A training learns from unpaired items, too, and says what it has seen of them."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lightalign.adapters.klot import Klot
from lightalign.adapters.objective import PairBatch, TeacherFeatures
from lightalign.featcache import atomic_files
from lightalign.featcache.errors import (
    LeakageError,
    SpecError,
    StoreIncompleteError,
    StoreInUseError,
    StoreNotFoundError,
    UnknownNameError,
)
from lightalign.featcache.store import catalog
from lightalign.pipelines.cache import remove
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.evaluation import retrieve
from lightalign.pipelines.planning import dry_run, plan
from lightalign.pipelines.planning.spec import PlanSpec
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.distributed import ProcessGroup
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign
from ..conftest import extract_toy
from .test_distributed import finish, losses, sets, torchrun
from .test_resume import gradient, stop_in_epoch, trainer_of
from .test_train import quick_train

STORES = {"unpaired_images": "shapes/test", "unpaired_texts": "shapes/test"}
# 8 images are two batches of three, 40 texts thirteen; four pairs of batches an epoch
SMALL = ("unpaired.batch_size=3", "train.epochs=3", "train.batch_size=6", "train.captions=one")
WHOLE = (*SMALL, "train.precision=float32")
UNPAIRED = {"preset": "sotalign", "overrides": WHOLE, **STORES}


def unpaired_of(home, *overrides, **changes):
    """Return a trainer whose teacher is solved."""
    trainer = trainer_of(home, *SMALL, *overrides, **{**STORES, **changes})
    trainer.pairs.unpaired.teacher.solve(trainer.stores, trainer.train_rows, SILENT)
    return trainer


def unit_means(reader, rows):
    features = reader.gather(rows)
    means = [features.row(line).astype(np.float64).mean(axis=0) for line in range(len(rows))]
    return np.stack([mean / np.linalg.norm(mean) for mean in means])


def test_each_side_comes_pass_after_pass_in_an_order_of_its_own(home):
    """Two batches of three among 8 images, then another pass; the last two wait."""
    unpaired = unpaired_of(home).pairs.unpaired
    batches = [unpaired.rows(number) for number in range(26)]
    assert {len(rows.first) for rows in batches} == {len(rows.second) for rows in batches} == {3}
    passes = [np.concatenate([batches[n].first, batches[n + 1].first]) for n in (0, 2, 4)]
    assert all(len(set(rows.tolist())) == 6 for rows in passes)
    assert len({tuple(rows.tolist()) for rows in passes}) == 3
    texts = np.concatenate([rows.second for rows in batches[:13]])
    assert len(set(texts.tolist())) == 39
    assert set(np.concatenate([rows.first for rows in batches]).tolist()) == set(range(8))
    assert passes[0].tolist() != [row for row in texts[:40].tolist() if row < 8][:6]


def test_rows_depend_on_seed_and_number_alone(home):
    first, again = unpaired_of(home).pairs.unpaired, unpaired_of(home).pairs.unpaired
    later = again.rows(7)  # of which a resumed training asks first
    for number in range(7):
        first.rows(number)
    assert np.array_equal(first.rows(7).first, later.first)
    assert np.array_equal(first.rows(7).second, later.second)


def test_the_order_of_the_pairs_is_as_it_was(home):
    with_them, without = unpaired_of(home), trainer_of(home, *SMALL[1:])
    for ours, theirs in zip(with_them.batches.order(2), without.batches.order(2), strict=True):
        assert np.array_equal(ours.first, theirs.first)
        assert np.array_equal(ours.second, theirs.second)


@pytest.mark.parametrize("chunk_size", [0, 2])
def test_the_teacher_is_procrustes_on_the_pairs_alone(home, chunk_size):
    """K' by NumPy: cosines of U^T x and V^T y, X^T Y = U S V^T of the centred training pairs."""
    trainer = unpaired_of(
        home,
        "unpaired.teacher.part=procrustes",
        "unpaired.features=5",
        f"train.chunk_size={chunk_size}",
    )
    stores = trainer.stores
    pairs = [(i, t) for i in trainer.train_rows.tolist() for t in stores.seconds_of[i]]
    x, y = (
        unit_means(reader, np.array(rows))
        for reader, rows in zip(
            (stores.first, stores.second), zip(*pairs, strict=True), strict=True
        )
    )
    left, _, right = np.linalg.svd((x - x.mean(axis=0)).T @ (y - y.mean(axis=0)))
    batch = trainer.pairs.unpaired.load(4)
    images, texts = (
        unit_means(reader, rows)
        for reader, rows in zip(
            trainer.pairs.unpaired.readers.values(),
            (batch.rows.first, batch.rows.second),
            strict=True,
        )
    )
    first, second = (images - x.mean(axis=0)) @ left[:, :5], (texts - y.mean(axis=0)) @ right[:5].T
    first, second = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, second))
    taught = batch.teacher.first @ batch.teacher.second.T
    np.testing.assert_allclose(taught.numpy(), first @ second.T, rtol=0, atol=2e-4)


def test_the_loss_of_unpaired_items_is_added_and_logged(home):
    trainer = unpaired_of(home, "unpaired.weight=3.0", "towers.both.drop.p=0.0")
    batch = next(iter(trainer.loaded(1)))
    trainer.adapter.eval()
    parts = trainer.train_step.add_gradient(batch)
    contrast = (parts["image_to_text"] + parts["text_to_image"]) / 2
    assert parts["loss"] == pytest.approx(contrast + 3 * parts["klot"], rel=1e-5)
    unpaired = batch.unpaired
    first, second = (
        torch.cat(trainer.train_step.embed_all(loads, side))
        for loads, side in zip(
            (unpaired.first, unpaired.second), trainer.plan.stores.sides, strict=True
        )
    )
    pairs = PairBatch(
        first, second, unpaired.positives, teacher=TeacherFeatures(*vars(unpaired.teacher).values())
    )
    assert Klot()(pairs).total.item() == pytest.approx(parts["klot"], rel=1e-4)


def test_chunks_have_the_gradient_of_the_whole_batch(home):
    gradients = []
    for size in (0, 2):
        trainer = unpaired_of(home, f"train.chunk_size={size}", "towers.both.drop.p=0.0")
        trainer.train_step.add_gradient(next(iter(trainer.loaded(1))))
        gradients.append(gradient(trainer))
    assert (gradients[1] - gradients[0]).norm() < 1e-4 * gradients[0].norm()
    alone = trainer_of(home, *SMALL[1:], "towers.both.drop.p=0.0")
    alone.train_step.add_gradient(next(iter(alone.loaded(1))))
    assert (gradient(alone) - gradients[0]).norm() > 1e-3 * gradients[0].norm()


def test_shares_of_processes_are_the_batch_of_one(home):
    alone = unpaired_of(home).pairs.unpaired
    whole = alone.load(1)
    shares = []
    for rank in range(2):
        alone._processes = ProcessGroup(rank, 2)
        shares.append(alone.load(1))
    assert [len(share.teacher.first) for share in shares] == [2, 1]
    of_row = dict(zip(whole.rows.first.tolist(), whole.teacher.first, strict=True))
    joined = torch.cat([share.teacher.first for share in shares])
    for row, vector in zip(shares[0].rows.first.tolist(), joined, strict=True):
        torch.testing.assert_close(vector, of_row[row])


@pytest.mark.parametrize(
    "more", [(), pytest.param(("train.chunk_size=2",), marks=pytest.mark.slow)]
)
def test_a_stopped_training_goes_on_to_the_same_bytes(home, monkeypatch, more):
    changes = {**UNPAIRED, "overrides": (*WHOLE, *more), "seed": 3}
    whole = quick_train(home, name="whole", **changes)
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut", **changes)
    resumed = train.resume(home, "cut", device="cpu")
    for name in (run_folder.WEIGHTS, run_folder.TABLE, run_folder.SPEC):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert losses(resumed.folder) == losses(whole.folder)
    assert resumed.report["num_unpaired"] == {"image": 8, "text": 40}
    records = (whole.folder / run_folder.LOG).read_text().splitlines()
    assert all(json.loads(record)["parts"]["klot"] > 0 for record in records)


def test_each_of_several_seeds_learns_from_unpaired_items(home):
    """A member is the run of its seed, its teacher and its draws of unpaired items among that."""
    run = quick_train(home, name="both", seed=3, seeds=2, ensemble="average", **UNPAIRED)
    for seed in (3, 4):
        alone = quick_train(home, name=f"alone-{seed}", seed=seed, **UNPAIRED)
        member = run_folder.member_folder(run.folder, seed)
        for name in (run_folder.WEIGHTS, run_folder.TABLE):
            assert (member / name).read_bytes() == (alone.folder / name).read_bytes()
        assert losses(member) == losses(alone.folder)
    assert run.report["num_unpaired"] == {"image": 8, "text": 40}
    with pytest.raises(LeakageError, match="8 evaluated images were trained on"):
        retrieve.run(retrieve.RetrieveSpec(home=home, run="both", device="cpu"))


def test_several_seeds_that_were_stopped_go_on_to_the_same_bytes(home, monkeypatch):
    whole = quick_train(home, name="whole", seeds=2, **UNPAIRED)
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut", seeds=2, **UNPAIRED)
    resumed = train.resume(home, "cut", device="cpu")
    assert resumed.report["spread"] == whole.report["spread"]
    for seed in (0, 1):
        ours, theirs = (run_folder.member_folder(run.folder, seed) for run in (resumed, whole))
        weights = run_folder.WEIGHTS
        assert (ours / weights).read_bytes() == (theirs / weights).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_torchrun_ends_with_the_weights_of_one_process(home):
    alone = quick_train(home, name="alone", **UNPAIRED)
    named = ("--name", "two", "--preset", "sotalign", "--quiet")
    stores = [
        word for side in ("images", "texts") for word in (f"--unpaired-{side}", "shapes/test")
    ]
    with torchrun(home, *named, *stores, *sets(*WHOLE)) as running:
        finish(running)
    folder = run_folder.runs_folder(home) / "two"
    first, second = (load_file(one / run_folder.WEIGHTS) for one in (alone.folder, folder))
    assert max(float((second[name] - first[name]).abs().max()) for name in first) < 1e-4
    np.testing.assert_allclose(losses(folder), losses(alone.folder), rtol=1e-4)


def test_a_run_records_both_stores_and_none_is_removed(tmp_path):
    home = tmp_path
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder)
    folder = quick_train(home, **UNPAIRED).folder
    spec = run_folder.read_spec(folder)
    entries = {entry.key: entry for entry in catalog.list_stores(home)}
    for side in ("image", "text"):
        recorded = spec["stores"]["unpaired"][side]
        stored = entries[recorded["key"]].description
        assert (recorded["dataset"], recorded["split"]) == ("shapes", "test")
        assert (recorded["source"], recorded["encoder"]) == (stored.source, f"toy-{side}")
        assert spec["command"][f"unpaired_{side}s"] == recorded["key"]
        with pytest.raises(StoreInUseError, match=folder.name):
            remove.remove(home, recorded["key"], force=False)
    assert spec["unpaired"]["temperature"] == 0.05
    assert spec["unpaired"]["teacher"] == {"part": "cca", "regularisation": 2.0}


def test_evaluated_items_that_were_unpaired_are_named(home):
    quick_train(home, **UNPAIRED)
    with pytest.raises(LeakageError, match=r"8 evaluated images were trained on: shapes.*40 eval"):
        retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu"))
    allowed = retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu", allow_leakage=True))
    assert len(allowed.report["leakage"]["shared"]["text"]) == 40


def test_only_the_side_that_was_seen_is_named(home):
    """The images of the test split, and texts of the training split."""
    quick_train(home, **{**UNPAIRED, "unpaired_texts": "shapes/train"})
    with pytest.raises(LeakageError, match="8 evaluated images were trained on") as refused:
        retrieve.run(retrieve.RetrieveSpec(home=home, device="cpu"))
    assert "evaluated texts" not in str(refused.value)


def test_items_that_validate_are_not_learnt_from(home):
    """Of 24 images three are held out, and their 15 texts."""
    trainer = unpaired_of(
        home, "train.validation=0.1", unpaired_images="shapes/train", unpaired_texts="shapes/train"
    )
    assert trainer.pairs.unpaired.num_by_side == {"image": 21, "text": 105}
    held = {trainer.stores.first.ids[row] for row in trainer.validation.images.tolist()}
    seen = {
        trainer.pairs.unpaired.readers[trainer.plan.stores.sides[0]].ids[row]
        for number in range(50)
        for row in trainer.pairs.unpaired.rows(number).first.tolist()
    }
    assert not held & seen
    with pytest.raises(SpecError, match=r"images of shapes/val would be learnt from.*validation="):
        trainer_of(home, unpaired_images="shapes/val", unpaired_texts="shapes/test")


def test_a_store_goes_by_its_key_and_its_name(home):
    trainer = unpaired_of(home)
    for entry in trainer.plan.unpaired.entries.values():
        side = f"unpaired_{entry.description.modality}s"
        for name in (entry.key[:10], str(entry.folder.relative_to(home / "features"))):
            again = trainer_of(home, *SMALL, **{**STORES, side: name})
            keys = [other.key for other in again.plan.unpaired.entries.values()]
            assert entry.key in keys


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"unpaired_texts": None}, SpecError, "unpaired texts are missing: give --unpaired-images"),
        ({"unpaired_images": None}, SpecError, "unpaired images are missing"),
        ({"unpaired_images": "ffffffffff"}, StoreNotFoundError, "no store is called 'ffffffffff'"),
        ({"unpaired_images": "shapes/other"}, StoreNotFoundError, "'shapes/other'"),
        ({"preset": "cca"}, SpecError, "closed form: it has no steps"),
        ({"overrides": ("unpaired.temperature=0",)}, SpecError, r"temperature must be above 0"),
        ({"overrides": ("unpaired.batch_size=1",)}, SpecError, "at least 2"),
        ({"overrides": ("unpaired.epsilon=1",)}, SpecError, "epsilon"),
        ({"overrides": ("unpaired.features=17",)}, SpecError, "asked for 17"),
        ({"overrides": ("unpaired.teacher.part=asif",)}, SpecError, "two linear maps.*'asif'"),
        ({"overrides": ("unpaired.teacher.part=cc",)}, UnknownNameError, "cca"),
    ],
)
def test_what_does_not_go_is_one_line(home, changes, error, message):
    with pytest.raises(error, match=message) as refused:
        quick_train(home, **{**UNPAIRED, **changes})
    assert "\n" not in str(refused.value)


def test_a_preset_of_unpaired_items_asks_for_their_stores(home):
    with pytest.raises(SpecError, match="--unpaired-images and --unpaired-texts") as refused:
        quick_train(home, preset="sotalign", overrides=())
    (command,) = re.findall("`lightalign (.+?)`", str(refused.value))
    assert lightalign(*command.split()[:2], home=home).returncode == 0


def test_stores_of_other_features_are_refused(tmp_path):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder)
    by_kind = {}
    for kind in ("mean", "tokens"):
        extract_toy(tmp_path, "toy-image", features=(kind,), split="test")
        stores = catalog.list_stores(tmp_path, "shapes/test")
        by_kind[kind] = next(s for s in stores if s.description.kind == kind)
    changes = {**UNPAIRED, "image_features": "tokens", "text_features": "tokens"}
    with pytest.raises(
        SpecError, match=r"toy-image \(mean@-1 float16\), the paired ones by toy-im"
    ):
        quick_train(tmp_path, **{**changes, "unpaired_images": by_kind["mean"].key})
    text = next(s for s in stores if s.description.modality == "text")
    with pytest.raises(SpecError, match="holds texts, not unpaired images"):
        quick_train(tmp_path, **{**changes, "unpaired_images": text.key})
    shutil.rmtree(by_kind["tokens"].folder)
    with pytest.raises(StoreNotFoundError, match=r"no complete image store of shapes/test.*`light"):
        quick_train(tmp_path, **changes)


def test_an_unfinished_store_is_refused_with_the_command_that_goes_on(home, tmp_path):
    shutil.copytree(home / "features", other := tmp_path / "other" / "features", symlinks=False)
    (store,) = (other / "shapes" / "test").glob("toy-image--*")
    manifest = atomic_files.read_sealed(store / "manifest.json")
    atomic_files.write_sealed(store / "manifest.json", {**manifest, "complete": False})
    with pytest.raises(
        StoreIncompleteError, match="finish it by `lightalign extract --encoder toy-i"
    ):
        quick_train(other.parent, **{**UNPAIRED, "unpaired_images": store.name.rpartition("--")[2]})


def test_two_text_encoders_take_none(home):
    with pytest.raises(SpecError, match="not between two text encoders"):
        quick_train(
            home,
            preset="linear",
            text_encoder="toy-text",
            second_text_encoder="toy-text",
            overrides=(),
            **STORES,
        )


def test_a_plan_counts_what_is_unpaired():
    """Of 2,048 images and as many texts: their cosines and those of the teacher, 16 MiB each."""
    sizes = {"image_tokens": 1, "text_tokens": 1, "captions": 1, "device": "cpu"}
    small, large = (
        plan.run(
            PlanSpec(preset="sotalign", overrides=(f"unpaired.batch_size={size}",), **sizes)
        ).predicted
        for size in (2, 2048)
    )
    assert large.loss - small.loss >= 2 * 2048 * 2048 * 4
    # float16 features of both sides, three batches at hand
    assert large.features - small.features == 3 * 2046 * (384 + 768) * 2


def test_a_dry_run_looks_at_unpaired_items(home):
    spec = TrainSpec(home=home, device="cpu", **UNPAIRED)
    estimated = dry_run.run(spec)
    paired = TrainSpec(home=home, device="cpu", preset="linear", overrides=WHOLE[1:])
    assert estimated.steps == dry_run.run(paired).steps == 12
    assert not run_folder.runs_folder(home).exists()
