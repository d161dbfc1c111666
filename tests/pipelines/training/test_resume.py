"""A stopped training goes on to the bytes that it would have had; options of the engine."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from lightalign.featcache.errors import (
    RunNotFoundError,
    SpecError,
    StoreCorruptError,
    StoreNotFoundError,
)
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.batches import Batches
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import SIGNALS, lightalign, slow
from ..conftest import SCENES, extract_toy
from .test_initialise import BASE
from .test_train import CPU, QUICK, THREE_STEPS, quick_train

# Each brings a state of its own, and states do not touch one another: some go together.
ENGINES = {
    "as it comes": (),
    "lion, average, accumulated": (
        "train.optimiser=lion",
        "train.schedule=constant",
        "train.ema=0.9",
        "train.accumulate=2",
    ),
    "plateau": ("train.schedule=plateau", "train.plateau_patience=0", "train.select_by=loss"),
    "float16, chunks": ("train.precision=float16", "train.chunk_size=5"),
}


def stop_in_epoch(monkeypatch, epoch: int) -> None:
    """Have the next training stop in the middle of an epoch, as a key press would."""
    order = Batches.order

    def cut(self, number):
        for step, found in enumerate(order(self, number)):
            if number == epoch and step == 1:
                monkeypatch.setattr(Batches, "order", order)
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(Batches, "order", cut)


@pytest.mark.parametrize(
    "engine",
    [
        "lion, average, accumulated",
        *slow("plateau", "as it comes", "float16, chunks"),
    ],
)
def test_a_stopped_training_goes_on_to_the_same_bytes(home, monkeypatch, engine):
    overrides = ("train.epochs=4", *QUICK[1:], *ENGINES[engine])
    goes_on_to_the_same_bytes(home, monkeypatch, overrides=overrides)


@pytest.mark.slow
def test_a_stopped_training_keeps_what_it_has_solved(home, monkeypatch):
    """Our own default: centred features and a head in closed form, before the first step."""
    goes_on_to_the_same_bytes(home, monkeypatch, preset=None, overrides=BASE)


def goes_on_to_the_same_bytes(home, monkeypatch, **changes) -> None:
    whole = quick_train(home, name="whole", seed=3, **changes)
    stop_in_epoch(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut", seed=3, **changes)
    folder = run_folder.runs_folder(home) / "cut"
    assert (folder / run_folder.STATE).is_file()
    with (folder / run_folder.LOG).open("a") as log:
        log.write('{"epoch": 3}\n')  # stopped between the line and the state
    resumed = train.resume(home, "cut", device="cpu")
    for name in (run_folder.WEIGHTS, run_folder.TABLE):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    logs = [(one / run_folder.LOG).read_text().splitlines() for one in (folder, whole.folder)]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1]
    assert resumed.report["best"]["epoch"] == whole.report["best"]["epoch"]
    assert resumed.report["steps"] == whole.report["steps"]
    assert not (folder / run_folder.STATE).exists()


def test_a_training_that_was_stopped_in_its_first_epoch_begins_anew(home, monkeypatch):
    whole = quick_train(home, name="whole")
    stop_in_epoch(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut")
    log = run_folder.runs_folder(home) / "cut" / run_folder.LOG
    log.write_text('{"epoch": 1}\n')  # stopped between the line and the state
    resumed = train.resume(home, "cut", device="cpu")
    assert (resumed.folder / run_folder.WEIGHTS).read_bytes() == (
        whole.folder / run_folder.WEIGHTS
    ).read_bytes()
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bytes(home):
    overrides = ("train.epochs=40", *QUICK[1:])
    whole = quick_train(home, overrides=overrides, name="whole")
    sets = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "lightalign", "train-adapter", "--name", "cut", *sets]
    running = subprocess.Popen([*command, "--home", str(home), "--device", "cpu", "--quiet"])
    state = run_folder.runs_folder(home) / "cut" / run_folder.STATE
    while not state.is_file():
        assert running.poll() is None
        time.sleep(0.001)
    time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    train.resume(home, "cut", device="cpu")
    found = (run_folder.runs_folder(home) / "cut" / run_folder.WEIGHTS).read_bytes()
    assert found == (whole.folder / run_folder.WEIGHTS).read_bytes()


def test_what_cannot_be_gone_on_with_is_said(home, monkeypatch):
    with pytest.raises(RunNotFoundError, match=r"no run 'nothing'.*stopped: none"):
        train.resume(home, "nothing", device="cpu")
    quick_train(home, name="done")
    with pytest.raises(RunNotFoundError, match="has finished"):
        train.resume(home, "done", device="cpu")
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut")
    state = run_folder.runs_folder(home) / "cut" / run_folder.STATE
    content = state.read_bytes()
    state.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreCorruptError, match="cannot be gone on from"):
        train.resume(home, "cut", device="cpu")
    result = lightalign("train-adapter", "--resume", "cut", "--fusion", "add", home=home)
    assert (result.returncode, "give it alone" in result.stderr) == (2, True)


@pytest.mark.slow
def test_a_training_goes_on_with_its_own_stores_whatever_newer_ones_there_are(
    tmp_path, monkeypatch
):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder)
    whole = quick_train(tmp_path, name="whole")
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_train(tmp_path, name="cut")
    spec = (run_folder.runs_folder(tmp_path) / "cut" / run_folder.SPEC).read_bytes()
    extract_toy(tmp_path, "toy-image", dtype="float32")
    extract_toy(tmp_path, "toy-image", features=("mean",))
    resumed = train.resume(tmp_path, "cut", device="cpu")
    for name in (run_folder.WEIGHTS, run_folder.TABLE):
        assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert (resumed.folder / run_folder.SPEC).read_bytes() == spec
    assert resumed.report["spec"]["stores"] == whole.report["spec"]["stores"]


def test_a_store_that_is_gone_is_named_with_the_command_that_makes_it_again(tmp_path, monkeypatch):
    for encoder in ("toy-image", "toy-text"):
        extract_toy(tmp_path, encoder, split="train")
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_train(tmp_path, name="cut")
    (store,) = (tmp_path / "features" / "shapes" / "train").glob("toy-image--*")
    shutil.rmtree(store)
    drawn = "".join(f" --set source.{name}={value}" for name, value in SCENES.items())
    again = f"lightalign extract --encoder toy-image --data shapes{drawn} --split train --precision"
    with pytest.raises(StoreNotFoundError, match=f"{again} float32"):
        train.resume(tmp_path, "cut", device="cpu")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_any_changed_byte_of_a_state_is_refused(home, monkeypatch, place):
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut")
    state = run_folder.runs_folder(home) / "cut" / run_folder.STATE
    content = bytearray(state.read_bytes())
    content[int(len(content) * place)] ^= 4
    state.write_bytes(bytes(content))
    with pytest.raises(StoreCorruptError, match="runs rm cut"):
        train.resume(home, "cut", device="cpu")


def trainer_of(home, *overrides, **changes) -> Trainer:
    spec = TrainSpec(
        preset="lightalign/fusion",
        home=home,
        overrides=(*QUICK, *overrides),
        device="cpu",
        **changes,
    )
    return Trainer(resolve(spec, SILENT), home=home, seed=0, device=CPU)


def gradient(trainer) -> torch.Tensor:
    grads = [p.grad for p in trainer.adapter.parameters()]
    return torch.cat([one.flatten() for one in grads if one is not None])


def test_chunks_have_the_gradient_of_the_whole_batch(home):
    whole, chunked = (
        trainer_of(home, f"train.chunk_size={size}", "towers.both.drop.p=0.0") for size in (0, 3)
    )
    for trainer in (whole, chunked):
        trainer.train_step.add_gradient(trainer.batches.load(next(trainer.batches.order(1))))
    expected = gradient(whole)
    assert (gradient(chunked) - expected).norm() < 1e-5 * expected.norm()


def test_accumulated_steps_are_fewer_and_have_the_mean_gradient(home):
    trained = quick_train(home, overrides=("train.accumulate=2", *THREE_STEPS))
    assert trained.report["steps"] == 2 * 2  # of 3 batches an epoch
    apart = trainer_of(home, "train.accumulate=1", "towers.both.drop.p=0.0")
    together = trainer_of(home, "train.accumulate=2", "towers.both.drop.p=0.0")
    steps = list(apart.batches.order(1))[:2]
    gradients = []
    for trainer in (apart, together):
        for step in steps:
            trainer.train_step.add_gradient(trainer.batches.load(step))
        gradients.append(gradient(trainer))
    torch.testing.assert_close(gradients[1], gradients[0] / 2)


def scores(monkeypatch, recalls, losses):
    found = iter(zip(recalls, losses, strict=True))

    def validate(self):
        recall, loss = next(found)
        direction = {"1": recall}
        return {
            "loss": loss,
            "recall_sum": recall,
            "text_to_image": direction,
            "image_to_text": direction,
        }

    monkeypatch.setattr(Trainer, "validate", validate)


def test_training_ends_after_so_many_epochs_without_a_better_one(home, monkeypatch):
    scores(monkeypatch, [1.0, 3.0, 2.0, 2.9, 9.0], [1.0] * 5)
    overrides = ("train.epochs=5", "train.early_stopping=2", *QUICK[1:])
    trained = quick_train(home, overrides=overrides)
    assert (trained.report["epochs"], trained.report["best"]["epoch"]) == (4, 2)


@pytest.mark.parametrize(("select_by", "best"), [("recall", 2), ("loss", 3)])
def test_the_kept_epoch_is_best_in_what_was_asked(home, monkeypatch, select_by, best):
    scores(monkeypatch, [1.0, 3.0, 2.0], [3.0, 2.0, 1.0])
    overrides = ("train.epochs=3", f"train.select_by={select_by}", *QUICK[1:])
    assert quick_train(home, overrides=overrides).report["best"]["epoch"] == best


def test_the_average_is_what_is_kept(home):
    raw = quick_train(home, overrides=QUICK)
    averaged = quick_train(home, overrides=("train.ema=0.99", *QUICK))
    weights = [(run.folder / run_folder.WEIGHTS).read_bytes() for run in (raw, averaged)]
    assert weights[0] != weights[1]
    records = [(run.folder / run_folder.LOG).read_text().splitlines()[0] for run in (raw, averaged)]
    losses = [json.loads(record)["loss"] for record in records]
    assert losses[0] == losses[1]  # training itself does not see it


def test_determinism_is_asked_for_while_training_only(home, monkeypatch):
    seen = []
    epoch = Trainer.run_epoch

    def look(self, number, progress):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return epoch(self, number, progress)

    monkeypatch.setattr(Trainer, "run_epoch", look)
    quick_train(home, overrides=("train.deterministic=true", *QUICK))
    assert (seen, torch.are_deterministic_algorithms_enabled()) == ([True, True], False)


@pytest.mark.parametrize("option", ["schedule=plateau", "early_stopping=3", "select_by=loss"])
def test_what_needs_a_validation_says_so(home, option):
    with pytest.raises(SpecError, match="need a validation"):
        quick_train(home, overrides=(f"train.{option}", "train.validation=none"))


@pytest.mark.usefixtures("heard_signals")
@pytest.mark.parametrize("signalled", SIGNALS)
@pytest.mark.parametrize(("epoch", "kept"), [(1, "no epoch has finished"), (2, "epochs are kept")])
def test_a_stopped_training_prints_the_command_that_goes_on(
    home, monkeypatch, epoch, kept, signalled
):
    order = Batches.order

    def stopped(self, number):
        if number == epoch:
            signal.raise_signal(signalled)
        return order(self, number)

    asked = ("train-adapter", "--preset", "linear", "--data", "shapes", "--name", "mine")
    with monkeypatch.context() as patch:
        patch.setattr(Batches, "order", stopped)
        done = lightalign(*asked, "--set", "train.epochs=2", "--device", "cpu", home=home)
    assert done.returncode == 128 + signalled
    line = done.stderr.splitlines()[-1]
    assert line.startswith("lightalign: stopped; ")
    assert kept in line
    program, *arguments = shlex.split(line.split("`")[1])
    assert program == "lightalign"
    assert lightalign(*arguments, home=home).returncode == 0
