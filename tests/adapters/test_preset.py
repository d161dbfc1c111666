"""Presets: all of them build, and a fusion goes into its slot."""

import copy
import subprocess
import sys

import pytest
import torch

from lightalign.adapters import preset as presets
from lightalign.adapters.adapter import build_adapter, count_parameters
from lightalign.adapters.objective import build_objective
from lightalign.adapters.preset import (
    DUAL,
    for_sides,
    list_fusions,
    list_presets,
    read_preset,
    with_fusion,
    with_places,
)
from lightalign.featcache.errors import SpecError, UnknownNameError
from lightalign.featcache.tokens import Tokens
from lightalign.featcache.types import IMAGE_TEXT, TEXT_TEXT, Modality, sides_of

WIDTHS = {Modality.IMAGE: 40, Modality.TEXT: 24}
FUSIONS = ["none", "add", "additive_attn", "concat", "cross_attn", "general_attn", "mul"]


def test_presets_are_listed_by_path_without_suffix():
    assert {"linear", "lightalign/base"} <= set(list_presets())
    assert list_presets() == sorted(list_presets())


@pytest.fixture(scope="module", params=list_presets(DUAL))
def built(request):
    """Return name, table and adapter of a preset, whose building is most of what tests take."""
    preset = read_preset(request.param)
    widths = preset["check"]["widths"]
    sides = {Modality(key): width for key, width in widths.items()}
    return request.param, preset, build_adapter(preset["towers"], widths=sides, seed=0).eval()


def test_preset_builds_and_says_what_it_is(built):
    _, preset, adapter = built
    assert preset["title"]
    assert preset["source"]
    for modality, width in adapter.widths.items():
        tokens = Tokens(torch.randn(2, 3, width), torch.ones(2, 3, dtype=torch.bool))
        assert adapter.embed(tokens, modality).shape == (2, adapter.out_width)


def test_preset_has_the_trainable_parameters_that_its_source_has(built):
    _, preset, adapter = built
    found = count_parameters(adapter) + count_parameters(build_objective(preset["objective"]))
    assert found == preset["check"]["parameters"]


@pytest.mark.parametrize(
    "name", [name for name in list_presets(DUAL) if "both" in read_preset(name)["towers"]]
)
def test_preset_aligns_two_text_encoders_with_as_many_parameters(name):
    """Both architectures are one: two heads and two context vectors, whatever the sides are."""
    preset = for_sides(read_preset(name), TEXT_TEXT)
    counts = []
    for sides in (IMAGE_TEXT, TEXT_TEXT):
        widths = dict.fromkeys(sides, 48)
        adapter = build_adapter(preset["towers"], widths=widths, seed=0).eval()
        counts.append(count_parameters(adapter))
        tokens = Tokens(torch.randn(2, 3, 48), torch.ones(2, 3, dtype=torch.bool))
        first, second = (adapter.embed(tokens, side) for side in sides)
        assert first.shape == second.shape == (2, adapter.out_width)
    assert counts[0] == counts[1]


def test_the_tanh_between_texts_changes_no_count_and_goes_into_the_twin_as_well():
    """2,015,880 less the scale, as published for both; the twin keeps leaving padding out."""
    preset = for_sides(read_preset("lightcrl/additive"), TEXT_TEXT)
    adapter = build_adapter(preset["towers"], widths=dict.fromkeys(TEXT_TEXT, 768), seed=0)
    assert count_parameters(adapter) == 2_015_880 - 1
    assert adapter.steps["both/fuse"].tanh is True
    twin = for_sides(read_preset("lightcrl/additive-corrected"), TEXT_TEXT)
    fuse = twin["towers"]["both"]["fuse"]
    assert fuse["tanh"] is True
    assert "masked" not in fuse
    assert for_sides(read_preset("lightcrl/addition"), TEXT_TEXT) == read_preset(
        "lightcrl/addition"
    )


def test_what_a_preset_changes_between_texts_is_a_table():
    with pytest.raises(SpecError, match=r"\[text_text\] must be a table, found 5"):
        for_sides({"text_text": 5}, TEXT_TEXT)


