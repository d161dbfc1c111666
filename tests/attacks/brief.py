"""Run a little of the attacks after one import: `python tests/attacks/brief.py operation mutation`.

Prints what each of them prints, and exits 1 if any has failed.
"""

import os
import sys
from collections.abc import Callable, Sequence

import every_file_operation  # first: it sets how many threads libraries begin with
import mutations
from _children import import_everything

KINDS = ("manifest", "zarr.json", "run.toml")


def only(names: Sequence[str]) -> list[str]:
    """Return the options that choose these."""
    return [part for name in names for part in ("--only", name)]


ATTACKS: dict[str, tuple[Callable[[], None], Sequence[str]]] = {
    "one file operation of the commands that are used most": (
        every_file_operation.main,
        ("--fast", "--points", "1", "--rotate"),
    ),
    "a mutation of each kind that is read most": (
        mutations.main,
        ("--count", str(len(KINDS)), "--verbs", "1", *only(KINDS)),
    ),
}


def main() -> None:
    """Run each attack in a child of its own, and exit 1 if one has failed."""
    import_everything(thorough=False)
    codes = []
    asked = sys.argv[1:] or [""]  # all of them
    for name, (attack, options) in ATTACKS.items():
        if not any(word in name for word in asked):
            continue
        print(f"\n{name}", flush=True)
        child = os.fork()
        if child == 0:
            sys.argv = [f"{attack.__module__}.py", *options]
            attack()  # ends the process
            os._exit(70)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(f"\nexit codes: {codes}")
    sys.exit(int(not codes or any(codes)))


if __name__ == "__main__":
    main()
