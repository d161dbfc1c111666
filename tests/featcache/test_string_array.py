"""Strings in two arrays."""

import pytest

from lightalign.featcache.string_array import GrowingStrings, Strings


@pytest.mark.parametrize("strings", [[], ["a", "", "bc"], ["é", "a\udce9b", "", "日本"]])
def test_strings_are_a_sequence_of_what_they_were_made_of(strings):
    held = Strings.of(strings)
    assert list(held) == strings
    assert held == strings
    assert held == Strings.of(strings)
    assert held != [*strings, "more"]
    assert held[1:] == strings[1:]
    if strings:
        assert (held[0], held[-1]) == (strings[0], strings[-1])
    with pytest.raises(IndexError):
        held[len(strings)]


def test_where_strings_end_counts_for_equality():
    assert Strings.of(["ab", "c"]) != Strings.of(["a", "bc"])


@pytest.mark.parametrize("strings", [[], ["a", "", "bc"], ["é", "a\udce9b", "", "日本"]])
def test_strings_that_come_one_by_one_are_the_same(strings):
    growing = GrowingStrings()
    for count, string in enumerate(strings):
        assert growing.strings() == Strings.of(strings[:count])
        growing.append(string)
    assert len(growing) == len(strings)
    growing.extend(strings)
    growing.extend([])
    assert growing.strings() == Strings.of([*strings, *strings])
    growing = GrowingStrings()
    growing.extend(strings)
    assert growing.strings() == Strings.of(strings)
