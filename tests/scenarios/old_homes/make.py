"""Make a home by the package that is imported, pack it, and record what its commands answer.

    PYTHONPATH=FOLDER_OF_THE_PACKAGE python make.py OUT NAME

FOLDER_OF_THE_PACKAGE holds a checkout of an earlier commit as `lightalign`. Written are the home,
`OUT/NAME.tar.xz`, and `OUT/NAME.json.xz`: each command of `ANSWERED` with the JSON that it printed.
The package itself does all: nothing here knows how a store or a run lies on disk.
"""

import io
import json
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

COLOURS = {"red": (220, 30, 20), "green": (20, 200, 40), "blue": (30, 40, 230)}
CARD = """\
title = "Hashed words of a home's own"
modality = "text"
backend = "toy"
model = "hashed-words"
width = 12

[layout]
ragged = true
max_tokens = 16
"""


def sets(*overrides: str) -> list[str]:
    """Return the options `--set` of these overrides."""
    return [part for override in overrides for part in ("--set", override)]


# float32 everywhere: `auto` is another type where the processor is fast at bfloat16
EXACT = ("--precision", "float32", "--device", "cpu", *sets("rows_per_shard=50"))
SHAPES = (
    *("--data", "shapes", *EXACT),
    *sets("source.train=24", "source.val=8", "source.test=8", "source.size=32"),
)
QUICK = sets("train.epochs=2", "train.batch_size=8", "train.precision=float32")
SMALL = sets(
    *("towers.image.project.out=8", "towers.text.project.out=8", "towers.text.project.hidden=8")
)
TOKENS = ("--image-features", "tokens", "--text-features", "tokens", "--device", "cpu")
BUILT = (  # in order; the training that is stopped follows
    ("extract", "--encoder", "toy-image", "--encoder", "toy-text", *SHAPES),
    (
        *("extract", "--encoder", "toy-image", "--encoder", "toy-text", *SHAPES),
        *("--features", "mean", "--format", "hdf5", "--dtype", "int8", "--compression", "zstd"),
        *("--split", "train"),
    ),
    ("extract", "--encoder", "other-text", *SHAPES),
    ("extract", "--encoder", "toy-text", "--encoder", "other-text", "--data", "stsb", *EXACT),
    ("extract", "--encoder", "toy-image", "--data", "image-folder", *EXACT),
    (
        *("train-adapter", "--data", "shapes", "--preset", "lightalign/base", "--name", "base"),
        *("--image-encoder", "toy-image", "--text-encoder", "toy-text"),
        *(*TOKENS, *QUICK, *SMALL),
    ),
    (
        *("train-adapter", "--data", "shapes", "--preset", "linear", "--name", "texts"),
        *("--text-encoder", "toy-text", "--second-text-encoder", "other-text", "--device", "cpu"),
        *(*QUICK, *sets("towers.both.project.out=8")),
    ),
    (
        *("train-adapter", "--data", "shapes", "--preset", "linear", "--name", "main"),
        *("--image-encoder", "toy-image", "--text-encoder", "toy-text"),
        *(*TOKENS, *QUICK, *sets("towers.both.project.out=8")),
    ),
    (
        *("fine-tune", "main", "--data", "image-folder", "--name", "tuned", "--device", "cpu"),
        *sets("epochs=2", "batch_size=8"),
    ),
)
STOPPED = (
    *("train-adapter", "--data", "shapes", "--preset", "linear", "--name", "stopped"),
    *("--image-encoder", "toy-image", "--text-encoder", "toy-text", *TOKENS),
    *sets("train.epochs=4", "train.batch_size=8", "train.precision=float32", "train.queue=12"),
    *sets("towers.both.project.out=8"),
)
STOPPED_IN = 3  # epoch
MOVED = ("image-folder", "stsb")  # datasets that lie in the home, and go where it goes
ANSWERED = (  # by each version, of the same home, in order
    ("cache", "ls"),
    ("cache", "verify"),
    (
        *("cache", "explain", "--encoder", "toy-text", "--data", "stsb"),
        *sets("features=mean", "precision=float32"),
    ),
    ("runs", "list"),
    ("runs", "show", "base"),
    ("runs", "show", "texts"),
    ("runs", "show", "tuned"),
    ("retrieve", "base"),
    ("retrieve", "base", "--folds", "2", "--scoring", "dual-softmax"),
    ("retrieve", "texts"),
    ("similarity", "base", "--data", "stsb"),
    ("similarity", "texts", "--data", "stsb"),
    ("similarity", "--encoder", "toy-text", "--data", "stsb"),
    ("zero-shot", "base", "--data", "image-folder", "--prompts", "single"),
    ("probe", "base", "--data", "image-folder", "--protocol", "knn"),
    ("probe", "--data", "image-folder", "--protocol", "knn"),
    ("train-adapter", "--resume", "stopped", "--device", "cpu"),
    ("retrieve", "stopped"),
    ("runs", "list"),
)


