"""Fine-tuning: what receives a gradient, what is learnt, and the run folder that is left."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch

from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.checkpoint import load_adapter
from lightalign.adapters.class_head import load_head
from lightalign.adapters.gradient_check import require_gradients, shared_steps, side_parameters
from lightalign.adapters.preset import NO_FUSION, SUFFIX, list_fusions
from lightalign.featcache.errors import DivergedError, GradientError, LeakageError, SpecError
from lightalign.featcache.settings import fields_of
from lightalign.featcache.store import catalog
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality
from lightalign.pipelines.classification.fine_tune import run
from lightalign.pipelines.classification.fine_tune_spec import (
    FineTuneOptions,
    FineTuneSpec,
    options_of,
)
from lightalign.pipelines.classification.probe import run as run_probe
from lightalign.pipelines.classification.probe_spec import ProbeOptions, ProbeSpec
from lightalign.pipelines.classification.sgd_options import SgdOptions
from lightalign.pipelines.metrics.number import numbers_of
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.runs.schemas import RunSpec

from ...helpers import SIGNALS, changed_report, lightalign
from ..class_homes import LINEAR, write_run, write_split

QUICK = FineTuneOptions(epochs=6, batch_size=16, learning_rate=0.05, adapter_rate=0.05)
FUSED = {
    "both": {
        "project": {"part": "linear", "out": 6},
        "fuse": {"part": "add-fusion"},
        "pool": {"part": "mean-pool"},
    }
}


def blind_features(count, seed):
    """Return features whose classes lie in the last two dimensions alone."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    features = random.standard_normal((count, 2, 6))
    angles = 2 * np.pi * labels / 3
    features[:, :, 4:] = 6 * np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, None]
    return features.astype(np.float32), labels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a home whose adapter looks away from where the classes are."""
    home = tmp_path_factory.mktemp("blind-home")
    entry = write_split(home, "train", *blind_features(90, seed=0))
    write_split(home, "test", *blind_features(60, seed=1))
    weight = torch.zeros(6, 6)
    weight[:, :4] = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    write_run(home, entry, weights={"steps.image/project.linear.weight": weight})
    return home


@pytest.fixture
def home(made, tmp_path):
    shutil.copytree(made, tmp_path / "h")
    return tmp_path / "h"


def tune(home, **changes):
    fields = {"home": home, "data": "trees", "run": "start", "options": QUICK, "device": "cpu"}
    return run(FineTuneSpec(**{**fields, **changes}))


def weights(folder):
    adapter, _, _ = load_adapter(folder)
    return adapter.state_dict()


def test_fine_tuning_learns_what_a_probe_of_the_frozen_adapter_cannot(home):
    options = ProbeOptions(regularisations=(0.01, 1.0))
    features = ("embedding",)
    probed = run_probe(
        ProbeSpec(home=home, data="trees", run="start", features=features, options=options)
    )
    frozen = probed.report["metrics"]["embedding"]["all_images"]["top_1"]
    tuned = tune(home)
    ((_, found),) = tuned.report["metrics"]["fine_tuned"].items()
    assert frozen["interval"][1] < 60  # chance is 33
    assert found["top_1"]["interval"][0] > 90
    assert tuned.trained["adapter_moved"] > 0.1
    assert all(value > 0 for value in tuned.trained["largest_gradients"].values())


def test_the_run_folder_says_what_was_trained_and_from_where(home):
    tuned = tune(home, name="mine", options=FineTuneOptions(epochs=2))
    assert tuned.folder == home / "runs" / "mine"
    report = json.loads((tuned.folder / run_folder.REPORT).read_text())
    assert report["kind"] == "fine-tune"
    spec = report["spec"]
    assert spec == json.loads(json.dumps(run_folder.read_spec(tuned.folder)))
    assert set(spec) <= set(RunSpec.__annotations__)
    assert set(spec["command"]) <= {each.name for each in fields_of(FineTuneSpec)}
    assert spec["began_with"]["run"] == "start"
    assert spec["began_with"]["stores"]["train"]["dataset"] == "captions"
    assert spec["stores"]["train"]["dataset"] == "trees"
    assert spec["stores"]["train"]["text"]["encoder"] == "made-up-text"
    assert set(report["trained"]) == {
        "image/project.linear.weight",
        "image/project.linear.bias",
        "head.layers.0.weight",
        "head.layers.0.bias",
    }
    assert report["num_parameters"] == 6 * 6 + 6 + 3 * 6 + 3
    assert report["num_images"] == 81  # of 90; three of each thirty chose the epoch
    records = [
        json.loads(line) for line in (tuned.folder / run_folder.LOG).read_text().splitlines()
    ]
    assert [record["epoch"] for record in records] == [1, 2]
    before, after = weights(home / "runs" / "start"), weights(tuned.folder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        "steps.image/project.linear.weight",
        "steps.image/project.linear.bias",
    }
    again = run_probe(
        ProbeSpec(home=home, data="trees", run="mine", protocol="knn", features=("embedding",))
    )
    assert again.report["run"] == "mine"


def test_the_report_has_every_number_with_interval_chance_and_count(home):
    report = tune(home, options=FineTuneOptions(epochs=1)).report
    found = list(numbers_of(report["metrics"]))
    assert {path[-1] for path, _ in found} == {"top_1", "top_2", "mean_per_class"}
    assert {"fine_tuned", "epoch_n"} <= set(report["definitions"])
    for _, number in found:
        low, high = number["interval"]
        assert low <= number["value"] <= high
        assert (number["num"], number["chance"] > 0) == (60, True)


def test_the_kept_weights_are_those_of_the_best_epoch(home):
    tuned = tune(home)
    records = [
        json.loads(line) for line in (tuned.folder / run_folder.LOG).read_text().splitlines()
    ]
    best = max(records, key=lambda r: (r["validation"]["top_1"], -r["validation"]["loss"]))
    assert tuned.trained["best"] == best
    assert list(tuned.report["metrics"]["fine_tuned"]) == [f"epoch_{best['epoch']}"]


def test_the_evaluated_split_chooses_nothing(home):
    """With other labels of the evaluated images the very same weights are kept."""
    first = tune(home, options=FineTuneOptions(epochs=3))
    shutil.rmtree(home / "features" / "trees" / "test")
    features, labels = blind_features(60, seed=1)
    write_split(home, "test", features, (labels + 1) % 3)
    second = tune(home, options=FineTuneOptions(epochs=3))
    one, other = ((done.folder / run_folder.WEIGHTS).read_bytes() for done in (first, second))
    assert one == other


def test_what_the_start_was_trained_on_is_not_evaluated_two_runs_later(home):
    folder = home / "runs" / "start"
    with changed_report(folder) as report:
        train = report["spec"]["stores"]["train"]
        train["source"] = "source-of-trees-test"
    with pytest.raises(LeakageError, match="60 evaluated images were trained on: test/0000"):
        tune(home)
    write_split(home, "other", *blind_features(30, seed=2))
    second = tune(home, split="other", options=FineTuneOptions(epochs=1), name="second")
    third = tune(home, split="other", options=FineTuneOptions(epochs=1), run=second.folder.name)
    with pytest.raises(LeakageError, match="60 evaluated images were trained on: test/0000"):
        run_probe(ProbeSpec(home=home, data="trees", run=third.folder.name))


def test_the_published_protocol_leaves_the_adapter_as_it_is(home):
    sgd = SgdOptions(epochs=4, every=2, hidden=5, learning_rate=0.05)
    tuned = tune(home, protocol="lightcrl", sgd=sgd)
    before, after = weights(home / "runs" / "start"), weights(tuned.folder)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert list(tuned.report["metrics"]["head_alone"]) == ["epoch_2", "epoch_4"]
    assert all(name.startswith("head.") for name in tuned.trained["trained"])
    assert "receives no gradient" in tuned.report["definitions"]["lightcrl"]
    assert {"head_alone", "epoch_n"} <= set(tuned.report["definitions"])
    assert any("trains the head alone" in warning for warning in tuned.report["warnings"])
    head, names = load_head(tuned.folder / run_folder.HEAD)
    assert (head.layers[0].out_features, len(names)) == (5, 3)


def test_a_parameter_that_is_cut_off_stops_the_training_before_it_begins(home, monkeypatch):
    from lightalign.adapters.steps.linear import Linear

    whole = Linear.forward

    def detached(self, tokens, side):
        found = whole(self, tokens, side)
        return found.with_values(found.values.detach())

    monkeypatch.setattr(Linear, "forward", detached)
    with pytest.raises(GradientError, match=r"\['image/project'\], with 2 of 4 "):
        tune(home, name="cut")
    assert not (home / "runs" / "cut").exists()


def test_what_is_called_trained_is_what_the_images_go_through():
    """A fusion holds the context vectors of both sides: that of the texts is not of the images."""
    widths = {Modality.IMAGE: 6, Modality.TEXT: 6}
    adapter = build_adapter(FUSED, widths=widths, seed=0)
    found = side_parameters(adapter, Modality.IMAGE)
    vectors = {name for name in found if "vectors" in name}
    assert {name.rpartition(".")[2] for name in vectors} == {"image"}
    tokens = Tokens(torch.randn(4, 3, 6), torch.ones(4, 3, dtype=torch.bool))
    torch.autograd.backward((adapter.embed(tokens, Modality.IMAGE) * torch.randn(4, 6)).sum())
    reached = require_gradients(found)
    assert set(reached.largest) == set(found)
    assert min(reached.largest.values()) > 0
    everything = dict(adapter.steps.named_parameters())
    assert require_gradients(everything).missed == ("both/fuse.context.vectors.text",)
    assert shared_steps(adapter, Modality.IMAGE) == ["both/project", "both/fuse"]


CONTEXT = tuple(
    f"both/fuse.context.{name}"
    for name in (
        "vectors.image",
        *(f"layers.{layer}.{kind}" for layer in (0, 2, 4, 5) for kind in ("weight", "bias")),
    )
)
CANCELS = {  # by the algebra in the docstrings of the steps
    "additive_attn": ("both/fuse.score.bias",),
    "cross_attn": ("both/fuse.key.bias",),
    "general_attn": ("both/fuse.key.bias",),
}


def fused(home, part, **options):
    """Write a run of our own on the training images of `home` whose tokens go through a fusion."""
    project, pool = LINEAR["both"]["project"], LINEAR["both"]["pool"]
    (entry,) = (e for e in catalog.list_stores(home) if e.description.split == "train")
    towers = {"both": {"project": project, "fuse": {"part": part, **options}, "pool": pool}}
    return write_run(home, entry, towers=towers, name="fused").name


def test_a_fine_tuning_of_a_finished_run_is_without_its_bank(home):
    """Of other weights than the bank was taken with, offsets would say nothing."""
    (entry,) = (e for e in catalog.list_stores(home) if e.description.split == "train")
    finish = {"part": "hub-offset", "bank": 4, "per_modality": True}
    write_run(home, entry, towers={"both": {**LINEAR["both"], "finish": finish}}, name="finished")
    tuned = tune(home, run="finished", options=FineTuneOptions(epochs=1))
    adapter, _, table = load_adapter(tuned.folder)
    assert adapter.out_width == 6
    assert list(table["towers"]["both"]) == ["project", "pool"]


@pytest.mark.parametrize("fusion", [name for name, _ in list_fusions() if name != NO_FUSION])
def test_what_cancels_in_a_fusion_is_named_and_left_and_all_else_is_trained(home, fusion):
    run_name = fused(home, fusion.replace("_", "-") + SUFFIX)
    tuned = tune(home, run=run_name, options=FineTuneOptions(epochs=1))
    missed = CANCELS.get(fusion, ())
    assert tuple(tuned.trained["not_reached"]) == missed
    before, after = weights(home / "runs" / run_name), weights(tuned.folder)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {f"steps.{n}" for n in tuned.trained["trained"] if not n.startswith("head.")}
    assert not moved & {f"steps.{name}" for name in missed}
    warned = [warning for warning in tuned.report["warnings"] if "no gradient reaches" in warning]
    assert len(warned) == bool(missed)
    assert all(name in warned[0] for name in missed)


def test_a_gradient_of_rounding_alone_is_none(home):
    """Without tanh the context is the same for all tokens and cancels; rounding leaves 1e-9."""
    run_name = fused(home, "additive-attn-fusion", tanh=False)
    tuned = tune(home, run=run_name, options=FineTuneOptions(epochs=1))
    names = ("query.weight", "query.bias", "key.bias", "score.bias")
    assert set(tuned.trained["not_reached"]) == {*CONTEXT, *(f"both/fuse.{n}" for n in names)}


def test_a_step_that_a_single_token_cuts_off_is_refused_and_one_in_part_is_not(tmp_path):
    """The weight of a single token is 1 whatever its score: only the values of a fusion count."""
    for split, seed in (("train", 0), ("test", 1)):
        features, labels = blind_features(60, seed=seed)
        write_split(tmp_path, split, features[:, :1], labels)
    with pytest.raises(GradientError, match=r"the steps \['both/fuse'\]"):
        tune(tmp_path, run=fused(tmp_path, "general-attn-fusion"))
    shutil.rmtree(tmp_path / "runs" / "fused")
    run_name = fused(tmp_path, "cross-attn-fusion")
    tuned = tune(tmp_path, run=run_name, options=FineTuneOptions(epochs=1))
    names = [f"both/fuse.{part}.{kind}" for part in ("query", "key") for kind in ("weight", "bias")]
    assert set(tuned.trained["not_reached"]) == {*CONTEXT, *names}


def test_steps_that_are_too_long_stop_the_training(home):
    options = FineTuneOptions(epochs=2, adapter_rate=1e30, learning_rate=1e30, gradient_clip=0.0)
    with pytest.raises(DivergedError, match="adapter_rate"):
        tune(home, options=options, name="lost")
    assert not (home / "runs" / "lost" / run_folder.REPORT).exists()


def test_what_cannot_be_fine_tuned_is_said(home):
    with pytest.raises(SpecError, match="a run named 'start' exists"):
        tune(home, name="start")
    for wrong in ({"epochs": 0}, {"validation": 0.0}, {"warmup": 1.0}):
        with pytest.raises(SpecError):
            FineTuneOptions(**wrong)
    with pytest.raises(SpecError, match="unknown key 'momentum'"):
        options_of("full", {"momentum": 0.5})
    assert options_of("lightcrl", {"momentum": 0.5})["sgd"].hidden == 256


def test_the_command_prints_what_was_trained(home):
    command = ["fine-tune", "start", "--data", "trees", "--set", "epochs=1", "--name", "told"]
    done = lightalign(*command, home=home)
    assert done.returncode == 0, done.stderr
    assert "fine-tune on trees/test" in done.stdout
    assert "trained 63 parameters on 81 images" in done.stdout
    wrong = lightalign(*command[:4], "--protocol", "half", home=home)
    assert (wrong.returncode, "no protocol named 'half'" in wrong.stderr) == (2, True)


def test_a_fine_tuning_that_was_stopped_leaves_no_folder_and_says_so(home, monkeypatch, capsys):
    """There is nothing that could go on from it."""
    from lightalign.cli import main
    from lightalign.pipelines.classification.fine_tune_full import FullProtocol

    def stopped(self, folder, progress):
        (folder / run_folder.LOG).write_text("{}")
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(FullProtocol, "fit", stopped)
    command = ["lightalign", "fine-tune", "start", "--data", "trees", "--name", "cut"]
    monkeypatch.setattr("sys.argv", [*command, "--home", str(home), "--device", "cpu"])
    kept = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(SystemExit) as caught:
        main()
    for one, handler in zip(SIGNALS, kept, strict=True):
        signal.signal(one, handler)
    assert caught.value.code == 128 + signal.SIGTERM
    assert "stopped; nothing is kept" in capsys.readouterr().err
    assert not (home / "runs" / "cut").exists()


@pytest.mark.parametrize("protocol", ["full", "lightcrl"])
def test_one_class_of_training_images_is_refused_as_by_a_probe(tmp_path, protocol):
    features, _ = blind_features(30, 0)
    entry = write_split(tmp_path, "train", features, np.zeros(30, dtype=int))
    write_split(tmp_path, "test", *blind_features(12, 1))
    write_run(tmp_path, entry)
    with pytest.raises(SpecError, match=r"1 class of trees/train has training images, 'ash'"):
        run(FineTuneSpec(home=tmp_path, data="trees", protocol=protocol, device="cpu"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["start"]


def test_a_class_without_training_images_is_told_by_a_fine_tuning_too(tmp_path):
    features, labels = blind_features(30, 0)
    entry = write_split(tmp_path, "train", features, labels % 2)
    write_split(tmp_path, "test", *blind_features(12, 1))
    write_run(tmp_path, entry)
    spec = FineTuneSpec(home=tmp_path, data="trees", options=QUICK, device="cpu")
    warnings = run(spec).report["warnings"]
    assert any("'cedar': their images are all wrong" in line for line in warnings)


def test_measured_images_of_one_class_are_told(tmp_path):
    entry = write_split(tmp_path, "train", *blind_features(30, 0))
    features, _ = blind_features(12, 1)
    write_split(tmp_path, "test", features, np.ones(12, dtype=int))
    write_run(tmp_path, entry)
    spec = FineTuneSpec(home=tmp_path, data="trees", options=QUICK, device="cpu")
    assert any("always answers with it has 100 %" in line for line in run(spec).report["warnings"])


@pytest.mark.parametrize("protocol", ["full", "lightcrl"])
def test_one_step_an_epoch_is_told(tmp_path, protocol):
    entry = write_split(tmp_path, "train", *blind_features(30, 0))
    write_split(tmp_path, "test", *blind_features(12, 1))
    write_run(tmp_path, entry)
    options = FineTuneOptions(epochs=2, batch_size=64)
    sgd = SgdOptions(epochs=2, every=1, batch_size=64)
    spec = FineTuneSpec(
        home=tmp_path, data="trees", protocol=protocol, options=options, sgd=sgd, device="cpu"
    )
    num = 27 if protocol == "full" else 30  # a tenth is held out to choose the epoch
    expected = f"{num} images are one batch of 64, and 2 epochs 2 steps"
    assert any(expected in line for line in run(spec).report["warnings"])
