"""Towers that begin with a pool read the tokens of a row once, and no number differs by it."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.featcache.encoders.card import read_card
from lightalign.featcache.reading.reader import FeatureReader
from lightalign.featcache.tokens import PooledTokens, pad
from lightalign.featcache.types import IMAGE_TEXT, Modality
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.extraction import opening
from lightalign.pipelines.inputs import cached_steps, pairs
from lightalign.pipelines.inputs.cached_steps import PooledRows, pool_once
from lightalign.pipelines.planning import dry_run
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import fit, train
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import slow
from ..conftest import SCENES, extract_toy

CPU = torch.device("cpu")
QUICK = ("train.epochs=2", "train.batch_size=8")
SMALL = ("towers.image.project.out=8", "towers.text.project.out=8", "towers.text.project.hidden=8")
STAR = ("towers.both.star.out=8", "towers.both.star.expansion=2")


def train_run(home: Path, name: str, preset: str, *overrides: str, **changes) -> Path:
    fields = {"preset": preset, "overrides": (*QUICK, *overrides), "device": "cpu", **changes}
    return train.run(TrainSpec(home=home, name=name, **fields)).folder


def numbers(run: Path) -> list[tuple[float, float, float]]:
    lines = (run / run_folder.LOG).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [(r["loss"], r["validation"]["loss"], r["validation"]["recall_sum"]) for r in records]


def never(reader, adapter, side, *, device, is_float32):
    return reader


def extract_wide(home: Path, encoder: str, **changes) -> None:
    """Extract with a toy encoder of 64 features, from which on no sum depends on padding."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            opening, "find_card", lambda name, **_: dataclasses.replace(read_card(name), width=64)
        )
        extract_toy(home, encoder, **changes)


@pytest.fixture(scope="module")
def wide_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("wide-home")
    for encoder in ("toy-image", "toy-text"):
        extract_wide(home, encoder)
    return home


@pytest.fixture(scope="module")
def packed_home(tmp_path_factory):
    """Return a home with compressed stores, of which shards are read whole, and int8 texts."""
    home = tmp_path_factory.mktemp("packed-home")
    extract_wide(home, "toy-image", compression="zstd")
    extract_wide(home, "toy-text", compression="zstd", dtype="int8")
    return home


@pytest.fixture
def home(wide_home, tmp_path):
    """Return a home with stores of 64 features and no run yet."""
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "features").symlink_to(wide_home / "features")
    return tmp_path / "h"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("lightalign/base", (*SMALL, "train.precision=float32")),
        *slow(
            ("lightalign/base", (*SMALL, "train.precision=bfloat16")),
            ("lightalign/base", (*SMALL, "train.precision=float32", "train.chunk_size=5")),
            ("lightalign/base", (*SMALL, "train.precision=float32", "train.captions=one")),
            ("lightalign/base", (*SMALL, "train.precision=float32", "train.queue=16")),
            ("lightalign/base", (*SMALL, "train.precision=float32", "train.validation=0.25")),
            ("lightalign/base", (*SMALL, "train.precision=float32", "train.residency=disk")),
            ("sail/star", (*STAR, "train.precision=float32")),
            ("sail/star", (*STAR, "train.precision=bfloat16")),
        ),
    ],
)
@pytest.mark.parametrize(
    "stores",
    ["wide", *slow("narrow", "packed")],
)
def test_weights_and_losses_after_two_epochs_are_those_of_pooling_at_each_step(
    toy_home, packed_home, tmp_path, monkeypatch, preset, overrides, stores
):
    (tmp_path / "features").symlink_to(
        (toy_home if stores == "plain" else packed_home) / "features"
    )
    once = train_run(tmp_path, "once", preset, *overrides)
    monkeypatch.setattr(pairs, "pool_once", never)
    each = train_run(tmp_path, "each", preset, *overrides)
    assert (once / "adapter.safetensors").read_bytes() == (
        each / "adapter.safetensors"
    ).read_bytes()
    assert numbers(once) == numbers(each)


@pytest.mark.slow
def test_tokens_are_read_once_and_not_in_every_epoch(home, monkeypatch):
    monkeypatch.setattr(fit, "check_first_tokens", lambda *_, **__: [])  # which looks at a few
    rows: list[int] = []
    padded = FeatureReader.padded
    monkeypatch.setattr(
        FeatureReader, "padded", lambda self, some: rows.extend(some.tolist()) or padded(self, some)
    )
    overrides = (*SMALL, "train.epochs=3", "train.precision=float32")
    train_run(home, "a", "lightalign/base", *overrides)
    items = SCENES["train"] + SCENES["val"]
    assert len(rows) == items * 6  # of each an image and five texts


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(home, monkeypatch):
    overrides = (*SMALL, "train.epochs=3", "train.precision=float32")
    whole = train_run(home, "whole", "lightalign/base", *overrides)
    epoch = Trainer.run_epoch

    def stop(self, number, progress):
        if number == 3:
            raise KeyboardInterrupt
        return epoch(self, number, progress)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(home, "stopped", "lightalign/base", *overrides)
    stopped = train.resume(home, "stopped", device="cpu").folder
    assert (stopped / "adapter.safetensors").read_bytes() == (
        whole / "adapter.safetensors"
    ).read_bytes()


