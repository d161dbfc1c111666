"""Stored tokens, cls, mean and grid of every family of timm are those of the plain library."""

from pathlib import Path

import pytest
import timm

from .timm_families import FAMILIES, QUICK, examine


@pytest.mark.parametrize("name", QUICK)
def test_a_family_is_equal_to_the_library_or_refused_with_the_reason(name: str, tmp_path: Path):
    outcome, reason = examine(FAMILIES[name], tmp_path / "model")
    assert outcome == ("refused" if FAMILIES[name].refused else "equal"), reason


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in QUICK])
def test_every_other_family_is_equal_or_refused(name: str, tmp_path: Path):
    outcome, reason = examine(FAMILIES[name], tmp_path / "model")
    assert outcome == ("refused" if FAMILIES[name].refused else "equal"), reason


def test_no_family_of_timm_is_left_out():
    assert set(timm.list_modules()) <= set(FAMILIES)
