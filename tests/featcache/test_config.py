import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightalign.featcache.config import (
    apply_overrides,
    build,
    canonical_json,
    fingerprint,
    merge,
    resolve,
    to_table,
    to_toml,
)
from lightalign.featcache.documents import read_toml
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.registry import unknown_name


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Outer:
    rate: float
    name: str = "x"
    share: str | float = "auto"
    folder: Path | None = None
    inner: Inner = field(default_factory=Inner)
    grid: tuple[int, ...] | None = None


def test_tables_build_nested_dataclasses():
    spec = build(
        Outer, {"rate": 1, "inner": {"size": 3}, "folder": "a/b", "grid": [2, 3]}, where="t"
    )
    assert spec == Outer(rate=1.0, inner=Inner(size=3), folder=Path("a/b"), grid=(2, 3))
    assert isinstance(spec.rate, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rate": 1, "nmae": "y"}, r"t: unknown key 'nmae'; did you mean .*name.* known: .*'name'"),
        ({"rate": "fast"}, r"t\.rate must be a number, found 'fast'"),
        ({"rate": True}, r"t\.rate must be a number, found True"),
        ({"rate": 1, "inner": {"size": 1.5}}, r"t\.inner\.size must be a whole number, found 1\.5"),
        ({"rate": 1, "grid": [2, "a"]}, r"t\.grid must be a whole number, found 'a'"),
        ({}, r"t lacks rate$"),
    ],
)
def test_a_wrong_table_is_refused_by_key(table, message):
    with pytest.raises(SpecError, match=message):
        build(Outer, table, where="t")


@pytest.mark.parametrize(("value", "found"), [(3, (3,)), ([], ()), ((1, 2), (1, 2)), (None, None)])
def test_a_list_of_one_may_be_written_as_its_value(value, found):
    assert build(Outer, {"rate": 1, "grid": value}, where="t").grid == found


def test_a_field_of_two_types_takes_both():
    assert build(Outer, {"rate": 1, "share": 0.1}, where="t").share == 0.1
    assert build(Outer, {"rate": 1, "share": "none"}, where="t").share == "none"


def test_overrides_are_toml_values_or_strings():
    table = {"train": {"epochs": 1}, "kept": 1}
    changed = apply_overrides(
        table, ["train.epochs=3", "train.rate=1e-3", "a.b=word", 'a.c="4"', "d=[1, 2]"]
    )
    assert changed == {
        "train": {"epochs": 3, "rate": 1e-3},
        "kept": 1,
        "a": {"b": "word", "c": "4"},
        "d": [1, 2],
    }
    assert table == {"train": {"epochs": 1}, "kept": 1}


@pytest.mark.parametrize("override", ["", "x", "=1", "a..b=1", "kept.x=1"])
def test_a_malformed_override_is_refused(override):
    with pytest.raises(SpecError, match="--set"):
        apply_overrides({"kept": 1}, [override])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("9" * 5000, r"--set a\.b: Exceeds the limit"),
        ("[" * 5000 + "]" * 5000, r"--set a\.b: the value is too deeply nested"),
        ("[" * 100 + "]" * 100, r"--set a\.b: the value is too deeply nested"),
        ("{a=" * 5000, r"--set a\.b: the value is too deeply nested"),
        (str(10**30), r"--set a\.b: the value holds an integer of more than 64 bits"),
        ("1979-05-27", r"--set a\.b: the value holds a date"),
    ],
)
def test_a_value_that_nothing_could_be_done_with_is_refused_by_the_name_of_its_option(
    value, message
):
    with pytest.raises(SpecError, match=message):
        apply_overrides({}, [f"a.b={value}"])


def test_a_key_of_a_thousand_parts_is_none():
    with pytest.raises(SpecError, match=r"is not of the form a\.b=value"):
        apply_overrides({}, ["a." * 1000 + "b=1"])


def test_a_table_with_a_part_replaces_the_inherited_one_whole():
    base = {"fuse": {"part": "add-fusion", "context": 3}, "train": {"a": 1, "b": 2}}
    over = {"fuse": {"part": "mul-fusion"}, "train": {"b": 3}}
    assert merge(base, over) == {"fuse": {"part": "mul-fusion"}, "train": {"a": 1, "b": 3}}


def test_extends_is_followed_to_the_root():
    tables = {"c": {"extends": "b", "z": 3}, "b": {"extends": "a", "y": 2}, "a": {"x": 1, "y": 1}}
    assert resolve("c", tables.__getitem__) == {"x": 1, "y": 2, "z": 3}


def test_a_circle_of_extends_is_refused():
    tables = {"a": {"extends": "b"}, "b": {"extends": "a"}}
    with pytest.raises(SpecError, match="a -> b -> a"):
        resolve("a", tables.__getitem__)


def test_a_spec_survives_toml(tmp_path):
    spec = Outer(rate=0.5, folder=Path("a/b"), grid=(1, 2))
    (tmp_path / "s.toml").write_text(to_toml(to_table(spec)))
    assert build(Outer, read_toml(tmp_path / "s.toml"), where="t") == spec


@pytest.mark.parametrize("content", [b"a = ", b"\xff"])
def test_a_broken_toml_file_is_named(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=r"broken\.toml is not (valid TOML|UTF-8)"):
        read_toml(path)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans() | st.none()))
def test_the_fingerprint_does_not_depend_on_the_order_of_keys(table):
    backwards = dict(reversed(table.items()))
    assert fingerprint(table) == fingerprint(backwards)
    assert canonical_json(table).isascii()


@given(
    st.recursive(
        st.integers() | st.text() | st.booleans() | st.none() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_fingerprint_is_the_sha256_of_canonical_json(table):
    assert fingerprint(table) == hashlib.sha256(canonical_json(table).encode()).hexdigest()


@pytest.mark.parametrize("count", [999, 1000, 1001, 2000, 2001])
@pytest.mark.parametrize("as_value", [list, tuple, lambda rows: {"é": list(rows), "b": 1, "a": {}}])
def test_the_fingerprint_of_a_long_list_is_that_of_its_whole_json(count, as_value):
    value = as_value([f"ü{row}", {"z": row, "a": None}] for row in range(count))
    assert fingerprint(value) == hashlib.sha256(canonical_json(value).encode()).hexdigest()


@pytest.mark.parametrize("value", [{}, [], {1: 2, 10: 3, 9: 4}, {None: 1}, {True: 0.5}, "", 1.0])
def test_the_fingerprint_of_any_json_value_is_that_of_its_whole_json(value):
    assert fingerprint(value) == hashlib.sha256(canonical_json(value).encode()).hexdigest()


def test_an_unknown_name_lists_the_close_and_the_known():
    error = unknown_name("step", "add-fusin", ["mul-fusion", "add-fusion", "x"])
    assert isinstance(error, UnknownNameError)
    assert str(error) == (
        "no step named 'add-fusin'; close: ['add-fusion', 'mul-fusion']; "
        "known: ['add-fusion', 'mul-fusion', 'x']"
    )
