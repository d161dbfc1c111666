"""Kill a training and its resumptions at random times, and compare what they end with.

    python tests/attacks/random_kills.py [--kills N] [--seed N]

Each training is killed, resumed and killed again until it has finished. Its weights and its log,
but for times, must be those of one that was never disturbed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import trials
from every_file_operation import Attack, import_everything
from verbs import VERBS

_FIRST, _AGAIN = (
    next(verb.command for verb in VERBS if verb.name == name) for name in ("train", "resume")
)
_IN_A_ROW = 4  # kills of one training, so that one of an unlucky seed ends, too


def random_kills(attack: Attack, kills: int, seed: int) -> Iterator[tuple[int, int, list[str]]]:
    """Kill trainings; yield for each the kills before and after it was resumed, and what differs.

    Args:
        attack: Where to.
        kills: How many kills in all, at least.
        seed: Of the times.
    """
    random = np.random.default_rng(seed)
    start = attack.stage("both")
    trials.copy_of(start, attack.place)
    began = time.perf_counter()
    assert attack.run(_FIRST).code == 0
    longest = time.perf_counter() - began
    whole = attack.content()
    done = 0
    while done < kills:
        trials.copy_of(start, attack.place)
        first = again = 0
        while first + again < _IN_A_ROW:
            is_begun = (attack.home / "runs" / "a" / "run.toml").is_file()
            command = attack.arguments(_AGAIN if is_begun else _FIRST)
            arguments = [*command, "--home", str(attack.home)]
            after = random.uniform(0.2, 1) * longest
            ended = trials.run(arguments, attack.root, kill_after=after)
            if ended.code != -9:
                break
            first, again = first + (not is_begun), again + is_begun
        done += first + again
        yield first, again, list(_end(attack, whole))


def _end(attack: Attack, whole: dict[str, object]) -> Iterator[str]:
    """Let a training end, and yield what differs from an undisturbed one."""
    folder = attack.home / "runs" / "a"
    if not (folder / "report.json").is_file():
        ended = attack.run(_AGAIN if (folder / "run.toml").is_file() else _FIRST)
        if ended.code:
            yield f"resumed, it ends with {ended.code}: {ended.lines[-1:]}"
    attack.run(("cache", "repair"))  # of one that had finished, what was not yet cleared
    yield from trials.differences(attack.content(), whole)


def main() -> None:
    """Kill as often as asked, print the counts, and exit 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    import_everything()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        rows = list(random_kills(Attack(Path(folder).resolve()), asked.kills, asked.seed))
    differing = [line for *_, lines in rows for line in lines]
    print(
        f"{len(rows)} trainings: {sum(row[0] for row in rows)} kills of the first command, "
        f"{sum(row[1] for row in rows)} of resumptions; "
        f"{sum(not lines for *_, lines in rows)} ended as if undisturbed",
        *differing,
        sep="\n    ",
    )
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
