"""The contract of tasks, each in the registry, and the loop with a task of no pairs at all."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.checkpoint import save_adapter
from lightalign.adapters.objective import build_objective
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.links import Links
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality
from lightalign.pipelines.common.progress import Progress
from lightalign.pipelines.inputs.image_text import join_stores
from lightalign.pipelines.planning import dry_run
from lightalign.pipelines.ranking.embeddings import PairedEmbeddings
from lightalign.pipelines.rendering import training
from lightalign.pipelines.reports.comparison import read_runs, training_curves
from lightalign.pipelines.reports.run_list import list_runs
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import closed_form, members, train, trainer
from lightalign.pipelines.training.course import Course
from lightalign.pipelines.training.log import scalars, summary
from lightalign.pipelines.training.modules import TrainingModules
from lightalign.pipelines.training.open_task import OpenTask, Surroundings
from lightalign.pipelines.training.options import TrainPlan
from lightalign.pipelines.training.spec import TrainSpec
from lightalign.pipelines.training.step import OptimiserStep
from lightalign.pipelines.training.tasks import TASKS, Best, Numbers, PairedTask, Task, task_of
from lightalign.pipelines.training.tasks.retrieval import Retrieval

from .test_course import Notes
from .test_train import QUICK, quick_train

PAIRED = [name for name in TASKS.names() if issubclass(TASKS.load(name), PairedTask)]
OPTIONS = {"preset": "linear", "overrides": ("train.epochs=3", *QUICK[1:4])}


def records_of(folder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / run_folder.LOG).read_text().splitlines()]


def stop_in_third_epoch(monkeypatch) -> None:
    run_epoch = trainer.Trainer.run_epoch

    def cut(self, number, progress):
        if number == 3:
            monkeypatch.setattr(trainer.Trainer, "run_epoch", run_epoch)
            raise KeyboardInterrupt
        return run_epoch(self, number, progress)

    monkeypatch.setattr(trainer.Trainer, "run_epoch", cut)


@pytest.mark.parametrize("name", PAIRED)
def test_the_loop_keeps_what_a_task_calls_best_and_shows_its_numbers(home, name):
    named = (*OPTIONS["overrides"], f"task.part={name}")
    run = quick_train(home, name="run", **{**OPTIONS, "overrides": named})
    task, records = task_of({"task": {"part": name}}), records_of(run.folder)
    validations = [record["validation"] for record in records]
    assert all(np.isfinite(validation["loss"]) for validation in validations)
    values = [task.best.score(validation) for validation in validations]
    assert run.report["best"] == records[int(np.argmax(values))]
    assert run.report["selected_by"].startswith(f"{task.best.name} on ")
    for record in records:
        shown = scalars(record, task)
        assert {type(value) for value in shown.values()} <= {int, float}
        assert shown["validation/loss"] == record["validation"]["loss"]
        assert f", {task.words(record['validation'])}" in summary(record, 3, task)
    (entry,) = list_runs(home)
    assert entry.numbers == task.headlines(run.report["best"]["validation"])
    titles = [plot["title"] for plot in training_curves(read_runs(home, ["run"]))]
    assert titles == ["Training loss", *([task.curve.title] if task.curve else [])]


@pytest.mark.parametrize("name", PAIRED)
def test_a_stopped_task_goes_on_to_the_same_bytes(home, monkeypatch, name):
    named = {**OPTIONS, "overrides": (*OPTIONS["overrides"], f"task.part={name}")}
    whole = quick_train(home, name="whole", **named)
    stop_in_third_epoch(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut", **named)
    resumed = train.resume(home, "cut", device="cpu")
    weights = [(run.folder / run_folder.WEIGHTS).read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_a_preset_without_a_task_is_of_retrieval_and_does_not_say_so(home):
    named = {**OPTIONS, "overrides": (*OPTIONS["overrides"], "task.part=retrieval")}
    silent, named = quick_train(home, **OPTIONS), quick_train(home, **named)
    weights = [(run.folder / run_folder.WEIGHTS).read_bytes() for run in (silent, named)]
    assert weights[0] == weights[1]
    specs = [run_folder.read_spec(run.folder) for run in (silent, named)]
    assert [spec.get("task") for spec in specs] == [None, {"part": "retrieval"}]


def test_the_numbers_of_tasks_are_told_without_torch():
    code = f"""
import sys
from lightalign.pipelines.training.tasks import TASKS, task_of
for name in {TASKS.names()}:
    task_of({{"task": {{"part": name}}}}).words({{"loss": 1.0}})
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_best_of_losses_is_the_lowest_and_of_all_else_the_highest():
    validations = [{"loss": 2.0, "accuracy": 30.0}, {"loss": 1.5, "accuracy": 20.0}]
    by_loss, by_accuracy = Best("loss", lowest=True).score, Best("accuracy").score
    assert [by_loss(validation) for validation in validations] == [-2.0, -1.5]
    assert [by_accuracy(validation) for validation in validations] == [30.0, 20.0]


