"""Every command block of the README is run, or excused here with a reason."""

import io
import json
import re
import shlex
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .featcache.sources.graded_helpers import published_stsb
from .helpers import lightalign

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")

EXCUSED = {
    'pip install ".[demo]" && lightalign quickstart': (
        "installs packages, as `.ci/run` does with the `dev` extra, which holds `demo`; quickstart "
        "itself runs in test_quickstart.py"
    ),
    'pip install ".[test]" && pytest': "is what runs this test",
    **dict.fromkeys(
        (
            "lightalign probe --data cifar100",
            "lightalign probe --data cifar100 --protocol knn --shots 1,2,4,8,16",
            "lightalign fine-tune --data tiny-imagenet --set epochs=20",
        ),
        "needs a dataset of classes; runs on a small one in test_probe.py and test_fine_tune.py",
    ),
    "lightalign train-adapter --preset sotalign --unpaired-images photos/train "
    "--unpaired-texts news/train": "needs stores of two further datasets; runs in test_unpaired.py",
    **dict.fromkeys(
        (
            "lightalign extract --encoder efficientnet-lite0 --encoder minilm --data daquar",
            "lightalign train-joint --preset vle/small --objective answers --data daquar",
        ),
        "needs a dataset of questions; runs on a small one in test_train_joint.py",
    ),
    **dict.fromkeys(
        (
            "lightalign extract --encoder dino-vits16 --data daquar",
            "lightalign extract --encoder distilbert --data daquar",
            (
                "lightalign vqa --data daquar --preset lightalign/joint-small "
                "--preset oneencoder/vqa --seeds 3"
            ),
            (
                "lightalign vqa --data daquar --grid --preset oneencoder/vqa --image-encoder "
                "dino-vits16 --text-encoder distilbert"
            ),
            'lightalign ask RUN photo.jpg "what is on the table?" --top-k 5',
        ),
        "needs a dataset of questions; runs on a small one in test_vqa.py and test_ask.py",
    ),
    'pip install ".[llm]"': "installs packages, as `.ci/run` does with the `dev` extra",
    **dict.fromkeys(
        (
            (
                "lightalign vqa --data daquar --llm-url http://localhost:8000/v1 --llm-model MODEL "
                "--captions captions.csv"
            ),
            "lightalign vqa --data daquar --llm FOLDER --caption-model CAPTIONER",
            (
                'lightalign ask RUN photo.jpg "what is on the table?" --llm-url '
                "http://localhost:8000/v1 --llm-model MODEL --llm-prompt sentence"
            ),
        ),
        "needs a dataset of questions and a language model; runs on small ones in "
        "test_language_answers.py",
    ),
    'lightalign match matcher photo.jpg "a dog in the snow" "two men on a bench"': (
        "needs a photo; runs on one in test_match.py"
    ),
    'lightalign search mine "a dog in the snow" --rerank matcher --k 50': (
        "needs the index that a later section makes; runs in test_reranking.py"
    ),
    "torchrun --nproc-per-node 2 --no-python lightalign train-adapter "
    "--set train.batch_size=4096": "starts processes, as the slow tests of test_distributed.py do",
}
# Weights of the Flickr30k walk-through are on the hub, which tests cannot reach: encoders that
# need none stand in for them. The same three commands with weights of the right shape given by
# `--weights` run in test_three_commands.py.
STAND_INS = {"dino-vits16": "toy-image", "distilbert": "toy-text", "minilm": "toy-text"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_the_excused_commands_are_in_the_readme():
    assert set(EXCUSED) <= set(commands())


def write_flickr30k(folder: Path) -> None:
    """Write twenty pictures as Kaggle ships Flickr30k."""
    pictures = folder / "flickr30k_images"
    pictures.mkdir(parents=True)
    lines = ["image_name| comment_number| comment"]
    colours = np.random.default_rng(0).integers(0, 256, (20, 3))
    for index, colour in enumerate(colours):
        name = f"{1000 + index}.jpg"
        Image.new("RGB", (32, 24), tuple(colour.tolist())).save(pictures / name)
        lines += [f"{name}| {n}| a picture number {index} of colour {n} ." for n in range(5)]
    (folder / "results.csv").write_text("\n".join(lines) + "\n")


def write_photos(folder: Path) -> None:
    """Write a table of one's own with twelve pictures."""
    folder.mkdir()
    lines = ["image,caption"]
    for index in range(12):
        Image.new("RGB", (32, 24), (20 * index, 0, 0)).save(folder / f"{index}.jpg")
        lines.append(f"{index}.jpg,a red of {20 * index}")
    (folder / "photos.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("readme-home")
    write_flickr30k(home / "datasets" / "flickr30k")
    (home / "datasets" / "stsb").mkdir()
    published_stsb(home / "datasets" / "stsb")
    write_photos(home / "holidays")
    return home


def run(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = command.replace("~/holidays", str(home / "holidays"))
    for name, stand_in in STAND_INS.items():
        command = command.replace(name, stand_in)
    arguments = shlex.split(command)
    assert arguments[0] == "lightalign"
    return lightalign(*arguments[1:], home=home)


@pytest.mark.slow
def test_every_command_of_the_readme_runs_in_order(home):
    run_here = [command for command in commands() if command not in EXCUSED]
    assert len(run_here) >= 10
    for command in run_here:
        result = run(command, home)
        assert result.returncode == 0, f"{command}: {result.stderr}"


def test_every_python_block_of_the_readme_runs(home):
    pytest.importorskip("zarr", minversion="3")
    command = "lightalign extract --encoder toy-text --data flickr30k --split test --json"
    extracted = run(command, home)
    assert extracted.returncode == 0, extracted.stderr
    store = json.loads(extracted.stdout)["stores"][0]["folder"]
    reading, embedding, *others = blocks("python")
    assert '"STORE"' in reading
    code = reading.replace('"STORE"', repr(str(store))) + "\nprint(len(names), values.shape)"
    assert python(code).startswith("10 ")  # 2 test pictures, 5 captions each
    picture = home / "datasets" / "flickr30k" / "flickr30k_images" / "1000.jpg"
    for command in (
        "lightalign extract --encoder toy-text --data flickr30k --split train",
        "lightalign extract --encoder toy-image --data flickr30k --split train",
        "lightalign extract --encoder toy-image --data flickr30k --split test",
        "lightalign train-adapter --set train.epochs=1 --set train.validation=none --json",
    ):
        done = run(command, home)
        assert done.returncode == 0, done.stderr
    folder = json.loads(done.stdout)["folder"]
    code = embedding.replace('"RUN"', repr(folder)).replace('"scene.png"', repr(str(picture)))
    assert python(f"{code}\nprint(cosines.shape)") == "(1, 1)\n"
    (retrieving,) = [code for code in others if ".retrieve(" in code]
    said = python(retrieving.replace('"RUN"', f"{folder!r}, home={str(home)!r}"))
    again = run(f"lightalign retrieve {folder} --json", home)
    found = json.loads(again.stdout)["metrics"]["text_to_image"]["recall"]["1"]
    assert said.split()[0] == str(found["value"])


def python(code: str) -> str:
    """Run `code` as a program of its own that finds its modules imported; return its output."""
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def test_every_command_is_in_the_table():
    from lightalign.pipelines.commands.application import (
        app,
        cache_app,
        data_app,
        list_app,
        presets_app,
    )

    names = [c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands]
    table = "\n".join(line for line in README.splitlines() if line.startswith("| `lightalign"))
    for name in names:
        assert f"`lightalign {name}" in table
    groups = {"list": list_app, "cache": cache_app, "presets": presets_app, "data": data_app}
    for group, sub in groups.items():
        for command in sub.registered_commands:
            (line,) = [row for row in table.splitlines() if f"`lightalign {group} " in row]
            assert command.name in line
