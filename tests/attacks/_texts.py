"""Mutations of JSON, TOML, JSON lines and tables: values of other types, depths, sizes, bytes."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence
from pathlib import Path
from typing import Any

from _bytes import HUGE, Mutation

WRONG: tuple[Any, ...] = (
    None,
    [],
    {},
    "",
    "x",
    "\ud800",
    "\x1b[31m\x07\0",
    0,
    -1,
    True,
    float("inf"),
    float("nan"),
    0.5,
    10**15,
    10**30,
    [[]],
    [None],
    {"a": None},
    "../../../etc/passwd",
    "n" * 300,
)
OTHER_NUMBERS = 3  # tries at finding a number to change


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container below `value` with each of its keys."""
    keys: Any = ()
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = range(min(len(value), 50))
    for key in keys:
        yield value, key
        yield from _places(value[key])


def change_json(value: Any, chance: random.Random) -> str | None:
    """Change one value of a JSON value in place, or take it or another away."""
    places = list(_places(value))
    if not places:
        return None
    container, key = chance.choice(places)
    old = container[key]
    if chance.random() < 0.2:
        del container[key]
        return f"{key!r} dropped"
    if isinstance(old, int | float) and not isinstance(old, bool) and chance.random() < 0.25:
        new: Any = chance.choice([old + 1, old * 2, old // 2, -old])
    elif isinstance(old, list) and chance.random() < 0.3:
        new = chance.choice([old[::-1], old[1:], old + old, old[:1]])
    else:
        new = chance.choice(WRONG)
    if new == old and type(new) is type(old):
        return None
    container[key] = new
    return f"{key!r} becomes {new!r:.40}"


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _dump(path: Path, value: Any) -> None:
    content = json.dumps(value, indent=1, sort_keys=True) + "\n"
    path.write_text(content.replace("Infinity", "1e999"), encoding="utf-8")


def json_value(path: Path, chance: random.Random) -> str | None:
    value = _load(path)
    told = change_json(value, chance)
    if told is not None:
        _dump(path, value)
    return told


def json_value_resealed(path: Path, chance: random.Random) -> str | None:
    """Change a value of a file with a checksum, and make the checksum right, as a tool would."""
    from lightalign.featcache import atomic_files

    table = _load(path)
    if not isinstance(table, dict) or "checksum" not in table:
        return None
    del table["checksum"]
    told = change_json(table, chance)
    if told is None:
        return None
    try:
        atomic_files.write_sealed(path, table)
    except (ValueError, UnicodeEncodeError):
        return None
    copy = path.with_name("manifest.copy.json")
    if path.name == "manifest.json" and copy.is_file():
        copy.write_bytes(path.read_bytes())
    return f"{told}, sealed again"


def json_other_top(path: Path, chance: random.Random) -> str | None:
    content = chance.choice(["[]", "null", "{}", "3", '"x"', "[1, 2]", "NaN", '{"a": {}}'])
    path.write_text(content)
    return f"holds {content}"


def json_deep(path: Path, chance: random.Random) -> str | None:
    opening = chance.choice(["[", '{"a":'])
    path.write_text(opening * 100_000)
    return f"100,000 times {opening}"


def json_deep_inside(path: Path, chance: random.Random) -> str | None:
    value = _load(path)
    if not isinstance(value, dict) or not value:
        return None
    key = chance.choice(sorted(value))
    value[key] = "DEEP"
    depth = chance.choice([500, 2000, 100_000])
    text = json.dumps(value, indent=1, sort_keys=True)
    path.write_text(text.replace('"DEEP"', "[" * depth + "]" * depth) + "\n")
    return f"{key!r} becomes {depth} lists in one another"


def json_duplicate_key(path: Path, chance: random.Random) -> str | None:
    value = _load(path)
    if not isinstance(value, dict) or not value:
        return None
    key = chance.choice(sorted(value))
    text = json.dumps(value, indent=1, sort_keys=True)
    path.write_text(text[:-2] + f",\n {json.dumps(key)}: 7\n}}\n")
    return f"{key!r} stands there twice"


def json_many_digits(path: Path, chance: random.Random) -> str | None:
    value = _load(path)
    places = [place for place in _places(value) if isinstance(place[0][place[1]], int | float)]
    if not places:
        return None
    container, key = chance.choice(places)
    container[key] = "DIGITS"
    path.write_text(json.dumps(value, indent=1).replace('"DIGITS"', "9" * 5000))
    return f"{key!r} becomes 5,000 digits"


def oversized(path: Path, _: random.Random) -> str | None:
    content = path.read_bytes()
    with path.open("wb") as file:
        file.write(content + b" " * HUGE)
    return "100 MB of spaces added"


def with_mark(path: Path, _: random.Random) -> str | None:
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return "begins with a byte order mark"


def other_encoding(path: Path, chance: random.Random) -> str | None:
    content = path.read_bytes()
    name = chance.choice(["utf-16", "latin-1", "a byte"])
    if name == "utf-16":
        path.write_bytes(content.decode("utf-8").encode("utf-16"))
    else:
        place = chance.randrange(len(content) + 1)
        path.write_bytes(content[:place] + b"\xe9\xff" + content[place:])
    return f"not UTF-8: {name}"


def control_characters(path: Path, chance: random.Random) -> str | None:
    content = path.read_bytes()
    place = chance.randrange(len(content) + 1)
    path.write_bytes(content[:place] + b"\x1b]0;x\x07\x00\x1b[2J" + content[place:])
    return f"control characters at byte {place}"


def half_a_line(path: Path, _: random.Random) -> str | None:
    content = path.read_bytes().rstrip(b"\n")
    start = content.rfind(b"\n") + 1
    path.write_bytes(content[: (start + len(content)) // 2])
    return "ends in the middle of its last line"


def a_line_changed(path: Path, chance: random.Random) -> str | None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        return None
    number = chance.randrange(len(lines))
    new = chance.choice(
        ["", "null", "[]", "x", "\x1b[2Jx", "\t\t", "a,b,c,d,e,f", '{"image": 3}', "{" * 5000]
    )
    lines[number] = new
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"line {number + 1} becomes {new!r:.40}"


def a_json_line_changed(path: Path, chance: random.Random) -> str | None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        return None
    number = chance.randrange(len(lines))
    value = json.loads(lines[number])
    told = change_json(value, chance)
    lines[number] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return told and f"line {number + 1}: {told}"


def an_image_path(path: Path, chance: random.Random) -> str | None:
    """Have a row of a table of JSON lines name a picture that there cannot be, or must not."""
    lines = path.read_text(encoding="utf-8").splitlines()
    number = chance.randrange(len(lines))
    row = json.loads(lines[number])
    row["image"] = chance.choice(
        ["n" * 300 + ".png", "a\0b.png", "../../../../etc/passwd", "/dev/zero", "\ud800.png", "."]
    )
    lines[number] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"row {number + 1} names the picture {row['image']!r:.40}"


def toml_value(path: Path, chance: random.Random) -> str | None:
    import tomli_w

    from lightalign.featcache.documents import tomllib

    table: MutableMapping[str, Any] | MutableSequence[Any]
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    told = change_json(table, chance)
    if told is None:
        return None
    try:
        path.write_text(tomli_w.dumps(table), encoding="utf-8")
    except (TypeError, ValueError, AttributeError):
        return None  # TOML has no null, and no lone surrogates
    return told


def toml_deep(path: Path, chance: random.Random) -> str | None:
    opening = chance.choice(["a = " + "[" * 100_000, "a." * 50_000 + "b = 1", "[[a" * 100])
    path.write_text(opening)
    return f"holds {opening[:20]}..."


def toml_duplicate(path: Path, _: random.Random) -> str | None:
    content = path.read_text(encoding="utf-8")
    first = next((line for line in content.splitlines() if "=" in line), "a = 1")
    path.write_text(f"{first}\n{content}")
    return "its first key stands there twice"


def toml_many_digits(path: Path, _: random.Random) -> str | None:
    content = path.read_text(encoding="utf-8")
    path.write_text(f"number = {'9' * 5000}\n{content}")
    return "a number of 5,000 digits"


def _named(*made: Callable[..., str | None]) -> Mapping[str, Mutation]:
    return {mutation.__name__: mutation for mutation in made}


TEXT = _named(oversized, with_mark, other_encoding, control_characters)
JSON = {
    **TEXT,
    **_named(
        json_value,
        json_other_top,
        json_deep,
        json_deep_inside,
        json_duplicate_key,
        json_many_digits,
    ),
}
SEALED = {**JSON, **_named(json_value_resealed)}
TOML = {**TEXT, **_named(toml_value, toml_deep, toml_duplicate, toml_many_digits)}
JSON_LINES = {**TEXT, **_named(half_a_line, a_line_changed, a_json_line_changed, json_deep)}
TABLE = {**TEXT, **_named(half_a_line, a_line_changed)}
JSON_TABLE = {**JSON_LINES, **_named(an_image_path)}
