"""Presets: all of them build, and a fusion goes into its slot."""

import copy
import subprocess
import sys

import pytest
import torch

from lightalign.adapters import preset as presets
from lightalign.adapters.adapter import build_adapter
from lightalign.adapters.objective import build_objective
from lightalign.adapters.preset import list_fusions, list_presets, read_preset, with_fusion
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import Modality

WIDTHS = {Modality.IMAGE: 1280, Modality.TEXT: 384}
FUSIONS = ["none", "add", "additive_attn", "concat", "cross_attn", "general_attn", "mul"]


def test_presets_are_listed_by_path_without_suffix():
    assert {"linear", "lightalign/base"} <= set(list_presets())
    assert list_presets() == sorted(list_presets())


@pytest.mark.parametrize("name", list_presets())
def test_preset_builds_and_says_what_it_is(name):
    preset = read_preset(name)
    assert preset["title"]
    assert preset["source"]
    adapter = build_adapter(preset["towers"], widths=WIDTHS, seed=0).eval()
    build_objective(preset["objective"])
    for modality, width in WIDTHS.items():
        tokens = Tokens(torch.randn(2, 3, width), torch.ones(2, 3, dtype=torch.bool))
        assert adapter.embed(tokens, modality).shape == (2, adapter.out_width)


def test_unknown_preset_lists_the_known():
    with pytest.raises(UnknownNameError, match=r"no preset named 'lightalign/bas'.*close"):
        read_preset("lightalign/bas")


@pytest.mark.parametrize("name", ["../encoders/toy", "linear.toml", "/etc/hosts", ""])
def test_preset_name_is_not_a_path(name):
    with pytest.raises(UnknownNameError):
        read_preset(name)


def test_preset_inherits_and_replaces_whole_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    (tmp_path / "base.toml").write_text(
        'title = "base"\n[towers.both]\nproject = {part = "linear", out = 4}\n'
        'pool = {part = "mean-pool"}\n'
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "wide.toml").write_text(
        'extends = "base"\n[towers.both]\nproject = {part = "mlp", out = 8, hidden = 2}\n'
    )
    assert read_preset("own/wide") == {
        "title": "base",
        "towers": {
            "both": {
                "project": {"part": "mlp", "out": 8, "hidden": 2},
                "pool": {"part": "mean-pool"},
            }
        },
    }


def test_fusions_are_listed_with_a_line_each_and_none_first():
    assert [name for name, _ in list_fusions()] == FUSIONS
    assert all(line.endswith(".") and "\n" not in line for _, line in list_fusions())
    assert dict(list_fusions())["add"] == "Add the context of the modality to every token."


@pytest.mark.parametrize("fusion", [*FUSIONS, "cross-attn"])
def test_fusion_goes_into_the_slot_fuse_and_builds(fusion):
    base = read_preset("lightalign/base")
    before = copy.deepcopy(base)
    changed = with_fusion(base, fusion)
    part = "identity" if fusion == "none" else f"{fusion.replace('_', '-')}-fusion"
    assert changed["towers"]["both"]["fuse"] == {"part": part}
    assert list(changed["towers"]["both"]) == list(before["towers"]["both"])
    assert base == before
    build_adapter(changed["towers"], widths=WIDTHS, seed=0)


def test_fusion_goes_into_each_tower_that_has_the_slot():
    slot = {"fuse": {"part": "identity"}}
    changed = with_fusion({"towers": {"image": slot, "text": {**slot, "pool": {}}}}, "mul")
    assert changed["towers"]["image"]["fuse"] == {"part": "mul-fusion"}
    assert changed["towers"]["text"] == {"fuse": {"part": "mul-fusion"}, "pool": {}}


def test_unknown_fusion_lists_the_fusions():
    with pytest.raises(UnknownNameError, match=r"no fusion named 'crossattn'.*'cross_attn'.*'mul'"):
        with_fusion(read_preset("lightalign/base"), "crossattn")


def test_preset_without_the_slot_takes_no_fusion():
    with pytest.raises(SpecError, match=r"needs a slot 'fuse'.*found {'both': "):
        with_fusion(read_preset("linear"), "add")


def test_presets_and_fusions_are_listed_without_torch():
    code = (
        "import sys; from lightalign.adapters.preset import *; list_presets(); list_fusions(); "
        "with_fusion(read_preset('lightalign/base'), 'add'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
