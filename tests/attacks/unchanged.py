"""Record all that the commands do, or compare with a record, for changes that change nothing.

    python tests/attacks/unchanged.py record FILE
    python tests/attacks/unchanged.py compare FILE

Makes the small home of the attacks, trains one preset of each family, and runs every command on a
copy of that home. Kept are the hash of every file of the home, each value of what is JSON or TOML
there and of what the commands print, their notes, hashes of what they write, and the help of every
command. A record is made of two passes, and has only what both gave: times and random names fall
out by themselves. Comparing is one pass; it prints each name that differs, then a line with the
counts, and exits 1 if there is any. A record holds for one machine and its libraries.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before anything reads it: sums depend on it
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["COLUMNS"] = "100"

import _children  # noqa: E402
import _home  # noqa: E402
import _judge  # noqa: E402
from _home import SHAPES_TOKENS, sets  # noqa: E402
from _kinds import RUN_VERBS, VERBS, Verb  # noqa: E402

LIMIT = 300.0  # seconds of one command
TWO_EPOCHS = sets("train.epochs=2", "train.validation=0.1")
BATCH = sets("train.batch_size=32")
PRESETS = {  # of each family one or two, and what makes them small
    "linear": BATCH,
    "lightalign/base": BATCH,
    "lightalign/fusion": BATCH,
    "lightcrl/addition": BATCH,
    "oneencoder/v2": BATCH,
    "peme/bridge": sets("train.batch_size=8", "train.accumulate=2", "towers.image.bridge.layers=1"),
    "sail/star": BATCH,
    "convirt": BATCH,
    "procrustes": None,  # these are solved
    "cca": None,
}
# what differs with time: values by name, and lines with a speed
VOLATILE = re.compile(r"free_bytes$|seconds|^runs .*\.bytes$|\.files\.|^home verified/")
SPEED = re.compile(r"\d/s, | (?:images|pairs)/s, ")
SOLVED = sets("towers.both.project.out=16")


def trainings() -> dict[str, Verb]:
    """Return the command that trains each preset for two epochs, or solves it."""
    verbs = {}
    for preset, changed in PRESETS.items():
        options = SOLVED if changed is None else (*TWO_EPOCHS, *changed)
        command = ("train-adapter", "--preset", preset, *SHAPES_TOKENS, *options, "--seed", "3")
        verbs[f"train {preset}"] = Verb(
            (*command, "--name", "new"),
            written=("home/runs/new/*.safetensors", "home/runs/new/*.toml"),
        )
    return verbs


def of_tree(root: Path) -> Iterator[tuple[str, Any]]:
    """Yield the hash of each file below a folder, and the values of what is JSON or TOML."""
    from lightalign.featcache.documents import tomllib

    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(root))
        content = path.read_bytes()
        yield f"{name} sha256", hashlib.sha256(content).hexdigest()
        if path.suffix == ".json":
            yield from _judge.leaves(json.loads(content), name)
        elif path.suffix == ".jsonl":
            yield from _judge.leaves([json.loads(line) for line in content.splitlines()], name)
        elif path.suffix == ".toml":
            yield from _judge.leaves(tomllib.loads(content.decode()), name)


def helps() -> Iterator[tuple[str, str]]:
    """Yield what `--help` of each command prints."""
    import typer.main

    from lightalign.pipelines.commands.application import app

    def walk(command: Any, context: Any, name: str) -> Iterator[tuple[str, str]]:
        yield name, command.get_help(context)
        for below, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, inner.context_class(inner, info_name=below), f"{name} {below}")

    root = typer.main.get_command(app)
    yield from walk(root, root.context_class(root, info_name="lightalign"), "help lightalign")


def run_pass(scratch: Path) -> dict[str, Any]:
    """Build the home, run everything on copies of it, and return all values by name."""
    place, whole = scratch / "place", scratch / "whole"
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(whole, ignore_errors=True)
    _home.build(place, thorough=True)
    shutil.copytree(place, whole, symlinks=True)
    values: dict[str, Any] = {f"home {name}": value for name, value in of_tree(whole / "home")}
    values.update(helps())
    store = min((whole / "home/features/shapes/train").glob("toy-image*")).relative_to(whole)
    for name, verb in {**VERBS, **RUN_VERBS, **trainings()}.items():
        shutil.rmtree(place)
        shutil.copytree(whole, place, symlinks=True)
        arguments = [
            part.replace("{place}", str(place)).replace("{store}", str(place / store))
            for part in verb.arguments
        ]
        arguments += ["--home", str(place / "home"), "--json"]
        ended = _children.run_command(arguments, scratch=scratch, limit=LIMIT)
        values[f"{name} exit"] = ended.code
        for key, value in _judge.numbers(ended, verb, place).items():
            values[f"{name} {key}"] = value
        notes = [line for line in ended.err.splitlines() if not SPEED.search(line)]
        for number, line in enumerate(notes):
            values[f"{name} note {number}"] = re.sub(r"\s+", " ", line)
        print(f"{time.strftime('%T')} {name}: exit {ended.code}", file=sys.stderr, flush=True)
    return {name: text(value, place) for name, value in values.items()}


def text(value: Any, place: Path) -> Any:
    """Return a value without the folder that everything lies in."""
    return value.replace(str(place), "PLACE") if isinstance(value, str) else value


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("act", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    _children.import_everything(thorough=True)
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else Path(tempfile.gettempdir())
    scratch = base / "lightalign-unchanged"  # the same each time: paths are in what is printed
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        values = run_pass(scratch)
        if options.act == "record":
            again = run_pass(scratch)
            same = {
                name: value
                for name, value in values.items()
                if again.get(name, ...) == value and not VOLATILE.search(name)
            }
            with gzip.open(options.file, "wt", encoding="utf-8") as written:
                json.dump(same, written)
            print(f"{len(same)} values recorded, {len(values) - len(same)} differ each time")
            return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with gzip.open(options.file, "rt", encoding="utf-8") as read:
        recorded = json.load(read)
    differing = [name for name, value in recorded.items() if values.get(name, ...) != value]
    for name in differing:
        print(f"{name}: {values.get(name, 'nothing')!r:.200}, was {recorded[name]!r:.200}")
    print(f"{len(recorded)} values compared, {len(differing)} differ")
    sys.exit(int(bool(differing)))


if __name__ == "__main__":
    main()
