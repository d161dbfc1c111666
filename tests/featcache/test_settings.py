"""An option is a field with its setting: what fits it, and what is said of what does not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import pytest

from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.settings import Setting, check_settings, fields_of, in_type_words, keys_of


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: Annotated[int, Setting("Cells.", least=1)] = 3


@dataclass(frozen=True, kw_only=True)
class Spec:
    home: Path
    k: Annotated[int, Setting("Answers.", least=1, most=1000)] = 10
    folds: Annotated[int, Setting("Folds.", least=2)] = 0
    rate: Annotated[float | None, Setting("Rate.", above=0)] = None
    share: Annotated[float, Setting("Share.", least=0, below=1, called="a share")] = 0.5
    names: Annotated[tuple[str, ...], Setting("Names.", choices=("a", "b"), each_once=True)] = (
        "a",
    )
    source: Mapping[str, Any] | None = None
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        check_settings(self)


GOOD = Spec(home=Path("h"))


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"least": 1, "most": 2000}, "from 1 to 2,000"),
        ({"above": 0, "most": 1000}, "above 0 and at most 1,000"),
        ({"least": 2}, "at least 2"),
        ({"above": 0}, "above 0"),
        ({"least": 0, "below": 1, "called": "a share"}, "a share in [0, 1)"),
        ({"above": 0, "below": 1, "called": "a share"}, "a share in (0, 1)"),
        ({"above": 0, "below": 1}, "in (0, 1)"),
        ({"least": 2, "fits": "at least 2 (for a pair)"}, "at least 2 (for a pair)"),
        ({}, ""),
    ],
)
def test_a_range_is_said_in_words(bounds, words):
    assert Setting("x", **bounds).range == words


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("home", "h", "home must be a Path, found 'h'"),
        ("k", 0, "k must be from 1 to 1,000, found 0"),
        ("k", 1001, "k must be from 1 to 1,000, found 1001"),
        ("k", True, "k must be a whole number, found True"),
        ("k", 1.0, "k must be a whole number, found 1.0"),
        ("folds", 1, "folds must be at least 2, found 1"),
        ("rate", 0, "rate must be above 0, found 0"),
        ("rate", float("nan"), "rate must be above 0, found nan"),
        ("rate", "1", "rate must be a number or None, found '1'"),
        ("share", 1, r"share must be a share in \[0, 1\), found 1"),
        ("names", (), r"names must name at least one, each once; found \[\]"),
        ("names", ("a", "a"), "names must name at least one, each once"),
        ("names", ("a", 1), "names must be a tuple of which each is a text, found"),
        ("source", 3, "source must be options by name or None, found 3"),
        ("inner", 3, "inner must be Inner, found 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_name_of_its_field(name, value, message):
    with pytest.raises(SpecError, match=message):
        replace(GOOD, **{name: value})


def test_a_name_that_is_no_choice_is_answered_by_the_close_ones():
    with pytest.raises(UnknownNameError, match=r"no names named 'c'; known: \['a', 'b'\]"):
        replace(GOOD, names=("a", "c"))


@pytest.mark.parametrize(
    "changes",
    [{"folds": 0}, {"folds": 2}, {"rate": 1}, {"rate": None}, {"names": ["b", "a"]}, {"share": 0}],
)
def test_the_default_fits_and_so_does_what_is_within_the_range(changes):
    assert replace(GOOD, **changes)


def test_the_keys_of_options_are_dotted_and_those_without_a_setting_are_none():
    assert [key for key, _ in keys_of(Spec, "x.")] == [
        *("x.k", "x.folds", "x.rate", "x.share", "x.names"),
        "x.inner.size",
    ]
    assert [each.name for each in fields_of(Inner)] == ["size"]


def test_types_are_called_by_words():
    assert (
        in_type_words(tuple[int, ...] | None) == "a tuple of which each is a whole number or None"
    )
