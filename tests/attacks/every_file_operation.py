"""Kill or fail each command that writes at each of its file operations, and tell what was left.

    python tests/attacks/every_file_operation.py [--points N] [--faults kill,EIO,ENOSPC] [VERB ...]

After each trial `cache verify` is asked, the command is given again, and the home is compared with
that of one undisturbed command, file by file. Prints a table, and a line for each trial that fails.
"""

import argparse
import csv
import gc
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a thread of a pool would not live in a child
os.environ["HF_HUB_OFFLINE"] = "1"

import trials
from file_operations import FAULTS, KILL, FileOperations
from trials import Ended
from verbs import STAGES, VERBS, Verb

_LEFTOVER = (".tmp", ".lock")
_SECONDS = 400.0  # of commands that are disturbed, for each verb and fault
_HEAVY = (".tests", "__main__", "tensorboard", "setup")


@dataclass(kw_only=True)
class Row:
    """What was found of one verb.

    Attributes:
        name: The verb.
        operations: File operations of one undisturbed command.
        points: Trials.
        survived: Those of them after which all was as if undisturbed.
        cleared: Trials after which what was left took a `cache repair` to go.
        leftovers: Files and folders that were extra in the end, of all trials.
        failures: One line for each trial that failed.
        seconds: Time it took.
    """

    name: str
    operations: int = 0
    points: int = 0
    survived: int = 0
    cleared: int = 0
    leftovers: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Attack:
    """Homes and trials of all verbs below one folder.

    Args:
        root: Folder for everything.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.place = root / "trial"
        self.home, self.out = self.place / "home", self.place / "out"
        self.num_cleared = 0  # trials after which `cache repair` was needed
        _draw_pictures(self.data / "pictures")
        _write_pairs(self.data / "pairs.csv")

    def stage(self, name: str) -> Path:
        """Return the folder of a prepared home, which is made when it is first asked for."""
        folder = self.root / "stages" / name
        if folder.is_dir():
            return folder
        stage = STAGES[name]
        if stage.start is None:
            (folder / "home").mkdir(parents=True)
            (folder / "out").mkdir()
            return folder
        trials.copy_of(self.stage(stage.start), self.place)
        for command in stage.commands:
            at = 0
            if stage.stopped and command == stage.commands[-1]:
                saved = trials.copy_of(self.place, self.root / "saved")
                at = int(len(self.run(command, count=True).operations) * stage.stopped)
                trials.copy_of(saved, self.place)
            ended = self.run(command, number=at)
            assert ended.code == (-9 if at else 0), (command, ended)
        if stage.damaged:
            _flip_a_bit(self.store(stage.damaged))
        trials.copy_of(self.place, folder)
        return folder

    def store(self, name: str) -> Path:
        """Return the folder of the store `SPLIT/ENCODER` of the trial."""
        (folder,) = self.home.glob(f"features/*/{name}--*")
        return folder

    def run(
        self, command: Sequence[str], *, number: int = 0, fault: str = KILL, count: bool = False
    ) -> Ended:
        """Run a command in the home of the trial."""
        watched = FileOperations(self.place, number=number, fault=fault)
        return trials.run(
            [*self.arguments(command), "--home", str(self.home)],
            self.root,
            watched=watched if number or count else None,
        )

    def arguments(self, command: Sequence[str]) -> list[str]:
        """Return a command with the folders of the trial in it."""
        named = [part.format_map(_Places(self)) for part in command]
        is_cache = command[0] in ("cache", "runs")
        return named if is_cache else [*named, "--quiet"]

    def content(self) -> dict[str, Any]:
        """Return everything in the home and beside it."""
        return trials.content(self.home, self.out)


class _Places(dict[str, str]):
    """Folders by the names that commands have for them."""

    def __init__(self, attack: Attack) -> None:
        super().__init__(out=str(attack.out), data=str(attack.data))
        self.attack = attack

    def __missing__(self, name: str) -> str:
        return str(self.attack.store(name))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One command that is disturbed once.

    Attributes:
        command: Its arguments, with the folders of the trial.
        goes_on: See `Verb.goes_on`.
        number: Which of its file operations.
        operation: Name of that in an undisturbed run.
        fault: What happens to it.
        before: All files before the command.
        after: All files after it undisturbed.
        is_whole_before: Whether the cache was whole before it.
    """

    command: Sequence[str]
    goes_on: Sequence[str]
    number: int
    operation: str
    fault: str
    before: dict[str, Any]
    after: dict[str, Any]
    is_whole_before: bool

    def problems(self, attack: Attack) -> Iterator[str]:
        """Disturb the command, and yield what is not as it should be, then and in the end."""
        ended = attack.run(self.command, number=self.number, fault=self.fault)
        there = attack.content()
        yield from self._of_the_fault(ended, there)
        verified = attack.run(("cache", "verify"))
        clean = is_clean(there, self.before if self.is_whole_before else {}, self.after)
        if verified.code != (0 if clean else 1):
            said = (attack.root / "out").read_text().splitlines()
            yield f"verify ends with {verified.code}, though the cache is {clean=}: {said[-3:]}"
        yield from self._in_the_end(attack)

    def _of_the_fault(self, ended: Ended, there: dict[str, Any]) -> Iterator[str]:
        """Yield what is wrong with the end of the disturbed command, and with what it left."""
        if self.fault == KILL:
            if ended.code != -9:
                yield f"ended with {ended.code}, not by SIGKILL"
            return
        removal = self._struck(ended) in ("unlink", "rmdir")  # what failed to be removed is there
        if ended.code == 0:
            rest = {
                name: content
                for name, content in there.items()
                if not (removal and _is_leftover(name))
            }
            if trials.differences(rest, self.after):
                yield "exit 0, but not all was written"
        else:
            yield from _not_one_line(ended)
            if not removal:
                extra = (name for name in there if name not in self.before)
                yield from (f"left {name}" for name in extra if _is_leftover(name))

    def _struck(self, ended: Ended) -> str:
        """Return the operation that failed; of two threads either may have come to it."""
        reached = len(ended.operations) >= self.number
        return ended.operations[self.number - 1] if reached else self.operation

    def _in_the_end(self, attack: Attack) -> Iterator[str]:
        """Give the command again, and yield what is not as after an undisturbed one."""
        again = attack.run(self.command)
        if again.code and self.goes_on and trials.differences(attack.content(), self.after):
            again = attack.run(self.goes_on)
            if not again.code and self.goes_on[:2] == ("runs", "rm"):
                again = attack.run(self.command)
        if trials.differences(attack.content(), self.after):
            attack.num_cleared += 1
            attack.run(("cache", "repair"))  # removes leftovers of what had been done
        differences = trials.differences(attack.content(), self.after)
        yield from differences
        if again.code and differences:
            yield f"again ends with {again.code}: {again.lines[-1:]}"
        if (last := attack.run(("cache", "verify"))).code:
            yield f"verify ends with {last.code} after all"