def test_the_published_counts_are_those_of_their_papers_code():
    published = {
        "lightcrl/addition": 1_884_039,
        "lightcrl/multiplication": 1_884_039,
        "lightcrl/concatenation": 1_981_361,
        "lightcrl/additive": 2_015_880,
        "lightcrl/general": 1_949_831,
        "lightcrl/scaled-dot": 2_081_415,
        "oneencoder/v2": 1_884_038,  # its scale is no number that is trained
        "peme/bridge": 42_063_617,
    }
    found = {name: read_preset(name)["check"]["parameters"] for name in published}
    assert found == published
    assert round(read_preset("oneencoder/v1")["check"]["parameters"] / 1e6, 2) == 24.42


def test_fusemix_has_the_parameters_of_its_papers_encoders_by_hand():
    """With D features a tower has 4 blocks of 8 D^2 + 7 D, a norm of 2 D and 512 (D + 1)."""

    def tower(width):
        return 4 * (8 * width**2 + 7 * width) + 2 * width + 512 * (width + 1)

    assert tower(1536) + tower(1024) + 1 == 110_440_449
    assert read_preset("fusemix")["check"]["parameters"] == 2 * tower(384) + 1


def test_the_six_fusions_of_lightcrl_differ_in_one_slot():
    names = ["multiplication", "concatenation", "additive", "general", "scaled-dot"]
    base = read_preset("lightcrl/addition")
    for name in names:
        other = read_preset(f"lightcrl/{name}")
        assert other["objective"] == base["objective"]
        assert other["train"] == base["train"]
        slots = {
            slot
            for slot in base["towers"]["both"]
            if other["towers"]["both"][slot] != base["towers"]["both"][slot]
        }
        assert slots == {"fuse"}


def batch_of(preset, widths, seed=0):
    """Return rows of 4, 2 and 3 tokens of each modality, with garbage behind them."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
    return {
        modality: Tokens(
            torch.randn(3, 4, width, generator=generator).masked_fill(~mask[:, :, None], 7.0), mask
        )
        for modality, width in widths.items()
    }


PADDING_COUNTS = [
    name
    for name in list_presets(DUAL)
    if name.startswith(("lightcrl/", "oneencoder/")) and not name.endswith("-corrected")
]


def test_embeddings_change_with_batch_mates_and_padding_in_published_variants_only(built):
    """An embedding moves when its row stands alone instead of in a batch, or does not."""
    name, preset, adapter = built
    far = 0.0
    for modality, tokens in batch_of(preset, adapter.widths).items():
        with torch.no_grad():
            together = adapter.embed(tokens, modality)[1]
            alone = Tokens(tokens.values[1:2, :2], tokens.mask[1:2, :2])
            far = max(far, float((adapter.embed(alone, modality)[0] - together).abs().max()))
    assert far > 1e-4 if name in PADDING_COUNTS else far < 1e-6


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
    assert dict(list_fusions())["add"] == "Add the context of the side to every token."


@pytest.mark.parametrize("fusion", [*FUSIONS, "cross-attn"])
def test_fusion_goes_into_the_slot_fuse_and_builds(fusion):
    base = read_preset("lightalign/fusion")
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
        with_fusion(read_preset("lightalign/fusion"), "crossattn")


def test_preset_without_the_slot_takes_no_fusion():
    with pytest.raises(SpecError, match=r"needs a slot 'fuse'.*found {'both': "):
        with_fusion(read_preset("linear"), "add")


def test_presets_and_fusions_are_listed_without_torch():
    code = (
        "import sys; from lightalign.adapters.preset import *; list_presets(); list_fusions(); "
        "with_fusion(read_preset('lightalign/fusion'), 'add'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("names", "target", "place"),
    [
        (("image", "text"), "text", "text"),
        (("audio", "image"), "image", "second"),
        (("audio", "image"), "audio", "first"),
        (("image", "tone"), "image", "first"),
        (("image", "tone"), "tone", "second"),
        (("audio", "image"), "text", "text"),  # the second of any sides, as a preset has it
        (("first_text", "second_text"), "first_text", "first"),
    ],
)
def test_a_side_that_an_option_names_is_that_side(names, target, place):
    for name, option in (("fit", "target"), ("start", "target"), ("objective", "teacher")):
        preset = {"title": "x", name: {"part": "y", option: target}}
        placed = with_places(preset, sides_of(names))
        assert placed == {"title": "x", name: {"part": "y", option: place}}
        assert with_places(placed, sides_of(names)) == placed
