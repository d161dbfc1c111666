"""Judge how a command ended on a changed home, beside how it ends when nothing is disturbed."""

import hashlib
import json
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _bytes import ANY
from _children import Outcome
from _kinds import Verb

if TYPE_CHECKING:
    from mutations import Trial

REFUSED, EQUAL, OTHER = "refused", "equal", "allowed to differ"
FAILURES = (
    "traceback",
    "signal",
    "hang",
    "changed number",
    "several lines",
    "exit code",
    "not JSON",
    "unseen",
)
OF_ANY_FILE = frozenset(ANY)
# of a right type and with a right checksum: other numbers are what their maker says
MAY_DIFFER = frozenset({"json_value_resealed", "hdf5_rows_resealed", "rows_of_ids_resealed"})
MAY_DIFFER |= {"npy_header_resealed", "faiss_header_resealed"}
_NAMED = re.compile(
    r"stopped|damag|differ|missing|cannot|corrupt|not valid|unreadable|skipp|passed over|left out"
)
# what is said beside the numbers, and how much work it was
_BESIDE = re.compile(
    r"warning|note|free|problem|damage|reason|message|unreadable|recomputed|second"
    r"|\.encoded$|\.derived$|\.cached$|\.bytes$|\.files\."
)


@dataclass(frozen=True)
class Verdict:
    """What a command made of a mutation.

    Attributes:
        sort: One of REFUSED, EQUAL, OTHER and FAILURES.
        detail: What shows it.
    """

    sort: str
    detail: str = ""


@dataclass(frozen=True)
class Undisturbed:
    """How a command ends when nothing is disturbed.

    Attributes:
        code: Exit code.
        numbers: All that is compared, by name: what two times gave alike.
        volatile: Names of what two times gave differently.
        out: What it printed on standard output.
        seconds: How long it took.
    """

    code: int
    numbers: Mapping[str, Any]
    volatile: frozenset[str]
    out: str
    seconds: float

    @classmethod
    def of(
        cls, outcome: Outcome, first: Mapping[str, Any], second: Mapping[str, Any]
    ) -> "Undisturbed":
        """Keep what is the same both times."""
        differing = {name for name in first | second if first.get(name) != second.get(name)}
        alike = {name: value for name, value in first.items() if name not in differing}
        return cls(outcome.code, alike, frozenset(differing), outcome.out, outcome.seconds)

    def without(self, beginning: str) -> "Undisturbed":
        """Leave out what begins so."""
        return replace(self, numbers=_without(self.numbers, beginning))


def _without(numbers: Mapping[str, Any], beginning: str) -> dict[str, Any]:
    return {name: value for name, value in numbers.items() if not name.startswith(beginning)}


