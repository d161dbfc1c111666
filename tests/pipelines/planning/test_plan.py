"""Predicted bytes: by hand where they are simple, else beside a real step."""

import json

import numpy as np
import pytest
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.gradcache import backward_in_chunks
from lightalign.adapters.objective import PairBatch, build_objective
from lightalign.adapters.preset import read_preset
from lightalign.featcache.config import apply_overrides
from lightalign.featcache.encoders.card import CARDS
from lightalign.featcache.encoders.memory import LiveTensors
from lightalign.featcache.errors import OutOfMemoryError, SpecError, UnknownNameError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality
from lightalign.pipelines.common.byte_sizes import parse_bytes
from lightalign.pipelines.planning import plan
from lightalign.pipelines.planning import step as planned_step
from lightalign.pipelines.planning.memory_model import MemoryModel
from lightalign.pipelines.planning.peak import PeakMemory
from lightalign.pipelines.planning.process_memory import STATUS, ProcessMemory
from lightalign.pipelines.planning.shapes import InputShape
from lightalign.pipelines.planning.spec import MemoryPlan, PlanSpec
from lightalign.pipelines.planning.step import PlannedStep
from lightalign.pipelines.rendering.training import plan_parts
from lightalign.pipelines.training.modules import build_trainable
from lightalign.pipelines.training.options import TrainOptions

from ...helpers import lightalign, slow

SMALL = InputShape(
    tokens={Modality.IMAGE: 49, Modality.TEXT: 12},
    widths={Modality.IMAGE: 64, Modality.TEXT: 48},
    texts=5,
)


SMALLER = {  # of the same parts
    "peme/bridge-64": (
        *(f"towers.image.bridge.{size}" for size in ("layers=1", "out=96", "queries=8")),
        "towers.image.head.hidden=96",
        "towers.text.head.hidden=96",
    )
}


def build(preset):
    table = apply_overrides(read_preset(preset), SMALLER.get(preset, ()))
    adapter = build_adapter(table["towers"], widths=SMALL.widths, seed=0)
    return adapter, build_objective(table["objective"])


def model_of(preset, *, accumulates=False):
    table = apply_overrides(read_preset(preset), SMALLER.get(preset, ()))
    trainable = build_trainable(
        table, TrainOptions(), widths=SMALL.widths, seed=0, device=torch.device("cpu")
    )
    return MemoryModel(trainable, shape=SMALL, dtype=torch.float32, accumulates=accumulates)


