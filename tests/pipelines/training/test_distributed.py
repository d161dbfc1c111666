"""Several processes take the steps that one would take."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lightalign.featcache.documents import read_toml
from lightalign.featcache.errors import DeviceError, SpecError
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.common.torchrun import Launch
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import distributed, train
from lightalign.pipelines.training.distributed import ALONE, ProcessGroup
from lightalign.pipelines.training.plan import resolve
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.trainer import Trainer

from ...helpers import lightalign
from .test_resume import stop_in_epoch
from .test_train import CPU, QUICK, quick_train

NO_DROPOUT = "towers.both.drop.p=0.0"
# 24 images in 5 batches are 5, 5, 5, 5 and 4 of them, and 5 are shared as 3 and 2
UNEVEN = ("train.batch_size=5", "train.precision=float32", NO_DROPOUT)
# 2 images and a text of each are shared by 3 as 1, 1 and none
EMPTY = ("train.batch_size=2", "train.captions=one", "train.precision=float32", NO_DROPOUT)
# 120 pairs in batches of 13 and fewer; some of them have an image twice
PAIRS = (
    *("train.batch_size=13", "train.captions=each", "train.same_image=negative"),
    *("train.precision=float32", NO_DROPOUT),
)
OBJECTIVES = (
    (),
    ("objective.part=siglip",),
    ("objective.part=distil", "objective.teacher=both"),
    ("train.queue=16",),
)


def launched_as(monkeypatch, rank: object, count: object, local_rank: object = 0) -> None:
    """Set what torchrun sets."""
    numbers = {"RANK": rank, "LOCAL_RANK": local_rank, "WORLD_SIZE": count}
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": 29500}
    for name, value in (numbers | meeting).items():
        monkeypatch.setenv(name, str(value))


def test_a_process_knows_its_number_from_torchrun(monkeypatch):
    assert Launch.of_environment() == Launch(rank=0, local_rank=0, count=1)
    launched_as(monkeypatch, 5, 8, 1)
    assert Launch.of_environment() == Launch(rank=5, local_rank=1, count=8)
    assert not Launch.of_environment().is_first


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "MASTER_PORT"])
def test_processes_that_have_nowhere_to_meet_are_refused(monkeypatch, missing):
    launched_as(monkeypatch, 0, 2)
    monkeypatch.delenv(missing)
    with pytest.raises(SpecError, match="use torchrun"):
        Launch.of_environment()


@pytest.mark.parametrize("numbers", [("", 2), ("one", 2), (2, 2), (0, 2, 1), (0, -1)])
def test_numbers_that_no_process_has_are_refused(monkeypatch, numbers):
    launched_as(monkeypatch, *numbers)
    with pytest.raises(SpecError, match="torchrun"):
        Launch.of_environment()


@pytest.mark.parametrize(("num_rows", "sizes"), [(7, [3, 2, 2]), (2, [1, 1, 0]), (0, [0, 0, 0])])
def test_shares_are_disjoint_and_differ_by_one_row_at_most(num_rows, sizes):
    shares = ProcessGroup(rank=1, count=3).shares(num_rows)
    assert [len(share) for share in shares] == sizes
    assert np.concatenate(shares).tolist() == list(range(num_rows))


def test_dropout_differs_by_process_and_by_seed():
    seeds = {ProcessGroup(rank, 4).seed(seed) for rank in range(4) for seed in range(10)}
    assert len(seeds) == 4 * 10
    assert [ProcessGroup(0, 4).seed(7), ALONE.seed(7)] == [7, 7]
    assert max(seeds) < 2**32  # further bits would not reach the generator


def test_each_process_knows_the_positives_of_all(home):
    """Every process's own features, put together, are those that the positives are about."""
    spec = TrainSpec(preset="lightalign/fusion", home=home, overrides=UNEVEN, device="cpu")
    batches = [Trainer(resolve(spec), home=home, seed=0, device=CPU).batches for _ in range(3)]
    rows = next(batches[0].order(1))
    shared = []
    for rank, one in enumerate(batches):
        one.processes = ProcessGroup(rank, 3)
        shared.append(one.load(rows))
    assert [sum(len(load()) for load in batch.first) for batch in shared] == [2, 2, 1]
    assert [sum(len(load()) for load in batch.second) for batch in shared] == [9, 8, 8]
    stores = batches[0].stores
    known = {}  # features of a text to the images that it belongs to
    for image in rows.first.tolist():
        for text in stores.texts_of[image]:
            known.setdefault(stores.second.gather([text]).values.tobytes(), set()).add(image)
    images_of = {stores.first.gather([row]).values.tobytes(): row for row in rows.first.tolist()}
    images, texts = (
        [
            group.values[line][group.mask[line]].numpy().tobytes()
            for batch in shared
            for load in getattr(batch, side)
            for group in [load()]
            for line in range(len(group))
        ]
        for side in ("first", "second")
    )
    for batch in shared:
        assert batch.positives[:].shape == (5, 25)
        for line, image in enumerate(images):
            for column, text in enumerate(texts):
                if batch.positives[:][line, column]:
                    assert images_of[image] in known[text]
        assert batch.positives[:].sum() == 25


