"""Cost of joint trainings: bytes of a step beside those of a real one, and a rehearsal."""

import json

import pytest
import torch

from lightalign.adapters.preset import read_preset
from lightalign.featcache.config import apply_overrides
from lightalign.featcache.encoders.memory import LiveTensors
from lightalign.featcache.errors import LightalignError, SpecError
from lightalign.featcache.types import Modality
from lightalign.pipelines.planning import dry_run, plan
from lightalign.pipelines.planning.dry_run import input_shape, predict_memory, time_training
from lightalign.pipelines.planning.joint_memory import JointStepMemory
from lightalign.pipelines.planning.joint_step import PlannedJointStep
from lightalign.pipelines.planning.measure import STATUS
from lightalign.pipelines.planning.planned import InputShape
from lightalign.pipelines.planning.spec import PlanSpec
from lightalign.pipelines.rendering.training import train_estimate_parts
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.options import TrainOptions

from ...helpers import lightalign
from ..joint_runs import ANSWERS, BOTH, TINY, TINY_PARTS, joint_spec, joint_trainer, opened
from ..training.test_distributed import sets
from ..training.test_train import CPU
from .test_dry_run import listing

SMALL = InputShape(
    tokens={Modality.IMAGE: 17, Modality.TEXT: 9},
    widths={Modality.IMAGE: 32, Modality.TEXT: 24},
    texts=1,
)
OBJECTIVES = {
    "itm": {"itm": {"weight": 1.0}},
    "answers": {"answers": {"weight": 1.0}},
    "both": {"itm": {"weight": 1.0}, "answers": {"weight": 0.5}},
}


def planned(objective, **options):
    table = apply_overrides(read_preset("vle/small"), TINY_PARTS)
    table = {**table, "objective": OBJECTIVES[objective]}
    return PlannedJointStep(
        table=table,
        options=TrainOptions(captions="each", precision="float32", **options),
        shape=SMALL,
        device=CPU,
        num_answers=50,
    )


@pytest.mark.parametrize("chunk_size", [0, 8])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_takes_what_is_predicted(objective, chunk_size):
    """The most bytes that live at once in a real step of 20 pairs, and their wrong ones."""
    step = planned(objective, chunk_size=chunk_size)
    peak = JointStepMemory(step).peak(20, chunk_size)
    modules = step.modules(CPU)
    train_step = step.train_step(modules, 20, CPU)
    batch = step.batch(20, CPU, modules.objective)
    with LiveTensors() as live:
        train_step.add_gradient(batch)
    predicted = peak.gradients + peak.activations + peak.loss
    assert predicted == pytest.approx(live.peak_bytes, rel=0.02)


def test_a_matched_batch_has_three_pairs_for_each_right_one():
    pairs = {
        name: len(step.batch(7, CPU, step.modules(CPU).objective).pairs)
        for name, step in ((name, planned(name)) for name in OBJECTIVES)
    }
    assert pairs == {"itm": 21, "answers": 7, "both": 21}


def test_weights_moments_and_features_are_as_worked_out():
    """Adam has two moments a weight; a pair has 17 x 32 and 9 x 24 numbers of two bytes.

    50 scores of four bytes stand beside each, and three batches are at hand.
    """
    step = planned("both", chunk_size=8)
    memory = JointStepMemory(step)
    peak = memory.peak(20, 8)
    assert peak.weights == peak.gradients == 4 * memory.num_parameters
    assert peak.optimiser == pytest.approx(2 * peak.weights, rel=0.01)
    assert peak.features == 3 * 20 * (17 * 32 * 2 + 9 * 24 * 2 + 50 * 4)
    assert JointStepMemory(planned("itm")).peak(20, 8).features == 3 * 20 * (
        17 * 32 * 2 + 9 * 24 * 2
    )


def test_activations_of_a_chunk_grow_with_its_pairs_and_not_with_the_batch():
    memory = JointStepMemory(planned("itm"))
    few, many, larger = (memory.peak(*sizes) for sizes in ((64, 4), (64, 8), (512, 8)))
    assert few.activations < many.activations == larger.activations
    assert larger.features == 8 * many.features
    # as much as the whole batch: its gradients come while activations go
    assert memory.peak(8, 100) == memory.peak(8, 0)


def test_the_largest_chunk_is_the_last_power_of_two_that_fits():
    memory = JointStepMemory(planned("both"))
    budget = memory.peak(64, 16).total
    assert memory.largest_chunk(64, budget) == 16
    assert memory.largest_chunk(64, budget - 1) == 8
    assert memory.largest_chunk(64, 1000) is None


def test_accumulated_batches_have_all_gradients_there():
    apart, together = (
        JointStepMemory(planned("itm", accumulate=count)).peak(20, 0) for count in (1, 2)
    )
    assert apart.gradients < together.gradients == together.weights


def small_plan(**changes):
    overrides = (*TINY_PARTS, "train.batch_size=8", "train.precision=float32")
    fields = {
        "preset": "vle/small",
        "overrides": overrides,
        "image_encoder": "toy-image",
        "text_encoder": "toy-text",
        "device": "cpu",
    }
    return PlanSpec(**{**fields, **changes})