def real_peak(preset, images, chunk):
    """Return the bytes that live at most in one real step, without weights and features.

    The states of the random generator that chunks begin with are no tensors of an operation.
    """
    adapter, objective = build(preset)
    adapter.train()
    rows = {Modality.IMAGE: images, Modality.TEXT: 5 * images}
    whole = {
        modality: Tokens(
            torch.randn(count, SMALL.tokens[modality], SMALL.widths[modality]),
            torch.ones(count, SMALL.tokens[modality], dtype=torch.bool),
        )
        for modality, count in rows.items()
    }
    positives = torch.arange(5 * images)[None, :] // 5 == torch.arange(images)[:, None]
    cut = {
        modality: [
            Tokens(tokens.values[start : start + chunk], tokens.mask[start : start + chunk])
            for start in range(0, len(tokens), chunk)
        ]
        for modality, tokens in whole.items()
    }
    with LiveTensors() as live:
        if chunk < images:
            loads = {m: [lambda part=part: part for part in parts] for m, parts in cut.items()}
            backward_in_chunks(
                adapter.embed,
                objective,
                images=loads[Modality.IMAGE],
                texts=loads[Modality.TEXT],
                positives=positives,
            )
        else:
            found = [torch.cat([adapter.embed(tokens, m)]) for m, tokens in whole.items()]
            torch.autograd.backward(objective(PairBatch(*found, positives)).total)
    chunks = -(-images // chunk) + -(-5 * images // chunk)
    return live.peak_bytes + (chunks * torch.get_rng_state().nbytes if chunk < images else 0)


@pytest.mark.parametrize(
    ("preset", "chunk"),
    [
        ("linear", 0),
        ("peme/bridge-64", 8),
        *slow(("sail/star", 0), ("lightalign/base", 8)),
    ],
)
def test_a_step_takes_what_is_predicted(preset, chunk):
    peak = model_of(preset).peak(48, chunk)
    predicted = peak.gradients + peak.activations + peak.loss
    assert predicted == pytest.approx(real_peak(preset, 48, chunk or 1000), rel=0.1)


def test_the_static_parts_are_counted_by_hand():
    """Four bytes a number for weights and gradients, twice that for two moments."""
    peak = model_of("linear").peak(64, 0)
    adapter, objective = build("linear")
    count = sum(one.numel() for one in [*adapter.parameters(), *objective.parameters()])
    assert (peak.weights, peak.optimiser) == (4 * count, 8 * count)
    # 64 images of 49 x 64 and 320 texts of 12 x 48 two-byte features, three batches of them
    assert peak.features == 3 * 2 * (64 * 49 * 64 + 320 * 12 * 48)
    assert peak.total == sum(vars(peak).values())


def test_chunks_take_less_and_the_largest_that_fits_is_found():
    model = model_of("peme/bridge-64")
    whole = model.peak(256, 0).total
    assert model.peak(256, 8).total < model.peak(256, 64).total < whole
    budget = model.peak(256, 32).total
    assert model.largest_chunk(256, budget) == 32
    assert model.largest_chunk(256, 1) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("6GB", 6e9), ("6 GB", 6e9), ("1.5g", 1.5e9), ("512MiB", 2**29), ("10", 10), ("2kB", 2000)],
)
def test_sizes_are_read(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "six GB", "-1GB", "6PB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(SpecError, match="is no size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"preset": "cca"}, SpecError, "closed form"),
        ({"image_encoder": "minilm"}, SpecError, "reads texts, not images"),
        ({"text_encoder": "nothing"}, UnknownNameError, "no encoder"),
        ({"text_tokens": 0}, SpecError, "text_tokens must be from 1"),
        ({"budget": "much"}, SpecError, "is no size"),
        ({"dtype": "flot16"}, UnknownNameError, "no dtype named 'flot16'"),
        ({"overrides": ("trian.epochs=1",)}, SpecError, "a preset has no 'trian'"),
        ({"overrides": ("towers=3",)}, SpecError, "must be a table"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        plan.run(PlanSpec(**{"device": "cpu", **changes}))


def test_the_encoders_of_the_named_home_are_known(tmp_path):
    (tmp_path / "h" / "encoders").mkdir(parents=True)
    card = CARDS / "toy-text.toml"
    (tmp_path / "h" / "encoders" / "own.toml").write_bytes(card.read_bytes())
    asked = ("plan", "--image-encoder", "own", "--home", str(tmp_path / "h"))
    ended = lightalign(*asked, home=tmp_path / "other")
    assert "encoder 'own' reads texts, not images" in ended.stderr


def test_the_command_prints_parts_and_what_fits(tmp_path):
    asked = ("--image-tokens", "49", "--batch-size", "64", "--budget", "1GB", "--device", "cpu")
    done = lightalign("plan", *asked, "--json", home=tmp_path)
    found = json.loads(done.stdout)
    assert found["fits"] is True
    assert found["spec"]["batch_size"] == 64
    assert set(found["predicted"]) >= {"weights", "gradients", "optimiser", "activations", "loss"}


SHOWN = ("batch_size", "chunk_size", "image", "text", "texts_of_an_image")


def test_people_are_told_the_peak_and_what_fits():
    planned = MemoryPlan(
        spec={**vars(PlanSpec(preset="linear", budget="2GB")), **dict.fromkeys(SHOWN, 8)},
        parameters=1000,
        predicted=PeakMemory(
            weights=10**9, gradients=0, optimiser=0, features=0, activations=0, loss=10**9 // 2
        ),
        fits=True,
        largest_chunk=64,
        measured=10**9,
        memory="process",
    )
    shown = [part for part in plan_parts(planned) if isinstance(part, str)]
    assert shown[1:] == [
        "predicted peak 1.50 GB of process memory",
        "measured peak  1.00 GB; predicted over it 1.50",
        "fits 2GB; the largest chunk that does is 64",
    ]


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ("kill -9 $$", OutOfMemoryError, "three steps do not fit this machine: signal 9"),
        ("echo RuntimeError: out of memory >&2; exit 1", OutOfMemoryError, "out of memory"),
        ("echo no such module >&2; exit 1", RuntimeError, "has failed:\nno such module"),
    ],
)
def test_what_stops_the_measured_steps_is_told_apart(script, error, message, monkeypatch, tmp_path):
    other = tmp_path / "python"
    other.write_text(f"#!/bin/sh\n{script}\n")
    other.chmod(0o755)
    monkeypatch.setattr(planned_step.sys, "executable", str(other))
    step = PlannedStep(table={}, options=TrainOptions(), shape=SMALL, device="cpu")
    with pytest.raises(error, match=message):
        step.measure()


@pytest.mark.skipif(not STATUS.is_file(), reason="Linux says what a process takes")
def test_what_a_process_takes_and_gives_back_is_seen():
    with ProcessMemory() as own:
        taken = np.ones(2**25)  # 256 MiB
        del taken
    assert own.bytes == pytest.approx(2**28, rel=0.1)


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.is_file(), reason="Linux says what a process takes")
def test_three_steps_are_measured():
    small = ("towers.both.project.out=8", "train.batch_size=4", "train.accumulate=2")
    spec = PlanSpec(preset="linear", overrides=small, measure=True, image_tokens=4, device="cpu")
    assert 0 <= plan.run(spec).measured < 10**9


def test_accumulated_gradients_are_there_at_every_moment():
    plain, adding = (model_of("linear", accumulates=value) for value in (False, True))
    assert plain.peak(256, 0).gradients == 0
    assert adding.peak(256, 0).total == plain.peak(256, 0).total + plain.peak(256, 0).weights


def test_a_prediction_leaves_the_random_numbers_as_they_were():
    before = torch.get_rng_state()
    model_of("linear").peak(64, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("preset", "batch_size", "chunk_size"),
    [
        ("peme/bridge", 16, 0),
        ("peme/bridge", 64, 16),
        ("linear", 4096, 64),
        ("lightalign/base", 256, 0),
        ("lightcrl/additive", 256, 64),
    ],
)
def test_a_measured_process_takes_what_is_predicted(preset, batch_size, chunk_size):
    sizes = (f"train.batch_size={batch_size}", f"train.chunk_size={chunk_size}")
    overrides = (*sizes, "train.accumulate=1")
    spec = PlanSpec(preset=preset, overrides=overrides, measure=True, device="cpu")
    planned = plan.run(spec)
    assert planned.predicted.total == pytest.approx(planned.measured, rel=0.15)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        *slow(((), "preset lightalign/base: ")),
        *slow((("--fusion", "concat"), "preset lightalign/fusion, fusion concat: ")),
        (("--preset", "linear"), "preset linear: "),
    ],
)
def test_the_preset_that_was_planned_is_named(asked, named, tmp_path):
    ended = lightalign("plan", *asked, home=tmp_path)
    assert ended.stdout.startswith(named)
    written = json.loads(lightalign("plan", *asked, "--json", home=tmp_path).stdout)["spec"]
    assert written["preset"] == named.split()[1].rstrip(",:")