def test_a_run_is_gone_on_with_by_as_many_processes_as_it_says(home, monkeypatch):
    stop_in_epoch(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut")
    spec = run_folder.runs_folder(home) / "cut" / run_folder.SPEC
    with pytest.MonkeyPatch.context() as patch:
        launched_as(patch, 0, 2)
        with pytest.raises(SpecError, match="was begun by 1 processes, these are 2"):
            train.resume(home, "cut", device="cpu")
    # an earlier version did not say it, and had one
    lines = spec.read_text().splitlines(keepends=True)
    spec.write_text(
        "".join(line for line in lines if not line.startswith(("processes = ", "checksum = ")))
    )
    (spec.parent / run_folder.STATE).unlink()  # it names this version's spec: begun anew
    assert train.resume(home, "cut", device="cpu").report["processes"] == 1
    assert "processes" not in read_toml(spec)  # written once, with the run


def test_a_training_free_method_is_not_shared(home, monkeypatch):
    launched_as(monkeypatch, 0, 2)
    with pytest.raises(SpecError, match="without torchrun"):
        quick_train(home, preset="procrustes", overrides=())
    assert not run_folder.runs_folder(home).exists()


def test_processes_have_no_device_but_the_cpu_and_gpus_of_their_own(monkeypatch):
    launched_as(monkeypatch, 1, 2, 1)
    with (
        pytest.raises(DeviceError, match="on cpu or cuda, not on 'meta'"),
        distributed.joined("meta"),
    ):
        pass


def test_only_the_first_process_speaks(home, monkeypatch):
    launched_as(monkeypatch, 1, 2, 1)
    done = lightalign("train-adapter", "--preset", "procrustes", "--device", "cpu", home=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1  # the error, and no note of what was found


WORKER = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from lightalign.pipelines.training.trainer import Trainer
from lightalign.pipelines.training.distributed import ProcessGroup
from lightalign.pipelines.common.progress import SILENT
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.plan import resolve

rank, count, folder, home, cases = *map(int, sys.argv[1:3]), *sys.argv[3:5], json.loads(sys.argv[5])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
)
for number, overrides in enumerate(cases):
    spec = TrainSpec(home=Path(home), preset="lightalign/fusion", overrides=tuple(overrides),
        device="cpu")
    trainer = Trainer(resolve(spec, SILENT), home=Path(home), seed=0, device=torch.device("cpu"),
        processes=ProcessGroup(rank, count))
    found = {}
    for step, rows in enumerate(trainer.batches.order(1)):
        loss = trainer.train_step.add_gradient(trainer.batches.load(rows))["loss"]
        trainer.processes.all_reduce_gradients(
            list(trainer.adapter.parameters()), alike=list(trainer.objective.parameters()))
        for name, p in [*trainer.adapter.named_parameters(), *trainer.objective.named_parameters()]:
            if p.grad is not None:
                found[f"{step}.{name}"] = p.grad.numpy()
            p.grad = None
        found[f"{step}.loss"] = np.array(loss)
    np.savez(f"{folder}/{number}.{rank}.npz", **found)
torch.distributed.destroy_process_group()
"""


LEAVER = """
import weakref
import torch
from lightalign.pipelines.training.distributed import joined

with joined("cpu") as (processes, _):
    group = weakref.ref(torch.distributed.group.WORLD)
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimiser.step()
    processes.barrier()
print(group())
"""


@pytest.mark.slow
def test_no_group_is_left_when_python_ends(tmp_path):
    """Its threads would free tensors while there is no Python any more, which aborts at times."""
    script = tmp_path / "leaver.py"
    script.write_text(LEAVER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*command, "--nproc-per-node", "2", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "".join(done.stdout.split()) == "NoneNone"  # of both, on one line or two


def shared_gradients(folder: Path, home: Path, count: int, cases: list[list[str]]):
    """Return by case and process the gradient of each step of an epoch, by step and parameter."""
    rest = [str(count), str(folder), str(home), json.dumps(cases)]
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), *rest], cwd="/")
        for rank in range(count)
    ]
    assert [process.wait(timeout=300) for process in running] == [0] * count
    return [
        [dict(np.load(folder / f"{number}.{rank}.npz")) for rank in range(count)]
        for number in range(len(cases))
    ]


def own_gradients(home: Path, overrides: list[str]) -> dict[str, np.ndarray]:
    """Return the same of one process."""
    spec = TrainSpec(
        preset="lightalign/fusion", home=home, overrides=tuple(overrides), device="cpu"
    )
    trainer = Trainer(resolve(spec, SILENT), home=home, seed=0, device=CPU)
    found = {}
    for step, rows in enumerate(trainer.batches.order(1)):
        found[f"{step}.loss"] = np.array(
            trainer.train_step.add_gradient(trainer.batches.load(rows))["loss"]
        )
        for module in (trainer.adapter, trainer.objective):
            for name, parameter in module.named_parameters():
                if parameter.grad is not None:
                    found[f"{step}.{name}"] = parameter.grad.numpy().copy()
            module.zero_grad()
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("count", "sizes"), [(2, UNEVEN), (3, UNEVEN), (3, EMPTY), (2, PAIRS)])
def test_the_sum_over_processes_is_the_gradient_of_one(
    home, tmp_path, count, sizes, record_property
):
    """In all objectives, in one graph and in chunks, with five texts an image or one."""
    cases = [
        [*sizes, f"train.chunk_size={chunk}", *objective]
        for chunk in (0, 2)
        for objective in OBJECTIVES
    ]
    together = shared_gradients(tmp_path, home, count, cases)
    largest = 0.0
    for overrides, by_process in zip(cases, together, strict=True):
        alone = own_gradients(home, overrides)
        assert all(set(found) == set(alone) for found in by_process)
        for step in sorted({name.partition(".")[0] for name in alone}):
            expected = vector(alone, step)
            found = [vector(one, step) for one in by_process]
            assert all(np.array_equal(one, found[0]) for one in found)  # the same bits in each
            difference = np.linalg.norm(found[0] - expected) / np.linalg.norm(expected)
            largest = max(largest, float(difference))
            once = [n for n in alone if n.startswith(f"{step}.") and n.endswith(("scale", "loss"))]
            assert len(once) == 2  # what every process has whole
            for name in once:
                np.testing.assert_allclose(by_process[-1][name], alone[name], rtol=1e-5, atol=1e-7)
    record_property("largest_relative_difference", largest)
    assert largest < 1e-5


def vector(found: dict[str, np.ndarray], step: str) -> np.ndarray:
    """Return the gradient of one step as one vector."""
    names = sorted(n for n in found if n.startswith(f"{step}.") and not n.endswith(".loss"))
    return np.concatenate([found[name].ravel() for name in names])


@contextmanager
def torchrun(
    home: Path,
    *arguments: str,
    through: tuple[str, ...] = ("-m", "lightalign.cli"),
    verb: str = "train-adapter",
):
    """Start two processes of the command, which end with the block at the latest."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *through, verb, "--home", str(home)]
    command += ["--device", "cpu", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd="/", **pipes) as running:
        try:
            yield running
        finally:
            running.terminate()  # it ends those that it has started


def finish(running: subprocess.Popen[str]) -> tuple[str, str]:
    """Return what was written once all have ended well."""
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    return out, err


def sets(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("chunk_size", [0, 3])
def test_torchrun_ends_with_the_weights_of_one_process(home, chunk_size, record_property):
    """Adam divides by the size of a gradient, and so enlarges the rounding of the smallest."""
    overrides = ("train.epochs=4", *UNEVEN, f"train.chunk_size={chunk_size}", "train.ema=0.9")
    alone = quick_train(home, overrides=overrides, name="alone")
    through = ("--no-python", sys.executable, "-m", "lightalign")
    named = ("--name", "two", "--preset", "lightalign/fusion", "--json")
    with torchrun(home, *named, *sets(*overrides), through=through) as running:
        out, err = finish(running)
    assert json.loads(out)["processes"] == 2  # one object: only the first process has spoken
    assert err.count("epoch 4/4") == 1
    folder = run_folder.runs_folder(home) / "two"
    assert run_folder.read_spec(folder)["processes"] == 2
    assert len((folder / run_folder.LOG).read_text().splitlines()) == 4
    first, second = (load_file(one / run_folder.WEIGHTS) for one in (alone.folder, folder))
    assert set(first) == set(second)
    differences = [float((second[name] - first[name]).abs().max()) for name in first]
    record_property("largest_difference", max(differences))
    assert max(differences) < 1e-4  # of weights up to about 1; a step changes them by 1e-3
    np.testing.assert_allclose(losses(folder), losses(alone.folder), rtol=1e-5)


def losses(folder: Path) -> list[float]:
    """Return the loss of each epoch."""
    return [json.loads(line)["loss"] for line in (folder / run_folder.LOG).read_text().splitlines()]


def children(process: int) -> list[int]:
    """Return the processes that `process` has started, by rank."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (path / "environ").read_text().split("\0")
        except OSError:
            continue  # it has just ended
        if parent == process:
            rank = next((v for v in variables if v.startswith("RANK=")), None)
            found.append((rank, int(path.name)))
    return [number for rank, number in sorted(found) if rank is not None]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")
def test_when_one_is_killed_all_end_and_together_they_go_on_to_the_same_bytes(home):
    """With dropout on: each process goes on with its own random numbers."""
    overrides = ("train.epochs=15", *UNEVEN[:-1])
    with torchrun(home, "--name", "whole", "--quiet", *sets(*overrides)) as running:
        finish(running)
    whole = run_folder.runs_folder(home) / "whole"
    for killed in (0, 1):
        cut = whole.with_name(f"cut-{killed}")
        with torchrun(home, "--name", cut.name, "--quiet", *sets(*overrides)) as running:
            while not (cut / run_folder.STATE).is_file():
                assert running.poll() is None
                time.sleep(0.001)
            os.kill(children(running.pid)[killed], signal.SIGKILL)
            _, err = running.communicate(timeout=300)
        assert running.returncode != 0
        # the other has noticed it, or torchrun was quicker to stop it
        lines = ("another process of this training has failed", "stopped; finished epochs")
        assert any(f"lightalign: {line}" in err for line in lines)
        assert not (cut / run_folder.REPORT).exists()
        assert len(losses(cut)) < 15
        with torchrun(home, "--resume", cut.name, "--quiet") as running:
            finish(running)
        assert losses(cut) == losses(whole)
        assert (cut / run_folder.WEIGHTS).read_bytes() == (whole / run_folder.WEIGHTS).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_loss_that_is_not_finite_stops_all(home):
    overrides = ("train.learning_rate=1e30", "train.gradient_clip=1e30", *QUICK[1:])
    named = ("--name", "lost", "--preset", "lightalign/fusion", "--quiet")
    with torchrun(home, *named, *sets("train.epochs=50", *overrides)) as running:
        _, err = running.communicate(timeout=300)
    assert running.returncode != 0
    said = [line for line in err.splitlines() if line.startswith("lightalign: ")]
    assert any("lower train.learning_rate" in line for line in said)
    assert not (run_folder.runs_folder(home) / "lost" / run_folder.REPORT).exists()
