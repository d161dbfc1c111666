"""Attack every kind of file below a home: `python tests/attacks/mutations.py --count 500 --seed 0`.

Makes a small home with our own commands, then changes one file of it at a time, as a disk, another
tool, a person or an attacker would, and runs the commands that read the file, each in a forked
child with a bound on time and memory. A command may do as it did, with the same numbers, or refuse
in one line with exit code 2. Everything else is a failure: a traceback, a signal, a hang of more
than 10 seconds, several lines, another exit code, or other numbers with exit code 0.

Prints a table by kind of file, and a line for each failure that runs it again. Exits 1 if anything
has failed. `--only KIND` attacks one kind, `--trial N` makes one of the mutations, `--keep` leaves
the changed home of the last trial.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"  # before anything reads it: a fork keeps no other threads
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import _children  # noqa: E402
import _home  # noqa: E402
import _judge  # noqa: E402
from _kinds import KINDS, RUN_VERBS, VERBS, Kind, verbs_of  # noqa: E402

LIMIT = 10.0  # seconds that a command may take beyond what it took undisturbed
TRIES = 20  # mutations that are drawn until one applies


@dataclass
class Trial:
    """One mutation and what the commands made of it.

    Attributes:
        number: Which draw it was.
        kind: Name of the kind of file.
        path: The file, below PLACE.
        mutation: Name of what was done, and how.
        verdicts: What each command made of it.
    """

    number: int
    kind: str
    path: str
    mutation: str
    verdicts: dict[str, _judge.Verdict] = field(default_factory=dict)


class Attack:
    """A prepared home, and the commands as they end when nothing is disturbed.

    Args:
        scratch: A folder for everything.
        seed: Seed of all draws.
        verbs_each: Commands that are tried on each mutation.
        kinds: Names of the kinds that are attacked.
        thorough: Attack pretrained encoders and approximate indexes, too.
    """

    def __init__(
        self, scratch: Path, *, seed: int, verbs_each: int, kinds: Sequence[str], thorough: bool
    ) -> None:
        self.place = scratch / "place"
        self.whole = scratch / "whole"
        self.seed = seed
        self.verbs_each = verbs_each
        self.kinds = kinds
        self.scratch = scratch
        self._undisturbed: dict[tuple[str, str], _judge.Undisturbed] = {}
        _home.build(self.place, thorough=thorough)
        self.place.rename(self.whole)
        if _children.run_command(["runs", "--help"], scratch=scratch, limit=60).code == 0:
            VERBS.update(RUN_VERBS)  # type: ignore[attr-defined]

    def trial(self, number: int) -> Trial | None:
        """Make mutation `number`; None where its kind has no file that it applies to."""
        name = self.kinds[number % len(self.kinds)]
        kind = KINDS[name]
        for attempt in range(TRIES):
            chance = random.Random(f"{self.seed}/{number}/{attempt}")
            path = chance.choice(kind.files(self.whole)).relative_to(self.whole)
            mutation = self._draw(kind, chance)
            told = self._mutate(kind, path, mutation, chance_seed := chance.random())
            if told is not None:
                trial = Trial(number, name, str(path), f"{mutation}: {told}")
                for verb in self._chosen(path, chance):
                    verdict = self._verdict(verb, kind, path, mutation, chance_seed)
                    trial.verdicts[verb] = verdict
                return trial
        return None

    def _chosen(self, path: Path, chance: random.Random) -> list[str]:
        """Return names of commands, two thirds of them of what surely reads the file."""
        readers, others = verbs_of(self.place / path, self.place)
        chance.shuffle(readers)
        chance.shuffle(others)
        first = max(1, round(self.verbs_each * 2 / 3))
        chosen = [*readers[:first], *others, *readers[first:]]
        return list(dict.fromkeys(chosen))[: self.verbs_each]

    def _draw(self, kind: Kind, chance: random.Random) -> str:
        """Return the name of a mutation; those of the kind itself come as often as all others."""
        special = [name for name in kind.mutations if name not in _judge.OF_ANY_FILE]
        general = [name for name in kind.mutations if name in _judge.OF_ANY_FILE]
        return chance.choice(special if special and chance.random() < 0.5 else general)

    def _mutate(self, kind: Kind, path: Path, mutation: str, chance_seed: float) -> str | None:
        self._restore(path.parts[0])
        told = kind.mutations[mutation](self.place / path, random.Random(chance_seed))
        self._keep_times(path.parent)  # by which stores and runs are in order
        return told

    def _keep_times(self, folder: Path) -> None:
        for below in (folder, *folder.parents):
            for whole in (self.whole / below).glob("*.*"):
                changed = self.place / below / whole.name
                if changed.is_file() and not changed.is_symlink():
                    times = whole.stat()
                    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))

    def _restore(self, attacked: str) -> None:
        """Make PLACE as it was; the models, which are large, only where they are attacked."""
        shutil.rmtree(self.place, ignore_errors=True)
        for name in {"home", "given", "out", attacked}:
            shutil.copytree(self.whole / name, self.place / name)

    def _run(self, verb: str, store: str, *, limit: float) -> _children.Outcome:
        arguments = [
            part.replace("{place}", str(self.place)).replace("{store}", store)
            for part in VERBS[verb].arguments
        ]
        arguments += ["--home", str(self.place / "home"), "--json", "--quiet"]
        return _children.run_command(arguments, scratch=self.scratch, limit=limit)

    def _undisturbed_end(self, verb: str, store: str, attacked: str) -> _judge.Undisturbed:
        """Return how a command ends when nothing is disturbed; it is run twice."""
        if (verb, store) not in self._undisturbed:
            shown = []
            for _ in range(2):
                self._restore(attacked)
                outcome = self._run(verb, store, limit=120)
                shown.append(_judge.numbers(outcome, VERBS[verb], self.place))
            if outcome.code != 0 and not store and not VERBS[verb].verifies:  # one is incomplete
                raise RuntimeError(f"{verb} ends with {outcome.code}: {outcome.err}")
            self._undisturbed[verb, store] = _judge.Undisturbed.of(outcome, *shown)
        return self._undisturbed[verb, store]

    def _verdict(
        self, verb: str, kind: Kind, path: Path, mutation: str, chance_seed: float
    ) -> _judge.Verdict:
        """Return what one command makes of a mutation."""
        store = self._store_of(path) if "{store}" in VERBS[verb].arguments else ""
        undisturbed = self._undisturbed_end(verb, store, path.parts[0])
        self._mutate(kind, path, mutation, chance_seed)
        outcome = self._run(verb, store, limit=LIMIT + undisturbed.seconds)
        return _judge.judge(
            outcome,
            VERBS[verb],
            undisturbed,
            place=self.place,
            path=str(path),
            may_differ=kind.is_source or mutation in {*_judge.MAY_DIFFER, *kind.may_differ},
            is_resealed=mutation.endswith("_resealed"),
        )

    def _store_of(self, path: Path) -> str:
        parts = path.parts
        if parts[:2] == ("home", "features") and len(parts) > 5:
            return str(self.place.joinpath(*parts[:5]))
        folder = next(iter(sorted((self.whole / "home/features/shapes/train").glob("toy-image*"))))
        return str(self.place / folder.relative_to(self.whole))


def main() -> None:
    """Attack and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", type=int, default=3, help="commands on each mutation")
    parser.add_argument("--only", action="append", choices=sorted(KINDS))
    parser.add_argument("--trial", type=int, help="make this mutation alone")
    parser.add_argument("--keep", action="store_true", help="leave the changed home behind")
    options = parser.parse_args()
    began = time.monotonic()
    kinds = options.only or list(KINDS)
    # what they need takes longer to import and to make
    thorough = any(part in KINDS[name].pattern for name in kinds for part in ("models", "index"))
    _children.import_everything(thorough=thorough)
    memory = Path("/dev/shm")
    scratch = Path(tempfile.mkdtemp(prefix="lightalign-", dir=memory if memory.is_dir() else None))
    trials = []
    try:
        attack = Attack(
            scratch, seed=options.seed, verbs_each=options.verbs, kinds=kinds, thorough=thorough
        )
        numbers = [options.trial] if options.trial is not None else range(options.count)
        for trial in _trials(attack, numbers):
            trials.append(trial)
            _say(trial)
    finally:
        if options.keep:
            print(f"the home of the last trial: {scratch / 'place'}")
        else:
            shutil.rmtree(scratch)
    failed = _judge.print_table(trials, options.seed, options.only, time.monotonic() - began)
    sys.exit(1 if failed else 0)


def _trials(attack: Attack, numbers: Sequence[int]) -> Iterator[Trial]:
    for number in numbers:
        trial = attack.trial(number)
        if trial is not None:
            yield trial


def _say(trial: Trial) -> None:
    worst = Counter(verdict.sort for verdict in trial.verdicts.values())
    told = ", ".join(f"{sort} {count}" for sort, count in sorted(worst.items()))
    print(f"{trial.number:4} {trial.kind}: {trial.mutation:.80}: {told}", file=sys.stderr)
    for verb, verdict in trial.verdicts.items():
        if verdict.sort in _judge.FAILURES:
            line = f"     {verb}: {verdict.sort}: {trial.path}: {verdict.detail}"
            print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
