"""Predicted bytes: by hand where they are simple, else beside a real step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.gradcache import backward_in_chunks
from lightalign.adapters.objective import PairBatch, build_objective
from lightalign.adapters.preset import read_preset
from lightalign.featcache.config import apply_overrides
from lightalign.featcache.encoders.memory import LiveTensors
from lightalign.featcache.errors import SpecError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality
from lightalign.pipelines.planning.allocations import Allocations
from lightalign.pipelines.planning.memory import StepMemory
from lightalign.pipelines.planning.planned import InputShape
from lightalign.pipelines.planning.step import PlannedStep
from lightalign.pipelines.training.options import TrainOptions

from ...helpers import slow

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


def memory_of(preset, **options):
    table = apply_overrides(read_preset(preset), SMALLER.get(preset, ()))
    options = TrainOptions(precision="float32", **options)
    cpu = torch.device("cpu")
    return StepMemory(PlannedStep(table=table, options=options, shape=SMALL, device=cpu))


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
                first=loads[Modality.IMAGE],
                second=loads[Modality.TEXT],
                positives=positives,
            )
        else:
            found = [torch.cat([adapter.embed(tokens, m)]) for m, tokens in whole.items()]
            torch.autograd.backward(objective(PairBatch(*found, positives)).total)
    chunks = -(-images // chunk) + -(-5 * images // chunk)
    return live.peak_bytes + (chunks * torch.get_rng_state().nbytes if chunk < images else 0)


def test_tensors_of_many_rows_follow_from_those_of_few():
    """By hand: 7, 10 n and 2 n^2 bytes; the second is freed before the third is there.

    At 5 rows they are 7, 50 and 50, and 7 + 50 are there at most; at 6 they are 7, 60 and 72, and
    the third comes after the second.
    """
    recorded = [
        Allocations(
            differences=np.array([[7, 10 * rows, 2 * rows**2]]),
            ends=np.array([3, 2, 3]),
            is_gradient=np.zeros(3, dtype=bool),
            is_loss=np.zeros(3, dtype=bool),
            is_block=np.zeros(3, dtype=bool),
        )
        for rows in (2, 3, 4)
    ]
    tensors = Allocations.fitted(recorded)
    assert tensors.num_bytes(1).tolist() == [7, 10, 2]
    assert tensors.num_bytes(100).tolist() == [7, 1000, 20_000]
    assert tensors.at_peak(tensors.num_bytes(4)).tolist() == [7, 40, 0]
    assert tensors.at_peak(tensors.num_bytes(6)).tolist() == [7, 0, 72]


def test_tensors_are_recorded_with_what_became_of_them():
    """By hand: two products of 3 x 3 floats of 36 bytes each, and a sum of 9 entries of 27."""
    weight = torch.ones(3, 3, requires_grad=True)
    with LiveTensors() as live:
        first = weight.detach() @ weight.detach()
        first = first @ first
        total = first.sum()
    tensors = Allocations.recorded(live, [weight, first], slice(2, 3))
    assert tensors.differences.tolist() == [[36, 36, 4]]
    assert tensors.ends.tolist() == [2, 3, 3]
    assert tensors.is_gradient.tolist() == [False, True, False]
    assert tensors.is_loss.tolist() == [False, False, True]
    assert total == 243


@pytest.mark.parametrize(
    ("preset", "chunk"),
    [
        ("linear", 0),
        ("peme/bridge-64", 8),
        *slow(("sail/star", 0), ("lightalign/base", 8), ("lightcrl/additive", 0), ("convirt", 0)),
    ],
)
def test_a_step_takes_what_is_predicted(preset, chunk):
    peak = memory_of(preset).peak(48, chunk)
    predicted = peak.gradients + peak.activations + peak.loss
    assert predicted == pytest.approx(real_peak(preset, 48, chunk or 1000), rel=0.05)


def test_the_static_parts_are_counted_by_hand():
    """Four bytes a number; twice that for two moments, with a count of steps for each tensor."""
    peak = memory_of("linear").peak(64, 0)
    adapter, objective = build("linear")
    trained = [*adapter.parameters(), *objective.parameters()]
    count = sum(parameter.numel() for parameter in trained)
    assert (peak.weights, peak.optimiser) == (4 * count, 8 * count + 4 * len(trained))
    # 64 images of 49 x 64 and 320 texts of 12 x 48 two-byte features, three batches of them
    assert peak.features == 3 * 2 * (64 * 49 * 64 + 320 * 12 * 48)
    assert peak.total == sum(vars(peak).values())


def test_chunks_take_less_and_the_largest_that_fits_is_found():
    model = memory_of("peme/bridge-64")
    whole = model.peak(256, 0).total
    assert model.peak(256, 8).total < model.peak(256, 64).total < whole
    budget = model.peak(256, 32).total
    assert model.largest_chunk(256, budget) == 32
    assert model.largest_chunk(256, 1) is None


def test_accumulated_gradients_are_there_at_every_moment():
    plain, adding = (memory_of("linear", accumulate=batches) for batches in (1, 2))
    assert plain.peak(256, 0).gradients == 4  # of the scale, before embedding has its turn
    assert adding.peak(256, 0).gradients == plain.peak(256, 0).weights


def test_a_prediction_leaves_the_random_numbers_as_they_were():
    before = torch.get_rng_state()
    memory_of("linear").peak(64, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_a_long_queue_is_counted_and_not_made():
    """By hand: 2^20 embeddings of each side, of 4 bytes a feature, and a mark for each row of 8."""
    width = build("linear")[0].out_width
    long, none = (memory_of("linear", queue=size).peak(8, 0).loss for size in (2**20, 0))
    assert long - none >= 2 * 2**20 * 4 * width + 2**20 * (8 + 5 * 8)


@pytest.mark.parametrize("part", ["clip", "distil", "siglip"])
def test_every_objective_is_planned_with_a_queue_that_even_few_images_need_blocks_for(part):
    table = {**read_preset("linear"), "objective": {"part": part}}
    options = TrainOptions(precision="float32", queue=1_000_000)
    shape = replace(SMALL, tokens=dict.fromkeys(SMALL.tokens, 1))
    step = PlannedStep(table=table, options=options, shape=shape, device=torch.device("cpu"))
    marks = 1_000_000 * (8 + 5 * 8)
    assert StepMemory(step).peak(8, 0).loss > marks


def test_steps_of_other_tensors_at_every_size_are_refused():
    none = np.zeros(2, dtype=bool)
    few = Allocations(np.array([[7, 8]]), np.array([2, 2]), none, none, none)
    none = np.zeros(3, dtype=bool)
    more = Allocations(np.array([[7, 8, 9]]), np.array([3, 3, 3]), none, none, none)
    with pytest.raises(SpecError, match="lower the captions"):
        Allocations.fitted([few, more])