def numbers(outcome: Outcome, verb: Verb, place: Path) -> dict[str, Any]:
    """Return the leaves of the JSON object a command printed, and the hashes of what it wrote."""
    try:
        shown = dict(leaves(json.loads(outcome.out), "")) if outcome.out else {}
    except (ValueError, RecursionError):
        shown = {"output": outcome.out}
    if not verb.shows:
        shown = {}
    for pattern in verb.written:
        for path in sorted(place.glob(pattern)):
            if path.suffix == ".html":
                shown.update(_lines(path))
            elif path.is_file() and not path.name.endswith(".lock"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                shown[f"file {path.relative_to(place)}"] = digest
    return shown


def _lines(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the lines of a page that hold a number; their order is that of the runs and parts."""
    texts = re.sub(r"<(script|style|svg).*?</\1>|<[^>]*>", "\n", page.read_text(), flags=re.DOTALL)
    parts = [part.strip() for part in texts.splitlines() if part.strip()]
    for number, part in enumerate(parts):
        yield f"{page.name} {number}", part


def leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield what is no table and no list, by its place, and the length of each list."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from leaves(below, f"{name}.{key}")
    elif isinstance(value, list):
        yield f"{name}.length", len(value)
        for index, below in enumerate(value):
            yield from leaves(below, f"{name}.{index}")
    else:
        yield name, value


def judge(
    outcome: Outcome,
    verb: Verb,
    undisturbed: Undisturbed,
    *,
    place: Path,
    path: str,
    may_differ: bool,
    is_resealed: bool,
) -> Verdict:
    """Return what a command made of a mutation.

    Args:
        outcome: How it ended.
        verb: The command.
        undisturbed: How it ends when nothing is disturbed.
        place: Where everything lies.
        path: What was changed, below it.
        may_differ: Whether other numbers are right.
        is_resealed: Whether checksums were made right.
    """
    crash = _crash(outcome)
    if crash is not None:
        return crash
    repairs = verb.arguments[:2] == ("cache", "repair")
    if outcome.code == 2 or outcome.code not in (0, undisturbed.code):
        if outcome.code == 1 and (verb.verifies or repairs):
            return Verdict(REFUSED, "exit 1")
        return _refusal(outcome)
    if outcome.out == undisturbed.out and not is_resealed and _ought_to_see(verb, path):
        return Verdict("unseen", f"exit {outcome.code}, and the same lines")
    actual = numbers(outcome, verb, place)
    resumes = "--resume" in verb.arguments
    if is_resealed or not (repairs or resumes):  # which mend or take over what was changed
        folder = "/".join(path.split("/")[:5]) if is_resealed else path
        undisturbed = undisturbed.without(f"file {folder}")
        actual = _without(actual, f"file {folder}")
    if outcome.code == 0 and "output" in actual:
        return Verdict("not JSON", actual["output"][:200])
    return _compare(actual, outcome, verb, undisturbed, may_differ=may_differ)


def _ought_to_see(verb: Verb, path: str) -> bool:
    """Return whether a command looks for damage where it was done."""
    seen = "home/features/" if "{store}" not in verb.arguments else "home/features/*/*/*/*"
    return verb.verifies and fnmatch(path, f"{seen}*")


def _crash(outcome: Outcome) -> Verdict | None:
    if "Traceback (most recent call last)" in outcome.err:
        lines = outcome.err.strip().splitlines()
        places = [line.strip() for line in lines if line.lstrip().startswith("File ")]
        ours = [line for line in places if "/lightalign/" in line and "/tests/" not in line]
        where = re.sub(r'File ".*/lightalign/', '"', (ours or places or [""])[-1])
        return Verdict("traceback", f"{lines[-1][:160]} at {where[:120]}")
    if "lightalign: not enough memory" in outcome.err:  # as a file has made it allocate
        return Verdict("traceback", outcome.err.strip().splitlines()[-1][:300])
    if outcome.hung:
        return Verdict("hang", "also after SIGTERM" if outcome.deaf else "until SIGTERM")
    if outcome.code < 0:
        return Verdict("signal", signal.Signals(-outcome.code).name)
    return None


def _refusal(outcome: Outcome) -> Verdict:
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    if outcome.code != 2:
        return Verdict("exit code", f"{outcome.code}: {' / '.join(lines)[:200]}")
    if len(lines) != 1 or not lines[0].startswith("lightalign: "):
        return Verdict("several lines", " / ".join(lines)[:300] or "no line at all")
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in lines[0]):
        return Verdict("several lines", f"control characters: {lines[0]!r:.200}")
    if len(lines[0]) > 1500:
        return Verdict("several lines", f"one line of {len(lines[0])} characters: {lines[0]:.100}")
    if "Error: " in lines[0] and "_nested" in lines[0]:
        return Verdict("several lines", lines[0])
    return Verdict(REFUSED, lines[0])


def _compare(
    actual: Mapping[str, Any],
    outcome: Outcome,
    verb: Verb,
    undisturbed: Undisturbed,
    *,
    may_differ: bool,
) -> Verdict:
    differing = sorted(
        name
        for name in {**actual, **undisturbed.numbers}
        if name not in undisturbed.volatile and actual.get(name) != undisturbed.numbers.get(name)
    )
    names = [name for name in differing if not _BESIDE.search(name)]
    if not names:
        return Verdict(EQUAL)
    shown = (
        f"{names[0]}: {actual.get(names[0])!r:.60}, not {undisturbed.numbers.get(names[0])!r:.60}"
    )
    if may_differ or verb.verifies:
        return Verdict(OTHER, shown)
    new = "\n".join(str(actual[name]) for name in differing if isinstance(actual.get(name), str))
    if verb.lists and (_NAMED.search(outcome.err) or _NAMED.search(new)):
        return Verdict(OTHER, shown)
    return Verdict("changed number", f"{len(names)} differ: {shown}")


def print_table(
    trials: Sequence["Trial"], seed: int, only: Sequence[str] | None, seconds: float
) -> bool:
    """Print the table and a line for each failure; return whether there is any."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        counts[trial.kind]["mutations"] += 1
        for verdict in trial.verdicts.values():
            counts[trial.kind]["commands"] += 1
            counts[trial.kind][verdict.sort] += 1
            counts[trial.kind]["FAILED"] += verdict.sort in FAILURES
    heads = ["mutations", "commands", REFUSED, EQUAL, OTHER, "FAILED"]
    seen = [sort for sort in FAILURES if any(count[sort] for count in counts.values())]
    rows = [["kind of file", *heads, *seen]]
    total: Counter[str] = Counter()
    for kind, count in counts.items():
        rows.append([kind, *(str(count[head]) for head in [*heads, *seen])])
        total.update(count)
    rows.append(["all", *(str(total[head]) for head in [*heads, *seen])])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells))
    print(f"{seconds:.0f} s")
    flags = "".join(f" --only '{name}'" for name in only or ())
    for trial in trials:
        for verb, verdict in trial.verdicts.items():
            if verdict.sort in FAILURES:
                print(
                    f"FAILED {verdict.sort}: --seed {seed}{flags} --trial {trial.number}: "
                    f"{trial.kind}, {trial.path}, {trial.mutation}; {verb}: {verdict.detail}"
                )
    return bool(total["FAILED"])
