"""Predicted bytes: by hand where they are simple, else beside a real step."""

import json
from dataclasses import replace

import pytest
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.gradcache import backward_in_chunks
from lightalign.adapters.objective import PairBatch, build_objective
from lightalign.adapters.preset import read_preset
from lightalign.featcache.errors import OutOfMemoryError, SpecError, UnknownNameError
from lightalign.featcache.footprint import LiveTensors
from lightalign.featcache.spec import apply_overrides
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality
from lightalign.pipelines import plan
from lightalign.pipelines.memory_model import MemoryModel
from lightalign.pipelines.plan import InputShape, PlanSpec, parse_bytes
from lightalign.pipelines.show import plan_parts

from ..helpers import lightalign

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


def build(preset, shape=SMALL):
    table = apply_overrides(read_preset(preset), SMALLER.get(preset, ()))
    adapter = build_adapter(table["towers"], widths=shape.widths, seed=0)
    return adapter, build_objective(table["objective"])


def model_of(preset, shape=SMALL):
    adapter, objective = build(preset, shape)
    parameters = [*adapter.parameters(), *objective.parameters()]
    return MemoryModel(
        adapter,
        objective,
        lambda: torch.optim.AdamW(parameters),
        shape=shape,
        averaged=False,
        dtype=torch.float32,
    )


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
    [("linear", 0), ("sail/star", 0), ("lightalign/base", 8), ("peme/bridge-64", 8)],
)
def test_a_step_takes_what_is_predicted(preset, chunk):
    peak = model_of(preset).peak(96, chunk)
    predicted = peak.gradients + peak.activations + peak.loss
    assert predicted == pytest.approx(real_peak(preset, 96, chunk or 1000), rel=0.1)


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
        ({"text_tokens": 0}, SpecError, "text_tokens must be at least 1"),
        ({"budget": "much"}, SpecError, "is no size"),
    ],
)
def test_what_cannot_be_planned_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        plan.run(PlanSpec(**{"device": "cpu", **changes}))


def test_the_command_prints_parts_and_what_fits(tmp_path):
    asked = ("--image-tokens", "49", "--batch-size", "64", "--budget", "1GB", "--device", "cpu")
    done = lightalign("plan", *asked, "--json", home=tmp_path)
    found = json.loads(done.stdout)
    assert found["fits"] is True
    assert found["spec"]["batch_size"] == 64
    assert set(found["predicted"]) >= {"weights", "gradients", "optimiser", "activations", "loss"}


def test_people_are_told_the_peak_and_what_fits():
    spec = PlanSpec(preset="linear", image_tokens=49, budget="10GB", device="cpu")
    planned = replace(plan.run(spec), measured=10**9)
    shown = [part for part in plan_parts(planned) if isinstance(part, str)]
    total = planned.predicted.total / 1e9
    assert shown[1:] == [
        f"predicted peak {total:.2f} GB of process memory",
        f"measured peak  1.00 GB; predicted over it {total:.2f}",
        "fits 10GB; the largest chunk that does is 1024",
    ]


def test_steps_that_fail_are_reported_in_one_line(monkeypatch):
    from lightalign.pipelines import plan_task

    monkeypatch.setattr(plan_task.sys, "executable", "/bin/false")
    with pytest.raises(OutOfMemoryError, match="three steps could not be run here: ended with 1"):
        plan.run(PlanSpec(measure=True, image_tokens=4, device="cpu"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "batch_size", "chunk_size"),
    [
        ("peme/bridge", 64, 0),
        ("peme/bridge", 4096, 16),
        ("lightalign/base", 256, 0),
        ("lightcrl/additive", 512, 64),
    ],
)
def test_a_measured_process_takes_what_is_predicted(preset, batch_size, chunk_size):
    sizes = (f"train.batch_size={batch_size}", f"train.chunk_size={chunk_size}")
    spec = PlanSpec(preset=preset, overrides=sizes, measure=True, device="cpu")
    planned = plan.run(spec)
    assert planned.predicted.total == pytest.approx(planned.measured, rel=0.15)