def test_a_joint_preset_is_planned_with_what_fits():
    found = plan.run(small_plan(budget="1GB"))
    assert (found.spec["preset"], found.spec["texts_of_an_image"]) == ("vle/small", 1)
    assert (found.fits, found.largest_chunk) == (True, 16)  # of 24 pairs
    answered = ("objective.answers.weight=1", *small_plan().overrides)
    many, few = (
        plan.run(small_plan(overrides=answered, num_answers=count)) for count in (3129, 31)
    )
    # of the head's last layer: a weight for each of 32 pooled features, and a bias
    assert many.parameters - few.parameters == (3129 - 31) * 33


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "add"}, "--fusion goes into a preset that aligns two sides"),
        ({"overrides": ("trian.epochs=1",)}, "a preset has no 'trian'"),
        ({"overrides": ("train.queue=8",)}, "without mixup and queue"),
        ({"num_answers": 1}, "num_answers must be from 2"),
    ],
    ids=str,
)
def test_what_cannot_be_planned_is_refused(changes, message):
    with pytest.raises(SpecError, match=message):
        plan.run(small_plan(**changes))


def test_the_command_takes_keys_of_joint_presets(tmp_path):
    asked = ("plan", "--preset", "vle/small", "--image-encoder", "toy-image")
    asked += ("--text-encoder", "toy-text", "--num-answers", "7", "--json")
    done = lightalign(*asked, *sets(*TINY_PARTS, "rates.heads=2"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["spec"]["num_answers"] == 7
    wrong = lightalign(*asked, "--set", "joint.fuse.layer=1", home=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


@pytest.fixture(scope="module")
def estimate(toy_questions):
    """Return the estimate of a training of both objectives, in whose making nothing changes."""
    before, random = listing(toy_questions), torch.get_rng_state()
    estimate = dry_run.run(joint_spec(toy_questions, **BOTH))
    assert listing(toy_questions) == before
    assert torch.equal(torch.get_rng_state(), random)
    return estimate


def test_a_rehearsal_has_the_numbers_of_the_training(estimate, questions):
    trained = train.run_joint(joint_spec(questions, **BOTH)).report
    assert estimate.parameters == trained["num_parameters"]
    assert (estimate.steps, estimate.epochs) == (trained["steps"], trained["epochs"]) == (4, 2)
    assert estimate.images == trained["num_images"]
    assert (estimate.batch_size, estimate.texts_of_an_image) == (12, 1)
    assert estimate.rows == {"image": "16 x 16", "text": "4 x 16"}
    total = 2 * (estimate.epoch_seconds + estimate.validation_seconds)
    assert estimate.minutes * 60 == pytest.approx(total)
    assert min(estimate.epoch_seconds, estimate.validation_seconds) > 0


def test_the_memory_of_a_rehearsal_is_what_plan_predicts(toy_questions):
    overrides = ("objective.answers.weight=1", *TINY)
    found = predict_memory(joint_trainer(toy_questions, **BOTH))
    expected = plan.run(small_plan(overrides=overrides, text_tokens=4, num_answers=5))
    assert found.predicted == expected.predicted


def test_pairs_are_padded_to_the_longest_text_of_their_batch(home):
    trainer = joint_trainer(home)
    batches = list(trainer.batches.order(1))
    longest = max(int(opened(trainer).stores.second.lengths[rows.second].max()) for rows in batches)
    assert input_shape(trainer, batches).tokens[Modality.TEXT] == longest
    assert trainer.batches.load(batches[0]).second.values.shape[1] <= longest


def test_a_training_without_validation_is_timed(questions):
    timed = time_training(joint_trainer(questions, "train.validation=none", **ANSWERS))
    assert (timed.validation_seconds, timed.pooling_seconds) == (0.0, 0.0)
    assert timed.epoch_seconds > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"preset": "linear", "overrides": ()},
        {"objective": "mlm"},
        {"objective": "itm", "data": "flickr8k"},
        {"negatives_from": "nothing"},
        {"overrides": ("rates.fus=1",)},
        {"name": "a/b"},
    ],
    ids=str,
)
def test_what_the_command_refuses_is_refused_with_the_same_words(questions, changes):
    spec = joint_spec(questions, **changes)
    with pytest.raises(LightalignError) as real:
        train.run_joint(spec)
    with pytest.raises(LightalignError) as rehearsed:
        dry_run.run(spec)
    assert type(rehearsed.value) is type(real.value)
    assert str(rehearsed.value) == str(real.value)


def test_the_command_writes_nothing_and_prints_parameters_memory_and_minutes(questions):
    command = ["train-joint", "--dry-run", "--preset", "vle/small", "--device", "cpu", *sets(*TINY)]
    done = lightalign(*command, "--json", home=questions)
    found = json.loads(done.stdout)
    assert found["parameters"] > 0
    assert found["predicted"]["activations"] > 0
    assert not run_folder.runs_folder(questions).exists()
    together = lightalign("train-joint", "--resume", "x", "--dry-run", home=questions)
    assert (together.returncode, "give it alone" in together.stderr) == (2, True)


def test_people_are_told_what_the_probe_took(estimate):
    lines = [part for part in train_estimate_parts(estimate) if isinstance(part, str)]
    assert lines[0].startswith(
        f"preset vle/small: {estimate.parameters:,} parameters on 12 images, batch 12 pairs"
    )
    assert f"timed 3 of 4 steps in {estimate.probe_seconds:.1f} s" in lines[3]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not STATUS.is_file(), reason="Linux says what a process takes")
@pytest.mark.parametrize(("batch_size", "chunk_size"), [(32, 0), (64, 32)])
def test_a_measured_process_takes_what_is_predicted(batch_size, chunk_size):
    sizes = (f"train.batch_size={batch_size}", f"train.chunk_size={chunk_size}")
    overrides = (*sizes, "train.precision=float32")
    planned = plan.run(
        PlanSpec(preset="vle/small", overrides=overrides, measure=True, device="cpu")
    )
    assert planned.predicted.total == pytest.approx(planned.measured, rel=0.15)
