"""Run two commands of one run or store at once, many times, and look who has proceeded.

    python tests/attacks/races.py [--rounds N] [--only RACE]

Of two commands that write the same, exactly one proceeds and the other refuses in one line with
exit code 2. Prints a row for each race, and exits 1 if a round went otherwise.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before anything reads it: a fork keeps no other threads

import _children  # noqa: E402
import _home  # noqa: E402

_LIMIT = 120.0  # seconds of one command
_SETS = _home.sets("train.batch_size=32", "towers.both.project.out=16", "train.validation=none")
_TRAIN = ["train-adapter", "--preset", "linear", "--data", "shapes", "--device", "cpu", *_SETS]
_LONG = [*_TRAIN, *_home.sets("train.epochs=60"), "--name", "new"]  # until the other has come
_DISK = _home.sets("train.residency=disk")  # else it holds all that it reads
_RESUME = ["train-adapter", "--resume", "stopped", "--device", "cpu"]
_FINE_TUNE = ["fine-tune", "main", "--data", "image-folder", "--device", "cpu"]
_TUNE_NEW = [*_FINE_TUNE, *_home.sets("epochs=20", "batch_size=4"), "--name", "new"]
_INDEX = ["index", "main", "--split", "train", "--side", "both", "--index", "IVF2,Flat"]
_REPAIR = ["cache", "repair", "{store}", "--device", "cpu"]
_EXTRACT = ["extract", "--encoder", "toy-image", *_home.FROM_SHAPES, "--split", "val"]


@dataclass(frozen=True)
class Race:
    """Two commands, and what may come of them.

    Attributes:
        first: Command that begins.
        second: Command that comes at once, or as soon as `after` is there.
        after: File below the home that says that the first is at work, or nothing.
        winner: Position of the one that has to proceed, or None for either.
        both: Whether both may proceed, one after the other.
        says: What the refusal has to say.
    """

    first: Sequence[str]
    second: Sequence[str]
    after: str = ""
    winner: int | None = None
    both: bool = False
    says: str = ""


def _under(first: Sequence[str], second: Sequence[str], run: str) -> Race:
    return Race(first, second, after=f"runs/{run}/run.lock", winner=0, says=run)


_SHORT = [*_TRAIN, *_home.sets("train.epochs=3"), "--name", "new"]
_NEW_RM, _STOPPED_RM = ["runs", "rm", "new"], ["runs", "rm", "stopped"]
RACES = {
    "two trainings": Race([*_SHORT, "--seed", "1"], [*_SHORT, "--seed", "2"]),
    "training, then fine-tuning": _under(_LONG, _TUNE_NEW, "new"),
    "fine-tuning, then training": _under(_TUNE_NEW, _LONG, "new"),
    "training + fine-tuning": Race(_SHORT, _TUNE_NEW),
    "training + resume": Race([*_SHORT[:-1], "stopped"], _RESUME, winner=1),
    "two resumes": Race(_RESUME, _RESUME),
    "rm under a training": _under(_LONG, _NEW_RM, "new"),
    "rm under a resume": _under(_RESUME, _STOPPED_RM, "stopped"),
    "rm under a fine-tuning": _under(_TUNE_NEW, _NEW_RM, "new"),
    "rm under an index": _under(_INDEX, ["runs", "rm", "main"], "main"),
    "two rms of a run": Race(_STOPPED_RM, _STOPPED_RM),
    "cache rm --force under a training": Race(
        [*_LONG, *_DISK],
        ["cache", "rm", "--force", "{store}"],
        after="runs/new/log.jsonl",
        winner=1,
        says="toy-image",
    ),
    "two repairs": Race(_REPAIR, _REPAIR, both=True),
    "cache rm + extract": Race(["cache", "rm", "--force", "{val}"], _EXTRACT, both=True),
}


class Races:
    """A prepared home, of which each round gets a copy.

    Args:
        scratch: A folder for everything.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.place = scratch / "place"
        self.whole = scratch / "whole"
        for name in ("home", "out"):
            (self.place / name).mkdir(parents=True)
        _home.write_datasets(self.place / "home" / "datasets")
        folder = ["extract", "--encoder", "toy-image", "--data", "image-folder", *_home.ROWS]
        for command in (*_home.STORES[:2], folder, _home.RUNS[0]):
            _home._run(self.place, command)
        _home._stop_a_training(self.place)
        self.place.rename(self.whole)

    def round(self, race: Race) -> str:
        """Run both commands on a copy of the home, and return what is wrong, or nothing."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.whole, self.place)
        if race.first is _REPAIR:
            shard = next(self._store("train").glob("*-0*"))
            shutil.rmtree(shard) if shard.is_dir() else shard.unlink()
        after = self.place / "home" / race.after if race.after else None
        children = [self._begin(1, race.second, after=after), self._begin(0, race.first)]
        children.reverse()
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        said = [(self.scratch / f"err-{number}").read_text() for number in range(2)]
        return self._wrong(race, codes, said)

    def _wrong(self, race: Race, codes: list[int], said: list[str]) -> str:
        told = f"exit codes {codes}: {said}"
        allowed = [[0, 2], [0, 0]] if race.both else [[0, 2]]
        if sorted(codes) not in allowed or (race.winner is not None and codes[race.winner] != 0):
            return told
        for code, text in zip(codes, said, strict=True):
            if code == 2 and (text.count("\n") != 1 or race.says not in text):
                return told
        verify = self._begin(0, ["cache", "verify"])
        if os.waitstatus_to_exitcode(os.waitpid(verify, 0)[1]) != 0:
            return f"{told}; cache verify: {(self.scratch / 'out-0').read_text()}"
        left = [path for path in (self.place / "home").rglob("*.lock") if path.name != "split.lock"]
        return f"{told}; left {left}" if left else ""

    def _store(self, split: str) -> Path:
        return next((self.place / "home/features/shapes" / split).glob("toy-image--*"))

    def _begin(self, number: int, command: Sequence[str], *, after: Path | None = None) -> int:
        """Fork a command, which begins once the file `after` is there; return its process id."""
        arguments = [
            part.replace("{store}", str(self._store("train"))) if part == "{store}" else part
            for part in command
        ]
        arguments = [str(self._store("val")) if part == "{val}" else part for part in arguments]
        arguments += ["--home", str(self.place / "home"), "--quiet"]
        child = os.fork()
        if child == 0:
            late = time.monotonic() + _LIMIT
            while after and not os.path.lexists(after) and time.monotonic() < late:
                time.sleep(0.0005)
            self._be(number, arguments)
        return child

    def _be(self, number: int, arguments: Sequence[str]) -> None:
        """Become the command: its output goes into files, and nothing of ours runs afterwards."""
        code = 1
        try:
            for stream, name in ((1, "out"), (2, "err")):
                file = os.open(
                    self.scratch / f"{name}-{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                )
                os.dup2(file, stream)
            from lightalign.cli import main

            sys.argv = ["lightalign", *arguments]
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            try:
                main()
                code = 0
            except SystemExit as ended:
                code = int(ended.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def run(rounds: int, names: Sequence[str], say: Callable[[str], None]) -> bool:
    """Run the races, say how many rounds of each went well, and return whether all did."""
    _children.import_everything(thorough=False)
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(prefix="races-", dir=memory if memory.is_dir() else None))
    well = True
    try:
        races = Races(scratch)
        for name in names:
            ends = [races.round(RACES[name]) for _ in range(rounds)]
            wrong = [line for line in ends if line]
            say(f"{name:36} {rounds - len(wrong)} of {rounds}")
            for line in wrong[:2]:
                say(f"    {line:.1500}")
            well = well and not wrong
    finally:
        shutil.rmtree(scratch)
    return well


def main() -> None:
    """Race and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", action="append", choices=sorted(RACES))
    options = parser.parse_args()
    well = run(options.rounds, options.only or list(RACES), lambda line: print(line, flush=True))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