def test_numbers_are_shown_by_their_names_where_a_task_has_no_other_words():
    measured = {"loss": 2.3041, "top_1": 31.0, "by_class": {"cat": 1.0}}
    assert Numbers().words(measured) == "validation loss 2.304, top 1 31.000"
    assert Numbers().scalars(measured) == {"loss": 2.3041, "top_1": 31.0}


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("task.part=retrival", UnknownNameError, r"no task named 'retrival'; close: \['retrieval'"),
        ("task.depth=3", SpecError, r"\[task\] must name its part, such as part = 'retrieval'"),
        ("task=3", SpecError, r"\[task\] must be a table, found 3"),
        ('task={part = "retrieval", depth = 3}', SpecError, r"\[task\] \(retrieval\)"),
    ],
)
def test_a_task_that_is_not_there_is_refused_before_a_run_begins(home, override, error, message):
    with pytest.raises(error, match=message):
        quick_train(home, **{**OPTIONS, "overrides": (*OPTIONS["overrides"], override)})
    assert not run_folder.runs_folder(home).exists()


class Parity(Task):
    """Tell images of odd numbers from those of even ones, without any text."""

    best = Best("accuracy")
    sides = IMAGE_TEXT
    labels = ("classes",)

    def open(self, plan: TrainPlan, surroundings: Surroundings) -> OpenTask:
        return OpenParity(plan, surroundings)