def reader_of(home: Path, encoder: str) -> FeatureReader:
    (folder,) = (home / "features" / "shapes" / "train").glob(f"{encoder}--*")
    return FeatureReader(folder)


def adapter_of(*pools: dict[str, object], width: int = 64):
    slots = {f"pool{number}": pool for number, pool in enumerate(pools)}
    return build_adapter(
        {
            "image": {**slots, "out": {"part": "linear", "out": 4}},
            "text": {**slots, "out": {"part": "linear", "out": 4}},
        },
        widths=dict.fromkeys(IMAGE_TEXT, width),
        seed=0,
    )


@pytest.mark.parametrize(
    "pool",
    [
        {"part": "mean-pool"},
        {"part": "cls-pool"},
        {"part": "concat-pool", "summaries": ["mean", "max", "min", "deviation", "cls"]},
        {"part": "concat-pool", "summaries": ["mean", "deviation"], "unit": True},
    ],
)
@pytest.mark.parametrize("encoder", ["toy-image", "toy-text"])
def test_a_row_is_pooled_as_within_any_batch(wide_home, pool, encoder):
    """Alone, with others, and padded further than any row: to the bit."""
    reader, adapter = reader_of(wide_home, encoder), adapter_of(pool)
    side = Modality(reader.description.modality)
    rows = PooledRows(reader, adapter, side, CPU)
    asked = np.random.default_rng(0).permutation(len(reader))[:20]
    found = rows.padded(asked)
    assert isinstance(found, PooledTokens)
    batch = reader.padded(asked)
    with torch.no_grad():
        assert torch.equal(found.values, adapter.pool(batch, side).values)
        assert torch.equal(adapter.embed(found, side), adapter.embed(batch, side))
        for place, row in enumerate(asked.tolist()):
            alone = pad(reader.gather([row]))
            assert torch.equal(found.values[place], adapter.pool(alone, side).values[0])


@pytest.mark.parametrize(
    "pool",
    [
        {"part": "mean-pool", "masked": False},  # which depends on the padding
        {"part": "attention-pool"},  # which is trained
        {"part": "dropout", "p": 0.5},
        {"part": "identity"},  # which leaves all tokens
    ],
)
def test_what_is_trained_or_drawn_or_depends_on_the_batch_is_done_at_each_step(wide_home, pool):
    slots = [pool] if "pool" in str(pool["part"]) else [pool, {"part": "attention-pool"}]
    reader = reader_of(wide_home, "toy-text")
    found = pool_once(reader, adapter_of(*slots), Modality.TEXT, device=CPU, is_float32=True)
    assert found is reader


def test_rows_that_do_not_fit_are_pooled_at_each_step(wide_home):
    reader, adapter = reader_of(wide_home, "toy-text"), adapter_of({"part": "mean-pool"})
    num_bytes = len(reader) * 64 * 4
    for free, is_kept in ((4 * num_bytes, True), (4 * num_bytes - 1, False)):
        found = pool_once(
            reader,
            adapter,
            Modality.TEXT,
            device=CPU,
            is_float32=True,
            free=lambda _, free=free: free,
        )
        assert isinstance(found, PooledRows) is is_kept


def test_under_autocast_only_towers_that_take_features_as_they_are_pool_once(wide_home):
    reader = reader_of(wide_home, "toy-text")
    for part, is_kept in (("mean-pool", False), ("concat-pool", True)):
        adapter = adapter_of({"part": part})
        found = pool_once(reader, adapter, Modality.TEXT, device=CPU, is_float32=False)
        assert isinstance(found, PooledRows) is is_kept


def test_an_objective_with_a_teacher_reads_tokens(home):
    overrides = (*QUICK, *STAR, "objective={part='distil'}")
    plan = resolve(TrainSpec(preset="sail/star", home=home, overrides=overrides))
    trainer = Trainer(plan, home=home, seed=0, device=CPU)
    assert trainer.objective.needs_teacher
    assert trainer.stores.pooled == {}


def test_an_estimate_counts_the_pooled_rows_and_their_time(home):
    spec = TrainSpec(preset="lightalign/base", home=home, overrides=(*QUICK, *SMALL), device="cpu")
    found = dry_run.run(spec, SILENT)
    images, texts = SCENES["train"] + SCENES["val"], 5 * (SCENES["train"] + SCENES["val"])
    kept = (images * 3 + texts * 5) * 64 * 4  # three summaries of an image, five of a text
    assert found.predicted.pooled == kept + cached_steps.POOLING_BYTES
    assert found.residency["image"]["pooled_bytes"] == SCENES["train"] * 3 * 64 * 4
    seconds = 2 * (found.epoch_seconds + found.validation_seconds) + found.pooling_seconds
    assert found.minutes == pytest.approx(seconds / 60)


def test_rows_that_differ_in_length_and_have_another_width_are_pooled_at_each_step(toy_home):
    """Of 16 features the last ones of a sum depend on how far a row is padded."""
    for encoder, side in (("toy-image", Modality.IMAGE), ("toy-text", Modality.TEXT)):
        reader, adapter = reader_of(toy_home, encoder), adapter_of({"part": "mean-pool"}, width=16)
        found = pool_once(reader, adapter, side, device=CPU, is_float32=True)
        assert isinstance(found, PooledRows) is (side is Modality.IMAGE)