def attack_verb(
    attack: Attack, verb: Verb, *, faults: Sequence[str], most: int | None = None
) -> Row:
    """Try a verb at its file operations.

    Args:
        attack: Where to.
        verb: The command.
        faults: What to do to it.
        most: Points of each fault, spread evenly; all if None.
    """
    began = time.perf_counter()
    start = attack.stage(verb.stage)
    trials.copy_of(start, attack.place)
    command = attack.arguments(verb.command)  # stores are named while they are there
    before = attack.content()
    is_whole = attack.run(("cache", "verify")).code == 0
    whole = attack.run(command, count=True)
    assert whole.code == 0, (verb.name, whole.lines)
    after = attack.content()
    row = Row(name=verb.name, operations=len(whole.operations))
    cleared_before = attack.num_cleared
    dear = int(_SECONDS / verb.seconds)
    for fault in faults:
        for number in _points(len(whole.operations), min(dear, most or dear)):
            trials.copy_of(start, attack.place)
            trial = Trial(
                command=command,
                goes_on=verb.goes_on,
                number=number,
                operation=whole.operations[number - 1],
                fault=fault,
                before=before,
                after=after,
                is_whole_before=is_whole,
            )
            problems = list(trial.problems(attack))
            told = f"{verb.name}, {fault} at {number} ({trial.operation})"
            row.points += 1
            row.survived += not problems
            row.leftovers += sum(problem.startswith("extra ") for problem in problems)
            row.failures += [f"{told}: {problem[:300]}" for problem in problems]
    row.cleared = attack.num_cleared - cleared_before
    row.seconds = time.perf_counter() - began
    return row


