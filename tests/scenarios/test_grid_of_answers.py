"""A grid of nine pairs of real encoders of the kinds of OneEncoder's scripts, killed in between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import transformers

from lightalign.pipelines.runs import run_folder

from ..featcache.conftest import PROCESSOR, write_tokenizer
from ..helpers import lightalign
from ..pipelines.question_tables import write_questions

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
TEXTS = {
    "distilbert": (
        transformers.DistilBertModel,
        transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=16),
    ),
    "bert": (transformers.BertModel, transformers.BertConfig(**SIZES, vocab_size=16)),
    "roberta": (
        transformers.RobertaModel,
        transformers.RobertaConfig(**SIZES, vocab_size=16, pad_token_id=13),
    ),
}
PICTURES = {
    "beit": (transformers.BeitModel, transformers.BeitConfig),
    "deit": (transformers.DeiTModel, transformers.DeiTConfig),
    "vit": (transformers.ViTModel, transformers.ViTConfig),
}
TINY = (
    "train.epochs=2",
    "train.batch_size=12",
    "towers.both.project.out=16",
    "towers.both.project.hidden=16",
    "towers.both.mix.feedforward=32",
    "heads.answers.hidden=16",
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with questions, and a home with their features by six tiny models."""
    for name, (model, config) in TEXTS.items():
        model(config).save_pretrained(tmp_path / name)
        write_tokenizer(tmp_path / name)
    for name, (model, config_class) in PICTURES.items():
        config = config_class(**SIZES, image_size=32, patch_size=8)
        model(config).save_pretrained(tmp_path / name)
        (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    table = write_questions(tmp_path / "pictures")
    for name in (*TEXTS, *PICTURES):
        run(tmp_path, "extract", "--encoder", f"hf:{tmp_path / name}", "--data", f"rooms={table}")
    return tmp_path


def run(place: Path, *arguments: str) -> str:
    done = lightalign(*arguments, "--device", "cpu", home=place / "home")
    assert done.returncode == 0, done.stderr
    return done.stdout


def grid() -> list[str]:
    words = ["vqa", "--data", "rooms", "--split", "val", "--grid", "--preset", "oneencoder/vqa"]
    words += [word for name in PICTURES for word in ("--image-encoder", f"hf-{name}")]
    words += [word for name in TEXTS for word in ("--text-encoder", f"hf-{name}")]
    return words + [word for each in TINY for word in ("--set", each)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_grid_that_is_killed_goes_on_and_has_nine_rows(place):
    home = place / "home"
    command = [sys.executable, "-m", "lightalign", *grid(), "--device", "cpu", "--home", str(home)]
    running = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
    while len(run_folder.run_folders(home)) < 3:
        assert running.poll() is None
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    finished = [folder for folder in run_folder.run_folders(home) if run_folder.is_finished(folder)]
    weights = {folder: (folder / run_folder.WEIGHTS).stat().st_mtime_ns for folder in finished}
    report = json.loads(run(place, *grid(), "--json"))
    rows = {f"hf-{text} + hf-{picture}" for text in TEXTS for picture in PICTURES}
    assert set(report["metrics"]) == {*rows, "majority"}
    assert len(run_folder.run_folders(home)) == 9
    assert all(run_folder.is_finished(folder) for folder in run_folder.run_folders(home))
    # what was finished before was not trained again
    assert weights
    for folder, changed in weights.items():
        assert (folder / run_folder.WEIGHTS).stat().st_mtime_ns == changed