class OpenParity(OpenTask):
    """Images, the tower of images, and a head of two classes."""

    notes, warnings = ["of images alone"], ["of no pairs"]
    validated_on = "the training images"

    def __init__(self, plan: TrainPlan, surroundings: Surroundings) -> None:
        self.plan = plan
        self.reader = join_stores(plan.stores, home=surroundings.home).first
        torch.manual_seed(surroundings.seed)
        adapter = build_adapter(plan.table["towers"], widths=plan.stores.widths, seed=0)
        head = nn.Linear(adapter.out_width, 2)
        values = [*adapter.parameters(), *head.parameters()]
        self.trainable = TrainingModules(
            adapter,
            build_objective(plan.table["objective"]),
            torch.optim.Adam(values, lr=plan.options.learning_rate),
            None,
            heads={"parity": head},
        )
        self.batches = self.train_step = self
        self.course = Course.of(plan.options, len(self.reader))
        self.steps = OptimiserStep(values, self.trainable.optimiser)
        self.take = self.steps.take

    def order(self, epoch: int) -> Iterator[np.ndarray]:
        shuffled = np.random.default_rng(epoch).permutation(len(self.reader))
        yield from np.array_split(shuffled, self.course.batches)

    def load(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def scores(self, rows: np.ndarray) -> torch.Tensor:
        adapter, head = self.trainable.adapter, self.trainable.heads["parity"]
        return head(adapter.embed(self.reader.padded(rows), Modality.IMAGE))

    def add_gradient(self, batch: np.ndarray, *, step: int | None = None) -> dict[str, float]:
        loss = functional.cross_entropy(self.scores(batch), torch.from_numpy(batch % 2))
        self.steps.add_gradient(loss)
        return {"loss": float(loss.detach())}

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        rows = np.arange(len(self.reader))
        scores, labels = self.scores(rows), torch.from_numpy(rows % 2)
        hits = scores.argmax(dim=1) == labels
        loss = functional.cross_entropy(scores, labels)
        return {"loss": float(loss), "accuracy": 100.0 * float(hits.float().mean())}

    def check_features(self) -> list[str]:
        return []

    def require_there(self) -> None:
        assert self.reader.ids

    def initialise(self, progress: Progress) -> None:
        progress.note("nothing is solved")

    def describe(self, batch: np.ndarray) -> str:
        return f"rows such as {batch[:3].tolist()}"

    def save(self, folder) -> None:
        table = {key: self.plan.table[key] for key in ("towers", "objective")}
        save_adapter(folder, self.trainable.adapter, self.trainable.objective, table=table)

    def report(self) -> Mapping[str, Any]:
        return {"num_images": len(self.reader)}


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.setattr(trainer, "task_of", lambda table: Parity())


@pytest.mark.usefixtures("parity")
def test_the_loop_trains_a_classifier_of_images_alone(home):
    """The numbers of 24 images are told apart by the tower and a head, which both learn."""
    notes = Notes()
    overrides = ("train.epochs=8", "train.batch_size=8", "train.learning_rate=0.01", *QUICK[2:4])
    spec = TrainSpec(home=home, preset="linear", overrides=overrides, device="cpu", name="odd")
    report = train.run(spec, notes).report
    records = records_of(run_folder.runs_folder(home) / "odd")
    assert report["selected_by"] == "accuracy on the training images"
    assert report["best"]["validation"]["accuracy"] == max(
        record["validation"]["accuracy"] for record in records
    )
    assert records[-1]["loss"] < records[0]["loss"]
    assert (report["num_images"], report["warnings"]) == (24, ["of no pairs"])
    assert {"of images alone", "nothing is solved"} <= set(notes.lines)
    assert "num_links_lost" not in report
    assert any("validation loss" in line and ", accuracy " in line for line in notes.lines)


@pytest.mark.usefixtures("parity")
def test_a_head_beside_the_adapter_goes_on_as_it_was(home, monkeypatch):
    whole = quick_train(home, name="whole", **OPTIONS)
    stop_in_third_epoch(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        quick_train(home, name="cut", **OPTIONS)
    resumed = train.resume(home, "cut", device="cpu")
    last = [records_of(run.folder)[-1]["validation"] for run in (whole, resumed)]
    assert last[0] == last[1]


@pytest.mark.usefixtures("parity")
def test_only_a_training_on_pairs_is_timed_before_it_begins(home):
    spec = TrainSpec(home=home, preset="linear", overrides=OPTIONS["overrides"], device="cpu")
    with pytest.raises(SpecError, match=r"\[task\] is of no pairs"):
        dry_run.run(spec)


def test_a_task_of_other_sides_is_refused():
    Parity().check_sides(IMAGE_TEXT)
    with pytest.raises(SpecError, match="is of image and text, found first_text and second_text"):
        Parity().check_sides(TEXT_TEXT)


def test_a_label_that_a_dataset_lacks_is_named():
    bare = Links.of({Modality.IMAGE: ["a"], Modality.TEXT: ["b"]})
    with pytest.raises(SpecError, match="needs classes, and split 'x' of dataset pictures has"):
        Parity().check_labels(bare, "pictures", split="x", validates=False)


class Graded(Retrieval):
    """Ask for labels that images and texts have not."""

    labels = ("grades",)


def test_a_training_without_its_labels_is_refused_before_a_run_begins(home, monkeypatch):
    for module in (trainer, closed_form):
        monkeypatch.setattr(module, "task_of", lambda table: Graded())
    for preset in ("linear", "cca"):
        with pytest.raises(
            SpecError, match="needs grades, and split 'train' of dataset shapes has"
        ):
            quick_train(home, preset=preset, overrides=OPTIONS["overrides"])
    assert not run_folder.runs_folder(home).exists()


def test_a_closed_form_is_of_pairs(home, monkeypatch):
    monkeypatch.setattr(closed_form, "task_of", lambda table: Parity())
    with pytest.raises(
        SpecError, match=r"\[fit\] solves for pairs, of which this \[task\] has none"
    ):
        quick_train(home, preset="cca", overrides=OPTIONS["overrides"])


@pytest.mark.usefixtures("parity")
def test_members_are_of_pairs(home, monkeypatch):
    monkeypatch.setattr(train, "task_of", lambda table: Parity())
    with pytest.raises(SpecError, match=r"--seeds shares the stores of pairs, of which this"):
        quick_train(home, **OPTIONS, seeds=2)
    assert not run_folder.runs_folder(home).exists()


class Closeness(PairedTask):
    """Bring what belongs together close: the best has the highest mean cosine, in [-1, 1]."""

    best = Best("closeness", title="mean cosine", digits=2)

    def measure(self, embeddings: PairedEmbeddings) -> dict[str, Any]:
        relevance = embeddings.seconds_of_first
        firsts = np.repeat(np.arange(len(relevance)), relevance.counts)
        cosines = (embeddings.first[firsts] * embeddings.second[relevance.rows]).sum(axis=1)
        return {"closeness": float(cosines.mean())}


@pytest.mark.parametrize("ensemble", [None, "average"])
def test_members_and_their_average_are_measured_and_told_by_the_task(home, monkeypatch, ensemble):
    for module in (trainer, train, members, training):
        monkeypatch.setattr(module, "task_of", lambda table: Closeness())
    trained = quick_train(home, **OPTIONS, seeds=2, ensemble=ensemble)
    report = trained.report
    values = [member["best"]["validation"]["closeness"] for member in report["members"]]
    measured = report["best"]["validation"]["closeness"]
    # the cosines of the average are the mean of those of the members
    expected = np.mean(values) if ensemble else max(values)
    assert measured == pytest.approx(expected, abs=1e-6)
    assert list(report["spread"]) == ["loss", "closeness"]
    lines = training.train_lines(trained)
    assert f", validation mean cosine {values[0]:.2f}" in lines[0]
    assert lines[2].startswith(f"mean cosine of one seed {np.mean(values):.2f} on average")
    assert lines[3].endswith(f", validation mean cosine {measured:.2f}")


def test_a_task_is_chosen_by_its_best_or_by_the_loss():
    assert Closeness().best_by("recall") is Closeness.best
    assert Closeness().best_by("loss") == Best("loss", lowest=True)