def _points(count: int, most: int | None) -> list[int]:
    if most is None or most >= count:
        return list(range(1, count + 1))
    return sorted({1 + (2 * step + 1) * count // (2 * most) for step in range(most)})


def _not_one_line(ended: Ended) -> Iterator[str]:
    """Yield what is wrong with the end of a command that could not write."""
    lines = [line for line in ended.lines if line.startswith("lightalign: ")]
    is_one = ended.code == 2 and len(lines) == 1
    if not is_one or any("Traceback" in line for line in ended.lines):
        yield f"exit {ended.code}, {list(ended.lines[-3:])}"


def _is_leftover(name: str) -> bool:
    return any(part.startswith(".tmp") or part.endswith(".lock") for part in name.split("/"))


def is_clean(there: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Return whether all below `features` belongs to whole stores, and no leftover lies anywhere.

    A store is whole where its bytes are those of before the command or after it undisturbed.
    """
    if any(_is_leftover(name) for name in there if name.startswith("home/")):
        return False
    runs = {name.rpartition("/")[0] for name in there if name.endswith("/report.json")}
    if any(f"{run}/state.safetensors" in there for run in runs):  # of a training that is finished
        return False
    belongs: set[str] = {"home/features"} & set(there)
    for store in {name for name in there if _is_store(name)}:
        inside = _below(there, store)
        if not any(inside == _below(state, store) for state in (before, after) if store in state):
            return False
        split = store.rpartition("/")[0]
        pairs = {name for name in (*before, *after) if _is_pairs_of(name, split)}
        if not any(_is_as_in((before, after), there, name) for name in pairs):
            return False
        belongs |= set(inside) | pairs | {split, split.rpartition("/")[0]}
    return all(name in belongs for name in there if name.startswith("home/features"))


def _is_as_in(whole: Sequence[dict[str, Any]], there: dict[str, Any], name: str) -> bool:
    return name in there and any(there[name] == state[name] for state in whole if name in state)


def _is_store(name: str) -> bool:
    return name.startswith("home/features/") and name.count("/") == 4 and "pairs--" not in name


def _is_pairs_of(name: str, split: str) -> bool:
    return name.startswith(f"{split}/pairs--") and name.count("/") == 4


def _below(content: dict[str, Any], folder: str) -> dict[str, Any]:
    return {
        name: value
        for name, value in content.items()
        if name == folder or name.startswith(f"{folder}/")
    }


def _flip_a_bit(store: Path) -> None:
    path = next(file for file in (store / "shard-00000" / "values").rglob("*") if file.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _draw_pictures(folder: Path) -> None:
    """Draw pictures of two classes, in folders of splits and classes."""
    from PIL import Image

    for split, count in (("train", 8), ("test", 4)):
        for name, colour in (("red", (200, 30, 30)), ("blue", (30, 30, 200))):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                shade = tuple(min(255, value + 5 * number) for value in colour)
                Image.new("RGB", (32, 32), shade).save(folder / split / name / f"{number}.png")


def _write_pairs(path: Path) -> None:
    """Write a table of pairs of texts with grades."""
    words = ("red", "blue", "green", "large", "small", "round")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("sentence1", "sentence2", "score", "split"))
        for number, first in enumerate(words):
            for second in words:
                writer.writerow(
                    (f"a {first} ball {number}", f"a {second} ball", int(first == second), "test")
                )


def import_everything(*, exports: bool = False) -> None:
    """Import what commands need, so that no child does.

    Args:
        exports: Import what exports of pretrained encoders need, too, which takes longer.
    """
    import torch

    torch.set_num_threads(1)
    import lightalign

    for module in pkgutil.walk_packages(lightalign.__path__, "lightalign."):
        if not any(part in module.name for part in _HEAVY):
            importlib.import_module(module.name)
    names = ["pyarrow.parquet", "sklearn.linear_model", "safetensors.torch", "faiss", "h5py"]
    if exports:
        names += ["sentence_transformers", "onnxscript", "torch.onnx"]
    for name in names:
        importlib.import_module(name)
    sys.argv = ["lightalign", "cache", "ls", "--help"]
    gc.freeze()  # else each child would copy all pages at its first collection


def main() -> None:
    """Try what is asked for, print a table, and exit 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verbs", nargs="*", help="all if none are given")
    parser.add_argument("--points", type=int, help="of each verb and fault; all if not given")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--rotate", action="store_true", help="one fault a verb, in turn")
    parser.add_argument("--fast", action="store_true", help="what the default suite tries")
    asked = parser.parse_args()
    chosen = [
        verb
        for verb in VERBS
        if (verb.name in asked.verbs or not asked.verbs) and (verb.is_fast or not asked.fast)
    ]
    import_everything(exports=any(verb.stage == "pretrained" for verb in chosen))
    failed = False
    print(
        f"{'verb':24} {'operations':>10} {'points':>7} {'survived':>9} "
        f"{'cleared by repair':>18} {'leftovers':>9} {'s':>6}"
    )
    memory = Path("/dev/shm")  # a disk would be waited for most of the time
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="attack-", dir=place) as folder:
        attack = Attack(Path(folder).resolve())
        for number, verb in enumerate(chosen):
            faults = asked.faults.split(",")
            if asked.rotate:
                faults = [faults[number % len(faults)]]
            row = attack_verb(attack, verb, faults=faults, most=asked.points)
            print(
                f"{row.name:24} {row.operations:10} {row.points:7} {row.survived:9} "
                f"{row.cleared:18} {row.leftovers:9} {row.seconds:6.1f}",
                *row.failures,
                sep="\n    ",
                flush=True,
            )
            failed |= bool(row.failures)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