def answer(arguments: Sequence[str], home: Path) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code and what it printed."""
    from lightalign.cli import main

    out, err = io.StringIO(), io.StringIO()
    code = 0
    before = sys.argv
    sys.argv = ["lightalign", *arguments, "--home", str(home)]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        except KeyboardInterrupt:
            code = 130
        finally:
            sys.argv = before
    return code, out.getvalue(), err.getvalue()


def write_datasets(root: Path) -> None:
    """Write pictures of three classes and graded pairs of texts."""
    import numpy as np
    from PIL import Image

    for split, count in (("train", 6), ("test", 3)):
        for label, (name, colour) in enumerate(COLOURS.items()):
            for number in range(count):
                random = np.random.default_rng([label, number, len(split)])
                pixels = random.integers(-90, 90, (8, 8, 3)) + np.array(colour)
                path = root / "image-folder" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    animals, verbs = ("dog", "cat", "bird", "fish"), ("runs", "sits", "sleeps")
    for split in ("train", "dev", "test"):
        rows = [
            f"captions\tMSRvid\t2012\t{n:04}\t{n % 6 / 1.25:.2f}\ta {animals[n % 4]} {verbs[n % 3]}"
            f"\tthe {animals[n % 3]} {verbs[n % 2]} {split}"
            for n in range(12)
        ]
        path = root / "stsb" / f"sts-{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def build(home: Path) -> None:
    """Make everything below `home`.

    Raises:
        RuntimeError: A command failed, or a training did not stop.
    """
    write_datasets(home / "datasets")
    (home / "encoders").mkdir()
    (home / "encoders" / "other-text.toml").write_text(CARD)
    for command in BUILT:
        code, _, err = answer([*command, "--quiet"], home)
        if code:
            raise RuntimeError(f"{' '.join(command)}: exit {code}\n{err}")
    _train_and_stop(home)


def _train_and_stop(home: Path) -> None:
    from lightalign.pipelines.training.batches import Batches

    order = Batches.order

    def cut(self: Any, number: int) -> Any:
        if number == STOPPED_IN:
            raise KeyboardInterrupt
        return order(self, number)

    Batches.order = cut
    try:
        code, _, err = answer([*STOPPED, "--quiet"], home)
    finally:
        Batches.order = order
    if code == 0 or not (home / "runs" / "stopped" / "state.safetensors").is_file():
        raise RuntimeError(f"the training did not stop: exit {code}\n{err}")


def move_datasets(home: Path) -> None:
    """Tell a home that its datasets came with it.

    Raises:
        RuntimeError: A command failed.
    """
    for name in MOVED:
        code, _, err = answer(["data", "move", name, str(home / "datasets" / name)], home)
        if code:
            raise RuntimeError(f"data move {name}: exit {code}\n{err}")


def answers(home: Path) -> list[dict[str, Any]]:
    """Return what each command of `ANSWERED` prints, with the place of the home left open."""
    move_datasets(home)
    recorded = []
    for command in ANSWERED:
        code, out, err = answer([*command, "--json", "--quiet"], home)
        if code:
            raise RuntimeError(f"{' '.join(command)}: exit {code}\n{err}")
        printed = json.loads(out.replace(str(home), "HOME"))
        recorded.append({"command": list(command), "printed": without_times(printed)})
    return recorded


def without_times(value: Any) -> Any:
    """Return what a command printed without what differs from time to time and place to place."""
    left_out = {
        *("seconds", "versions", "version", "created", "changed", "definitions", "used"),
        *("free_bytes", "bytes", "num_bytes", "peak_bytes", "files", "checksum", "title"),
        *("images_per_second", "curves", "failures"),  # of many numbers, which others sum up
    }
    if isinstance(value, Mapping):
        return {
            key: without_times(each)
            for key, each in value.items()
            if key not in left_out and "seconds" not in key and "time" not in key
        }
    if isinstance(value, list):
        return [without_times(each) for each in value]
    return value


def main(out: Path, name: str) -> None:
    """Write the home and the answers below `out`."""
    with tempfile.TemporaryDirectory() as folder:
        home, copy = Path(folder) / "home", Path(folder) / "copy"
        home.mkdir()
        build(home)
        # what a home remembers of the files of this machine
        shutil.rmtree(home / "verified", ignore_errors=True)
        shutil.copytree(home, copy)
        with tarfile.open(out / f"{name}.tar.xz", "w:xz", preset=9) as packed:
            for path in sorted(home.rglob("*")):
                if path.is_file():
                    member = packed.gettarinfo(path, str(path.relative_to(home)))
                    member.uid = member.gid = 0
                    member.uname = member.gname = ""
                    with path.open("rb") as content:
                        packed.addfile(member, content)
        # as elsewhere, where the place that it was made in is not
        shutil.rmtree(home)
        recorded = answers(copy)
    with lzma.open(out / f"{name}.json.xz", "wt", preset=9, encoding="utf-8") as file:
        file.write(json.dumps(recorded, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[_variable] = "1"
    main(Path(sys.argv[1]), sys.argv[2])
